/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/value_impl.h"

#define WALK_DEPTH 256

struct chat_value *value_new(enum value_kind kind) {
    struct chat_value *v = calloc(1, sizeof *v);
    if (v) {
        atomic_init(&v->refs, 1);
        v->kind = kind;
    }
    return v;
}

struct chat_value *chat_value_ref(struct chat_value *v) {
    if (v)
        atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

/* Give back one reference; the last one puts the value on the list of the dead. */
static void drop(struct chat_value *v, struct chat_value **dead) {
    if (v && atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1) {
        v->next_dead = *dead;
        *dead = v;
    }
}

/* By a list and not by recursion: a template can nest values as deep as it has bytes. */
void chat_value_unref(struct chat_value *v) {
    struct chat_value *dead = NULL;
    drop(v, &dead);
    while ((v = dead)) {
        dead = v->next_dead;
        if (v->kind == V_STRING) {
            free(v->string.bytes);
        } else if (v->kind == V_LIST) {
            for (size_t i = 0; i < v->list.n; i++)
                drop(v->list.items[i], &dead);
            free(v->list.items);
        } else if (v->kind == V_DICT) {
            for (size_t i = 0; i < v->dict.n; i++) {
                drop(v->dict.entries[i].key, &dead);
                drop(v->dict.entries[i].item, &dead);
            }
            free(v->dict.entries);
        } else if (v->kind == V_LOOP) {
            drop(v->loop.list, &dead);
        }
        free(v);
    }
}

struct chat_value *chat_none(void) {
    return value_new(V_NONE);
}

struct chat_value *value_undefined(const char *name) {
    struct chat_value *v = value_new(V_UNDEFINED);
    if (v)
        v->ref.name = name;
    return v;
}

struct chat_value *chat_bool(bool value) {
    struct chat_value *v = value_new(V_BOOL);
    if (v)
        v->boolean = value;
    return v;
}

struct chat_value *chat_int(int64_t value) {
    struct chat_value *v = value_new(V_INT);
    if (v)
        v->integer = value;
    return v;
}

struct chat_value *chat_float(double value) {
    struct chat_value *v = value_new(V_FLOAT);
    if (v)
        v->real = value;
    return v;
}

struct chat_value *value_take_string(char *bytes, size_t n) {
    struct chat_value *v = bytes ? value_new(V_STRING) : NULL;
    if (!v) {
        free(bytes);
        return NULL;
    }
    v->string.bytes = bytes;
    v->string.n = n;
    return v;
}

struct chat_value *chat_string(const char *bytes, size_t n) {
    char *copy = malloc(n + 1);
    if (!copy)
        return NULL;
    memcpy(copy, bytes, n);
    copy[n] = 0;
    return value_take_string(copy, n);
}

struct chat_value *value_text(const char *text) {
    return chat_string(text, strlen(text));
}

struct chat_value *chat_list(void) {
    return value_new(V_LIST);
}

struct chat_value *chat_dict(void) {
    return value_new(V_DICT);
}

struct chat_value *chat_append(struct chat_value *list, struct chat_value *item) {
    if (!list || !item)
        goto fail;
    if (list->list.n == list->list.capacity) {
        const size_t more = list->list.capacity ? 2 * list->list.capacity : 4;
        struct chat_value **items = realloc(list->list.items, more * sizeof *items);
        if (!items)
            goto fail;
        list->list.items = items;
        list->list.capacity = more;
    }
    list->list.items[list->list.n++] = item;
    return list;

fail:
    chat_value_unref(list);
    chat_value_unref(item);
    return NULL;
}

bool list_reserve(struct chat_value *list, size_t n) {
    list->list.items = n ? malloc(n * sizeof *list->list.items) : NULL;
    list->list.capacity = list->list.items ? n : 0;
    return list->list.items || n == 0;
}

static struct entry *find_entry(const struct chat_value *dict, const struct chat_value *key,
                                uint64_t *work) {
    for (size_t i = 0; i < dict->dict.n && *work <= VALUE_WORK_MAX; i++)
        if (value_same(dict->dict.entries[i].key, key, work))
            return &dict->dict.entries[i];
    return NULL;
}

int dict_put(struct chat_value *dict, struct chat_value *key, struct chat_value *item,
             uint64_t *work) {
    if (!item)
        return -ENOMEM;
    struct entry *known = find_entry(dict, key, work);
    if (known) {
        chat_value_unref(known->item);
        known->item = item;
        return 0;
    }
    if (dict->dict.n == dict->dict.capacity) {
        const size_t more = dict->dict.capacity ? 2 * dict->dict.capacity : 4;
        struct entry *entries = realloc(dict->dict.entries, more * sizeof *entries);
        if (!entries) {
            chat_value_unref(item);
            return -ENOMEM;
        }
        dict->dict.entries = entries;
        dict->dict.capacity = more;
    }
    dict->dict.entries[dict->dict.n++] = (struct entry){chat_value_ref(key), item};
    return 0;
}

struct chat_value *chat_set(struct chat_value *dict, const char *key, struct chat_value *item) {
    struct chat_value *k = value_text(key);
    uint64_t work = 0; /* keys are texts: one each */
    if (!dict || !item || !k) {
        chat_value_unref(item);
        chat_value_unref(dict);
        chat_value_unref(k);
        return NULL;
    }
    const int rc = dict_put(dict, k, item, &work);
    chat_value_unref(k);
    if (rc) {
        chat_value_unref(dict);
        return NULL;
    }
    return dict;
}

struct chat_value *dict_get(const struct chat_value *dict, const char *key, size_t n,
                            uint64_t *work) {
    for (size_t i = 0; i < dict->dict.n; i++) {
        const struct chat_value *k = dict->dict.entries[i].key;
        if (k->kind == V_STRING && k->string.n == n && !memcmp(k->string.bytes, key, n)) {
            *work += i + n / 32;
            return dict->dict.entries[i].item;
        }
    }
    *work += dict->dict.n;
    return NULL;
}

struct chat_value *dict_find(const struct chat_value *dict, const struct chat_value *key,
                             uint64_t *work) {
    const struct entry *found = find_entry(dict, key, work);
    return found ? found->item : NULL;
}

bool value_true(const struct chat_value *v) {
    switch (v->kind) {
    case V_NONE:
    case V_UNDEFINED:
        return false;
    case V_BOOL:
        return v->boolean;
    case V_INT:
        return v->integer != 0;
    case V_FLOAT:
        return v->real != 0;
    case V_STRING:
        return v->string.n > 0;
    case V_LIST:
        return v->list.n > 0;
    case V_DICT:
        return v->is_namespace || v->dict.n > 0;
    case V_LOOP:
    case V_MACRO:
    case V_BUILTIN:
        return true;
    }
    return false;
}

bool value_is_number(const struct chat_value *v) {
    return v->kind == V_INT || v->kind == V_FLOAT || v->kind == V_BOOL;
}

double value_real(const struct chat_value *v) {
    return v->kind == V_FLOAT ? v->real : v->kind == V_INT ? (double)v->integer : v->boolean;
}

/* ---- walks ---------------------------------------------------------------------------------- */

/* Count one value to look at; false when there is an end to it. */
static bool may_visit(uint64_t *work, int depth) {
    if (*work > VALUE_WORK_MAX)
        return false;
    ++*work;
    if (depth > WALK_DEPTH)
        *work = VALUE_TOO_DEEP;
    return depth <= WALK_DEPTH;
}

static bool same(const struct chat_value *a, const struct chat_value *b, int depth, uint64_t *work);

static bool dicts_equal(const struct chat_value *a, const struct chat_value *b, int depth,
                        uint64_t *work) {
    if (a->dict.n != b->dict.n)
        return false;
    for (size_t i = 0; i < a->dict.n; i++) {
        const struct chat_value *other = dict_find(b, a->dict.entries[i].key, work);
        if (!other || !same(a->dict.entries[i].item, other, depth + 1, work))
            return false;
    }
    return true;
}

static bool same(const struct chat_value *a, const struct chat_value *b, int depth,
                 uint64_t *work) {
    if (!may_visit(work, depth) || a == b)
        return a == b;
    if (value_is_number(a) && value_is_number(b))
        return a->kind == V_INT && b->kind == V_INT ? a->integer == b->integer
                                                    : value_real(a) == value_real(b);
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case V_NONE:
    case V_UNDEFINED:
        return true;
    case V_STRING:
        if (a->string.n != b->string.n)
            return false;
        *work += a->string.n / 32;
        return !memcmp(a->string.bytes, b->string.bytes, a->string.n);
    case V_LIST:
        if (a->list.n != b->list.n)
            return false;
        for (size_t i = 0; i < a->list.n; i++)
            if (!same(a->list.items[i], b->list.items[i], depth + 1, work))
                return false;
        return true;
    case V_DICT:
        return dicts_equal(a, b, depth, work);
    default:
        return false;
    }
}

