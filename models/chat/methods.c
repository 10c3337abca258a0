/* SPDX-License-Identifier: Apache-2.0 */
/* methods.c - "value.name(arguments)" of strings, lists and dicts. */
#include <ctype.h>
#include <string.h>

#include "models/chat/eval.h"

typedef struct chat_value *(*method)(struct eval *e, struct chat_value *v, const struct args *args);

static const struct chat_value *string_arg(const struct args *args, size_t i) {
    const struct chat_value *v = args_get(args, i, NULL);
    return v && v->kind == V_STRING ? v : NULL;
}

/* ---- strings -------------------------------------------------------------------------------- */

static bool in_set(const struct chat_value *set, char c) {
    return set ? memchr(set->string.bytes, c, set->string.n) != NULL : isspace((unsigned char)c);
}

static struct chat_value *strip(struct eval *e, struct chat_value *v, const struct args *args,
                                bool left, bool right) {
    const struct chat_value *set = string_arg(args, 0);
    size_t begin = 0, end = v->string.n;
    while (left && begin < end && in_set(set, v->string.bytes[begin]))
        begin++;
    while (right && end > begin && in_set(set, v->string.bytes[end - 1]))
        end--;
    return eval_room(e, end - begin)
               ? eval_made(e, chat_string(v->string.bytes + begin, end - begin))
               : NULL;
}

static struct chat_value *m_strip(struct eval *e, struct chat_value *v, const struct args *args) {
    return strip(e, v, args, true, true);
}

static struct chat_value *m_lstrip(struct eval *e, struct chat_value *v, const struct args *args) {
    return strip(e, v, args, true, false);
}

static struct chat_value *m_rstrip(struct eval *e, struct chat_value *v, const struct args *args) {
    return strip(e, v, args, false, true);
}

enum letter_case { UPPER, LOWER, CAPITAL, TITLE };

/* ASCII letters only: what templates change the case of are keywords. */
static struct chat_value *change_case(struct eval *e, struct chat_value *v, enum letter_case to) {
    struct chat_value *out =
        eval_room(e, v->string.n) ? eval_made(e, chat_string(v->string.bytes, v->string.n)) : NULL;
    bool begin = true;
    for (size_t i = 0; out && i < v->string.n; i++) {
        char *c = &out->string.bytes[i];
        const unsigned char u = (unsigned char)*c;
        const bool up = to == UPPER || (to != LOWER && begin);
        if (u < 128)
            *c = (char)(up ? toupper(u) : tolower(u));
        begin = to == TITLE && !isalpha(u) && u < 128;
    }
    return out;
}

#define CASE_METHOD(method_name, to)                                                               \
    static struct chat_value *method_name(struct eval *e, struct chat_value *v,                    \
                                          const struct args *args) {                               \
        (void)args;                                                                                \
        return change_case(e, v, to);                                                              \
    }
CASE_METHOD(m_upper, UPPER)
CASE_METHOD(m_lower, LOWER)
CASE_METHOD(m_capitalize, CAPITAL)
CASE_METHOD(m_title, TITLE)

static struct chat_value *affix(struct eval *e, struct chat_value *v, const struct args *args,
                                bool front) {
    struct chat_value *what = args_get(args, 0, NULL);
    const struct chat_value *one[1] = {what};
    const struct chat_value *const *all = one;
    size_t n = what ? 1 : 0;
    bool found = false;
    if (what && what->kind == V_LIST) {
        all = (const struct chat_value *const *)what->list.items;
        n = what->list.n;
    }
    for (size_t i = 0; i < n && !found; i++) {
        if (all[i]->kind != V_STRING)
            return eval_fail(e, "startswith and endswith take strings");
        const size_t k = all[i]->string.n;
        found = k <= v->string.n &&
                !memcmp(v->string.bytes + (front ? 0 : v->string.n - k), all[i]->string.bytes, k);
    }
    return eval_made(e, chat_bool(found));
}

static struct chat_value *m_startswith(struct eval *e, struct chat_value *v,
                                       const struct args *args) {
    return affix(e, v, args, true);
}

static struct chat_value *m_endswith(struct eval *e, struct chat_value *v,
                                     const struct args *args) {
    return affix(e, v, args, false);
}

static const char *find_bytes(const char *p, size_t n, const struct chat_value *what) {
    return what->string.n ? memmem(p, n, what->string.bytes, what->string.n) : NULL;
}

