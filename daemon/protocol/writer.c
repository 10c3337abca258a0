/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/util/json.h"
#include "daemon/util/utf8.h"

static void put(struct writer *w, const char *bytes, size_t n) {
    if (!w->rc)
        w->rc = buffer_append(w->out, bytes, n);
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
        const size_t length = utf8_length(bytes + i, n - i);
        char escaped[8];
        if (length > 0 && c >= 0x20 && c != '"' && c != '\\') {
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

void write_int(struct writer *w, int64_t value) {
    char text[24];
    write_raw(w, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void write_number(struct writer *w, double value) {
    char text[40];
    if (!isfinite(value)) {
        write_raw(w, "null", 4);
        return;
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

void write_key_number(struct writer *w, const char *key, double value) {
    write_key(w, key);
    write_number(w, value);
}

void write_key_bool(struct writer *w, const char *key, bool value) {
    write_key(w, key);
    write_bool(w, value);
}
