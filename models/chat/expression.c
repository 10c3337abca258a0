/* SPDX-License-Identifier: Apache-2.0 */
/* expression.c - expressions of a template, by precedence, as in Jinja. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/parser.h"

static struct node *parse_unary(struct parser *p, bool with_filters);

static struct node *binary(struct parser *p, enum op op, struct node *a, struct node *b) {
    struct node *n = parser_node(p, N_BINARY);
    if (n) {
        n->op = op;
        n->a = a;
        n->b = b;
    }
    return n;
}

/* ---- calls and constants -------------------------------------------------------------------- */

static void parse_args(struct parser *p, struct node *n) {
    bool named = false;
    while (!p->rc && !parser_is(p, L_PUNCT, ")")) {
        struct param arg = {0};
        struct node *value = parse_expression(p);
        if (value && value->kind == N_NAME && parser_take(p, L_PUNCT, "=")) {
            arg.name = strdup(value->name);
            value = parse_expression(p);
        } else if (named) {
            parser_fail(p, "an argument without a name behind one with a name");
        }
        named = arg.name != NULL;
        arg.value = value;
        struct param *params = realloc(n->params, (n->n_params + 1) * sizeof *params);
        if (!params) {
            free(arg.name);
            p->rc = -ENOMEM;
            return;
        }
        n->params = params;
        n->params[n->n_params++] = arg;
        if (!parser_take(p, L_PUNCT, ","))
            break;
    }
    parser_need(p, ")");
}

static struct node *constant(struct parser *p, struct chat_value *value) {
    struct node *n = parser_node(p, N_CONST);
    if (!n || !value) {
        chat_value_unref(value);
        if (!p->rc)
            p->rc = -ENOMEM;
        return NULL;
    }
    n->constant = value;
    parser_next(p);
    return n;
}