static struct chat_value *split_blanks(struct eval *e, const struct chat_value *v, int64_t most) {
    struct chat_value *out = chat_list();
    const char *p = v->string.bytes;
    size_t i = 0;
    while (i < v->string.n) {
        while (i < v->string.n && isspace((unsigned char)p[i]))
            i++;
        size_t end = i;
        while (end < v->string.n && !isspace((unsigned char)p[end]))
            end++;
        if (most >= 0 && out && (int64_t)out->list.n == most)
            end = v->string.n;
        if (end > i)
            out = chat_append(out, chat_string(p + i, end - i));
        i = end;
    }
    return eval_made(e, out);
}

static struct chat_value *m_split(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *by = string_arg(args, 0), *most = args_get(args, 1, "maxsplit");
    const int64_t limit = most && most->kind == V_INT ? most->integer : -1;
    struct chat_value *out;
    const char *at = v->string.bytes, *end = at + v->string.n, *hit;
    if (!eval_room(e, v->string.n * 8))
        return NULL;
    if (!by)
        return split_blanks(e, v, limit);
    if (by->string.n == 0)
        return eval_fail(e, "split: an empty separator");
    out = chat_list();
    while (out && (limit < 0 || (int64_t)out->list.n < limit) &&
           (hit = find_bytes(at, (size_t)(end - at), by))) {
        out = chat_append(out, chat_string(at, (size_t)(hit - at)));
        at = hit + by->string.n;
    }
    return eval_made(e, chat_append(out, chat_string(at, (size_t)(end - at))));
}

static struct chat_value *m_rsplit(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *by = string_arg(args, 0), *most = args_get(args, 1, "maxsplit");
    struct chat_value *parts = m_split(e, v, &(struct args){.at = {args->at[0]}, .n = args->n > 0});
    if (!parts || !by || !most || most->kind != V_INT || most->integer < 0)
        return parts;
    /* Join the front again until only maxsplit cuts are left. */
    while (parts->list.n > (size_t)most->integer + 1) {
        struct text t = {0};
        text_print(e, &t, parts->list.items[0], false, 0);
        text_add(e, &t, by->string.bytes, by->string.n);
        text_print(e, &t, parts->list.items[1], false, 0);
        struct chat_value *joined = text_value(e, &t);
        if (!joined)
            break;
        chat_value_unref(parts->list.items[0]);
        chat_value_unref(parts->list.items[1]);
        parts->list.items[0] = joined;
        memmove(&parts->list.items[1], &parts->list.items[2],
                (parts->list.n - 2) * sizeof *parts->list.items);
        parts->list.n--;
    }
    return eval_made(e, parts);
}

static struct chat_value *m_replace(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *from = string_arg(args, 0), *to = string_arg(args, 1);
    const struct chat_value *most = args_get(args, 2, "count");
    int64_t left = most && most->kind == V_INT ? most->integer : INT64_MAX;
    const char *at = v->string.bytes, *end = at + v->string.n, *hit;
    struct text t = {0};
    if (!from || !to)
        return eval_fail(e, "replace takes two strings");
    while (!e->rc && left-- > 0 && (hit = find_bytes(at, (size_t)(end - at), from))) {
        text_add(e, &t, at, (size_t)(hit - at));
        text_add(e, &t, to->string.bytes, to->string.n);
        at = hit + from->string.n;
    }
    text_add(e, &t, at, (size_t)(end - at));
    return text_value(e, &t);
}

static struct chat_value *m_join(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *what = args_get(args, 0, NULL);
    struct args with = {.at = {v}, .n = 1};
    return what ? filter_apply(e, "join", what, &with) : eval_fail(e, "join takes a list");
}

static struct chat_value *m_find(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *what = string_arg(args, 0);
    if (!what)
        return eval_fail(e, "find takes a string");
    const char *hit =
        what->string.n ? find_bytes(v->string.bytes, v->string.n, what) : v->string.bytes;
    int64_t at = hit ? 0 : -1;
    for (const char *p = v->string.bytes; hit && p < hit; p++)
        at += ((unsigned char)*p & 0xc0) != 0x80; /* characters, not bytes */
    return eval_made(e, chat_int(at));
}

static struct chat_value *m_count(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *what = args_get(args, 0, NULL);
    int64_t n = 0;
    if (!what || (v->kind == V_STRING && what->kind != V_STRING))
        return eval_fail(e, "count takes what to look for");
    if (v->kind == V_LIST) {
        for (size_t i = 0; i < v->list.n; i++)
            n += value_same(v->list.items[i], what, 0);
        return eval_made(e, chat_int(n));
    }
    const char *at = v->string.bytes, *end = at + v->string.n;
    while ((at = find_bytes(at, (size_t)(end - at), what))) {
        at += what->string.n;
        n++;
    }
    return eval_made(e, chat_int(n));
}

