/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - values as text: Python's way of printing them, and JSON. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/chat.h"
#include "models/chat/eval.h"

void text_add(struct eval *e, struct text *t, const char *bytes, size_t n) {
    if (e->rc || n == 0)
        return;
    if (t->n + n > CHAT_OUTPUT_MAX) {
        eval_fail(e, "more than %u bytes of text", CHAT_OUTPUT_MAX);
        e->rc = -E2BIG;
        return;
    }
    if (t->n + n + 1 > t->capacity) {
        size_t more = t->capacity ? t->capacity : 256;
        while (more < t->n + n + 1)
            more *= 2;
        char *grown = realloc(t->bytes, more);
        if (!grown) {
            e->rc = -ENOMEM;
            return;
        }
        t->bytes = grown;
        t->capacity = more;
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
    t->bytes[t->n] = 0;
}

struct chat_value *text_value(struct eval *e, struct text *t) {
    struct chat_value *v = NULL;
    if (!e->rc && eval_room(e, t->n))
        v = eval_made(e, chat_string(t->bytes ? t->bytes : "", t->n));
    free(t->bytes);
    *t = (struct text){0};
    return v;
}

static void add_text(struct eval *e, struct text *t, const char *text) {
    text_add(e, t, text, strlen(text));
}

/* The shortest digits that read back as the same number; always with a point or an exponent. */
static void add_real(struct eval *e, struct text *t, double value, bool json) {
    char digits[40];
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
    text_add(e, t, &quote, 1);
    for (size_t i = 0; i < v->string.n; i++) {
        char escape[8];
        const unsigned char c = (unsigned char)p[i];
        if (c == '\n' || c == '\t' || c == '\r')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        else if (c == '\\' || p[i] == quote)
            snprintf(escape, sizeof escape, "\\%c", p[i]);
        else if (c < 32 || c == 127)
            snprintf(escape, sizeof escape, "\\x%02x", c);
        else
            snprintf(escape, sizeof escape, "%c", p[i]);
        add_text(e, t, escape);
    }
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
    if (e->rc)
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
    case V_MACRO:
    case V_BUILTIN:
        add_text(e, t, "<function>");
        break;
    }
}

static void json_string(struct eval *e, struct text *t, const char *p, size_t n) {
    add_text(e, t, "\"");
    for (size_t i = 0; i < n; i++) {
        static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *known = p[i] ? strchr(plain, p[i]) : NULL;
        char escape[8];
        if (known)
            snprintf(escape, sizeof escape, "\\%c", letters[known - plain]);
        else if ((unsigned char)p[i] < 32)
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)p[i]);
        else {
            text_add(e, t, p + i, 1);
            continue;
        }
        add_text(e, t, escape);
    }
    add_text(e, t, "\"");
}

static void json_break(struct eval *e, struct text *t, int indent, int depth) {
    if (indent < 0)
        return;
    add_text(e, t, "\n");
    for (int i = 0; i < indent * depth && !e->rc; i++)
        add_text(e, t, " ");
}

static void json_container(struct eval *e, struct text *t, const struct chat_value *v, int indent,
                           int depth) {
    const bool list = v->kind == V_LIST;
    const size_t n = list ? v->list.n : v->dict.n;
    add_text(e, t, list ? "[" : "{");
    for (size_t i = 0; i < n && !e->rc; i++) {
        if (i)
            add_text(e, t, indent < 0 ? ", " : ",");
        json_break(e, t, indent, depth + 1);
        if (list) {
            text_json(e, t, v->list.items[i], indent, depth + 1);
            continue;
        }
        const struct chat_value *key = v->dict.entries[i].key;
        if (key->kind == V_STRING) {
            json_string(e, t, key->string.bytes, key->string.n);
        } else {
            add_text(e, t, "\"");
            text_json(e, t, key, -1, depth + 1);
            add_text(e, t, "\"");
        }
        add_text(e, t, ": ");
        text_json(e, t, v->dict.entries[i].item, indent, depth + 1);
    }
    if (n)
        json_break(e, t, indent, depth);
    add_text(e, t, list ? "]" : "}");
}

/* As json.dumps(ensure_ascii=False) writes it. */
void text_json(struct eval *e, struct text *t, const struct chat_value *v, int indent, int depth) {
    if (e->rc)
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
        json_string(e, t, v->string.bytes, v->string.n);
        break;
    case V_LIST:
    case V_DICT:
        json_container(e, t, v, indent, depth);
        break;
    case V_INT:
        text_print(e, t, v, false, depth);
        break;
    default:
        eval_fail(e, "tojson: %s has no JSON", value_type_name(v));
    }
}
