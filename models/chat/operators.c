/* SPDX-License-Identifier: Apache-2.0 */
/* operators.c - arithmetic, comparison, indexing: Python's rules for the types templates use. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/eval.h"

static struct chat_value *wrong(struct eval *e, const char *what, const struct chat_value *a,
                                const struct chat_value *b) {
    return eval_fail(e, "%s is not possible between %s and %s", what, value_type_name(a),
                     value_type_name(b));
}

static int64_t as_integer(const struct chat_value *v) {
    return v->kind == V_BOOL ? v->boolean : v->integer;
}

static int64_t floor_div(int64_t a, int64_t b) {
    const int64_t q = a / b;
    return a % b && (a < 0) != (b < 0) ? q - 1 : q;
}

/* By squaring: the exponent may be anything.  Returns whether it overflows. */
static bool power(int64_t a, int64_t b, int64_t *result) {
    bool over = false, over_base = false;
    int64_t r = 1;
    for (; b > 0 && !over; b >>= 1) {
        if (b & 1)
            over = over_base || __builtin_mul_overflow(r, a, &r);
        over_base |= __builtin_mul_overflow(a, a, &a);
    }
    *result = r;
    return over;
}

static struct chat_value *integers(struct eval *e, enum op op, int64_t a, int64_t b) {
    int64_t r = 0;
    bool over = false;
    if ((op == OP_FLOOR_DIV || op == OP_MOD) && (b == 0 || (a == INT64_MIN && b == -1)))
        return eval_fail(e, "division by zero");
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case OP_FLOOR_DIV:
        r = floor_div(a, b);
        break;
    case OP_MOD:
        r = a - floor_div(a, b) * b;
        break;
    default: /* OP_POW with b >= 0 */
        over = power(a, b, &r);
        break;
    }
    return over ? eval_fail(e, "an integer is too large") : eval_made(e, chat_int(r));
}

static struct chat_value *numbers(struct eval *e, enum op op, const struct chat_value *a,
                                  const struct chat_value *b) {
    const bool whole = a->kind != V_FLOAT && b->kind != V_FLOAT;
    const double x = value_real(a), y = value_real(b);
    if (whole && op != OP_DIV && (op != OP_POW || as_integer(b) >= 0))
        return integers(e, op, as_integer(a), as_integer(b));
    if (y == 0 && (op == OP_DIV || op == OP_FLOOR_DIV || op == OP_MOD))
        return eval_fail(e, "division by zero");
    switch (op) {
    case OP_ADD:
        return eval_made(e, chat_float(x + y));
    case OP_SUB:
        return eval_made(e, chat_float(x - y));
    case OP_MUL:
        return eval_made(e, chat_float(x * y));
    case OP_DIV:
        return eval_made(e, chat_float(x / y));
    case OP_FLOOR_DIV:
        return eval_made(e, chat_float(floor(x / y)));
    case OP_MOD:
        return eval_made(e, chat_float(x - floor(x / y) * y));
    default:
        return eval_made(e, chat_float(pow(x, y)));
    }
}

static struct chat_value *join_strings(struct eval *e, const struct chat_value *a,
                                       const struct chat_value *b, bool any) {
    struct text t = {0};
    if (!any && (a->kind != V_STRING || b->kind != V_STRING))
        return wrong(e, "+", a, b);
    text_print(e, &t, a, false, 0);
    text_print(e, &t, b, false, 0);
    return text_value(e, &t);
}

static struct chat_value *repeat(struct eval *e, const struct chat_value *v, int64_t times) {
    struct text t = {0};
    if (v->kind == V_STRING) {
        if (times > 0 && v->string.n > EVAL_MEMORY_MAX / (uint64_t)times)
            return eval_fail(e, "a string repeated %lld times is too long", (long long)times);
        if (times > 0)
            text_add(e, &t, v->string.bytes, v->string.n);
        /* What is there already, again and again; the last time a part of it. */
        const size_t all = times > 0 ? v->string.n * (size_t)times : 0;
        while (t.n < all && !e->rc) {
            const size_t n = t.n < all - t.n ? t.n : all - t.n;
            if (text_reserve(e, &t, n))
                text_add(e, &t, t.bytes, n);
        }
        return text_value(e, &t);
    }
    if (times > 0 && v->list.n > EVAL_RANGE_MAX / (uint64_t)times)
        return eval_fail(e, "a list repeated %lld times is too long", (long long)times);
    const size_t rounds = times > 0 ? (size_t)times : 0;
    struct chat_value *list = eval_list(e, v->list.n * rounds, false);
    for (size_t i = 0; i < rounds && v->list.n; i++)
        for (size_t k = 0; k < v->list.n; k++)
            list = chat_append(list, chat_value_ref(v->list.items[k]));
    return eval_made(e, list);
}

