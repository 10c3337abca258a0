/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h - inside chat: the state of one rendering.
 *
 * Functions that return a value return one reference, or NULL after a failure; the first failure is
 * kept (rc, err) and everything after it is skipped. */
#ifndef OCTARC_MODELS_CHAT_EVAL_H
#define OCTARC_MODELS_CHAT_EVAL_H

#include "models/chat/ast.h"

#define EVAL_EXPRESSION_DEPTH 400          /* nested nodes of expressions, calls included */
#define EVAL_MEMORY_MAX       (256u << 20) /* bytes of text a rendering may make in all */
#define EVAL_RANGE_MAX        100000       /* items of range(), joined or repeated lists */
#define EVAL_ARGS_MAX         16

struct err;

struct scope {
    struct chat_value *names; /* a dict */
    struct scope *outer;
};

struct text { /* grows */
    char *bytes;
    size_t n, capacity;
};

struct eval {
    int rc, line;
    struct err *err;
    struct scope *scope;
    struct chat_value *globals; /* borrowed */
    struct text *out;
    uint64_t steps, made_bytes;
    int depth, block_depth;
    enum { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE } jump;
    struct chat_value *hole; /* text of the block whose filters run */
};

/* Arguments of a call: positional, then named ones. */
struct args {
    struct chat_value *at[EVAL_ARGS_MAX]; /* owned by the caller */
    const char *names[EVAL_ARGS_MAX];     /* NULL: positional */
    size_t n;
};

struct chat_value *eval_fail(struct eval *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* NULL becomes -ENOMEM. */
struct chat_value *eval_made(struct eval *e, struct chat_value *v);
/* Count text about to be made; false when it is too much. */
bool eval_room(struct eval *e, size_t bytes);

struct chat_value *eval_expression(struct eval *e, const struct node *n);
void eval_body(struct eval *e, const struct node *n);
/* Call a macro or function value. */
struct chat_value *eval_call(struct eval *e, const struct chat_value *callee,
                             const struct args *args);

/* Argument i, or the one named so; NULL when it is not given. */
struct chat_value *args_get(const struct args *args, size_t i, const char *name);

/* What each table offers; NULL after a failure.  The subject is borrowed. */
struct chat_value *filter_apply(struct eval *e, const char *name, struct chat_value *subject,
                                const struct args *args);
struct chat_value *method_call(struct eval *e, struct chat_value *subject, const char *name,
                               const struct args *args);
/* Whether storing v inside `what` would make it hold itself. */
bool value_holds(const struct chat_value *v, const struct chat_value *what);
/* 1, 0, or negative after a failure. */
int predicate_test(struct eval *e, const char *name, struct chat_value *subject,
                   const struct args *args);
/* The function of that name, or NULL. */
struct chat_value *function_find(struct eval *e, const char *name);
struct chat_value *function_call(struct eval *e, const char *name, const struct args *args);

/* operators.c */
struct chat_value *operate(struct eval *e, enum op op, struct chat_value *a, struct chat_value *b);
int compare(struct eval *e, enum op op, struct chat_value *a, struct chat_value *b);
struct chat_value *item_of(struct eval *e, struct chat_value *v, struct chat_value *key);
struct chat_value *slice_of(struct eval *e, struct chat_value *v, const struct chat_value *from,
                            const struct chat_value *to, const struct chat_value *step);
struct chat_value *attribute_of(struct eval *e, struct chat_value *v, const char *name);
/* The items of a list, characters of a string, keys of a dict: a new list. */
struct chat_value *items_of(struct eval *e, struct chat_value *v);

/* text.c: as {{ v }} prints it; repr: as inside a list. */
void text_add(struct eval *e, struct text *t, const char *bytes, size_t n);
void text_print(struct eval *e, struct text *t, const struct chat_value *v, bool repr, int depth);
void text_json(struct eval *e, struct text *t, const struct chat_value *v, int indent, int depth);
struct chat_value *text_value(struct eval *e, struct text *t); /* takes its bytes */

#endif
