/* SPDX-License-Identifier: Apache-2.0 */
/* filters.c - "value | name(arguments)": a sorted table. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/eval.h"

typedef struct chat_value *(*filter)(struct eval *e, struct chat_value *v, const struct args *args);

static int64_t int_arg(const struct args *args, size_t i, const char *name, int64_t otherwise) {
    const struct chat_value *v = args_get(args, i, name);
    return v && v->kind == V_INT ? v->integer : otherwise;
}

static bool true_arg(const struct args *args, size_t i, const char *name) {
    const struct chat_value *v = args_get(args, i, name);
    return v && value_true(v);
}

/* The text a value prints as. */
static struct chat_value *as_string(struct eval *e, struct chat_value *v) {
    struct text t = {0};
    if (v->kind == V_STRING)
        return chat_value_ref(v);
    text_print(e, &t, v, false, 0);
    return text_value(e, &t);
}

static struct chat_value *by_method(struct eval *e, struct chat_value *v, const char *name,
                                    const struct args *args) {
    struct chat_value *s = as_string(e, v), *result = s ? method_call(e, s, name, args) : NULL;
    chat_value_unref(s);
    return result;
}

#define METHOD_FILTER(filter_name, method)                                                         \
    static struct chat_value *filter_name(struct eval *e, struct chat_value *v,                    \
                                          const struct args *args) {                               \
        return by_method(e, v, method, args);                                                      \
    }
METHOD_FILTER(f_capitalize, "capitalize")
METHOD_FILTER(f_lower, "lower")
METHOD_FILTER(f_replace, "replace")
METHOD_FILTER(f_title, "title")
METHOD_FILTER(f_trim, "strip")
METHOD_FILTER(f_upper, "upper")

static struct chat_value *f_abs(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    if (v->kind == V_FLOAT)
        return eval_made(e, chat_float(fabs(v->real)));
    if (v->kind == V_INT && v->integer != INT64_MIN)
        return eval_made(e, chat_int(v->integer < 0 ? -v->integer : v->integer));
    return eval_fail(e, "abs of %s", value_type_name(v));
}

static struct chat_value *f_default(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *otherwise = args_get(args, 0, "default_value");
    if (v->kind != V_UNDEFINED && !(true_arg(args, 1, "boolean") && !value_true(v)))
        return chat_value_ref(v);
    return otherwise ? chat_value_ref(otherwise) : eval_made(e, value_text(""));
}

/* A list of [key, value], sorted by key (or by value). */
static struct chat_value *pairs_of(struct eval *e, struct chat_value *v) {
    struct chat_value *list = chat_list();
    if (v->kind != V_DICT) {
        chat_value_unref(list);
        return v->kind == V_UNDEFINED ? eval_made(e, chat_list())
                                      : eval_fail(e, "%s has no items", value_type_name(v));
    }
    for (size_t i = 0; i < v->dict.n; i++) {
        struct chat_value *pair = chat_append(chat_list(), chat_value_ref(v->dict.entries[i].key));
        pair = chat_append(pair, chat_value_ref(v->dict.entries[i].item));
        if (pair)
            pair->is_tuple = true;
        list = chat_append(list, pair);
    }
    return eval_made(e, list);
}

static struct chat_value *f_items(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return pairs_of(e, v);
}

/* Follow "a.b.0" through a value. */
static struct chat_value *follow(struct eval *e, struct chat_value *v, const char *path) {
    struct chat_value *at = chat_value_ref(v);
    while (at && *path) {
        char name[128];
        const size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        struct chat_value *key =
            isdigit((unsigned char)name[0]) ? chat_int(atoll(name)) : value_text(name);
        struct chat_value *next = at->kind == V_UNDEFINED || at->kind == V_NONE
                                      ? eval_made(e, value_undefined("an attribute"))
                                  : key ? item_of(e, at, key)
                                        : eval_made(e, NULL);
        chat_value_unref(key);
        chat_value_unref(at);
        at = next;
        path += n + (path[n] == '.');
    }
    return at;
}