bool value_same(const struct chat_value *a, const struct chat_value *b, uint64_t *work) {
    return same(a, b, 0, work);
}

static int compare_strings(const struct chat_value *a, const struct chat_value *b, uint64_t *work) {
    const size_t n = a->string.n < b->string.n ? a->string.n : b->string.n;
    const int c = memcmp(a->string.bytes, b->string.bytes, n);
    *work += n / 32;
    return c ? (c > 0) - (c < 0) : (a->string.n > b->string.n) - (a->string.n < b->string.n);
}

int value_compare(const struct chat_value *a, const struct chat_value *b, bool *ok,
                  uint64_t *work) {
    *ok = true;
    ++*work;
    if (a->kind == V_INT && b->kind == V_INT)
        return (a->integer > b->integer) - (a->integer < b->integer);
    if (value_is_number(a) && value_is_number(b))
        return (value_real(a) > value_real(b)) - (value_real(a) < value_real(b));
    if (a->kind == V_STRING && b->kind == V_STRING)
        return compare_strings(a, b, work);
    if (a->kind == V_LIST && b->kind == V_LIST) {
        for (size_t i = 0; i < a->list.n && i < b->list.n && *work <= VALUE_WORK_MAX; i++) {
            if (value_same(a->list.items[i], b->list.items[i], work))
                continue;
            return a->list.items[i]->kind == V_LIST
                       ? (*ok = false, 0)
                       : value_compare(a->list.items[i], b->list.items[i], ok, work);
        }
        return (a->list.n > b->list.n) - (a->list.n < b->list.n);
    }
    *ok = false;
    return 0;
}