static struct chat_value *is_all(struct eval *e, const struct chat_value *v, int (*is)(int)) {
    bool all = v->string.n > 0;
    for (size_t i = 0; i < v->string.n; i++)
        all = all && is((unsigned char)v->string.bytes[i]);
    return eval_made(e, chat_bool(all));
}

static struct chat_value *m_isdigit(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return is_all(e, v, isdigit);
}

static struct chat_value *m_isspace(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return is_all(e, v, isspace);
}

/* ---- lists and dicts ------------------------------------------------------------------------ */

/* A container inside itself would never be freed. */
static bool holds(const struct chat_value *v, const struct chat_value *what, int depth) {
    if (v == what || depth > 32)
        return true;
    if (v->kind == V_LIST)
        for (size_t i = 0; i < v->list.n; i++)
            if (holds(v->list.items[i], what, depth + 1))
                return true;
    if (v->kind == V_DICT)
        for (size_t i = 0; i < v->dict.n; i++)
            if (holds(v->dict.entries[i].item, what, depth + 1))
                return true;
    return false;
}

bool value_holds(const struct chat_value *v, const struct chat_value *what) {
    return (v->kind == V_LIST || v->kind == V_DICT) && holds(v, what, 0);
}

static struct chat_value *m_append(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *item = args_get(args, 0, NULL);
    if (!item || value_holds(item, v) || v->list.n >= EVAL_RANGE_MAX)
        return eval_fail(e,
                         "append takes an item that is not the list itself, and a list holds at "
                         "most %d",
                         EVAL_RANGE_MAX);
    chat_value_ref(v); /* chat_append gives back the list or nothing */
    struct chat_value *list = chat_append(v, chat_value_ref(item));
    chat_value_unref(list);
    return eval_made(e, list ? chat_none() : NULL);
}

static struct chat_value *m_pop(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *at = args_get(args, 0, NULL);
    int64_t i = at && at->kind == V_INT ? at->integer : -1;
    i += i < 0 ? (int64_t)v->list.n : 0;
    if (i < 0 || i >= (int64_t)v->list.n)
        return eval_fail(e, "pop: there is no such item");
    struct chat_value *item = v->list.items[i];
    memmove(&v->list.items[i], &v->list.items[i + 1],
            (v->list.n - (size_t)i - 1) * sizeof *v->list.items);
    v->list.n--;
    return item;
}

static struct chat_value *m_items(struct eval *e, struct chat_value *v, const struct args *args) {
    return filter_apply(e, "items", v, args);
}

static struct chat_value *m_keys(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return items_of(e, v);
}

static struct chat_value *m_values(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *out = chat_list();
    (void)args;
    for (size_t i = 0; i < v->dict.n; i++)
        out = chat_append(out, chat_value_ref(v->dict.entries[i].item));
    return eval_made(e, out);
}

static struct chat_value *m_get(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *key = args_get(args, 0, "key"), *otherwise = args_get(args, 1, "default");
    struct chat_value *item = key ? dict_find(v, key) : NULL;
    return item        ? chat_value_ref(item)
           : otherwise ? chat_value_ref(otherwise)
                       : eval_made(e, chat_none());
}

static const struct {
    enum value_kind kind;
    const char *name;
    method call;
} methods[] = {
    {V_STRING, "capitalize", m_capitalize},
    {V_STRING, "count", m_count},
    {V_STRING, "endswith", m_endswith},
    {V_STRING, "find", m_find},
    {V_STRING, "isdigit", m_isdigit},
    {V_STRING, "isspace", m_isspace},
    {V_STRING, "join", m_join},
    {V_STRING, "lower", m_lower},
    {V_STRING, "lstrip", m_lstrip},
    {V_STRING, "replace", m_replace},
    {V_STRING, "rsplit", m_rsplit},
    {V_STRING, "rstrip", m_rstrip},
    {V_STRING, "split", m_split},
    {V_STRING, "startswith", m_startswith},
    {V_STRING, "strip", m_strip},
    {V_STRING, "title", m_title},
    {V_STRING, "upper", m_upper},
    {V_LIST, "append", m_append},
    {V_LIST, "count", m_count},
    {V_LIST, "pop", m_pop},
    {V_DICT, "get", m_get},
    {V_DICT, "items", m_items},
    {V_DICT, "keys", m_keys},
    {V_DICT, "values", m_values},
};

struct chat_value *method_call(struct eval *e, struct chat_value *subject, const char *name,
                               const struct args *args) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == subject->kind && !strcmp(methods[i].name, name))
            return methods[i].call(e, subject, args);
    return eval_fail(e, "%s has no method '%.40s'", value_type_name(subject), name);
}