static struct chat_value *lower_of(struct eval *e, struct chat_value *v) {
    const struct args none = {.n = 0};
    return v->kind == V_STRING ? method_call(e, v, "lower", &none) : chat_value_ref(v);
}

struct sort_key {
    struct chat_value *key, *item;
};

/* Merge sort: stable, and its comparisons may fail. */
static void merge_sort(struct eval *e, struct sort_key *a, struct sort_key *spare, size_t n,
                       bool reverse) {
    const size_t half = n / 2;
    size_t i = 0, j = half, k = 0;
    if (n < 2 || e->rc)
        return;
    merge_sort(e, a, spare, half, reverse);
    merge_sort(e, a + half, spare, n - half, reverse);
    while (i < half && j < n && !e->rc) {
        bool ok;
        const int c = value_compare(a[i].key, a[j].key, &ok);
        if (!ok)
            eval_fail(e, "sort: %s and %s have no order", value_type_name(a[i].key),
                      value_type_name(a[j].key));
        spare[k++] = (reverse ? c >= 0 : c <= 0) ? a[i++] : a[j++];
    }
    if (e->rc)
        return; /* the keys stay whole: nothing was copied back */
    while (i < half)
        spare[k++] = a[i++];
    memcpy(a, spare, k * sizeof *a);
}

/* Sort a list by an attribute path ("" for the items themselves). */
static struct chat_value *sort_list(struct eval *e, struct chat_value *list, const char *path,
                                    bool reverse, bool case_sensitive) {
    struct sort_key *keys = calloc(2 * list->list.n + 1, sizeof *keys);
    struct chat_value *out = chat_list();
    size_t n = 0;
    if (!keys)
        e->rc = -ENOMEM;
    for (; n < list->list.n && !e->rc; n++) {
        struct chat_value *key = follow(e, list->list.items[n], path);
        keys[n].item = list->list.items[n];
        keys[n].key = key && !case_sensitive ? lower_of(e, key) : chat_value_ref(key);
        chat_value_unref(key);
    }
    if (!e->rc)
        merge_sort(e, keys, keys + list->list.n, n, reverse);
    for (size_t i = 0; i < n; i++) {
        if (!e->rc)
            out = chat_append(out, chat_value_ref(keys[i].item));
        chat_value_unref(keys[i].key);
    }
    free(keys);
    chat_value_unref(list);
    return eval_made(e, out);
}

static const char *text_arg(const struct args *args, size_t i, const char *name) {
    const struct chat_value *v = args_get(args, i, name);
    return v && v->kind == V_STRING ? v->string.bytes : NULL;
}

static struct chat_value *f_sort(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v);
    const char *path = text_arg(args, 2, "attribute");
    return list ? sort_list(e, list, path ? path : "", true_arg(args, 0, "reverse"),
                            true_arg(args, 1, "case_sensitive"))
                : NULL;
}

static struct chat_value *f_dictsort(struct eval *e, struct chat_value *v,
                                     const struct args *args) {
    struct chat_value *list = pairs_of(e, v);
    const char *by = text_arg(args, 1, "by");
    return list ? sort_list(e, list, by && !strcmp(by, "value") ? "1" : "0",
                            true_arg(args, 2, "reverse"), true_arg(args, 0, "case_sensitive"))
                : NULL;
}

static struct chat_value *f_escape(struct eval *e, struct chat_value *v, const struct args *args) {
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    static const char plain[] = "&<>\"'";
    struct chat_value *s = as_string(e, v);
    struct text t = {0};
    (void)args;
    for (size_t i = 0; s && i < s->string.n; i++) {
        const char *known = s->string.bytes[i] ? strchr(plain, s->string.bytes[i]) : NULL;
        if (known)
            text_add(e, &t, names[known - plain], strlen(names[known - plain]));
        else
            text_add(e, &t, &s->string.bytes[i], 1);
    }
    chat_value_unref(s);
    return text_value(e, &t);
}

static struct chat_value *pick(struct eval *e, struct chat_value *v, bool last) {
    struct chat_value *list = items_of(e, v), *item;
    if (!list)
        return NULL;
    item = list->list.n ? chat_value_ref(list->list.items[last ? list->list.n - 1 : 0])
                        : eval_made(e, value_undefined("an item of an empty list"));
    chat_value_unref(list);
    return item;
}

