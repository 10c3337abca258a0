/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/utf8.h"

#include <string.h>

/* How many bytes the lead byte announces, and the range of the second (Unicode table 3-7). */
static int lead(unsigned char c, unsigned char *low, unsigned char *high) {
    *low = 0x80;
    *high = 0xbf;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    if (c < 0xe0)
        return 2;
    if (c < 0xf0) {
        *low = c == 0xe0 ? 0xa0 : 0x80;
        *high = c == 0xed ? 0x9f : 0xbf;
        return 3;
    }
    *low = c == 0xf0 ? 0x90 : 0x80;
    *high = c == 0xf4 ? 0x8f : 0xbf;
    return 4;
}

/* Bytes of the longest valid beginning at p; *want: of the whole code point. */
static size_t valid_beginning(const char *p, size_t n, int *want) {
    unsigned char low, high;
    *want = lead((unsigned char)p[0], &low, &high);
    if (*want == 0)
        return 0;
    size_t i = 1;
    for (; i < n && i < (size_t)*want; i++) {
        const unsigned char c = (unsigned char)p[i];
        if (c < low || c > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

size_t utf8_length(const char *p, size_t n) {
    int want;
    return n && valid_beginning(p, n, &want) == (size_t)want ? (size_t)want : 0;
}

bool utf8_valid(const char *p, size_t n) {
    while (n) {
        const size_t length = utf8_length(p, n);
        if (length == 0)
            return false;
        p += length;
        n -= length;
    }
    return true;
}

static size_t put_replacement(char *out) {
    memcpy(out, "\xef\xbf\xbd", 3);
    return 3;
}

size_t utf8_stream_push(struct utf8_stream *s, const char *bytes, size_t n, char *out) {
    size_t written = 0;
    while (n) {
        /* Byte by byte through the tail: at most four are held. */
        s->tail[s->n++] = *bytes++;
        n--;
        for (;;) {
            int want;
            const size_t have = s->n ? valid_beginning(s->tail, s->n, &want) : 0;
            if (s->n == 0 || (want && have == s->n && have < (size_t)want))
                break; /* nothing, or more to come */
            size_t used = have;
            if (want && have == (size_t)want) {
                memcpy(out + written, s->tail, have);
                written += have;
            } else {
                written += put_replacement(out + written);
                used = have ? have : 1;
            }
            memmove(s->tail, s->tail + used, s->n - used);
            s->n -= (unsigned)used;
        }
    }
    return written;
}

size_t utf8_stream_finish(struct utf8_stream *s, char *out) {
    if (s->n == 0)
        return 0;
    s->n = 0; /* what is held is one valid beginning */
    return put_replacement(out);
}
