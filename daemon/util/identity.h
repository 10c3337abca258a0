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
/* Of several files as one: their bytes added up; the rest mixed, so that it is another where one of
 * them is, or their order.  Of one file its own. */
int identity_of_all(const int *fds, uint32_t n, struct file_identity *identity);
bool identity_equal(const struct file_identity *a, const struct file_identity *b);

#endif
