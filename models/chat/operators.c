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
        for (r = 1; b > 0 && !over && r != 0 && !(a == 1); b--)
            over = __builtin_mul_overflow(r, a, &r);
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
        for (int64_t i = 0; i < times && !e->rc; i++)
            text_add(e, &t, v->string.bytes, v->string.n);
        return text_value(e, &t);
    }
    if (times > 0 && v->list.n > EVAL_RANGE_MAX / (uint64_t)times)
        return eval_fail(e, "a list repeated %lld times is too long", (long long)times);
    struct chat_value *list = chat_list();
    for (int64_t i = 0; i < times; i++)
        for (size_t k = 0; k < v->list.n; k++)
            list = chat_append(list, chat_value_ref(v->list.items[k]));
    return eval_made(e, list);
}

static struct chat_value *join_lists(struct eval *e, const struct chat_value *a,
                                     const struct chat_value *b) {
    if (a->list.n + b->list.n > EVAL_RANGE_MAX)
        return eval_fail(e, "a list of more than %d items", EVAL_RANGE_MAX);
    struct chat_value *list = chat_list();
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
            text_print(e, &t, list ? values->list.items[used] : values, false, 0);
            used++;
        } else {
            eval_fail(e, "a format other than %%s and %%d is not supported");
        }
    }
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
    switch (whole->kind) {
    case V_STRING:
        if (part->kind != V_STRING) {
            wrong(e, "in", part, whole);
            return -1;
        }
        return part->string.n == 0 || memmem(whole->string.bytes, whole->string.n,
                                             part->string.bytes, part->string.n) != NULL;
    case V_LIST:
        for (size_t i = 0; i < whole->list.n; i++)
            if (value_same(whole->list.items[i], part, 0))
                return 1;
        return 0;
    case V_DICT:
        return dict_find(whole, part) != NULL;
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
        return value_same(a, b, 0);
    case OP_NE:
        return !value_same(a, b, 0);
    case OP_IN:
        return contains(e, a, b);
    case OP_NOT_IN:
        inside = contains(e, a, b);
        return inside < 0 ? inside : !inside;
    default:
        order = value_compare(a, b, &ok);
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

struct chat_value *items_of(struct eval *e, struct chat_value *v) {
    struct chat_value *list = chat_list();
    switch (v->kind) {
    case V_LIST:
        for (size_t i = 0; i < v->list.n; i++)
            list = chat_append(list, chat_value_ref(v->list.items[i]));
        break;
    case V_DICT:
        for (size_t i = 0; i < v->dict.n; i++)
            list = chat_append(list, chat_value_ref(v->dict.entries[i].key));
        break;
    case V_STRING:
        for (size_t i = 0, n; i < v->string.n; i += n) {
            n = character(v->string.bytes + i, v->string.n - i);
            list = chat_append(list, chat_string(v->string.bytes + i, n));
        }
        if (!eval_room(e, v->string.n * 32)) {
            chat_value_unref(list);
            return NULL;
        }
        break;
    case V_UNDEFINED:
        break;
    default:
        chat_value_unref(list);
        return eval_fail(e, "%s cannot be walked through", value_type_name(v));
    }
    return eval_made(e, list);
}

struct chat_value *item_of(struct eval *e, struct chat_value *v, struct chat_value *key) {
    if (v->kind == V_DICT) {
        struct chat_value *item = dict_find(v, key);
        return item ? chat_value_ref(item)
                    : eval_made(e, value_undefined(key->kind == V_STRING ? "a key" : NULL));
    }
    if ((v->kind == V_LIST || v->kind == V_STRING) && (key->kind == V_INT || key->kind == V_BOOL)) {
        struct chat_value *list = v->kind == V_LIST ? chat_value_ref(v) : items_of(e, v), *item;
        if (!list)
            return NULL;
        int64_t i = as_integer(key);
        i += i < 0 ? (int64_t)list->list.n : 0;
        item = i >= 0 && i < (int64_t)list->list.n ? chat_value_ref(list->list.items[i])
                                                   : eval_made(e, value_undefined("an index"));
        chat_value_unref(list);
        return item;
    }
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

struct chat_value *slice_of(struct eval *e, struct chat_value *v, const struct chat_value *from,
                            const struct chat_value *to, const struct chat_value *step) {
    struct chat_value *out = chat_list(), *list;
    struct text t = {0};
    const int64_t by = step && step->kind == V_INT ? step->integer : 1;
    if (v->kind != V_LIST && v->kind != V_STRING) {
        chat_value_unref(out);
        return v->kind == V_UNDEFINED ? eval_made(e, chat_list())
                                      : eval_fail(e, "%s cannot be sliced", value_type_name(v));
    }
    list = by ? items_of(e, v) : eval_fail(e, "a slice cannot step by zero");
    if (!list) {
        chat_value_unref(out);
        return NULL;
    }
    const int64_t n = (int64_t)list->list.n;
    const int64_t begin = by > 0 ? bound(from, 0, n, 0, n) : bound(from, n - 1, n, -1, n - 1);
    const int64_t end = by > 0 ? bound(to, n, n, 0, n) : bound(to, -1, n, -1, n - 1);
    for (int64_t i = begin; by > 0 ? i < end : i > end; i += by) {
        if (v->kind == V_LIST)
            out = chat_append(out, chat_value_ref(list->list.items[i]));
        else
            text_print(e, &t, list->list.items[i], false, 0);
        if ((by > 0 && by > n) || (by < 0 && -by > n))
            break;
    }
    chat_value_unref(list);
    if (v->kind == V_LIST)
        return eval_made(e, out);
    chat_value_unref(out);
    return text_value(e, &t);
}

struct chat_value *attribute_of(struct eval *e, struct chat_value *v, const char *name) {
    if (v->kind == V_DICT) {
        struct chat_value *item = dict_get(v, name, strlen(name));
        if (item)
            return chat_value_ref(item);
    } else if (v->kind == V_UNDEFINED) {
        return eval_fail(e, "%s is undefined, it has no '%s'",
                         v->ref.name ? v->ref.name : "a value", name);
    } else if (v->kind == V_NONE) {
        return eval_made(e, value_undefined(name));
    }
    return eval_made(e, value_undefined(name));
}
