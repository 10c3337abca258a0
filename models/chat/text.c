/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - values as text: Python's way of printing them, and JSON. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/utf8.h"
#include "models/chat/chat.h"
#include "models/chat/eval.h"

bool text_reserve(struct eval *e, struct text *t, size_t n) {
    if (e->rc)
        return false;
    if (t->n + n > CHAT_OUTPUT_MAX) {
        eval_too_much(e, "more than 16 MiB of text");
        return false;
    }
    if (t->n + n + 1 <= t->capacity)
        return true;
    size_t more = t->capacity ? t->capacity : 64;
    while (more < t->n + n + 1)
        more *= 2;
    if (!eval_room(e, more - t->capacity))
        return false;
    char *grown = realloc(t->bytes, more);
    if (!grown) {
        e->rc = -ENOMEM;
        return false;
    }
    t->bytes = grown;
    t->capacity = more;
    return true;
}

void text_add(struct eval *e, struct text *t, const char *bytes, size_t n) {
    if (n == 0 || !eval_work(e, 1 + n / 64) || !text_reserve(e, t, n))
        return;
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
    t->bytes[t->n] = 0;
}

struct chat_value *text_value(struct eval *e, struct text *t) {
    struct chat_value *v = NULL;
    if (!e->rc && t->bytes) {
        char *exact = t->capacity > 2 * t->n ? realloc(t->bytes, t->n + 1) : NULL;
        v = eval_made(e, value_take_string(exact ? exact : t->bytes, t->n));
    } else if (!e->rc) {
        v = eval_made(e, chat_string("", 0));
        free(t->bytes);
    } else {
        free(t->bytes);
    }
    *t = (struct text){0};
    return v;
}

size_t text_characters(const char *bytes, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return count;
}

static void add_text(struct eval *e, struct text *t, const char *text) {
    text_add(e, t, text, strlen(text));
}

/* The shortest digits that read back as the same number; always with a point or an exponent. */
static void add_real(struct eval *e, struct text *t, double value, bool json) {
    char digits[40];
    eval_work(e, 600); /* the search below */
    if (isnan(value) || isinf(value)) {
        add_text(e, t,
                 isnan(value) ? (json ? "NaN" : "nan")
                 : value < 0  ? (json ? "-Infinity" : "-inf")
                              : (json ? "Infinity" : "inf"));
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    const double size = fabs(value);
    if (strchr(digits, 'e') && size >= 1e-4 && size < 1e16)
        snprintf(digits, sizeof digits, "%.0f", value); /* Python writes 100000.0 */
    if (!strpbrk(digits, ".e"))
        strcat(digits, ".0");
    add_text(e, t, digits);
}

/* A string inside a list, quoted as Python does. */
static void add_quoted(struct eval *e, struct text *t, const struct chat_value *v) {
    const char *p = v->string.bytes;
    const char quote = memchr(p, '\'', v->string.n) && !memchr(p, '"', v->string.n) ? '"' : '\'';
    size_t done = 0;
    text_add(e, t, &quote, 1);
    for (size_t i = 0; i < v->string.n && !e->rc; i++) {
        char escape[8];
        const unsigned char c = (unsigned char)p[i];
        if (c == '\n' || c == '\t' || c == '\r')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else if (c == '\\' || p[i] == quote)
            snprintf(escape, sizeof escape, "\\%c", p[i]);
        else if (c < 32 || c == 127)
            snprintf(escape, sizeof escape, "\\x%02x", c);
        else
            continue;
        eval_work(e, 8);
        text_add(e, t, p + done, i - done);
        add_text(e, t, escape);
        done = i + 1;
    }
    eval_work_text(e, v->string.n);
    text_add(e, t, p + done, v->string.n - done);
    text_add(e, t, &quote, 1);
}

static void print_container(struct eval *e, struct text *t, const struct chat_value *v, int depth) {
    const bool list = v->kind == V_LIST;
    add_text(e, t, v->is_tuple ? "(" : list ? "[" : "{");
    for (size_t i = 0; i < (list ? v->list.n : v->dict.n) && !e->rc; i++) {
        if (i)
            add_text(e, t, ", ");
        if (list) {
            text_print(e, t, v->list.items[i], true, depth + 1);
            continue;
        }
        text_print(e, t, v->dict.entries[i].key, true, depth + 1);
        add_text(e, t, ": ");
        text_print(e, t, v->dict.entries[i].item, true, depth + 1);
    }
    if (v->is_tuple && v->list.n == 1)
        add_text(e, t, ",");
    add_text(e, t, v->is_tuple ? ")" : list ? "]" : "}");
}

void text_print(struct eval *e, struct text *t, const struct chat_value *v, bool repr, int depth) {
    char number[32];
    if (!eval_work(e, 1))
        return;
    if (depth > CHAT_DEPTH_MAX) {
        eval_fail(e, "a value nested more than %d deep cannot be printed", CHAT_DEPTH_MAX);
        return;
    }
    switch (v->kind) {
    case V_NONE:
        add_text(e, t, "None");
        break;
    case V_UNDEFINED:
        break;
    case V_BOOL:
        add_text(e, t, v->boolean ? "True" : "False");
        break;
    case V_INT:
        eval_work(e, 8);
        snprintf(number, sizeof number, "%" PRId64, v->integer);
        add_text(e, t, number);
        break;
    case V_FLOAT:
        add_real(e, t, v->real, false);
        break;
    case V_STRING:
        if (repr)
            add_quoted(e, t, v);
        else
            text_add(e, t, v->string.bytes, v->string.n);
        break;
    case V_LIST:
    case V_DICT:
        print_container(e, t, v, depth);
        break;
    case V_LOOP:
    case V_MACRO:
    case V_BUILTIN:
        add_text(e, t, "<function>");
        break;
    }
}

/* The character at p, of `length` bytes, as \uXXXX, in two where it takes them. */
static void json_escape(struct eval *e, struct text *t, const char *p, size_t length) {
    static const unsigned char lead[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    char escape[16];
    uint32_t c = (unsigned char)p[0] & lead[length];
    for (size_t i = 1; i < length; i++)
        c = c << 6 | ((unsigned char)p[i] & 63);
    if (c < 0x10000)
        snprintf(escape, sizeof escape, "\\u%04x", c);
    else
        snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 1023));
    eval_work(e, 8);
    add_text(e, t, escape);
}

