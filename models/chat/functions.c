/* SPDX-License-Identifier: Apache-2.0 */
/* functions.c - the functions a template can call, and its "is" tests. */
#include <string.h>
#include <time.h>

#include "models/chat/eval.h"

#define TIME_TEXT_MAX 256

/* ---- functions ------------------------------------------------------------------------------ */

static struct chat_value *fn_dict(struct eval *e, const struct args *args) {
    struct chat_value *d = eval_made(e, chat_dict());
    for (size_t i = 0; d && i < args->n && !e->rc; i++) {
        if (args->names[i])
            d = eval_made(e, chat_set(d, args->names[i], chat_value_ref(args->at[i])));
        else if (args->at[i]->kind == V_DICT)
            eval_put_all(e, d, args->at[i]);
        else
            eval_fail(e, "dict takes dicts and names, not %s", value_type_name(args->at[i]));
    }
    return eval_made(e, d);
}

static struct chat_value *fn_namespace(struct eval *e, const struct args *args) {
    struct chat_value *d = fn_dict(e, args);
    if (d)
        d->is_namespace = true;
    return d;
}

static struct chat_value *fn_raise(struct eval *e, const struct args *args) {
    const struct chat_value *v = args_get(args, 0, "message");
    return eval_fail(e, "%s",
                     v && v->kind == V_STRING ? v->string.bytes : "the template raised an error");
}

static struct chat_value *fn_range(struct eval *e, const struct args *args) {
    int64_t part[3] = {0, 0, 1}, count;
    struct chat_value *out;
    if (args->n == 0 || args->n > 3)
        return eval_fail(e, "range takes one to three integers");
    for (size_t i = 0; i < args->n; i++) {
        if (args->at[i]->kind != V_INT)
            return eval_fail(e, "range takes integers, not %s", value_type_name(args->at[i]));
        part[args->n == 1 ? 1 : i] = args->at[i]->integer;
    }
    if (part[2] == 0)
        return eval_fail(e, "range: a step of zero");
    /* The distance of two integers, and one step more, need more than 64 bits. */
    const __int128 distance =
        part[2] > 0 ? (__int128)part[1] - part[0] : (__int128)part[0] - part[1];
    const __int128 step = part[2] > 0 ? part[2] : -(__int128)part[2];
    const __int128 items = distance > 0 ? (distance + step - 1) / step : 0;
    if (items > EVAL_RANGE_MAX)
        return eval_fail(e, "range of more than %d items", EVAL_RANGE_MAX);
    out = eval_list(e, (size_t)items, true);
    for (count = 0; count < (int64_t)items; count++)
        out = chat_append(out, chat_int((int64_t)(part[0] + (__int128)part[2] * count)));
    return eval_made(e, out);
}

static struct chat_value *fn_strftime_now(struct eval *e, const struct args *args) {
    const struct chat_value *v = args_get(args, 0, "format");
    char text[TIME_TEXT_MAX];
    const time_t now = time(NULL);
    struct tm tm;
    if (!v || v->kind != V_STRING)
        return eval_fail(e, "strftime_now takes a format");
    localtime_r(&now, &tm);
    const size_t n = strftime(text, sizeof text, v->string.bytes, &tm);
    return eval_made(e, chat_string(text, n));
}

static const struct {
    const char *name;
    struct chat_value *(*call)(struct eval *e, const struct args *args);
    const char *params; /* of args_fit() */
} functions[] = {
    {"dict", fn_dict, "**"},
    {"namespace", fn_namespace, "**"},
    {"raise_exception", fn_raise, "message"},
    {"range", fn_range, "_ _ _"},
    {"strftime_now", fn_strftime_now, "format"},
};

struct chat_value *function_find(struct eval *e, const char *name) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name)) {
            struct chat_value *v = eval_made(e, value_new(V_BUILTIN));
            if (v)
                v->ref.name = functions[i].name;
            return v;
        }
    return NULL;
}

struct chat_value *function_call(struct eval *e, const char *name, const struct args *args) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name))
            return args_fit(e, name, args, functions[i].params) ? functions[i].call(e, args) : NULL;
    return eval_fail(e, "function '%.40s' is not known", name);
}

/* ---- tests ---------------------------------------------------------------------------------- */

enum predicate {
    IS_BOOLEAN,
    IS_CALLABLE,
    IS_DEFINED,
    IS_DIVISIBLE,
    IS_COMPARED, /* by an operator; which one is in the table */
    IS_EVEN,
    IS_FALSE,
    IS_FLOAT,
    IS_INTEGER,
    IS_ITERABLE,
    IS_LOWER,
    IS_MAPPING,
    IS_NONE,
    IS_NUMBER,
    IS_ODD,
    IS_SAME,
    IS_SEQUENCE,
    IS_STRING,
    IS_TRUE,
    IS_UNDEFINED,
    IS_UPPER,
};

