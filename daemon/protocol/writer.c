/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/util/json.h"
#include "daemon/util/utf8.h"

static inline void put(struct writer *w, const char *bytes, size_t n) {
    struct buffer *out = w->out;
    if (n > 0 && n <= out->capacity - out->n) { /* nearly always */
        memcpy(out->bytes + out->n, bytes, n);
        out->n += n;
    } else if (!w->rc) {
        w->rc = buffer_append(out, bytes, n);
    }
}

static void begin_value(struct writer *w) {
    if (w->comma)
        put(w, ", ", 2);
    w->comma = true;
}

void write_open(struct writer *w, char bracket) {
    begin_value(w);
    put(w, &bracket, 1);
    w->comma = false;
}

void write_close(struct writer *w, char bracket) {
    put(w, &bracket, 1);
    w->comma = true;
}

void write_key(struct writer *w, const char *key) {
    write_string(w, key);
    put(w, ": ", 2);
    w->comma = false;
}

void write_raw(struct writer *w, const char *json, size_t n) {
    begin_value(w);
    put(w, json, n);
}

static size_t escape(char out[8], unsigned char c) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *p = c ? strchr(from, c) : NULL;
    if (!p)
        return (size_t)snprintf(out, 8, "\\u%04x", c);
    out[0] = '\\';
    out[1] = to[p - from];
    return 2;
}

void write_text(struct writer *w, const char *bytes, size_t n) {
    begin_value(w);
    put(w, "\"", 1);
    if (n == 0)
        bytes = "";   /* an empty buffer has none */
    size_t plain = 0; /* where the run of bytes that need nothing begins */
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        const size_t length = utf8_length(bytes + i, n - i);
        char escaped[8];
        if (length > 1) {
            i += length;
            continue;
        }
        put(w, bytes + plain, i - plain);
        if (length == 0)
            put(w, "\xEF\xBF\xBD", 3);
        else
            put(w, escaped, escape(escaped, c));
        plain = ++i;
    }
    put(w, bytes + plain, n - plain);
    put(w, "\"", 1);
}

void write_string(struct writer *w, const char *text) {
    if (text)
        write_text(w, text, strlen(text));
    else
        write_raw(w, "null", 4);
}

/* The digits of value before end; where they begin. */
static char *digits_before(char *end, uint64_t value) {
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}

void write_int(struct writer *w, int64_t value) {
    char text[24], *end = text + sizeof text;
    char *from = digits_before(end, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    if (value < 0)
        *--from = '-';
    write_raw(w, from, (size_t)(end - from));
}

/* What "%.<digits>g" makes of a float whose size is between 1e-4 and 1e6: bytes in text, or 0 when
 * that does not surely read back as it.  An answer may hold the logarithms of a whole vocabulary at
 * each token, and printing is most of what they cost. */
static size_t format_float(char text[24], float value, int digits) {
    static const double tens[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    static const double tenths[] = {1, 1e-1, 1e-2, 1e-3, 1e-4};
    const double size = fabs((double)value);
    int exponent = 0;
    while (exponent < 5 && size >= tens[exponent + 1])
        exponent++;
    while (exponent > -4 && exponent <= 0 && size < tenths[-exponent])
        exponent--;
    int decimals = digits - 1 - exponent;
    /* Exact, as a float has 24 bits and five to the twelfth 28: so it is rounded once. */
    uint64_t scaled = (uint64_t)llrint(size * tens[decimals]);
    const double back = (double)scaled / tens[decimals];
    if ((float)(back * (1 + 0x1p-50)) != fabsf(value) ||
        (float)(back * (1 - 0x1p-50)) != fabsf(value))
        return 0;
    while (decimals > 0 && scaled % 10 == 0) {
        scaled /= 10;
        decimals--;
    }
    char all[24], *end = all + sizeof all, *from = digits_before(end, scaled);
    while (end - from <= decimals)
        *--from = '0';
    const size_t whole = (size_t)(end - from) - (size_t)decimals;
    size_t n = 0;
    if (value < 0)
        text[n++] = '-';
    memcpy(text + n, from, whole);
    n += whole;
    if (decimals > 0)
        text[n++] = '.';
    memcpy(text + n, from + whole, (size_t)decimals);
    return n + (size_t)decimals;
}

void write_number(struct writer *w, double value) {
    char text[40];
    if (!isfinite(value)) {
        write_raw(w, "null", 4);
        return;
    }
    if (fabs(value) >= 1e-4 && fabs(value) < 1e6 && (double)(float)value == value) {
        size_t length = format_float(text, (float)value, 7);
        if (length == 0)
            length = format_float(text, (float)value, 9);
        if (length > 0) {
            write_raw(w, text, length);
            return;
        }
    }
    /* The shortest of 7 and 9 digits gives every float back; a double of ours is a time. */
    int n = snprintf(text, sizeof text, "%.7g", value);
    float back;
    if (sscanf(text, "%f", &back) != 1 || (double)back != value)
        n = snprintf(text, sizeof text, "%.9g", value);
    write_raw(w, text, (size_t)n);
}

void write_bool(struct writer *w, bool value) {
    write_raw(w, value ? "true" : "false", value ? 4 : 5);
}

void write_bytes(struct writer *w, const char *bytes, size_t n) {
    write_open(w, '[');
    for (size_t i = 0; i < n; i++)
        write_int(w, (unsigned char)bytes[i]);
    write_close(w, ']');
}

void write_key_string(struct writer *w, const char *key, const char *text) {
    write_key(w, key);
    write_string(w, text);
}

void write_key_int(struct writer *w, const char *key, int64_t value) {
    write_key(w, key);
    write_int(w, value);
}

void write_key_known(struct writer *w, const char *key, int64_t value) {
    write_key(w, key);
    if (value < 0)
        write_raw(w, "null", 4);
    else
        write_int(w, value);
}

void write_key_number(struct writer *w, const char *key, double value) {
    write_key(w, key);
    write_number(w, value);
}

void write_key_bool(struct writer *w, const char *key, bool value) {
    write_key(w, key);
    write_bool(w, value);
}