static struct chat_value *f_first(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return pick(e, v, false);
}

static struct chat_value *f_last(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return pick(e, v, true);
}

static struct chat_value *f_float(struct eval *e, struct chat_value *v, const struct args *args) {
    char *end = NULL;
    double value = 0;
    if (value_is_number(v))
        return eval_made(e, chat_float(value_real(v)));
    if (v->kind == V_STRING)
        value = strtod(v->string.bytes, &end);
    if (v->kind == V_STRING && end != v->string.bytes && !*end)
        return eval_made(e, chat_float(value));
    struct chat_value *otherwise = args_get(args, 0, "default");
    return otherwise ? chat_value_ref(otherwise) : eval_made(e, chat_float(0));
}

static struct chat_value *f_int(struct eval *e, struct chat_value *v, const struct args *args) {
    if (v->kind == V_INT)
        return chat_value_ref(v);
    if (value_is_number(v))
        return eval_made(e, chat_int(fabs(value_real(v)) < 9e18 ? (int64_t)value_real(v) : 0));
    if (v->kind == V_STRING) {
        char *end;
        const double value = strtod(v->string.bytes, &end);
        if (end != v->string.bytes && !*end && fabs(value) < 9e18)
            return eval_made(e, chat_int((int64_t)value));
    }
    struct chat_value *otherwise = args_get(args, 0, "default");
    return otherwise ? chat_value_ref(otherwise) : eval_made(e, chat_int(0));
}

/* Indent all lines but the first by `width` (or a text). */
static struct chat_value *f_indent(struct eval *e, struct chat_value *v, const struct args *args) {
    const char *with = text_arg(args, 0, "width");
    const int64_t width = int_arg(args, 0, "width", 4);
    struct chat_value *s = as_string(e, v);
    struct text t = {0};
    bool begin = true_arg(args, 1, "first");
    const bool blank = true_arg(args, 2, "blank");
    if (width > 1000)
        eval_fail(e, "indent by more than 1000");
    for (size_t i = 0; s && i < s->string.n && !e->rc; i++) {
        const char c = s->string.bytes[i];
        if (begin && (c != '\n' || blank)) {
            for (int64_t k = 0; !with && k < width; k++)
                text_add(e, &t, " ", 1);
            if (with)
                text_add(e, &t, with, strlen(with));
        }
        text_add(e, &t, &c, 1);
        begin = c == '\n';
    }
    chat_value_unref(s);
    return text_value(e, &t);
}

static struct chat_value *f_join(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v), *with = args_get(args, 0, "d");
    const char *path = text_arg(args, 1, "attribute");
    struct text t = {0};
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct chat_value *item = follow(e, list->list.items[i], path ? path : "");
        if (i && with)
            text_print(e, &t, with, false, 0);
        if (item)
            text_print(e, &t, item, false, 0);
        chat_value_unref(item);
    }
    chat_value_unref(list);
    return text_value(e, &t);
}

static struct chat_value *f_length(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    if (v->kind == V_DICT)
        return eval_made(e, chat_int((int64_t)v->dict.n));
    struct chat_value *list = items_of(e, v);
    struct chat_value *n = list ? eval_made(e, chat_int((int64_t)list->list.n)) : NULL;
    chat_value_unref(list);
    return n;
}

static struct chat_value *f_list(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return items_of(e, v);
}

/* map('filter', …) or map(attribute='a', default=…). */
static struct chat_value *f_map(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v), *out = chat_list();
    const char *path = text_arg(args, SIZE_MAX, "attribute"), *name = text_arg(args, 0, NULL);
    struct chat_value *otherwise = args_get(args, SIZE_MAX, "default");
    struct args rest = {.n = 0};
    for (size_t i = 1; !path && i < args->n; i++) {
        rest.at[rest.n] = args->at[i];
        rest.names[rest.n++] = args->names[i];
    }
    if (!path && !name)
        eval_fail(e, "map needs a filter's name or an attribute");
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct chat_value *item = list->list.items[i];
        item = path ? follow(e, item, path) : filter_apply(e, name, item, &rest);
        if (item && item->kind == V_UNDEFINED && otherwise) {
            chat_value_unref(item);
            item = chat_value_ref(otherwise);
        }
        if (item)
            out = chat_append(out, item);
    }
    chat_value_unref(list);
    return eval_made(e, out);
}

