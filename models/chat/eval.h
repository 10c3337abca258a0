/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h - inside chat: the state of one rendering.
 *
 * Functions that return a value return one reference, or NULL after a failure; the first failure is
 * kept (rc, err) and everything after it is skipped. */
#ifndef OCTARC_MODELS_CHAT_EVAL_H
#define OCTARC_MODELS_CHAT_EVAL_H

#include "models/chat/ast.h"

#define EVAL_EXPRESSION_DEPTH 400          /* nested nodes of expressions, calls included */
#define EVAL_MEMORY_MAX       (256u << 20) /* bytes of text and lists a rendering may make in all */
#define EVAL_RANGE_MAX        100000       /* items of range(), joined or repeated lists */
#define EVAL_ARGS_MAX         16
#define EVAL_VALUE_BYTES      64 /* of a value, as memory counts it, … */
#define EVAL_ITEM_BYTES       8  /* … and of its place in a list */
#define EVAL_TEXT_STRIDE      8  /* bytes walked through that count as one value looked at */

struct err;

struct scope {
    struct chat_value *names; /* a dict */
    struct scope *outer;      /* whose names are seen from here */
    struct scope *earlier;    /* begun before this one and not ended */
    uint64_t id;
};

struct text { /* grows */
    char *bytes;
    size_t n, capacity;
};

struct eval {
    int rc, line;
    struct err *err;
    struct scope *scope;
    struct scope *latest; /* begun last: the chain of all that live */
    uint64_t n_scopes;
    struct chat_value *globals; /* borrowed */
    struct text *out;
    uint64_t steps, work, made_bytes;
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
struct chat_value *eval_too_much(struct eval *e, const char *what); /* -E2BIG */
/* NULL becomes -ENOMEM. */
struct chat_value *eval_made(struct eval *e, struct chat_value *v);
/* Count memory about to be taken, freed again or not; false when it is too much. */
bool eval_room(struct eval *e, size_t bytes);
/* Count n values about to be looked at, or that were: whatever loops over data calls it, so that
 * the time of a rendering has an end.  false when it is too much.  n 0: look whether the work of
 * value_same() and the like was. */
bool eval_work(struct eval *e, uint64_t n);
bool eval_work_text(struct eval *e, size_t bytes);
/* Set a key, counted as work; takes over the item. */
void eval_put(struct eval *e, struct chat_value *dict, struct chat_value *key,
              struct chat_value *item);
void eval_put_all(struct eval *e, struct chat_value *dict, const struct chat_value *from);
/* A list with room for n items, counted; `made`: with a new value each. */
struct chat_value *eval_list(struct eval *e, size_t n, bool made);

struct chat_value *eval_expression(struct eval *e, const struct node *n);
void eval_body(struct eval *e, const struct node *n);
/* call.c.  Call a macro or function value. */
struct chat_value *eval_call(struct eval *e, const struct chat_value *callee,
                             const struct args *args);

struct chat_value *eval_call_node(struct eval *e, const struct node *n);
void eval_call_block(struct eval *e, const struct node *n);
struct chat_value *eval_capture(struct eval *e, const struct node *body); /* its text */
struct chat_value *eval_macro(struct eval *e, const struct node *n);
bool eval_args(struct eval *e, const struct node *n, struct args *args);
void args_free(struct args *args);
bool scope_push(struct eval *e, struct scope *s);
void scope_pop(struct eval *e, struct scope *s);
/* Give a name (or an attribute of a namespace) a value, which is taken over. */
void eval_assign(struct eval *e, const struct node *target, struct chat_value *v);
struct chat_value *look_up(struct eval *e, const char *name);

/* Whether the arguments are some of `params`: names with spaces between, in their order.  "_"
 * stands for one that has no name, a "*" at the end for any more of those, "**" for any names too.
 */
bool args_fit(struct eval *e, const char *callee, const struct args *args, const char *params);
/* Argument i, or the one named so; NULL when it is not given. */
struct chat_value *args_get(const struct args *args, size_t i, const char *name);

/* What each table offers; NULL after a failure.  The subject is borrowed. */
struct chat_value *filter_apply(struct eval *e, const char *name, struct chat_value *subject,
                                const struct args *args);
struct chat_value *method_call(struct eval *e, struct chat_value *subject, const char *name,
                               const struct args *args);
/* The same for a filter, which has looked at the arguments already. */
struct chat_value *method_apply(struct eval *e, struct chat_value *subject, const char *name,
                                const struct args *args);
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
struct chat_value *loop_value(struct eval *e, struct chat_value *list, size_t at);
/* The items of a list, characters of a string, keys of a dict: a new list. */
struct chat_value *items_of(struct eval *e, struct chat_value *v);

/* text.c: as {{ v }} prints it; repr: as inside a list. */
/* Room for n bytes more; false after a failure. */
bool text_reserve(struct eval *e, struct text *t, size_t n);
void text_add(struct eval *e, struct text *t, const char *bytes, size_t n);
void text_print(struct eval *e, struct text *t, const struct chat_value *v, bool repr, int depth);
struct json_style {
    int indent;             /* -1: on one line */
    const char *item, *key; /* behind an item, behind a key */
    bool ascii;             /* other characters as \uXXXX */
};
void text_json(struct eval *e, struct text *t, const struct chat_value *v,
               const struct json_style *style, int depth);
struct chat_value *text_value(struct eval *e, struct text *t); /* takes its bytes */
size_t text_characters(const char *bytes, size_t n);

#endif
