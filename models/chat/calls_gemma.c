/* SPDX-License-Identifier: Apache-2.0 */
/* Calls as gemma writes them, call:NAME{key:<escape>text<escape>,number:1}, and their JSON. */
#include <string.h>

#include "daemon/util/json.h"
#include "models/chat/calls.h"

#define DEPTH_MAX 32

struct reading {
    const char *at, *end;
    struct buffer *out;
    int depth;
    bool bad; /* not of this kind, or no memory */
};

static void put(struct reading *r, const char *bytes, size_t n) {
    r->bad = r->bad || (n && buffer_append(r->out, bytes, n));
}

static void put_text(struct reading *r, const char *text, size_t n) {
    r->bad = r->bad || calls_put_text(r->out, text, n);
}

static bool take(struct reading *r, const char *what) {
    const size_t n = strlen(what);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, what, n) != 0)
        return false;
    r->at += n;
    return true;
}

static void skip_blanks(struct reading *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
}

/* Between two marks, or a word up to one of `stops`.  True: it was between marks. */
static bool take_word(struct reading *r, const char *stops, const char **word, size_t *n) {
    static const char mark[] = "<escape>";
    if (take(r, mark)) {
        const char *end = memmem(r->at, (size_t)(r->end - r->at), mark, sizeof mark - 1);
        *word = r->at;
        *n = end ? (size_t)(end - r->at) : 0;
        r->bad |= !end;
        r->at = end ? end + sizeof mark - 1 : r->end;
        return true;
    }
    *word = r->at;
    while (r->at < r->end && !(*r->at && strchr(stops, *r->at)))
        r->at++;
    *n = (size_t)(r->at - *word);
    while (*n && strchr(" \t\r\n", (*word)[*n - 1]))
        --*n;
    return false;
}

static void put_value(struct reading *r);

/* The members of an object or the items of a list, up to its bracket. */
static void put_all(struct reading *r, char open, char close) {
    bool first = true;
    put(r, &open, 1);
    for (skip_blanks(r); !r->bad && r->at < r->end && *r->at != close; skip_blanks(r)) {
        const char *key;
        size_t n;
        if (!first && !take(r, ","))
            r->bad = true;
        if (!first)
            put(r, ", ", 2);
        first = false;
        skip_blanks(r);
        if (close == '}') {
            take_word(r, ":,}]", &key, &n);
            put_text(r, key, n);
            put(r, ": ", 2);
            r->bad |= n == 0 || !take(r, ":");
        }
        put_value(r);
    }
    r->bad |= r->at >= r->end;
    r->at += !r->bad;
    put(r, &close, 1);
}

static void put_value(struct reading *r) {
    const char *word;
    size_t n;
    skip_blanks(r);
    if (r->bad || r->at >= r->end || r->depth == DEPTH_MAX) {
        r->bad = true;
        return;
    }
    r->depth++;
    if (*r->at == '{' || *r->at == '[') {
        const bool object = *r->at++ == '{';
        put_all(r, object ? '{' : '[', object ? '}' : ']');
    } else if (take_word(r, ",}]", &word, &n) || json_check_carried(word, n, NULL)) {
        put_text(r, word, n);
    } else {
        put(r, word, n);
    }
    r->depth--;
}

bool calls_gemma(const char *text, size_t n, struct buffer *json, struct tool_call *call) {
    struct reading r = {.at = text, .end = text + n, .out = json};
    struct tool_call made;
    json->n = 0;
    skip_blanks(&r);
    if (!take(&r, "call:"))
        return false;
    made.name = r.at;
    while (r.at < r.end && *r.at != '{')
        r.at++;
    made.n_name = (size_t)(r.at - made.name);
    if (!calls_name(made.name, made.n_name))
        return false;
    put_value(&r);
    skip_blanks(&r);
    if (r.bad || r.at != r.end || !json->n || *json->bytes != '{' ||
        json_check_carried(json->bytes, json->n, NULL))
        return false;
    made.arguments = json->bytes;
    made.n_arguments = json->n;
    *call = made;
    return true;
}