static struct chat_value *extreme(struct eval *e, struct chat_value *v, const struct args *args,
                                  bool most) {
    struct chat_value *list = items_of(e, v), *best = NULL;
    const char *path = text_arg(args, 1, "attribute");
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct chat_value *a = follow(e, list->list.items[i], path ? path : "");
        struct chat_value *b = best ? follow(e, best, path ? path : "") : NULL;
        bool ok = true;
        const int c = a && b ? value_compare(a, b, &ok) : 0;
        if (!ok)
            eval_fail(e, "min or max: items without an order");
        if (!best || (most ? c > 0 : c < 0))
            best = list->list.items[i];
        chat_value_unref(a);
        chat_value_unref(b);
    }
    best = best ? chat_value_ref(best) : value_undefined("an item of an empty list");
    chat_value_unref(list);
    return eval_made(e, best);
}

static struct chat_value *f_max(struct eval *e, struct chat_value *v, const struct args *args) {
    return extreme(e, v, args, true);
}

static struct chat_value *f_min(struct eval *e, struct chat_value *v, const struct args *args) {
    return extreme(e, v, args, false);
}

static struct chat_value *f_reverse(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *minus = chat_int(-1), *out = NULL;
    (void)args;
    if (v->kind == V_STRING || v->kind == V_LIST) {
        out = minus ? slice_of(e, v, NULL, NULL, minus) : eval_made(e, NULL);
    } else {
        struct chat_value *list = items_of(e, v);
        if (list && minus)
            out = slice_of(e, list, NULL, NULL, minus);
        chat_value_unref(list);
    }
    chat_value_unref(minus);
    return out;
}

static struct chat_value *f_round(struct eval *e, struct chat_value *v, const struct args *args) {
    const double scale = pow(10, (double)int_arg(args, 0, "precision", 0));
    const char *method = text_arg(args, 1, "method");
    if (!value_is_number(v))
        return eval_fail(e, "round of %s", value_type_name(v));
    const double x = value_real(v) * scale;
    const double r = method && !strcmp(method, "ceil")    ? ceil(x)
                     : method && !strcmp(method, "floor") ? floor(x)
                                                          : nearbyint(x);
    return eval_made(e, chat_float(r / scale));
}

static struct chat_value *f_same(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)e;
    (void)args;
    return chat_value_ref(v);
}

/* select/reject(test, …), selectattr/rejectattr(path, test, …). */
static struct chat_value *choose(struct eval *e, struct chat_value *v, const struct args *args,
                                 bool attribute, bool keep) {
    struct chat_value *list = items_of(e, v), *out = chat_list();
    const char *path = attribute ? text_arg(args, 0, NULL) : "";
    const char *test = text_arg(args, attribute, NULL);
    struct args rest = {.n = 0};
    if (!path)
        eval_fail(e, "the name of an attribute is expected");
    for (size_t i = (size_t)attribute + 1; i < args->n; i++) {
        rest.at[rest.n] = args->at[i];
        rest.names[rest.n++] = args->names[i];
    }
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct chat_value *item = list->list.items[i], *subject = follow(e, item, path);
        int truth = !subject ? -1
                    : test   ? predicate_test(e, test, subject, &rest)
                             : value_true(subject);
        if (truth >= 0 && (truth > 0) == keep)
            out = chat_append(out, chat_value_ref(item));
        chat_value_unref(subject);
    }
    chat_value_unref(list);
    return eval_made(e, out);
}

#define CHOOSE_FILTER(filter_name, attribute, keep)                                                \
    static struct chat_value *filter_name(struct eval *e, struct chat_value *v,                    \
                                          const struct args *args) {                               \
        return choose(e, v, args, attribute, keep);                                                \
    }