static void json_string(struct eval *e, struct text *t, const struct chat_value *v, bool ascii) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *p = v->string.bytes;
    const size_t n = v->string.n;
    size_t done = 0, length;
    add_text(e, t, "\"");
    for (size_t i = 0; i < n && !e->rc; i += length) {
        const unsigned char c = (unsigned char)p[i];
        length = 1;
        if (c >= 32 && c != '"' && c != '\\' && (c < 128 || !ascii))
            continue;
        text_add(e, t, p + done, i - done);
        const char *known = c ? strchr(plain, p[i]) : NULL;
        if (c >= 128)
            length = utf8_length(p + i, n - i);
        if (known)
            text_add(e, t, (char[]){'\\', letters[known - plain]}, 2);
        else if (length)
            json_escape(e, t, p + i, length);
        else
            add_text(e, t, "\\ufffd");
        length += length == 0;
        done = i + length;
    }
    eval_work_text(e, n);
    text_add(e, t, p + done, n - done);
    add_text(e, t, "\"");
}

static void json_break(struct eval *e, struct text *t, int indent, int depth) {
    if (indent < 0)
        return;
    add_text(e, t, "\n");
    for (int i = 0; i < indent * depth && !e->rc; i++)
        add_text(e, t, " ");
}

static void json_container(struct eval *e, struct text *t, const struct chat_value *v,
                           const struct json_style *style, int depth) {
    const bool list = v->kind == V_LIST;
    const size_t n = list ? v->list.n : v->dict.n;
    struct json_style flat = *style;
    flat.indent = -1;
    add_text(e, t, list ? "[" : "{");
    for (size_t i = 0; i < n && !e->rc; i++) {
        if (i)
            add_text(e, t, style->item);
        json_break(e, t, style->indent, depth + 1);
        if (list) {
            text_json(e, t, v->list.items[i], style, depth + 1);
            continue;
        }
        const struct chat_value *key = v->dict.entries[i].key;
        if (key->kind == V_STRING) {
            json_string(e, t, key, style->ascii);
        } else {
            add_text(e, t, "\"");
            text_json(e, t, key, &flat, depth + 1);
            add_text(e, t, "\"");
        }
        add_text(e, t, style->key);
        text_json(e, t, v->dict.entries[i].item, style, depth + 1);
    }
    if (n)
        json_break(e, t, style->indent, depth);
    add_text(e, t, list ? "]" : "}");
}

/* As json.dumps writes it. */
void text_json(struct eval *e, struct text *t, const struct chat_value *v,
               const struct json_style *style, int depth) {
    if (!eval_work(e, 1))
        return;
    if (depth > CHAT_DEPTH_MAX) {
        eval_fail(e, "tojson: nested more than %d deep", CHAT_DEPTH_MAX);
        return;
    }
    switch (v->kind) {
    case V_NONE:
        add_text(e, t, "null");
        break;
    case V_BOOL:
        add_text(e, t, v->boolean ? "true" : "false");
        break;
    case V_FLOAT:
        add_real(e, t, v->real, true);
        break;
    case V_STRING:
        json_string(e, t, v, style->ascii);
        break;
    case V_LIST:
    case V_DICT:
        json_container(e, t, v, style, depth);
        break;
    case V_INT:
        text_print(e, t, v, false, depth);
        break;
    default:
        eval_fail(e, "tojson: %s has no JSON", value_type_name(v));
    }
}
