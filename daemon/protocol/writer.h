/* SPDX-License-Identifier: Apache-2.0 */
/* writer.h - JSON text, written straight into a buffer.
 *
 * The writer sets the commas; the caller opens and closes.  A failure (no memory) is kept in rc and
 * looked at once, at the end.  {.out = &buffer} is a valid writer. */
#ifndef OCTARC_PROTOCOL_WRITER_H
#define OCTARC_PROTOCOL_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/util/buffer.h"

struct writer {
    struct buffer *out;
    bool comma; /* the next value needs one before it */
    int rc;     /* 0 or -ENOMEM */
};

void write_open(struct writer *w, char bracket);
void write_close(struct writer *w, char bracket);
void write_key(struct writer *w, const char *key);
void write_raw(struct writer *w, const char *json, size_t n); /* a whole value, as it is */
/* Bytes that are not UTF-8 become U+FFFD each. */
void write_text(struct writer *w, const char *bytes, size_t n);
void write_string(struct writer *w, const char *text); /* NULL: null */
void write_int(struct writer *w, int64_t value);
void write_number(struct writer *w, double value); /* not finite: null */
void write_bool(struct writer *w, bool value);
/* The bytes as a list of numbers. */
void write_bytes(struct writer *w, const char *bytes, size_t n);

void write_key_string(struct writer *w, const char *key, const char *text);
void write_key_int(struct writer *w, const char *key, int64_t value);
void write_key_known(struct writer *w, const char *key, int64_t value); /* negative: null */
void write_key_number(struct writer *w, const char *key, double value);
void write_key_bool(struct writer *w, const char *key, bool value);

#endif
