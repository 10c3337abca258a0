/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lib/scan.h"

#include <stdlib.h>
#include <string.h>

/* Every reader takes the text left and returns what follows the value, or NULL. */
static const char *skip_blanks(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *skip_string(const char *p, const char *end) {
    if (p == end || *p != '"')
        return NULL;
    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char)*p < ' ')
            return NULL;
        if (*p != '\\')
            continue;
        if (++p == end || !memchr("\"\\/bfnrtu", *p, 9))
            return NULL;
        for (int i = 0; *p == 'u' && i < 4; i++)
            if (p + i + 1 >= end || hex_digit(p[i + 1]) < 0)
                return NULL;
    }
    return p < end ? p + 1 : NULL;
}

static const char *skip_digits(const char *p, const char *end) {
    const char *begin = p;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p > begin ? p : NULL;
}

static const char *skip_number(const char *p, const char *end) {
    if (p < end && *p == '-')
        p++;
    p = p < end && *p == '0' ? p + 1 : skip_digits(p, end);
    if (p && p < end && *p == '.')
        p = skip_digits(p + 1, end);
    if (p && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p = skip_digits(p < end && (*p == '+' || *p == '-') ? p + 1 : p, end);
    }
    return p;
}

static const char *skip_word(const char *p, const char *end) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(end - p) >= n && !memcmp(p, words[i], n))
            return p + n;
    }
    return NULL;
}

static const char *skip_scalar(const char *p, const char *end) {
    if (p == end)
        return NULL;
    if (*p == '"')
        return skip_string(p, end);
    return *p == '-' || (*p >= '0' && *p <= '9') ? skip_number(p, end) : skip_word(p, end);
}

/* `"key":`, with the blanks around it. */
static const char *skip_key(const char *p, const char *end) {
    p = skip_string(skip_blanks(p, end), end);
    p = p ? skip_blanks(p, end) : NULL;
    return p && p < end && *p == ':' ? skip_blanks(p + 1, end) : NULL;
}

/* A value of any depth, without recursion: `open` holds the closing character of each level. */
static const char *skip_value(const char *p, const char *end) {
    char open[SCAN_DEPTH_MAX];
    int depth = 0;
    for (;;) {
        p = skip_blanks(p, end);
        if (p < end && (*p == '{' || *p == '[')) {
            const char closing = *p == '{' ? '}' : ']';
            p = skip_blanks(p + 1, end);
            if (p == end || *p != closing) {
                if (depth == SCAN_DEPTH_MAX)
                    return NULL;
                open[depth++] = closing;
                if (closing == '}')
                    p = skip_key(p, end);
                if (!p)
                    return NULL;
                continue;
            }
            p++; /* empty */
        } else {
            p = skip_scalar(p, end);
        }
        for (;;) { /* what follows a value: the ends of the levels it closes, or a comma */
            if (!p || !depth)
                return p;
            p = skip_blanks(p, end);
            if (p == end || *p != open[depth - 1])
                break;
            p++;
            depth--;
        }
        if (p == end || *p != ',')
            return NULL;
        p = open[depth - 1] == '}' ? skip_key(p + 1, end) : p + 1;
        if (!p)
            return NULL;
    }
}

struct span scan_object(const char *text, size_t n) {
    const char *end = text + n, *begin = skip_blanks(text, end);
    if (begin == end || *begin != '{')
        return (struct span){0};
    const char *after = skip_value(begin, end);
    if (!after || skip_blanks(after, end) != end)
        return (struct span){0};
    return (struct span){begin, (size_t)(after - begin)};
}

bool scan_is_object(struct span value) {
    return value.at && *value.at == '{';
}

struct span scan_member(struct span object, const char *key) {
    const size_t n = strlen(key);
    if (!scan_is_object(object))
        return (struct span){0};
    /* The object is known to be well-formed: no step below can fail. */
    const char *end = object.at + object.n, *p = skip_blanks(object.at + 1, end);
    while (*p != '}') {
        const char *name = p, *value = skip_key(p, end), *after = skip_value(value, end);
        if (!strncmp(name + 1, key, n) && name[n + 1] == '"')
            return (struct span){value, (size_t)(after - value)};
        p = skip_blanks(after, end);
        if (*p == ',')
            p = skip_blanks(p + 1, end);
    }
    return (struct span){0};
}

struct span scan_item(struct span array, size_t i) {
    if (!array.at || *array.at != '[')
        return (struct span){0};
    const char *end = array.at + array.n, *p = skip_blanks(array.at + 1, end);
    while (*p != ']') {
        const char *after = skip_value(p, end);
        if (i-- == 0)
            return (struct span){p, (size_t)(after - p)};
        p = skip_blanks(after, end);
        if (*p == ',')
            p = skip_blanks(p + 1, end);
    }
    return (struct span){0};
}

static unsigned long read_hex(const char *p) {
    unsigned long code = 0;
    for (int i = 0; i < 4; i++)
        code = code << 4 | (unsigned long)hex_digit(p[i]);
    return code;
}

/* The code point of the escape whose 'u' is at *p; a lone surrogate is U+FFFD.  *p moves to its
 * last character. */
static unsigned long read_code_point(const char **p) {
    unsigned long code = read_hex(*p + 1);
    *p += 4;
    if (code >= 0xD800 && code < 0xDC00 && (*p)[1] == '\\' && (*p)[2] == 'u') {
        const unsigned long low = read_hex(*p + 3);
        if (low >= 0xDC00 && low < 0xE000) {
            *p += 6;
            return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
    }
    return code >= 0xD800 && code < 0xE000 ? 0xFFFD : code;
}

static size_t put_utf8(unsigned long code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)((0xF0 << (4 - n)) | code);
    return n;
}

/* One character of a string, escaped or not; *p moves to its last byte. */
static size_t read_character(const char **p, char out[4]) {
    static const char escapes[] = "b\bf\fn\nr\rt\t";
    if (**p != '\\') {
        size_t n = 0;
        do
            out[n++] = **p;
        while (n < 4 && ((*p)[1] & 0xC0) == 0x80 && ++*p);
        return n;
    }
    if (*++*p == 'u')
        return put_utf8(read_code_point(p), out);
    const char *escape = strchr(escapes, **p);
    out[0] = escape ? escape[1] : **p;
    return 1;
}

size_t scan_string(struct span value, char *out, size_t size) {
    size_t used = 0;
    if (value.at && *value.at == '"')
        for (const char *p = value.at + 1; *p != '"'; p++) {
            char bytes[4];
            const size_t n = read_character(&p, bytes);
            if (used + n >= size)
                break;
            memcpy(out + used, bytes, n);
            used += n;
        }
    if (size)
        out[used] = '\0';
    return used;
}

long scan_long(struct span value) {
    char digits[24] = {0};
    if (!value.at || value.n >= sizeof digits || strspn(value.at, "-0123456789") < value.n)
        return 0;
    memcpy(digits, value.at, value.n);
    return strtol(digits, NULL, 10);
}
