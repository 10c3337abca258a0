/* SPDX-License-Identifier: Apache-2.0 */
/* Calls as qwen3-coder writes them, each parameter between tags of its own, and their JSON.
 *
 * A value is text that does not say of which type it is: the tool's schema does.  What cannot be of
 * a type that the schema allows is a string, for the tool to complain about. */
#include <string.h>
#include <strings.h>

#include "daemon/util/json.h"
#include "models/chat/calls.h"

struct reading {
    const char *at, *end;
    struct buffer *out;
    const struct calls_schema *schema;
    bool bad; /* not of this kind, or no memory */
};

static void put(struct reading *r, const char *bytes, size_t n) {
    r->bad = r->bad || (n && buffer_append(r->out, bytes, n));
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *past_blanks(const char *at, const char *end) {
    while (at < end && is_blank(*at))
        at++;
    return at;
}

static bool begins(const char *at, const char *end, const char *what) {
    const size_t n = strlen(what);
    return (size_t)(end - at) >= n && !memcmp(at, what, n);
}

static bool take(struct reading *r, const char *what) {
    r->at = past_blanks(r->at, r->end);
    if (!begins(r->at, r->end, what))
        return false;
    r->at += strlen(what);
    return true;
}

/* Up to the bracket that closes the tag. */
static bool take_name(struct reading *r, const char **name, size_t *n) {
    const char *close = memchr(r->at, '>', (size_t)(r->end - r->at));
    if (!close)
        return false;
    *name = r->at;
    *n = (size_t)(close - r->at);
    r->at = close + 1;
    return *n > 0;
}

/* The value ends where the tag is followed by another one: text may hold the tag. */
static bool take_value(struct reading *r, const char **value, size_t *n) {
    static const char close[] = "</parameter>";
    for (const char *from = r->at;;) {
        const char *found = memmem(from, (size_t)(r->end - from), close, sizeof close - 1);
        if (!found)
            return false;
        const char *behind = found + sizeof close - 1;
        const char *next = past_blanks(behind, r->end);
        if (begins(next, r->end, "<parameter=") || begins(next, r->end, "</function>")) {
            *value = r->at;
            *n = (size_t)(found - r->at);
            r->at = behind;
            break;
        }
        from = behind;
    }
    /* One newline on each side is the form's. */
    if (*n && **value == '\n')
        ++*value, --*n;
    if (*n && (*value)[*n - 1] == '\n')
        --*n;
    return true;
}

/* --- types --- */

static bool is_word(const char *text, size_t n, const char *word) {
    return strlen(word) == n && !strncasecmp(text, word, n);
}

/* Which of the types in the mask the text is written as; 0: none, it is a string. */
static unsigned type_of(const char *text, size_t n, unsigned types) {
    if (types & CALLS_NULL && is_word(text, n, "null"))
        return CALLS_NULL;
    if (types & CALLS_STRING || n == 0)
        return 0;
    if (types & CALLS_BOOLEAN && (is_word(text, n, "true") || is_word(text, n, "false")))
        return CALLS_BOOLEAN;
    if (json_check_carried(text, n, NULL))
        return 0;
    const unsigned of = *text == '{'                                     ? CALLS_OBJECT
                        : *text == '['                                   ? CALLS_ARRAY
                        : *text == '-' || (*text >= '0' && *text <= '9') ? CALLS_NUMBER
                                                                         : 0;
    return types & of;
}

static void put_value(struct reading *r, const char *value, size_t n, unsigned types) {
    const char *text = past_blanks(value, value + n);
    size_t length = n - (size_t)(text - value);
    while (length && is_blank(text[length - 1]))
        length--;
    const unsigned type = type_of(text, length, types);
    if (type == CALLS_NULL)
        put(r, "null", 4);
    else if (type == CALLS_BOOLEAN)
        put(r, length == 4 ? "true" : "false", length);
    else if (type)
        put(r, text, length);
    else
        r->bad = r->bad || calls_put_text(r->out, value, n);
}

/* --- calls --- */

/* Behind "<function="; the arguments lie in the buffer from where they began. */
static bool read_function(struct reading *r, struct tool_call *call) {
    const char *key, *value;
    size_t n_key, n;
    bool first = true;
    if (!take_name(r, &call->name, &call->n_name) || !calls_name(call->name, call->n_name))
        return false;
    put(r, "{", 1);
    while (!r->bad && take(r, "<parameter=")) {
        if (!take_name(r, &key, &n_key) || !take_value(r, &value, &n))
            return false;
        if (!first)
            put(r, ", ", 2);
        first = false;
        r->bad = r->bad || calls_put_text(r->out, key, n_key);
        put(r, ": ", 2);
        put_value(r, value, n, r->schema->types(r->schema->user, call, key, n_key));
    }
    put(r, "}", 1);
    return !r->bad && take(r, "</function>");
}

size_t calls_coder(const char *text, size_t n, bool opened, const struct calls_schema *schema,
                   struct buffer *json, struct tool_call calls[TOOL_CALLS_MAX]) {
    struct reading r = {.at = text, .end = text + n, .out = json, .schema = schema};
    size_t begin[TOOL_CALLS_MAX + 1], n_calls = 0;
    json->n = 0;
    while (opened || take(&r, "<function=")) {
        opened = false;
        if (n_calls == TOOL_CALLS_MAX)
            return 0;
        begin[n_calls] = json->n;
        if (!read_function(&r, &calls[n_calls]))
            return 0;
        n_calls++;
    }
    begin[n_calls] = json->n;
    if (past_blanks(r.at, r.end) != r.end)
        return 0;
    for (size_t i = 0; i < n_calls; i++) { /* the buffer does not move any more */
        calls[i].arguments = json->bytes + begin[i];
        calls[i].n_arguments = begin[i + 1] - begin[i];
        if (json_check_carried(calls[i].arguments, calls[i].n_arguments, NULL))
            return 0;
    }
    return n_calls;
}
