/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel/bytes.h"

#include <stdlib.h>
#include <string.h>

static void put(struct writer *w, const void *bytes, size_t n) {
    if (!w->rc)
        w->rc = buffer_append(w->out, bytes, n);
}

void put_u8(struct writer *w, uint8_t value) {
    put(w, &value, 1);
}

void put_u32(struct writer *w, uint32_t value) {
    const uint8_t b[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                          (uint8_t)(value >> 24)};
    put(w, b, sizeof b);
}

void put_u64(struct writer *w, uint64_t value) {
    put_u32(w, (uint32_t)value);
    put_u32(w, (uint32_t)(value >> 32));
}

void put_f32(struct writer *w, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(w, bits);
}

void put_string(struct writer *w, const char *text) {
    const size_t n = strlen(text);
    put_u32(w, (uint32_t)n);
    put(w, text, n);
}

static const uint8_t *take(struct reader *r, size_t n) {
    if (r->bad || (size_t)(r->end - r->at) < n) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += n;
    return at;
}

uint8_t get_u8(struct reader *r) {
    const uint8_t *p = take(r, 1);
    return p ? *p : 0;
}

uint32_t get_u32(struct reader *r) {
    const uint8_t *p = take(r, 4);
    return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24
             : 0;
}

uint64_t get_u64(struct reader *r) {
    const uint64_t low = get_u32(r);
    return low | (uint64_t)get_u32(r) << 32;
}

float get_f32(struct reader *r) {
    const uint32_t bits = get_u32(r);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

bool get_bool(struct reader *r) {
    const uint8_t value = get_u8(r);
    r->bad |= value > 1;
    return value == 1;
}

void get_string(struct reader *r, char *text, size_t size) {
    const uint32_t n = get_u32(r);
    const uint8_t *p = n < size ? take(r, n) : NULL;
    if (!p || memchr(p, 0, n)) {
        r->bad = true;
        text[0] = 0;
        return;
    }
    memcpy(text, p, n);
    text[n] = 0;
}

uint32_t get_count(struct reader *r, size_t bytes_each) {
    const uint32_t n = get_u32(r);
    if (r->bad || n > (size_t)(r->end - r->at) / bytes_each) {
        r->bad = true;
        return 0;
    }
    return n;
}

void *get_array(struct reader *r, uint32_t n, size_t size) {
    if (r->bad || n == 0)
        return NULL;
    void *items = calloc(n, size);
    r->bad |= !items;
    return items;
}