/* 1: the name is a constant. */
static struct node *parse_name(struct parser *p) {
    static const struct {
        const char *name;
        int kind; /* 0 none, 1 true, 2 false */
    } words[] = {{"none", 0}, {"None", 0}, {"true", 1}, {"True", 1}, {"false", 2}, {"False", 2}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (parser_is(p, L_NAME, words[i].name))
            return constant(p, words[i].kind ? chat_bool(words[i].kind == 1) : chat_none());
    struct node *n = parser_node(p, N_NAME);
    p->names_caller |= parser_is(p, L_NAME, "caller");
    char *name = parser_name(p);
    if (n)
        n->name = name;
    else
        free(name);
    return n;
}

static struct node *parse_strings(struct parser *p) {
    struct node *n = constant(p, chat_string(p->now.at, p->now.n));
    /* "a" "b" are one string. */
    while (n && !p->rc && p->now.kind == L_STRING)
        n = binary(p, OP_CONCAT, n, constant(p, chat_string(p->now.at, p->now.n)));
    return n;
}

static struct node *parse_dict(struct parser *p) {
    struct node *n = parser_node(p, N_DICT);
    parser_next(p);
    while (!p->rc && !parser_is(p, L_PUNCT, "}")) {
        parser_add(p, n, parse_expression(p));
        parser_need(p, ":");
        parser_add(p, n, parse_expression(p));
        if (!parser_take(p, L_PUNCT, ","))
            break;
    }
    parser_need(p, "}");
    return n;
}

static struct node *parse_list(struct parser *p, const char *close) {
    struct node *n = parser_node(p, N_LIST);
    while (!p->rc && !parser_is(p, L_PUNCT, close)) {
        parser_add(p, n, parse_expression(p));
        if (!parser_take(p, L_PUNCT, ","))
            break;
    }
    parser_need(p, close);
    return n;
}

static struct node *tuple_node(struct parser *p) {
    struct node *n = parser_node(p, N_LIST);
    if (n)
        n->tuple = true;
    return n;
}

static struct node *parse_primary(struct parser *p) {
    struct node *n;
    switch (p->now.kind) {
    case L_NAME:
        return parse_name(p);
    case L_STRING:
        return parse_strings(p);
    case L_INT:
        return constant(p, chat_int(p->now.integer));
    case L_FLOAT:
        return constant(p, chat_float(p->now.real));
    case L_PUNCT:
        break;
    default:
        return parser_fail(p, "a value is expected");
    }
    if (parser_take(p, L_PUNCT, "(")) {
        if (parser_take(p, L_PUNCT, ")"))
            return tuple_node(p);
        n = parse_tuple(p);
        parser_need(p, ")");
        return n;
    }
    if (parser_take(p, L_PUNCT, "["))
        return parse_list(p, "]");
    if (parser_is(p, L_PUNCT, "{"))
        return parse_dict(p);
    return parser_fail(p, "a value is expected");
}

/* ---- postfix -------------------------------------------------------------------------------- */

/* "[x]" or "[a:b:c]" behind a value. */
static struct node *parse_subscript(struct parser *p, struct node *value) {
    struct node *n = parser_node(p, N_ITEM);
    struct node **parts[3];
    int k = 0;
    if (!n)
        return NULL;
    n->a = value;
    parts[0] = &n->b;
    parts[1] = &n->c;
    parts[2] = &n->d;
    while (!p->rc && !parser_is(p, L_PUNCT, "]")) {
        if (parser_take(p, L_PUNCT, ":")) {
            n->kind = N_SLICE;
            if (++k > 2)
                return parser_fail(p, "a slice has at most three parts");
        } else if (*parts[k]) {
            return parser_fail(p, "']' is expected");
        } else {
            *parts[k] = parse_expression(p);
        }
    }
    parser_need(p, "]");
    if (n->kind == N_ITEM && !n->b)
        return parser_fail(p, "an index is expected");
    return n;
}

static struct node *parse_postfix(struct parser *p, struct node *value) {
    while (!p->rc && value) {
        struct node *n;
        if (parser_take(p, L_PUNCT, ".")) {
            n = parser_node(p, N_ATTR);
            if (!n)
                return NULL;
            n->a = value;
            if (p->now.kind == L_INT) { /* tuple.0 */
                n->kind = N_ITEM;
                n->b = constant(p, chat_int(p->now.integer));
            } else {
                n->name = parser_name(p);
            }
        } else if (parser_take(p, L_PUNCT, "[")) {
            n = parse_subscript(p, value);
        } else if (parser_take(p, L_PUNCT, "(")) {
            n = parser_node(p, N_CALL);
            if (!n)
                return NULL;
            n->a = value;
            parse_args(p, n);
        } else {
            return value;
        }
        value = n;
    }
    return value;
}

struct node *parse_filters(struct parser *p, struct node *value, bool begun) {
    while (!p->rc && (begun || parser_take(p, L_PUNCT, "|"))) {
        struct node *n = parser_node(p, N_FILTER);
        begun = false;
        if (!n)
            return NULL;
        n->a = value;
        n->name = parser_name(p);
        if (parser_take(p, L_PUNCT, "("))
            parse_args(p, n);
        value = n;
    }
    return value;
}

/* "is [not] name [argument]" */
static struct node *parse_test(struct parser *p, struct node *value) {
    const bool negated = parser_take(p, L_NAME, "not");
    struct node *n = parser_node(p, N_TEST);
    if (!n)
        return NULL;
    n->a = value;
    n->name = parser_name(p);
    if (parser_take(p, L_PUNCT, "(")) {
        parse_args(p, n);
    } else if (!p->rc &&
               (parser_is(p, L_PUNCT, "[") || parser_is(p, L_PUNCT, "{") ||
                p->now.kind == L_STRING || p->now.kind == L_INT || p->now.kind == L_FLOAT ||
                (p->now.kind == L_NAME && !parser_is(p, L_NAME, "and") &&
                 !parser_is(p, L_NAME, "or") && !parser_is(p, L_NAME, "else") &&
                 !parser_is(p, L_NAME, "if") && !parser_is(p, L_NAME, "is") &&
                 !parser_is(p, L_NAME, "in") && !parser_is(p, L_NAME, "not")))) {
        n->params = calloc(1, sizeof *n->params);
        if (!n->params) {
            p->rc = -ENOMEM;
            return NULL;
        }
        n->n_params = 1;
        n->params[0].value = parse_postfix(p, parse_primary(p));
    }
    if (!negated)
        return n;
    struct node *negation = parser_node(p, N_NOT);
    if (negation)
        negation->a = n;
    return negation;
}

static struct node *parse_filters_and_tests(struct parser *p, struct node *value) {
    while (!p->rc && value) {
        if (parser_is(p, L_PUNCT, "|"))
            value = parse_filters(p, value, false);
        else if (parser_take(p, L_NAME, "is"))
            value = parse_test(p, value);
        else if (parser_is(p, L_PUNCT, "("))
            value = parse_postfix(p, value);
        else
            break;
    }
    return value;
}

static struct node *parse_unary(struct parser *p, bool with_filters) {
    struct node *n = NULL;
    if (!parser_enter(p))
        return NULL;
    if (parser_is(p, L_PUNCT, "-") || parser_is(p, L_PUNCT, "+")) {
        n = parser_node(p, parser_is(p, L_PUNCT, "-") ? N_NEGATE : N_PLUS);
        parser_next(p);
        if (n)
            n->a = parse_unary(p, false);
    } else {
        n = parse_postfix(p, parse_primary(p));
    }
    if (with_filters)
        n = parse_filters_and_tests(p, n);
    parser_leave(p);
    return p->rc ? NULL : n;
}

/* ---- operators ------------------------------------------------------------------------------ */

static struct node *parse_power(struct parser *p) {
    struct node *a = parse_unary(p, true);
    while (parser_take(p, L_PUNCT, "**"))
        a = binary(p, OP_POW, a, parse_unary(p, true));
    return a;
}

static struct node *parse_product(struct parser *p) {
    struct node *a = parse_power(p);
    for (;;) {
        if (parser_take(p, L_PUNCT, "*"))
            a = binary(p, OP_MUL, a, parse_power(p));
        else if (parser_take(p, L_PUNCT, "/"))
            a = binary(p, OP_DIV, a, parse_power(p));
        else if (parser_take(p, L_PUNCT, "//"))
            a = binary(p, OP_FLOOR_DIV, a, parse_power(p));
        else if (parser_take(p, L_PUNCT, "%"))
            a = binary(p, OP_MOD, a, parse_power(p));
        else
            return a;
    }
}

static struct node *parse_concat(struct parser *p) {
    struct node *a = parse_product(p);
    while (parser_take(p, L_PUNCT, "~"))
        a = binary(p, OP_CONCAT, a, parse_product(p));
    return a;
}

static struct node *parse_sum(struct parser *p) {
    struct node *a = parse_concat(p);
    for (;;) {
        if (parser_take(p, L_PUNCT, "+"))
            a = binary(p, OP_ADD, a, parse_concat(p));
        else if (parser_take(p, L_PUNCT, "-"))
            a = binary(p, OP_SUB, a, parse_concat(p));
        else
            return a;
    }
}

static bool take_comparison(struct parser *p, enum op *op) {
    static const struct {
        const char *text;
        enum op op;
    } puncts[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE},
                  {">=", OP_GE}, {"<", OP_LT},  {">", OP_GT}};
    for (size_t i = 0; i < sizeof puncts / sizeof *puncts; i++)
        if (parser_take(p, L_PUNCT, puncts[i].text)) {
            *op = puncts[i].op;
            return true;
        }
    if (parser_take(p, L_NAME, "in")) {
        *op = OP_IN;
        return true;
    }
    if (parser_is(p, L_NAME, "not")) {
        parser_next(p);
        if (!parser_take(p, L_NAME, "in"))
            parser_fail(p, "in is expected behind not");
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static struct node *parse_comparison(struct parser *p) {
    struct node *a = parse_sum(p), *n = NULL;
    enum op op;
    while (!p->rc && take_comparison(p, &op)) {
        if (!n) {
            n = parser_node(p, N_COMPARE);
            if (!n)
                return NULL;
            n->a = a;
        }
        enum op *ops = realloc(n->ops, (n->n_items + 1) * sizeof *ops);
        if (!ops) {
            p->rc = -ENOMEM;
            return NULL;
        }
        n->ops = ops;
        n->ops[n->n_items] = op;
        parser_add(p, n, parse_sum(p));
    }
    return n ? n : a;
}

static struct node *parse_not(struct parser *p) {
    if (!parser_is(p, L_NAME, "not"))
        return parse_comparison(p);
    struct node *n = parser_node(p, N_NOT);
    if (!n || !parser_enter(p))
        return NULL;
    parser_next(p);
    n->a = parse_not(p);
    parser_leave(p);
    return n;
}

static struct node *parse_and(struct parser *p) {
    struct node *a = parse_not(p);
    while (parser_take(p, L_NAME, "and"))
        a = binary(p, OP_AND, a, parse_not(p));
    return a;
}

struct node *parse_or(struct parser *p) {
    struct node *a;
    if (!parser_enter(p))
        return NULL;
    a = parse_and(p);
    while (parser_take(p, L_NAME, "or"))
        a = binary(p, OP_OR, a, parse_and(p));
    parser_leave(p);
    return p->rc ? NULL : a;
}

struct node *parse_expression(struct parser *p) {
    struct node *a = parse_or(p);
    if (!parser_enter(p))
        return NULL;
    while (parser_take(p, L_NAME, "if")) {
        struct node *n = parser_node(p, N_COND);
        if (!n)
            return NULL;
        n->a = a;
        n->b = parse_or(p);
        if (parser_take(p, L_NAME, "else"))
            n->c = parse_expression(p);
        a = n;
    }
    parser_leave(p);
    return p->rc ? NULL : a;
}

struct node *parse_tuple(struct parser *p) {
    struct node *a = parse_expression(p);
    if (!parser_is(p, L_PUNCT, ","))
        return a;
    struct node *n = tuple_node(p);
    parser_add(p, n, a);
    while (parser_take(p, L_PUNCT, ",")) {
        if (p->now.kind != L_PUNCT || !parser_is(p, L_PUNCT, ")")) {
            if (p->now.kind == L_BLOCK_END || p->now.kind == L_OUTPUT_END)
                break;
            parser_add(p, n, parse_expression(p));
        }
    }
    return p->rc ? NULL : n;
}
