/* SPDX-License-Identifier: Apache-2.0 */
/* wheel.h - one file out of a Python wheel, which is a ZIP archive.
 *
 * libzip reads it; what is stored or deflated is taken, without encryption.  Not thread-safe. */
#ifndef OCTARC_CLIENT_PULL_WHEEL_H
#define OCTARC_CLIENT_PULL_WHEEL_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct zip;

struct wheel {
    struct zip *archive;
    const char *name; /* borrowed; for messages */
    uint64_t member;  /* its number */
    uint64_t bytes;   /* of the member, unpacked */
};

/* Gets what the member holds, in order; anything but 0 stops. */
typedef int (*wheel_sink)(void *user, const void *bytes, size_t n);

/* Open the archive and find the one member whose path ends in this name.  The descriptor stays the
 * caller's.  wheel_close() after 0 only.
 *   -EINVAL   not a ZIP archive, or a wrong one (err says what)
 *   -ENOENT   no such member; -EEXIST: more than one
 *   -ENOTSUP  packed in another way
 *   -ENOMEM, or what opening it again returned */
int wheel_open(struct wheel *wheel, int fd, const char *name, const char *member, struct err *err);

/* Give all of the member to the sink.  -EINVAL: its length or its checksum is another than the
 * archive says; what the sink returned (err is untouched); -ENOMEM. */
int wheel_read(const struct wheel *wheel, wheel_sink sink, void *user, struct err *err);

void wheel_close(struct wheel *wheel);

#endif
