/* SPDX-License-Identifier: Apache-2.0 */
/* buffer.h - bytes that grow.  A zeroed buffer is empty and valid. */
#ifndef OCTARC_UTIL_BUFFER_H
#define OCTARC_UTIL_BUFFER_H

#include <stddef.h>

struct buffer {
    char *bytes; /* owned; not terminated */
    size_t n, capacity;
};

/* 0 or -ENOMEM; the buffer is unchanged then. */
int buffer_append(struct buffer *buffer, const void *bytes, size_t n);
int buffer_reserve(struct buffer *buffer, size_t more);
int buffer_printf(struct buffer *buffer, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buffer_drop(struct buffer *buffer, size_t n); /* the first n bytes */
void buffer_finish(struct buffer *buffer);

#endif
