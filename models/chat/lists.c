/* SPDX-License-Identifier: Apache-2.0 */
/* lists.c - the filters that work on the items of a list. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/filters.h"

/* "a.b.0", the way from an item to what counts of it, or a number; "" when it is not given. */
struct path {
    char number[24];
};

static const char *path_arg(struct path *path, const struct args *args, size_t i,
                            const char *name) {
    const struct chat_value *v = args_get(args, i, name);
    if (v && v->kind == V_INT && v->integer >= 0) {
        snprintf(path->number, sizeof path->number, "%lld", (long long)v->integer);
        return path->number;
    }
    return v && v->kind == V_STRING ? v->string.bytes : "";
}

/* A list of [key, value], sorted by key (or by value). */
static struct chat_value *pairs_of(struct eval *e, struct chat_value *v) {
    if (v->kind != V_DICT)
        return v->kind == V_UNDEFINED ? eval_list(e, 0, false)
                                      : eval_fail(e, "%s has no items", value_type_name(v));
    struct chat_value *list =
        eval_room(e, v->dict.n * 4 * EVAL_ITEM_BYTES) ? eval_list(e, v->dict.n, true) : NULL;
    for (size_t i = 0; i < v->dict.n && list; i++) {
        struct chat_value *pair = chat_append(chat_list(), chat_value_ref(v->dict.entries[i].key));
        pair = chat_append(pair, chat_value_ref(v->dict.entries[i].item));
        if (pair)
            pair->is_tuple = true;
        list = chat_append(list, pair);
    }
    return eval_made(e, list);
}

struct chat_value *f_items(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return pairs_of(e, v);
}

/* Follow "a.b.0" through a value. */
static struct chat_value *follow(struct eval *e, struct chat_value *v, const char *path) {
    struct chat_value *at = chat_value_ref(v);
    while (at && *path) {
        char name[128];
        const size_t n = strcspn(path, ".");
        if (n >= sizeof name || !eval_work(e, 8)) {
            chat_value_unref(at);
            return eval_fail(e, "the name of an attribute of more than %zu bytes", sizeof name - 1);
        }
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

/* What an item is ordered or told apart by: an attribute, without its case unless that counts. */
static struct chat_value *key_of(struct eval *e, struct chat_value *item, const char *path,
                                 bool case_sensitive) {
    const struct args none = {.n = 0};
    struct chat_value *key = eval_work(e, 8) ? follow(e, item, path) : NULL, *lower;
    if (!key || key->kind != V_STRING || case_sensitive)
        return key;
    lower = method_apply(e, key, "lower", &none);
    chat_value_unref(key);
    return lower;
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
        if (!eval_work(e, 1))
            return;
        const int c = value_compare(a[i].key, a[j].key, &ok, &e->work);
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

/* Sort a list by an attribute path ("" for the items themselves).  The list is taken over. */
static struct chat_value *sort_list(struct eval *e, struct chat_value *list, const char *path,
                                    bool reverse, bool case_sensitive) {
    const size_t all = list->list.n;
    struct sort_key *keys = eval_room(e, 2 * all * sizeof *keys + all * EVAL_VALUE_BYTES)
                                ? calloc(2 * all + 1, sizeof *keys)
                                : NULL;
    struct chat_value *out = eval_list(e, all, false);
    size_t n = 0;
    if (!keys && !e->rc)
        e->rc = -ENOMEM;
    for (; n < all && !e->rc; n++) {
        keys[n].item = list->list.items[n];
        keys[n].key = key_of(e, list->list.items[n], path, case_sensitive);
    }
    if (!e->rc)
        merge_sort(e, keys, keys + all, n, reverse);
    for (size_t i = 0; i < n; i++) {
        if (!e->rc)
            out = chat_append(out, chat_value_ref(keys[i].item));
        chat_value_unref(keys[i].key);
    }
    free(keys);
    chat_value_unref(list);
    return eval_made(e, out);
}

struct chat_value *f_sort(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v);
    struct path by;
    const char *path = path_arg(&by, args, 2, "attribute");
    return list ? sort_list(e, list, path, true_arg(args, 0, "reverse"),
                            true_arg(args, 1, "case_sensitive"))
                : NULL;
}

struct chat_value *f_dictsort(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = pairs_of(e, v);
    const char *by = text_arg(args, 1, "by");
    return list ? sort_list(e, list, by && !strcmp(by, "value") ? "1" : "0",
                            true_arg(args, 2, "reverse"), true_arg(args, 0, "case_sensitive"))
                : NULL;
}

static struct chat_value *pick(struct eval *e, struct chat_value *v, bool last) {
    const size_t n_items = v->kind == V_LIST ? v->list.n : 0;
    if (n_items) /* without a copy of it all */
        return chat_value_ref(v->list.items[last ? n_items - 1 : 0]);
    struct chat_value *list = items_of(e, v), *item;
    if (!list)
        return NULL;
    item = list->list.n ? chat_value_ref(list->list.items[last ? list->list.n - 1 : 0])
                        : eval_made(e, value_undefined("an item of an empty list"));
    chat_value_unref(list);
    return item;
}

struct chat_value *f_first(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return pick(e, v, false);
}

struct chat_value *f_last(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return pick(e, v, true);
}

struct chat_value *f_join(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v), *with = args_get(args, 0, "d");
    struct path by;
    const char *path = path_arg(&by, args, 1, "attribute");
    struct text t = {0};
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct chat_value *item = follow(e, list->list.items[i], path);
        if (i && with)
            text_print(e, &t, with, false, 0);
        if (item)
            text_print(e, &t, item, false, 0);
        chat_value_unref(item);
    }
    chat_value_unref(list);
    return text_value(e, &t);
}

