/* SPDX-License-Identifier: Apache-2.0 */
#include "models/chat/calls.h"

#include <string.h>

#include "daemon/util/json.h"

struct text {
    const char *at, *end;
};

static void skip(struct text *t, const char *what) {
    while (t->at < t->end && *t->at && strchr(what, *t->at))
        t->at++;
}

static const char blanks[] = " \t\r\n";

bool calls_name(const char *name, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr("._-:", c))))
            return false;
    }
    return n > 0 && n <= TOOL_NAME_MAX;
}

int calls_put_text(struct buffer *json, const char *text, size_t n) {
    int rc = buffer_append(json, "\"", 1);
    for (size_t i = 0; i < n && !rc; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            rc = buffer_append(json, (const char[]){'\\', (char)c}, 2);
        else if (c < ' ')
            rc = buffer_printf(json, "\\u%04x", c);
        else
            rc = buffer_append(json, text + i, 1);
    }
    return rc ? rc : buffer_append(json, "\"", 1);
}

/* The value of JSON at the front, unchecked: up to its closing quote or bracket, or the end of a
 * word. */
static struct text take_value(struct text *t) {
    struct text value = {t->at, t->at};
    size_t depth = 0;
    bool quoted = false;
    for (; t->at < t->end; t->at++) {
        const char c = *t->at;
        if (quoted) {
            t->at += c == '\\' && t->at + 1 < t->end;
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                break;
            depth--;
        } else if (depth == 0 && strchr(", \t\r\n:;", c)) {
            break;
        } else {
            continue;
        }
        if (depth == 0 && !quoted) {
            t->at++;
            break;
        }
    }
    value.end = t->at;
    return value;
}

/* The next member of an object that was checked; t->at stands behind the last one. */
static bool take_member(struct text *t, struct text *key, struct text *value) {
    skip(t, ", \t\r\n{");
    if (t->at >= t->end || *t->at != '"')
        return false;
    *key = take_value(t);
    skip(t, ": \t\r\n");
    *value = take_value(t);
    return true;
}

static bool is_key(const struct text *key, const char *name) {
    const size_t n = strlen(name);
    return (size_t)(key->end - key->at) == n + 2 && !memcmp(key->at + 1, name, n);
}

static bool take_name(const struct text *value, struct tool_call *call) {
    if (value->end - value->at < 2 || *value->at != '"')
        return false;
    call->name = value->at + 1;
    call->n_name = (size_t)(value->end - value->at) - 2;
    return calls_name(call->name, call->n_name);
}

/* {"name": …, "arguments" or "parameters": {…}}, or that in "function". */
static bool read_call(struct text object, struct tool_call *call, bool inner) {
    struct text key, value;
    bool named = false;
    call->arguments = "{}";
    call->n_arguments = 2;
    if (object.at >= object.end || *object.at != '{')
        return false;
    for (struct text t = {object.at + 1, object.end}; take_member(&t, &key, &value);) {
        if (is_key(&key, "function") && !inner && *value.at == '{')
            return read_call(value, call, true);
        if (is_key(&key, "name")) {
            if (!take_name(&value, call))
                return false;
            named = true;
        } else if (is_key(&key, "arguments") || is_key(&key, "parameters")) {
            if (value.at >= value.end || *value.at != '{')
                return false;
            call->arguments = value.at;
            call->n_arguments = (size_t)(value.end - value.at);
        }
    }
    return named;
}

static bool add(struct tool_call *calls, size_t *n, struct text object) {
    return *n < TOOL_CALLS_MAX && read_call(object, &calls[*n], false) && ++*n;
}

static bool add_list(struct tool_call *calls, size_t *n, struct text list) {
    struct text t = {list.at + 1, list.end};
    for (skip(&t, blanks); t.at < t.end && *t.at != ']'; skip(&t, ", \t\r\n"))
        if (!add(calls, n, take_value(&t)))
            return false;
    return true;
}

/* name[ARGS]{…}, name[CALL_ID]id[ARGS]{…} or name{…} */
static bool add_named(struct tool_call *calls, size_t *n, struct text *t) {
    static const char args[] = "[ARGS]";
    struct tool_call call = {.name = t->at};
    while (t->at < t->end && *t->at != '[' && *t->at != '{')
        t->at++;
    call.n_name = (size_t)(t->at - call.name);
    while (call.n_name && strchr(blanks, call.name[call.n_name - 1]))
        call.n_name--;
    if (t->at < t->end && *t->at == '[') {
        const char *found = memmem(t->at, (size_t)(t->end - t->at), args, sizeof args - 1);
        if (!found)
            return false;
        t->at = found + sizeof args - 1;
        skip(t, blanks);
    }
    const struct text value = take_value(t);
    call.arguments = value.at;
    call.n_arguments = (size_t)(value.end - value.at);
    if (*n == TOOL_CALLS_MAX || !calls_name(call.name, call.n_name) || !call.n_arguments ||
        *call.arguments != '{' || json_check_carried(call.arguments, call.n_arguments, NULL))
        return false;
    calls[(*n)++] = call;
    return true;
}

size_t calls_read(const char *text, size_t n, struct tool_call calls[TOOL_CALLS_MAX]) {
    struct text t = {text, text + n};
    size_t n_calls = 0;
    for (skip(&t, blanks); t.at < t.end; skip(&t, ",; \t\r\n")) {
        const char first = *t.at;
        if (first != '{' && first != '[') {
            if (!add_named(calls, &n_calls, &t))
                return 0;
            continue;
        }
        const struct text value = take_value(&t);
        if (json_check_carried(value.at, (size_t)(value.end - value.at), NULL) ||
            !(first == '{' ? add(calls, &n_calls, value) : add_list(calls, &n_calls, value)))
            return 0;
    }
    return n_calls;
}

bool calls_arguments(const char *text, size_t n, const char **begin, size_t *length) {
    struct text t = {text, text + n};
    skip(&t, blanks);
    const struct text value = take_value(&t);
    skip(&t, blanks);
    if (t.at != t.end || value.at == value.end || *value.at != '{' ||
        json_check_carried(value.at, (size_t)(value.end - value.at), NULL))
        return false;
    *begin = value.at;
    *length = (size_t)(value.end - value.at);
    return true;
}
