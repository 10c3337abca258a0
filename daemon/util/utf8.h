/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h - what is valid UTF-8, and text that comes in pieces. */
#ifndef OCTARC_DAEMON_UTIL_UTF8_H
#define OCTARC_DAEMON_UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the valid character at the front of n bytes (no surrogates, no overlong forms); 0: none,
 * it is cut or wrong. */
size_t utf8_length(const char *p, size_t n);
bool utf8_valid(const char *p, size_t n);

/* Collects bytes and gives out whole code points.  A zeroed stream is empty. */
struct utf8_stream {
    char tail[4];
    unsigned n;
};

/* Append n bytes; whole code points go to out, which has room for utf8_stream_room(n) bytes.
 * Bytes that can never become valid turn into U+FFFD, one for each longest valid beginning
 * (Unicode 15, section 3.9).  Returns the bytes written. */
size_t utf8_stream_push(struct utf8_stream *stream, const char *bytes, size_t n, char *out);
/* The bytes still held cannot become whole any more: U+FFFD for them.  Writes at most 3 bytes. */
size_t utf8_stream_finish(struct utf8_stream *stream, char *out);

static inline size_t utf8_stream_room(size_t n) {
    return 3 * (n + 4);
}

#endif