struct chat_value *f_list(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return items_of(e, v);
}

/* map('filter', …) or map(attribute='a', default=…). */
struct chat_value *f_map(struct eval *e, struct chat_value *v, const struct args *args) {
    const char *name = text_arg(args, 0, NULL);
    struct path by;
    const char *path = name ? "" : path_arg(&by, args, SIZE_MAX, "attribute");
    path = *path ? path : NULL;
    struct chat_value *otherwise = path ? args_get(args, SIZE_MAX, "default") : NULL;
    struct args rest = {.n = 0};
    if (path && !args_fit(e, "map", args, "attribute default"))
        return NULL;
    struct chat_value *list = items_of(e, v);
    struct chat_value *out = list ? eval_list(e, list->list.n, true) : NULL;
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
    struct chat_value *list = items_of(e, v), *best = NULL, *best_key = NULL;
    struct path by;
    const char *path = path_arg(&by, args, 1, "attribute");
    const bool case_sensitive = true_arg(args, 0, "case_sensitive");
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct chat_value *key = key_of(e, list->list.items[i], path, case_sensitive);
        bool ok = true;
        const int c = key && best_key ? value_compare(key, best_key, &ok, &e->work) : 0;
        if (!ok)
            eval_fail(e, "min or max: items without an order");
        if (!best || (most ? c > 0 : c < 0)) {
            best = list->list.items[i];
            chat_value_unref(best_key);
            best_key = key;
        } else {
            chat_value_unref(key);
        }
    }
    chat_value_unref(best_key);
    best = best ? chat_value_ref(best) : value_undefined("an item of an empty list");
    chat_value_unref(list);
    return eval_made(e, best);
}

struct chat_value *f_max(struct eval *e, struct chat_value *v, const struct args *args) {
    return extreme(e, v, args, true);
}

struct chat_value *f_min(struct eval *e, struct chat_value *v, const struct args *args) {
    return extreme(e, v, args, false);
}