static struct chat_value *join_lists(struct eval *e, const struct chat_value *a,
                                     const struct chat_value *b) {
    if (a->list.n + b->list.n > EVAL_RANGE_MAX)
        return eval_fail(e, "a list of more than %d items", EVAL_RANGE_MAX);
    struct chat_value *list = eval_list(e, a->list.n + b->list.n, false);
    for (size_t i = 0; i < a->list.n; i++)
        list = chat_append(list, chat_value_ref(a->list.items[i]));
    for (size_t i = 0; i < b->list.n; i++)
        list = chat_append(list, chat_value_ref(b->list.items[i]));
    return eval_made(e, list);
}

/* "%s and %d" % values: the two conversions that templates use. */
static struct chat_value *format(struct eval *e, const struct chat_value *f,
                                 struct chat_value *values) {
    struct text t = {0};
    size_t used = 0;
    for (size_t i = 0; i < f->string.n && !e->rc; i++) {
        const char *p = f->string.bytes + i;
        if (p[0] != '%' || i + 1 == f->string.n) {
            text_add(e, &t, p, 1);
            continue;
        }
        i++;
        if (p[1] == '%') {
            text_add(e, &t, "%", 1);
        } else if (p[1] == 's' || p[1] == 'd') {
            const bool list = values->kind == V_LIST;
            if (used == (list ? values->list.n : 1)) {
                eval_fail(e, "not enough values for the format");
                break;
            }
            const struct chat_value *value = list ? values->list.items[used] : values;
            if (p[1] == 'd' && value->kind != V_INT)
                eval_fail(e, "%%d takes an integer, not %s", value_type_name(value));
            text_print(e, &t, value, false, 0);
            used++;
        } else {
            eval_fail(e, "a format other than %%s and %%d is not supported");
        }
    }
    if (values->kind == V_LIST ? used < values->list.n : used == 0 && values->kind != V_DICT)
        eval_fail(e, "more values than the format takes");
    return text_value(e, &t);
}

struct chat_value *operate(struct eval *e, enum op op, struct chat_value *a, struct chat_value *b) {
    if (op == OP_CONCAT)
        return join_strings(e, a, b, true);
    if (value_is_number(a) && value_is_number(b))
        return numbers(e, op, a, b);
    if (op == OP_ADD && a->kind == V_LIST && b->kind == V_LIST)
        return join_lists(e, a, b);
    if (op == OP_ADD)
        return join_strings(e, a, b, false);
    if (op == OP_MUL && (a->kind == V_STRING || a->kind == V_LIST) && b->kind == V_INT)
        return repeat(e, a, b->integer);
    if (op == OP_MUL && (b->kind == V_STRING || b->kind == V_LIST) && a->kind == V_INT)
        return repeat(e, b, a->integer);
    if (op == OP_MOD && a->kind == V_STRING)
        return format(e, a, b);
    return wrong(e, "arithmetic", a, b);
}

static int contains(struct eval *e, struct chat_value *part, struct chat_value *whole) {
    const struct chat_value *item;
    switch (whole->kind) {
    case V_STRING:
        if (part->kind != V_STRING) {
            wrong(e, "in", part, whole);
            return -1;
        }
        if (!eval_work_text(e, whole->string.n))
            return -1;
        return part->string.n == 0 || memmem(whole->string.bytes, whole->string.n,
                                             part->string.bytes, part->string.n) != NULL;
    case V_LIST:
        for (size_t i = 0; i < whole->list.n && eval_work(e, 0); i++)
            if (value_same(whole->list.items[i], part, &e->work))
                return eval_work(e, 0) ? 1 : -1;
        return e->rc ? -1 : 0;
    case V_DICT:
        item = dict_find(whole, part, &e->work);
        return eval_work(e, 0) ? item != NULL : -1;
    case V_UNDEFINED:
        return 0;
    default:
        wrong(e, "in", part, whole);
        return -1;
    }
}

int compare(struct eval *e, enum op op, struct chat_value *a, struct chat_value *b) {
    bool ok = true;
    int order, inside;
    switch (op) {
    case OP_EQ:
    case OP_NE:
        inside = value_same(a, b, &e->work) == (op == OP_EQ);
        return eval_work(e, 0) ? inside : -1;
    case OP_IN:
        return contains(e, a, b);
    case OP_NOT_IN:
        inside = contains(e, a, b);
        return inside < 0 ? inside : !inside;
    default:
        order = value_compare(a, b, &ok, &e->work);
        if (!eval_work(e, 0))
            return -1;
    }
    if (!ok) {
        wrong(e, "ordering", a, b);
        return -1;
    }
    return op == OP_LT   ? order < 0
           : op == OP_LE ? order <= 0
           : op == OP_GT ? order > 0
                         : order >= 0;
}

