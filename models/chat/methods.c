/* SPDX-License-Identifier: Apache-2.0 */
/* methods.c - "value.name(arguments)" of strings, lists and dicts. */
#include <ctype.h>
#include <string.h>

#include "models/chat/eval.h"

typedef struct chat_value *(*method)(struct eval *e, struct chat_value *v, const struct args *args);

/* NULL when it is not there, or none; anything else is a failure. */
static const struct chat_value *string_arg(struct eval *e, const struct args *args, size_t i,
                                           const char *name) {
    const struct chat_value *v = args_get(args, i, name);
    if (v && v->kind != V_STRING && v->kind != V_NONE)
        eval_fail(e, "a string is expected, not %s", value_type_name(v));
    return v && v->kind == V_STRING ? v : NULL;
}

/* ---- strings -------------------------------------------------------------------------------- */

/* Whether a character is one of the set; no set: of white space. */
static bool in_set(const struct chat_value *set, const char *p, size_t n) {
    return set ? memmem(set->string.bytes, set->string.n, p, n) != NULL
               : n == 1 && isspace((unsigned char)*p);
}

static bool continues(const char *p) {
    return ((unsigned char)*p & 0xc0) == 0x80;
}

static struct chat_value *strip(struct eval *e, struct chat_value *v, const struct args *args,
                                bool left, bool right) {
    const struct chat_value *set = string_arg(e, args, 0, "chars");
    const char *p = v->string.bytes;
    size_t begin = 0, end = v->string.n, n;
    if (!eval_work(e, set ? v->string.n * (1 + set->string.n / 16) : v->string.n / 8))
        return NULL;
    for (; left && begin < end; begin += n) {
        for (n = 1; begin + n < end && continues(p + begin + n);)
            n++;
        if (!in_set(set, p + begin, n))
            break;
    }
    for (; right && end > begin; end -= n) {
        for (n = 1; end - n > begin && continues(p + end - n);)
            n++;
        if (!in_set(set, p + end - n, n))
            break;
    }
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
    struct chat_value *out = eval_room(e, v->string.n) && eval_work_text(e, 2 * v->string.n)
                                 ? eval_made(e, chat_string(v->string.bytes, v->string.n))
                                 : NULL;
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
    if (!what)
        return eval_fail(e, "startswith and endswith take a string");
    if (what->kind == V_LIST) {
        all = (const struct chat_value *const *)what->list.items;
        n = what->list.n;
    }
    for (size_t i = 0; i < n && !found; i++) {
        if (all[i]->kind != V_STRING)
            return eval_fail(e, "startswith and endswith take strings");
        const size_t k = all[i]->string.n;
        if (!eval_work_text(e, k))
            return NULL;
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
    if (what->string.n == 1)
        return memchr(p, what->string.bytes[0], n);
    return what->string.n ? memmem(p, n, what->string.bytes, what->string.n) : NULL;
}

static void add_part(struct eval *e, struct chat_value **list, const char *bytes, size_t n) {
    if (eval_room(e, n + 2 * EVAL_VALUE_BYTES) && eval_work(e, 1))
        *list = eval_made(e, chat_append(*list, chat_string(bytes, n)));
}

/* Parts between white space; after `most` cuts (SIZE_MAX: no end) the rest is one. */
static void split_blanks(struct eval *e, struct chat_value **out, const char *p, size_t n,
                         size_t most) {
    for (size_t i = 0; !e->rc;) {
        while (i < n && isspace((unsigned char)p[i]))
            i++;
        size_t end = i;
        while (end < n && !isspace((unsigned char)p[end]))
            end++;
        if (end == i)
            return;
        end = most-- == 0 ? n : end;
        add_part(e, out, p + i, end - i);
        if (end == n)
            return;
        i = end;
    }
}

/* The same from the end; the parts come in reverse. */
static void rsplit_blanks(struct eval *e, struct chat_value **out, const char *p, size_t n,
                          size_t most) {
    while (!e->rc) {
        while (n && isspace((unsigned char)p[n - 1]))
            n--;
        size_t begin = n;
        while (begin && !isspace((unsigned char)p[begin - 1]))
            begin--;
        if (begin == n)
            return;
        begin = most-- == 0 ? 0 : begin;
        add_part(e, out, p + begin, n - begin);
        n = begin;
    }
}

static void split_at(struct eval *e, struct chat_value **out, const char *p, size_t n,
                     const struct chat_value *by, size_t most) {
    const char *end = p + n, *hit;
    while (!e->rc && most-- && (hit = find_bytes(p, (size_t)(end - p), by))) {
        add_part(e, out, p, (size_t)(hit - p));
        p = hit + by->string.n;
    }
    add_part(e, out, p, (size_t)(end - p));
}

static void rsplit_at(struct eval *e, struct chat_value **out, const char *p, size_t n,
                      const struct chat_value *by, size_t most) {
    const size_t k = by->string.n;
    size_t end = n;
    for (size_t i = n; i >= k && most && !e->rc; i--) {
        if (p[i - k] != by->string.bytes[0])
            continue;
        if (!eval_work_text(e, k) || memcmp(p + i - k, by->string.bytes, k))
            continue;
        add_part(e, out, p + i, end - i);
        end = i - k;
        i = end + 1; /* one step follows */
        most--;
    }
    add_part(e, out, p, end);
}

static struct chat_value *split(struct eval *e, struct chat_value *v, const struct args *args,
                                bool from_end) {
    const struct chat_value *by = string_arg(e, args, 0, "sep");
    const struct chat_value *limit = args_get(args, 1, "maxsplit");
    size_t most =
        limit && limit->kind == V_INT && limit->integer >= 0 ? (size_t)limit->integer : SIZE_MAX;
    if (limit && limit->kind != V_INT)
        return eval_fail(e, "maxsplit is an integer, not %s", value_type_name(limit));
    if (by && by->string.n == 0)
        return eval_fail(e, "split: an empty separator");
    if (!eval_work_text(e, v->string.n))
        return NULL;
    struct chat_value *out = eval_list(e, 0, false);
    if (by)
        (from_end ? rsplit_at : split_at)(e, &out, v->string.bytes, v->string.n, by, most);
    else
        (from_end ? rsplit_blanks : split_blanks)(e, &out, v->string.bytes, v->string.n, most);
    for (size_t i = 0; from_end && out && i < out->list.n / 2; i++) {
        struct chat_value *swapped = out->list.items[i];
        out->list.items[i] = out->list.items[out->list.n - 1 - i];
        out->list.items[out->list.n - 1 - i] = swapped;
    }
    return eval_made(e, out);
}

static struct chat_value *m_split(struct eval *e, struct chat_value *v, const struct args *args) {
    return split(e, v, args, false);
}

static struct chat_value *m_rsplit(struct eval *e, struct chat_value *v, const struct args *args) {
    return split(e, v, args, true);
}

/* Bytes of the line break at p; 0: there is none. */
static size_t line_break(const char *p, size_t n) {
    const unsigned char c = (unsigned char)p[0];
    if (c == '\r')
        return n > 1 && p[1] == '\n' ? 2 : 1;
    if ((c >= '\n' && c <= '\f') || (c >= 0x1c && c <= 0x1e))
        return 1;
    if (n > 1 && !memcmp(p, "\xc2\x85", 2))
        return 2;
    return n > 2 && (!memcmp(p, "\xe2\x80\xa8", 3) || !memcmp(p, "\xe2\x80\xa9", 3)) ? 3 : 0;
}

static struct chat_value *m_splitlines(struct eval *e, struct chat_value *v,
                                       const struct args *args) {
    const struct chat_value *keep = args_get(args, 0, "keepends");
    const bool keeps = keep && value_true(keep);
    const char *p = v->string.bytes;
    const size_t n = v->string.n;
    struct chat_value *out = eval_work_text(e, 4 * n) ? eval_list(e, 0, false) : NULL;
    size_t begin = 0, length;
    for (size_t i = 0; i < n && !e->rc; i += length ? length : 1) {
        length = line_break(p + i, n - i);
        if (length) {
            add_part(e, &out, p + begin, i - begin + (keeps ? length : 0));
            begin = i + length;
        }
    }
    if (begin < n && !e->rc)
        add_part(e, &out, p + begin, n - begin);
    return eval_made(e, out);
}

static struct chat_value *without(struct eval *e, struct chat_value *v, const struct args *args,
                                  bool front) {
    const struct chat_value *part = string_arg(e, args, 0, NULL);
    const size_t n = v->string.n, k = part ? part->string.n : 0;
    if (!part)
        return eval_fail(e, "a string is expected");
    if (!eval_work_text(e, n) || !eval_room(e, n))
        return NULL;
    if (k > n || memcmp(v->string.bytes + (front ? 0 : n - k), part->string.bytes, k))
        return chat_value_ref(v);
    return eval_made(e, chat_string(v->string.bytes + (front ? k : 0), n - k));
}

static struct chat_value *m_removeprefix(struct eval *e, struct chat_value *v,
                                         const struct args *args) {
    return without(e, v, args, true);
}

static struct chat_value *m_removesuffix(struct eval *e, struct chat_value *v,
                                         const struct args *args) {
    return without(e, v, args, false);
}

static struct chat_value *m_replace(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *from = string_arg(e, args, 0, "old");
    const struct chat_value *to = string_arg(e, args, 1, "new");
    const struct chat_value *most = args_get(args, 2, "count");
    uint64_t left =
        most && most->kind == V_INT && most->integer >= 0 ? (uint64_t)most->integer : UINT64_MAX;
    const char *at = v->string.bytes, *end = at + v->string.n, *hit;
    struct text t = {0};
    if (!from || !to)
        return eval_fail(e, "replace takes two strings");
    if (from->string.n == 0)
        return eval_fail(e, "replace of an empty string");
    eval_work_text(e, v->string.n);
    while (!e->rc && left-- > 0 && (hit = find_bytes(at, (size_t)(end - at), from))) {
        text_add(e, &t, at, (size_t)(hit - at));
        text_add(e, &t, to->string.bytes, to->string.n);
        eval_work(e, 2);
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
    const struct chat_value *what = string_arg(e, args, 0, NULL);
    if (!what)
        return eval_fail(e, "find takes a string");
    if (!eval_work_text(e, 2 * v->string.n))
        return NULL;
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
        for (size_t i = 0; i < v->list.n && eval_work(e, 0); i++)
            n += value_same(v->list.items[i], what, &e->work);
        return eval_made(e, chat_int(n));
    }
    const char *at = v->string.bytes, *end = at + v->string.n;
    if (what->string.n == 0)
        return eval_fail(e, "count of an empty string");
    eval_work(e, v->string.n);
    while ((at = find_bytes(at, (size_t)(end - at), what))) {
        at += what->string.n;
        n++;
    }
    return eval_made(e, chat_int(n));
}

static struct chat_value *is_all(struct eval *e, const struct chat_value *v, int (*is)(int)) {
    bool all = v->string.n > 0;
    eval_work_text(e, v->string.n);
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

static struct chat_value *m_append(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *item = args_get(args, 0, NULL);
    if (!item || v->is_tuple || v->list.n >= EVAL_RANGE_MAX)
        return eval_fail(e, "append takes an item, and a list of at most %d", EVAL_RANGE_MAX);
    const bool inside = value_holds(item, v, &e->work);
    if (!eval_work(e, 1) || !eval_room(e, 2 * EVAL_ITEM_BYTES))
        return NULL;
    if (inside)
        return eval_fail(e, "append: a list cannot hold itself");
    chat_value_ref(v); /* chat_append gives back the list or nothing */
    struct chat_value *list = chat_append(v, chat_value_ref(item));
    chat_value_unref(list);
    return eval_made(e, list ? chat_none() : NULL);
}

static struct chat_value *m_pop(struct eval *e, struct chat_value *v, const struct args *args) {
    const struct chat_value *at = args_get(args, 0, NULL);
    int64_t i = at && at->kind == V_INT ? at->integer : -1;
    i += i < 0 ? (int64_t)v->list.n : 0;
    if (i < 0 || i >= (int64_t)v->list.n || v->is_tuple)
        return eval_fail(e, "pop: there is no such item");
    if (!eval_work(e, 1 + (v->list.n - (uint64_t)i) / 8))
        return NULL;
    struct chat_value *item = v->list.items[i];
    memmove(&v->list.items[i], &v->list.items[i + 1],
            (v->list.n - (size_t)i - 1) * sizeof *v->list.items);
    v->list.n--;
    return item;
}

static struct chat_value *m_cycle(struct eval *e, struct chat_value *v, const struct args *args) {
    return args->n ? chat_value_ref(args->at[v->loop.at % args->n])
                   : eval_fail(e, "cycle takes what to choose from");
}

static struct chat_value *m_update(struct eval *e, struct chat_value *v, const struct args *args) {
    for (size_t i = 0; i < args->n && !e->rc; i++) {
        struct chat_value *key = args->names[i] ? eval_made(e, value_text(args->names[i])) : NULL;
        if (!args->names[i] && args->at[i]->kind != V_DICT)
            return eval_fail(e, "update takes a dict, not %s", value_type_name(args->at[i]));
        if (!args->names[i])
            eval_put_all(e, v, args->at[i]);
        else if (value_holds(args->at[i], v, &e->work))
            eval_fail(e, "a dict cannot hold itself");
        else if (key)
            eval_put(e, v, key, chat_value_ref(args->at[i]));
        chat_value_unref(key);
    }
    return eval_made(e, chat_none());
}

static struct chat_value *m_items(struct eval *e, struct chat_value *v, const struct args *args) {
    return filter_apply(e, "items", v, args);
}

static struct chat_value *m_keys(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return items_of(e, v);
}

static struct chat_value *m_values(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *out = eval_list(e, v->dict.n, false);
    (void)args;
    for (size_t i = 0; i < v->dict.n; i++)
        out = chat_append(out, chat_value_ref(v->dict.entries[i].item));
    return eval_made(e, out);
}

static struct chat_value *m_get(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *key = args_get(args, 0, NULL), *otherwise = args_get(args, 1, NULL);
    if (!key)
        return eval_fail(e, "get takes a key");
    struct chat_value *item = dict_find(v, key, &e->work);
    if (!eval_work(e, 0))
        return NULL;
    return item        ? chat_value_ref(item)
           : otherwise ? chat_value_ref(otherwise)
                       : eval_made(e, chat_none());
}

static const struct {
    enum value_kind kind;
    const char *name;
    method call;
    const char *params; /* of args_fit() */
} methods[] = {
    {V_STRING, "capitalize", m_capitalize, ""},
    {V_STRING, "count", m_count, "_"},
    {V_STRING, "endswith", m_endswith, "_"},
    {V_STRING, "find", m_find, "_"},
    {V_STRING, "isdigit", m_isdigit, ""},
    {V_STRING, "isspace", m_isspace, ""},
    {V_STRING, "join", m_join, "_"},
    {V_STRING, "lower", m_lower, ""},
    {V_STRING, "lstrip", m_lstrip, "_"},
    {V_STRING, "removeprefix", m_removeprefix, "_"},
    {V_STRING, "removesuffix", m_removesuffix, "_"},
    {V_STRING, "replace", m_replace, "_ _ count"},
    {V_STRING, "rsplit", m_rsplit, "sep maxsplit"},
    {V_STRING, "rstrip", m_rstrip, "_"},
    {V_STRING, "split", m_split, "sep maxsplit"},
    {V_STRING, "splitlines", m_splitlines, "keepends"},
    {V_STRING, "startswith", m_startswith, "_"},
    {V_STRING, "strip", m_strip, "_"},
    {V_STRING, "title", m_title, ""},
    {V_STRING, "upper", m_upper, ""},
    {V_LIST, "append", m_append, "_"},
    {V_LIST, "count", m_count, "_"},
    {V_LIST, "pop", m_pop, "_"},
    {V_DICT, "get", m_get, "_ _"},
    {V_DICT, "items", m_items, ""},
    {V_DICT, "keys", m_keys, ""},
    {V_DICT, "update", m_update, "_ **"},
    {V_DICT, "values", m_values, ""},
    {V_LOOP, "cycle", m_cycle, "*"},
};

static struct chat_value *call(struct eval *e, struct chat_value *subject, const char *name,
                               const struct args *args, bool checked) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == subject->kind && !strcmp(methods[i].name, name))
            return checked || args_fit(e, name, args, methods[i].params)
                       ? methods[i].call(e, subject, args)
                       : NULL;
    return eval_fail(e, "%s has no method '%.40s'", value_type_name(subject), name);
}

struct chat_value *method_call(struct eval *e, struct chat_value *subject, const char *name,
                               const struct args *args) {
    return call(e, subject, name, args, false);
}

struct chat_value *method_apply(struct eval *e, struct chat_value *subject, const char *name,
                                const struct args *args) {
    return call(e, subject, name, args, true);
}