struct chat_value *f_reverse(struct eval *e, struct chat_value *v, const struct args *args) {
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

/* select/reject(test, …), selectattr/rejectattr(path, test, …). */
static struct chat_value *choose(struct eval *e, struct chat_value *v, const struct args *args,
                                 bool attribute, bool keep) {
    struct chat_value *list = items_of(e, v);
    struct chat_value *out = list ? eval_list(e, list->list.n, false) : NULL;
    struct path by;
    const char *path = attribute ? path_arg(&by, args, 0, NULL) : "";
    const char *test = text_arg(args, attribute, NULL);
    struct args rest = {.n = 0};
    if (attribute && !*path)
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
    struct chat_value *filter_name(struct eval *e, struct chat_value *v,                           \
                                   const struct args *args) {                                      \
        return choose(e, v, args, attribute, keep);                                                \
    }
CHOOSE_FILTER(f_reject, false, false)
CHOOSE_FILTER(f_rejectattr, true, false)
CHOOSE_FILTER(f_select, false, true)
CHOOSE_FILTER(f_selectattr, true, true)

struct chat_value *f_sum(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v), *start = args_get(args, 1, "start");
    struct path by;
    const char *path = path_arg(&by, args, 0, "attribute");
    struct chat_value *sum = start ? chat_value_ref(start) : chat_int(0);
    for (size_t i = 0; list && sum && i < list->list.n && !e->rc; i++) {
        struct chat_value *item = follow(e, list->list.items[i], path), *next;
        next = item && eval_work(e, 4) ? operate(e, OP_ADD, sum, item) : NULL;
        chat_value_unref(item);
        chat_value_unref(sum);
        sum = next;
    }
    chat_value_unref(list);
    return eval_made(e, sum);
}

struct chat_value *f_unique(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *list = items_of(e, v);
    const size_t n = list ? list->list.n : 0;
    struct path by;
    const char *path = path_arg(&by, args, 1, "attribute");
    struct chat_value *out = list ? eval_list(e, n, false) : NULL;
    struct chat_value *keys = out ? eval_list(e, n, true) : NULL;
    for (size_t i = 0; keys && i < n && out && !e->rc; i++) {
        struct chat_value *item = list->list.items[i];
        struct chat_value *key = key_of(e, item, path, true_arg(args, 0, "case_sensitive"));
        bool seen = !key;
        for (size_t k = 0; k < keys->list.n && !seen && eval_work(e, 0); k++)
            seen = value_same(keys->list.items[k], key, &e->work);
        if (seen) {
            chat_value_unref(key);
            continue;
        }
        keys = chat_append(keys, key);
        out = chat_append(out, chat_value_ref(item));
    }
    if (!keys && list && !e->rc)
        e->rc = -ENOMEM;
    chat_value_unref(keys);
    chat_value_unref(list);
    return eval_made(e, out);
}

/* Rows of `linecount` items; the last one filled up where fill_with says with what. */
struct chat_value *f_batch(struct eval *e, struct chat_value *v, const struct args *args) {
    const int64_t per_row = int_arg(args, 0, "linecount", 0);
    struct chat_value *with = args_get(args, 1, "fill_with"), *row = NULL;
    if (per_row < 1 || per_row > EVAL_RANGE_MAX)
        return eval_fail(e, "batch takes how many items a row has, 1 to %d", EVAL_RANGE_MAX);
    struct chat_value *list = items_of(e, v);
    const size_t n = list ? list->list.n : 0, width = (size_t)per_row;
    struct chat_value *out = list ? eval_list(e, (n + width - 1) / width, true) : NULL;
    for (size_t i = 0; i < n && out; i++) {
        if (i % width == 0)
            row = eval_list(e, n - i < width && !with ? n - i : width, false);
        row = chat_append(row, chat_value_ref(list->list.items[i]));
        for (size_t k = i + 1; i + 1 == n && with && with->kind != V_NONE && k % width; k++)
            row = chat_append(row, chat_value_ref(with));
        if (i + 1 == n || (i + 1) % width == 0)
            out = chat_append(out, row);
        if (!row)
            break;
    }
    chat_value_unref(list);
    if (n && !row) {
        chat_value_unref(out);
        return eval_made(e, NULL);
    }
    return eval_made(e, out);
}

/* Tuples of a value of the attribute and the items that have it, in the order of that value. */
struct chat_value *f_groupby(struct eval *e, struct chat_value *v, const struct args *args) {
    struct path by;
    const char *path = path_arg(&by, args, 0, "attribute");
    struct chat_value *otherwise = args_get(args, 1, "default");
    const bool case_sensitive = true_arg(args, 2, "case_sensitive");
    struct chat_value *list = *path ? items_of(e, v) : eval_fail(e, "groupby needs an attribute");
    struct chat_value *out, *group = NULL, *last = NULL;
    if (otherwise) {
        chat_value_unref(list);
        return eval_fail(e, "groupby: a default is not supported");
    }
    list = list ? sort_list(e, list, path, false, case_sensitive) : NULL;
    out = list ? eval_list(e, list->list.n, true) : NULL;
    for (size_t i = 0; out && i < list->list.n && !e->rc; i++) {
        struct chat_value *item = list->list.items[i];
        struct chat_value *key = key_of(e, item, path, case_sensitive);
        if (key && !(last && value_same(last, key, &e->work)) &&
            eval_room(e, 3 * EVAL_VALUE_BYTES)) {
            group = chat_append(chat_list(), follow(e, item, path));
            group = chat_append(group, chat_list());
            if (group)
                group->is_tuple = group->is_group = true;
            out = chat_append(out, group);
        }
        if (out && group && eval_room(e, 2 * EVAL_ITEM_BYTES))
            group->list.items[1] = chat_append(group->list.items[1], chat_value_ref(item));
        if (!out || !group || !group->list.items[1])
            eval_made(e, NULL);
        chat_value_unref(last);
        last = key;
    }
    chat_value_unref(last);
    chat_value_unref(list);
    return eval_made(e, out);
}