/* ---- indexing ------------------------------------------------------------------------------- */

/* Bytes of the character at p: the text is UTF-8. */
static size_t character(const char *p, size_t n) {
    size_t k = 1;
    while (k < n && ((unsigned char)p[k] & 0xc0) == 0x80)
        k++;
    return k;
}

static struct chat_value *characters_of(struct eval *e, const struct chat_value *v) {
    if (!eval_work_text(e, v->string.n))
        return NULL;
    struct chat_value *list = eval_list(e, text_characters(v->string.bytes, v->string.n), true);
    for (size_t i = 0, n; list && i < v->string.n; i += n) {
        n = character(v->string.bytes + i, v->string.n - i);
        if (!eval_room(e, 2 * EVAL_ITEM_BYTES + n))
            break;
        list = chat_append(list, chat_string(v->string.bytes + i, n));
    }
    return eval_made(e, list);
}

struct chat_value *items_of(struct eval *e, struct chat_value *v) {
    struct chat_value *list;
    switch (v->kind) {
    case V_LIST:
        list = eval_list(e, v->list.n, false);
        for (size_t i = 0; i < v->list.n; i++)
            list = chat_append(list, chat_value_ref(v->list.items[i]));
        return eval_made(e, list);
    case V_DICT:
        list = eval_list(e, v->dict.n, false);
        for (size_t i = 0; i < v->dict.n; i++)
            list = chat_append(list, chat_value_ref(v->dict.entries[i].key));
        return eval_made(e, list);
    case V_STRING:
        return characters_of(e, v);
    case V_UNDEFINED:
        return eval_list(e, 0, false);
    default:
        return eval_fail(e, "%s cannot be walked through", value_type_name(v));
    }
}

/* The byte at which character i of a text begins, or its end. */
static size_t place_of(const struct chat_value *v, size_t i) {
    size_t at = 0;
    while (i-- && at < v->string.n)
        at += character(v->string.bytes + at, v->string.n - at);
    return at;
}

static struct chat_value *character_at(struct eval *e, const struct chat_value *v, int64_t i) {
    if (!eval_work_text(e, 2 * v->string.n))
        return NULL;
    i += i < 0 ? (int64_t)text_characters(v->string.bytes, v->string.n) : 0;
    const size_t at = i < 0 ? v->string.n : place_of(v, (size_t)i), left = v->string.n - at;
    return eval_made(e,
                     left ? chat_string(v->string.bytes + at, character(v->string.bytes + at, left))
                          : value_undefined("an index"));
}

struct chat_value *item_of(struct eval *e, struct chat_value *v, struct chat_value *key) {
    if (v->kind == V_DICT) {
        struct chat_value *item = dict_find(v, key, &e->work);
        if (!eval_work(e, 0))
            return NULL;
        return item ? chat_value_ref(item)
                    : eval_made(e, value_undefined(key->kind == V_STRING ? "a key" : NULL));
    }
    if (v->kind == V_STRING && (key->kind == V_INT || key->kind == V_BOOL))
        return character_at(e, v, as_integer(key));
    if (v->kind == V_LIST && (key->kind == V_INT || key->kind == V_BOOL)) {
        int64_t i = as_integer(key);
        i += i < 0 ? (int64_t)v->list.n : 0;
        return i >= 0 && i < (int64_t)v->list.n ? chat_value_ref(v->list.items[i])
                                                : eval_made(e, value_undefined("an index"));
    }
    if (key->kind == V_STRING && (v->kind == V_LOOP || v->is_group))
        return attribute_of(e, v, key->string.bytes);
    if (key->kind == V_STRING && v->kind != V_UNDEFINED && v->kind != V_NONE)
        return eval_made(e, value_undefined("an attribute"));
    return eval_fail(e, "%s has no items", value_type_name(v));
}

static int64_t bound(const struct chat_value *v, int64_t otherwise, int64_t n, int64_t low,
                     int64_t high) {
    int64_t i = v && v->kind == V_INT ? v->integer : otherwise;
    if (v && v->kind == V_INT && i < 0)
        i += n;
    return i < low ? low : i > high ? high : i;
}

struct cut {
    int64_t begin, end, by;
};

/* What a slice of n items takes; a step longer than all of them is as good as any longer one. */
static struct cut cut_of(const struct chat_value *from, const struct chat_value *to, int64_t by,
                         int64_t n) {
    struct cut c = {.by = by > n ? n + 1 : by < -n ? -n - 1 : by};
    c.begin = by > 0 ? bound(from, 0, n, 0, n) : bound(from, n - 1, n, -1, n - 1);
    c.end = by > 0 ? bound(to, n, n, 0, n) : bound(to, -1, n, -1, n - 1);
    return c;
}

