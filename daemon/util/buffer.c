/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int buffer_reserve(struct buffer *buffer, size_t more) {
    if (more > SIZE_MAX / 2 - buffer->n)
        return -ENOMEM;
    const size_t need = buffer->n + more;
    if (need <= buffer->capacity)
        return 0;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity < need)
        capacity *= 2;
    char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

int buffer_append(struct buffer *buffer, const void *bytes, size_t n) {
    if (n == 0)
        return 0;
    const int rc = buffer_reserve(buffer, n);
    if (rc)
        return rc;
    memcpy(buffer->bytes + buffer->n, bytes, n);
    buffer->n += n;
    return 0;
}

int buffer_printf(struct buffer *buffer, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const int need = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (need < 0)
        return -EINVAL;
    const int rc = buffer_reserve(buffer, (size_t)need + 1);
    if (rc)
        return rc;
    va_start(ap, fmt);
    vsnprintf(buffer->bytes + buffer->n, (size_t)need + 1, fmt, ap);
    va_end(ap);
    buffer->n += (size_t)need;
    return 0;
}

void buffer_drop(struct buffer *buffer, size_t n) {
    if (n >= buffer->n) {
        buffer->n = 0;
        return;
    }
    memmove(buffer->bytes, buffer->bytes + n, buffer->n - n);
    buffer->n -= n;
}

void buffer_finish(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