CHOOSE_FILTER(f_reject, false, false)
CHOOSE_FILTER(f_rejectattr, true, false)
CHOOSE_FILTER(f_select, false, true)
CHOOSE_FILTER(f_selectattr, true, true)

static struct chat_value *f_string(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return as_string(e, v);
}

static struct chat_value *f_sum(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v), *start = args_get(args, 1, "start");
    const char *path = text_arg(args, 0, "attribute");
    struct chat_value *sum = start ? chat_value_ref(start) : chat_int(0);
    for (size_t i = 0; list && sum && i < list->list.n; i++) {
        struct chat_value *item = follow(e, list->list.items[i], path ? path : ""), *next;
        next = item ? operate(e, OP_ADD, sum, item) : NULL;
        chat_value_unref(item);
        chat_value_unref(sum);
        sum = next;
    }
    chat_value_unref(list);
    return eval_made(e, sum);
}

static struct chat_value *f_tojson(struct eval *e, struct chat_value *v, const struct args *args) {
    struct text t = {0};
    const int64_t indent = int_arg(args, SIZE_MAX, "indent", int_arg(args, 0, NULL, -1));
    if (indent > 100)
        return eval_fail(e, "tojson: an indent of more than 100");
    text_json(e, &t, v, (int)indent, 0);
    return text_value(e, &t);
}

static struct chat_value *f_unique(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v), *out = chat_list();
    (void)args;
    for (size_t i = 0; list && i < list->list.n && out && !e->rc; i++) {
        bool seen = false;
        for (size_t k = 0; k < out->list.n && !seen; k++)
            seen = value_same(out->list.items[k], list->list.items[i], 0);
        e->steps += out->list.n;
        if (!seen)
            out = chat_append(out, chat_value_ref(list->list.items[i]));
    }
    chat_value_unref(list);
    return eval_made(e, out);
}

static struct chat_value *f_wordcount(struct eval *e, struct chat_value *v,
                                      const struct args *args) {
    struct chat_value *s = as_string(e, v);
    int64_t n = 0;
    (void)args;
    for (size_t i = 0; s && i < s->string.n; i++)
        n += !isspace((unsigned char)s->string.bytes[i]) &&
             (i == 0 || isspace((unsigned char)s->string.bytes[i - 1]));
    chat_value_unref(s);
    return eval_made(e, chat_int(n));
}

static const struct {
    const char *name;
    filter apply;
} filters[] = {
    {"abs", f_abs},
    {"capitalize", f_capitalize},
    {"count", f_length},
    {"d", f_default},
    {"default", f_default},
    {"dictsort", f_dictsort},
    {"e", f_escape},
    {"escape", f_escape},
    {"first", f_first},
    {"float", f_float},
    {"forceescape", f_escape},
    {"indent", f_indent},
    {"int", f_int},
    {"items", f_items},
    {"join", f_join},
    {"last", f_last},
    {"length", f_length},
    {"list", f_list},
    {"lower", f_lower},
    {"map", f_map},
    {"max", f_max},
    {"min", f_min},
    {"reject", f_reject},
    {"rejectattr", f_rejectattr},
    {"replace", f_replace},
    {"reverse", f_reverse},
    {"round", f_round},
    {"safe", f_same},
    {"select", f_select},
    {"selectattr", f_selectattr},
    {"sort", f_sort},
    {"string", f_string},
    {"sum", f_sum},
    {"title", f_title},
    {"tojson", f_tojson},
    {"trim", f_trim},
    {"unique", f_unique},
    {"upper", f_upper},
    {"wordcount", f_wordcount},
};

struct chat_value *filter_apply(struct eval *e, const char *name, struct chat_value *subject,
                                const struct args *args) {
    size_t low = 0, high = sizeof filters / sizeof *filters;
    while (low < high) {
        const size_t i = (low + high) / 2;
        const int c = strcmp(name, filters[i].name);
        if (c == 0)
            return filters[i].apply(e, subject, args);
        if (c < 0)
            high = i;
        else
            low = i + 1;
    }
    return eval_fail(e, "filter '%.40s' is not known", name);
}