static bool holds_others(const struct chat_value *v) {
    return v->kind == V_LIST || v->kind == V_DICT || v->kind == V_LOOP;
}

/* A container inside itself would never be freed.  Items that hold nothing cost next to nothing. */
static bool holds(const struct chat_value *v, const struct chat_value *what, int depth,
                  uint64_t *work) {
    if (!holds_others(v))
        return false;
    if (v == what || !may_visit(work, depth))
        return true;
    if (v->kind == V_LIST) {
        *work += v->list.n / 8;
        for (size_t i = 0; i < v->list.n; i++)
            if (holds(v->list.items[i], what, depth + 1, work))
                return true;
    }
    if (v->kind == V_DICT) {
        *work += v->dict.n / 4;
        for (size_t i = 0; i < v->dict.n; i++)
            if (holds(v->dict.entries[i].item, what, depth + 1, work) ||
                holds(v->dict.entries[i].key, what, depth + 1, work))
                return true;
    }
    return v->kind == V_LOOP && holds(v->loop.list, what, depth + 1, work);
}

bool value_holds(const struct chat_value *v, const struct chat_value *what, uint64_t *work) {
    return holds(v, what, 0, work);
}

const char *value_type_name(const struct chat_value *v) {
    static const char *const names[] = {"none",    "undefined", "a boolean", "an integer",
                                        "a float", "a string",  "a list",    "a dict",
                                        "a loop",  "a macro",   "a function"};
    return names[v->kind];
}
