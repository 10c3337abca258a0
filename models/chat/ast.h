/* SPDX-License-Identifier: Apache-2.0 */
/* ast.h - inside chat: a parsed template. */
#ifndef OCTARC_MODELS_CHAT_AST_H
#define OCTARC_MODELS_CHAT_AST_H

#include <stddef.h>

#include "models/chat/reply.h"
#include "models/chat/value_impl.h"

enum node_kind {
    /* statements */
    N_BODY,         /* items */
    N_TEXT,         /* constant */
    N_OUTPUT,       /* a */
    N_IF,           /* a: condition, b: then, c: else (may be NULL) */
    N_FOR,          /* targets in items, a: iterable, b: body, c: else, d: filter */
    N_SET,          /* items: targets, a: value */
    N_SET_BLOCK,    /* items[0]: target, b: body, a: filter chain over N_HOLE, or NULL */
    N_MACRO,        /* name, params, b: body */
    N_CALL_BLOCK,   /* a: call, params, b: body (a macro named caller) */
    N_FILTER_BLOCK, /* a: filter chain over N_HOLE, b: body */
    N_BREAK,
    N_CONTINUE,
    /* expressions */
    N_CONST,   /* constant */
    N_NAME,    /* name */
    N_LIST,    /* items; tuple */
    N_DICT,    /* items: key, value, key, value */
    N_NOT,     /* a */
    N_NEGATE,  /* a */
    N_PLUS,    /* a */
    N_BINARY,  /* op, a, b */
    N_COMPARE, /* a, then items with ops */
    N_COND,    /* a if b else c (c may be NULL) */
    N_ATTR,    /* a.name */
    N_ITEM,    /* a[b] */
    N_SLICE,   /* a[b:c:d], each may be NULL */
    N_CALL,    /* a(args) */
    N_FILTER,  /* a | name(args) */
    N_TEST,    /* a is name(args) */
    N_HOLE,    /* the text of a block, where a filter chain begins */
};

enum op {
    OP_OR,
    OP_AND,
    OP_ADD,
    OP_SUB,
    OP_CONCAT,
    OP_MUL,
    OP_DIV,
    OP_FLOOR_DIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

struct param {
    char *name;         /* NULL: positional */
    struct node *value; /* argument, or a parameter's default (NULL: none) */
};

struct node {
    enum node_kind kind;
    int line;
    enum op op;
    bool tuple;
    bool uses_caller; /* N_MACRO, N_CALL_BLOCK: the body names it */
    char *name;
    struct chat_value *constant;
    struct node *a, *b, *c, *d;
    struct node **items;
    enum op *ops; /* N_COMPARE: of items */
    size_t n_items;
    struct param *params; /* arguments or parameters */
    size_t n_params;
    struct node *next; /* of all nodes of a template, for freeing without recursion */
};

struct chat_template {
    struct node *root;
    struct node *all; /* owned: every node */
    struct reply_form form;
};

struct err;
int template_parse(struct chat_template *tmpl, const char *source, size_t n, struct err *err);
void template_free_nodes(struct node *all);

#endif