static struct chat_value *slice_text(struct eval *e, const struct chat_value *v,
                                     const struct chat_value *from, const struct chat_value *to,
                                     int64_t by) {
    const char *p = v->string.bytes;
    struct text t = {0};
    if (!eval_work_text(e, 4 * v->string.n))
        return NULL;
    const size_t n = text_characters(p, v->string.n);
    const struct cut c = cut_of(from, to, by, (int64_t)n);
    if (c.by == 1) {
        const size_t begin = place_of(v, (size_t)c.begin), end = place_of(v, (size_t)c.end);
        if (begin < end)
            text_add(e, &t, p + begin, end - begin);
        return text_value(e, &t);
    }
    uint32_t *places =
        eval_room(e, (n + 1) * sizeof *places) ? malloc((n + 1) * sizeof *places) : NULL;
    if (!places)
        return eval_made(e, NULL);
    for (size_t i = 0, at = 0; i <= n; i++) {
        places[i] = (uint32_t)at;
        at += i < n ? character(p + at, v->string.n - at) : 0;
    }
    for (int64_t i = c.begin; (c.by > 0 ? i < c.end : i > c.end) && !e->rc; i += c.by)
        text_add(e, &t, p + places[i], places[i + 1] - places[i]);
    free(places);
    return text_value(e, &t);
}

struct chat_value *slice_of(struct eval *e, struct chat_value *v, const struct chat_value *from,
                            const struct chat_value *to, const struct chat_value *step) {
    const int64_t by = step && step->kind == V_INT ? step->integer : 1;
    if (v->kind == V_UNDEFINED)
        return eval_list(e, 0, false);
    if (v->kind != V_LIST && v->kind != V_STRING)
        return eval_fail(e, "%s cannot be sliced", value_type_name(v));
    if (by == 0)
        return eval_fail(e, "a slice cannot step by zero");
    if (v->kind == V_STRING)
        return slice_text(e, v, from, to, by);
    const struct cut c = cut_of(from, to, by, (int64_t)v->list.n);
    const int64_t span = by > 0 ? c.end - c.begin : c.begin - c.end;
    const int64_t stride = c.by > 0 ? c.by : -c.by;
    struct chat_value *out =
        eval_list(e, span > 0 ? (size_t)((span + stride - 1) / stride) : 0, false);
    for (int64_t i = c.begin; by > 0 ? i < c.end : i > c.end; i += c.by)
        out = chat_append(out, chat_value_ref(v->list.items[i]));
    if (out)
        out->is_tuple = v->is_tuple;
    return eval_made(e, out);
}

/* ---- attributes ----------------------------------------------------------------------------- */

struct chat_value *loop_value(struct eval *e, struct chat_value *list, size_t at) {
    struct chat_value *v = eval_made(e, value_new(V_LOOP));
    if (v) {
        v->loop.list = chat_value_ref(list);
        v->loop.at = at;
    }
    return v;
}

/* What a loop knows of where it is. */
static struct chat_value *loop_attribute(const struct chat_value *v, const char *name) {
    const int64_t n = (int64_t)v->loop.list->list.n, at = (int64_t)v->loop.at;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"index", at + 1}, {"index0", at}, {"revindex", n - at}, {"revindex0", n - at - 1},
        {"length", n},     {"depth", 1},   {"depth0", 0}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(numbers[i].name, name))
            return chat_int(numbers[i].value);
    if (!strcmp(name, "first") || !strcmp(name, "last"))
        return chat_bool(name[0] == 'f' ? at == 0 : at == n - 1);
    if (!strcmp(name, "previtem") && at > 0)
        return chat_value_ref(v->loop.list->list.items[at - 1]);
    if (!strcmp(name, "nextitem") && at < n - 1)
        return chat_value_ref(v->loop.list->list.items[at + 1]);
    return value_undefined("an attribute of the loop");
}

struct chat_value *attribute_of(struct eval *e, struct chat_value *v, const char *name) {
    if (v->kind == V_DICT) {
        struct chat_value *item = dict_get(v, name, strlen(name), &e->work);
        if (!eval_work(e, 1))
            return NULL;
        if (item)
            return chat_value_ref(item);
    } else if (v->kind == V_LOOP) {
        return eval_made(e, loop_attribute(v, name));
    } else if (v->is_group && (!strcmp(name, "grouper") || !strcmp(name, "list"))) {
        return chat_value_ref(v->list.items[name[0] == 'l']);
    } else if (v->kind == V_UNDEFINED) {
        return eval_fail(e, "%.40s is undefined, it has no '%.40s'",
                         v->ref.name ? v->ref.name : "a value", name);
    }
    return eval_made(e, value_undefined(name));
}