static const struct {
    const char *name;
    enum predicate what;
    enum op op;
} predicates[] = {
    {"!=", IS_COMPARED, OP_NE},
    {"<", IS_COMPARED, OP_LT},
    {"<=", IS_COMPARED, OP_LE},
    {"==", IS_COMPARED, OP_EQ},
    {">", IS_COMPARED, OP_GT},
    {">=", IS_COMPARED, OP_GE},
    {"boolean", IS_BOOLEAN, 0},
    {"callable", IS_CALLABLE, 0},
    {"defined", IS_DEFINED, 0},
    {"divisibleby", IS_DIVISIBLE, 0},
    {"eq", IS_COMPARED, OP_EQ},
    {"equalto", IS_COMPARED, OP_EQ},
    {"even", IS_EVEN, 0},
    {"false", IS_FALSE, 0},
    {"float", IS_FLOAT, 0},
    {"ge", IS_COMPARED, OP_GE},
    {"greaterthan", IS_COMPARED, OP_GT},
    {"gt", IS_COMPARED, OP_GT},
    {"in", IS_COMPARED, OP_IN},
    {"integer", IS_INTEGER, 0},
    {"iterable", IS_ITERABLE, 0},
    {"le", IS_COMPARED, OP_LE},
    {"lessthan", IS_COMPARED, OP_LT},
    {"lower", IS_LOWER, 0},
    {"lt", IS_COMPARED, OP_LT},
    {"mapping", IS_MAPPING, 0},
    {"ne", IS_COMPARED, OP_NE},
    {"none", IS_NONE, 0},
    {"number", IS_NUMBER, 0},
    {"odd", IS_ODD, 0},
    {"sameas", IS_SAME, 0},
    {"sequence", IS_SEQUENCE, 0},
    {"string", IS_STRING, 0},
    {"true", IS_TRUE, 0},
    {"undefined", IS_UNDEFINED, 0},
    {"upper", IS_UPPER, 0},
};

static int parity(struct eval *e, const struct chat_value *v, int64_t by, int64_t rest) {
    if (v->kind != V_INT || by == 0) {
        eval_fail(e, "an integer is expected, not %s", value_type_name(v));
        return -1;
    }
    const int64_t r = by == -1 ? 0 : v->integer % by;
    return (r < 0 ? r + by : r) == rest;
}

static bool has_case(struct eval *e, const struct chat_value *v, char low, char high) {
    bool seen = false;
    if (v->kind != V_STRING || !eval_work_text(e, v->string.n))
        return false;
    for (size_t i = 0; i < v->string.n; i++) {
        const char c = v->string.bytes[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            if (c < low || c > high)
                return false;
            seen = true;
        }
    }
    return seen;
}

static int test_one(struct eval *e, enum predicate what, struct chat_value *v,
                    const struct chat_value *arg) {
    switch (what) {
    case IS_BOOLEAN:
        return v->kind == V_BOOL;
    case IS_CALLABLE:
        return v->kind == V_MACRO || v->kind == V_BUILTIN;
    case IS_DEFINED:
        return v->kind != V_UNDEFINED;
    case IS_UNDEFINED:
        return v->kind == V_UNDEFINED;
    case IS_DIVISIBLE:
        return parity(e, v, arg && arg->kind == V_INT ? arg->integer : 0, 0);
    case IS_EVEN:
        return parity(e, v, 2, 0);
    case IS_ODD:
        return parity(e, v, 2, 1);
    case IS_FALSE:
        return v->kind == V_BOOL && !v->boolean;
    case IS_TRUE:
        return v->kind == V_BOOL && v->boolean;
    case IS_FLOAT:
        return v->kind == V_FLOAT;
    case IS_INTEGER:
        return v->kind == V_INT;
    case IS_NUMBER:
        return value_is_number(v);
    case IS_ITERABLE:
    case IS_SEQUENCE:
        return v->kind == V_LIST || v->kind == V_STRING || v->kind == V_DICT ||
               (what == IS_ITERABLE && v->kind == V_UNDEFINED);
    case IS_MAPPING:
        return v->kind == V_DICT;
    case IS_NONE:
        return v->kind == V_NONE;
    case IS_STRING:
        return v->kind == V_STRING;
    case IS_SAME:
        return arg && (v == arg || (v->kind == arg->kind && v->kind != V_LIST &&
                                    v->kind != V_DICT && value_same(v, arg, &e->work)));
    case IS_LOWER:
        return has_case(e, v, 'a', 'z');
    case IS_UPPER:
        return has_case(e, v, 'A', 'Z');
    case IS_COMPARED:
        break;
    }
    return 0;
}

/* What the argument is called, in those that take one. */
static const char *predicate_params(enum predicate what, enum op op) {
    return what == IS_DIVISIBLE  ? "num"
           : what == IS_SAME     ? "other"
           : what == IS_COMPARED ? (op == OP_IN ? "seq" : "_")
                                 : "";
}

int predicate_test(struct eval *e, const char *name, struct chat_value *subject,
                   const struct args *args) {
    struct chat_value *arg = args->n ? args->at[0] : NULL; /* the only one */
    eval_work(e, 8);
    for (size_t i = 0; i < sizeof predicates / sizeof *predicates; i++) {
        if (strcmp(predicates[i].name, name))
            continue;
        const char *params = predicate_params(predicates[i].what, predicates[i].op);
        if (!args_fit(e, name, args, params))
            return -1;
        if (*params && !arg) {
            eval_fail(e, "test '%s' needs an argument", name);
            return -1;
        }
        const int truth = predicates[i].what == IS_COMPARED
                              ? compare(e, predicates[i].op, subject, arg)
                              : test_one(e, predicates[i].what, subject, arg);
        return e->rc ? -1 : truth;
    }
    eval_fail(e, "test '%.40s' is not known", name);
    return -1;
}
