/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h - which file, and in which state, as far as the file system tells. */
#ifndef OCTARC_UTIL_IDENTITY_H
#define OCTARC_UTIL_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct file_identity {
    uint64_t bytes, mtime_ns, inode, device;
};

/* 0 or -errno. */
int identity_of(int fd, struct file_identity *identity);
bool identity_equal(const struct file_identity *a, const struct file_identity *b);

#endif
