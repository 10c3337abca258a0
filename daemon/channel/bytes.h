/* SPDX-License-Identifier: Apache-2.0 */
/* bytes.h - inside channel: little-endian fields in and out of a payload.
 *
 * A writer or reader that failed stays failed, so a message is written or read in one run of calls
 * and checked once. */
#ifndef OCTARC_CHANNEL_BYTES_H
#define OCTARC_CHANNEL_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/util/buffer.h"

struct writer {
    struct buffer *out;
    int rc; /* the first failure */
};

void put_u8(struct writer *w, uint8_t value);
void put_u32(struct writer *w, uint32_t value);
void put_u64(struct writer *w, uint64_t value);
void put_f32(struct writer *w, float value);
void put_string(struct writer *w, const char *text); /* u32 length, bytes */

struct reader {
    const uint8_t *at, *end;
    bool bad; /* too short, or a count beyond what is there */
};

uint8_t get_u8(struct reader *r);
uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
float get_f32(struct reader *r);
bool get_bool(struct reader *r); /* bad unless 0 or 1 */
/* Into a fixed array, terminated; bad when it does not fit or holds a NUL. */
void get_string(struct reader *r, char *text, size_t size);
/* A count of items of at least `bytes_each` bytes that must still be there; bad and 0 otherwise. */
uint32_t get_count(struct reader *r, size_t bytes_each);
/* calloc for n items, n from get_count(); NULL (and bad when n > 0 without memory). */
void *get_array(struct reader *r, uint32_t n, size_t size);

#endif
