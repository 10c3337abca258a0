/* SPDX-License-Identifier: Apache-2.0 */
#include "models/chat/eval.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/chat.h"
#include "octarc/error.h"

struct chat_value *eval_fail(struct eval *e, const char *fmt, ...) {
    char what[256];
    va_list ap;
    if (e->rc)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    e->rc = err_set(e->err, -EINVAL, "chat template, line %d: %s", e->line, what);
    return NULL;
}

struct chat_value *eval_made(struct eval *e, struct chat_value *v) {
    if (e->rc) {
        chat_value_unref(v);
        return NULL;
    }
    if (!v)
        e->rc = -ENOMEM;
    return v;
}

static void too_much(struct eval *e, const char *what) {
    eval_fail(e, "%s", what);
    e->rc = -E2BIG;
}

bool eval_room(struct eval *e, size_t bytes) {
    e->made_bytes += bytes;
    if (!e->rc && e->made_bytes > EVAL_MEMORY_MAX)
        too_much(e, "it makes too much text");
    return !e->rc;
}

/* Every node that is visited counts; nesting is limited before the stack is. */
static bool enter(struct eval *e, const struct node *n) {
    e->line = n->line;
    if (!e->rc && ++e->steps > CHAT_STEPS_MAX)
        too_much(e, "it takes more than a million steps");
    if (!e->rc && e->depth >= EVAL_EXPRESSION_DEPTH)
        too_much(e, "expressions or calls are nested too deeply");
    if (e->rc)
        return false;
    e->depth++;
    return true;
}

/* ---- names ---------------------------------------------------------------------------------- */

static struct chat_value *look_up(struct eval *e, const char *name) {
    const size_t n = strlen(name);
    for (const struct scope *s = e->scope; s; s = s->outer) {
        struct chat_value *v = dict_get(s->names, name, n);
        if (v)
            return chat_value_ref(v);
    }
    struct chat_value *v = dict_get(e->globals, name, n);
    if (v)
        return chat_value_ref(v);
    v = function_find(e, name);
    return v ? v : eval_made(e, value_undefined(name));
}

/* Takes over the value. */
static void assign(struct eval *e, const struct node *target, struct chat_value *v) {
    struct chat_value *key = NULL, *object = e->scope->names;
    if (!v)
        return;
    if (target->kind == N_ATTR) {
        object = look_up(e, target->a->name);
        if (object && (object->kind != V_DICT || !object->is_namespace)) {
            eval_fail(e, "only the attributes of a namespace can be set");
            chat_value_unref(object);
            object = NULL;
        } else if (object && value_holds(v, object)) {
            eval_fail(e, "a namespace cannot hold itself");
        }
        chat_value_unref(object); /* the scope keeps it */
    }
    key = object ? eval_made(e, value_text(target->name)) : NULL;
    if (key && !e->rc)
        e->rc = dict_put(object, key, v);
    else
        chat_value_unref(v);
    chat_value_unref(key);
}

/* One value to several names. */
static void unpack(struct eval *e, const struct node *n, struct chat_value *v) {
    if (n->n_items == 1) {
        assign(e, n->items[0], chat_value_ref(v));
        return;
    }
    if (v->kind != V_LIST || v->list.n != n->n_items) {
        eval_fail(e, "%zu names, but not as many values", n->n_items);
        return;
    }
    for (size_t i = 0; i < n->n_items && !e->rc; i++)
        assign(e, n->items[i], chat_value_ref(v->list.items[i]));
}

static bool push_scope(struct eval *e, struct scope *s) {
    s->names = eval_made(e, chat_dict());
    s->outer = e->scope;
    if (s->names)
        e->scope = s;
    return s->names != NULL;
}

static void pop_scope(struct eval *e, struct scope *s) {
    e->scope = s->outer;
    chat_value_unref(s->names);
}

/* ---- calls ---------------------------------------------------------------------------------- */

struct chat_value *args_get(const struct args *args, size_t i, const char *name) {
    size_t position = 0;
    for (size_t k = 0; k < args->n; k++) {
        if (args->names[k] ? name && !strcmp(args->names[k], name) : position++ == i)
            return args->at[k];
    }
    return NULL;
}

static void free_args(struct args *args) {
    for (size_t i = 0; i < args->n; i++)
        chat_value_unref(args->at[i]);
}

static bool eval_args(struct eval *e, const struct node *n, struct args *args) {
    args->n = 0;
    if (n->n_params > EVAL_ARGS_MAX) {
        eval_fail(e, "more than %d arguments", EVAL_ARGS_MAX);
        return false;
    }
    for (size_t i = 0; i < n->n_params && !e->rc; i++) {
        args->names[args->n] = n->params[i].name;
        args->at[args->n] = eval_expression(e, n->params[i].value);
        args->n += args->at[args->n] != NULL;
    }
    return !e->rc;
}

/* Render a body to a string. */
static struct chat_value *capture(struct eval *e, const struct node *body) {
    struct text t = {0}, *out = e->out;
    e->out = &t;
    eval_body(e, body);
    e->out = out;
    return text_value(e, &t);
}

static struct chat_value *call_macro(struct eval *e, const struct node *macro,
                                     const struct args *args) {
    struct scope scope, *outer = e->scope, *global = e->scope;
    struct chat_value *result = NULL;
    if (++e->block_depth > CHAT_DEPTH_MAX) {
        too_much(e, "macros call each other too deeply");
        return NULL;
    }
    /* A macro sees its arguments and the outermost names, not those of its caller. */
    while (global->outer)
        global = global->outer;
    e->scope = global;
    if (push_scope(e, &scope)) {
        for (size_t i = 0; i < macro->n_params && !e->rc; i++) {
            struct chat_value *v = args_get(args, i, macro->params[i].name);
            v = v                        ? chat_value_ref(v)
                : macro->params[i].value ? eval_expression(e, macro->params[i].value)
                                         : eval_made(e, value_undefined(macro->params[i].name));
            const struct node target = {.kind = N_NAME, .name = macro->params[i].name};
            assign(e, &target, v);
        }
        struct chat_value *caller = args_get(args, SIZE_MAX, "caller");
        const struct node target = {.kind = N_NAME, .name = (char[]){"caller"}};
        if (caller)
            assign(e, &target, chat_value_ref(caller));
        result = capture(e, macro->b);
        pop_scope(e, &scope);
    }
    e->scope = outer;
    e->block_depth--;
    return result;
}

struct chat_value *eval_call(struct eval *e, const struct chat_value *callee,
                             const struct args *args) {
    if (callee->kind == V_MACRO)
        return call_macro(e, callee->ref.macro, args);
    if (callee->kind == V_BUILTIN)
        return function_call(e, callee->ref.name, args);
    return eval_fail(e, "%s%s%s cannot be called", value_type_name(callee),
                     callee->kind == V_UNDEFINED && callee->ref.name ? ": " : "",
                     callee->kind == V_UNDEFINED && callee->ref.name ? callee->ref.name : "");
}

static struct chat_value *call_with(struct eval *e, const struct node *n, struct args *args) {
    struct chat_value *result = NULL, *callee;
    if (n->a->kind == N_ATTR) {
        struct chat_value *subject = eval_expression(e, n->a->a);
        if (!subject)
            return NULL;
        /* A dict may hold a macro under the name of a method; its own entry wins. */
        struct chat_value *own =
            subject->kind == V_DICT ? dict_get(subject, n->a->name, strlen(n->a->name)) : NULL;
        if (own && (own->kind == V_MACRO || own->kind == V_BUILTIN))
            result = eval_call(e, own, args);
        else
            result = method_call(e, subject, n->a->name, args);
        chat_value_unref(subject);
        return result;
    }
    callee = eval_expression(e, n->a);
    if (callee)
        result = eval_call(e, callee, args);
    chat_value_unref(callee);
    return result;
}

static struct chat_value *eval_call_node(struct eval *e, const struct node *n) {
    struct args args;
    struct chat_value *result = NULL;
    if (eval_args(e, n, &args))
        result = call_with(e, n, &args);
    free_args(&args);
    return result;
}

/* ---- expressions ---------------------------------------------------------------------------- */

static struct chat_value *eval_binary(struct eval *e, const struct node *n) {
    struct chat_value *a = eval_expression(e, n->a), *b, *result;
    if (!a)
        return NULL;
    if ((n->op == OP_OR || n->op == OP_AND) && value_true(a) == (n->op == OP_OR))
        return a;
    b = eval_expression(e, n->b);
    if (n->op == OP_OR || n->op == OP_AND) {
        chat_value_unref(a);
        return b;
    }
    result = b ? operate(e, n->op, a, b) : NULL;
    chat_value_unref(a);
    chat_value_unref(b);
    return result;
}

static struct chat_value *eval_compare(struct eval *e, const struct node *n) {
    struct chat_value *a = eval_expression(e, n->a);
    int truth = 1;
    for (size_t i = 0; i < n->n_items && a && truth > 0; i++) {
        struct chat_value *b = eval_expression(e, n->items[i]);
        truth = b ? compare(e, n->ops[i], a, b) : -1;
        chat_value_unref(a);
        a = b;
    }
    chat_value_unref(a);
    return e->rc ? NULL : eval_made(e, chat_bool(truth > 0));
}

static struct chat_value *eval_list(struct eval *e, const struct node *n) {
    struct chat_value *list = eval_made(e, chat_list());
    for (size_t i = 0; i < n->n_items && list && !e->rc; i++) {
        struct chat_value *item = eval_expression(e, n->items[i]);
        if (item)
            list = eval_made(e, chat_append(list, item));
    }
    if (list)
        list->is_tuple = n->tuple;
    return eval_made(e, list);
}

static struct chat_value *eval_dict(struct eval *e, const struct node *n) {
    struct chat_value *dict = eval_made(e, chat_dict());
    for (size_t i = 0; i + 1 < n->n_items && dict && !e->rc; i += 2) {
        struct chat_value *key = eval_expression(e, n->items[i]);
        struct chat_value *item = key ? eval_expression(e, n->items[i + 1]) : NULL;
        if (item)
            e->rc = dict_put(dict, key, item);
        chat_value_unref(key);
    }
    return eval_made(e, dict);
}

static struct chat_value *eval_slice(struct eval *e, const struct node *n) {
    struct chat_value *v = eval_expression(e, n->a), *result = NULL;
    struct chat_value *from = n->b && v ? eval_expression(e, n->b) : NULL;
    struct chat_value *to = n->c && v ? eval_expression(e, n->c) : NULL;
    struct chat_value *step = n->d && v ? eval_expression(e, n->d) : NULL;
    if (!e->rc)
        result = slice_of(e, v, from, to, step);
    chat_value_unref(v);
    chat_value_unref(from);
    chat_value_unref(to);
    chat_value_unref(step);
    return result;
}

static struct chat_value *eval_item(struct eval *e, const struct node *n) {
    struct chat_value *v = eval_expression(e, n->a), *result = NULL;
    struct chat_value *key = v ? eval_expression(e, n->b) : NULL;
    if (key)
        result = item_of(e, v, key);
    chat_value_unref(v);
    chat_value_unref(key);
    return result;
}

static struct chat_value *eval_filter_or_test(struct eval *e, const struct node *n) {
    struct args args;
    struct chat_value *subject = eval_expression(e, n->a), *result = NULL;
    if (!subject)
        return NULL;
    if (eval_args(e, n, &args)) {
        if (n->kind == N_FILTER) {
            result = filter_apply(e, n->name, subject, &args);
        } else {
            const int truth = predicate_test(e, n->name, subject, &args);
            result = truth < 0 ? NULL : eval_made(e, chat_bool(truth));
        }
    }
    free_args(&args);
    chat_value_unref(subject);
    return result;
}

static struct chat_value *eval_sign(struct eval *e, const struct node *n) {
    struct chat_value *v = eval_expression(e, n->a), *result;
    if (!v || n->kind == N_PLUS)
        return v;
    if (v->kind == V_FLOAT)
        result = eval_made(e, chat_float(-v->real));
    else if (v->kind == V_INT && v->integer != INT64_MIN)
        result = eval_made(e, chat_int(-v->integer));
    else
        result = eval_fail(e, "%s has no negative", value_type_name(v));
    chat_value_unref(v);
    return result;
}

static struct chat_value *eval_kind(struct eval *e, const struct node *n) {
    struct chat_value *v, *result;
    switch (n->kind) {
    case N_CONST:
        return chat_value_ref(n->constant);
    case N_NAME:
        return look_up(e, n->name);
    case N_LIST:
        return eval_list(e, n);
    case N_DICT:
        return eval_dict(e, n);
    case N_NOT:
        v = eval_expression(e, n->a);
        result = v ? eval_made(e, chat_bool(!value_true(v))) : NULL;
        chat_value_unref(v);
        return result;
    case N_NEGATE:
    case N_PLUS:
        return eval_sign(e, n);
    case N_BINARY:
        return eval_binary(e, n);
    case N_COMPARE:
        return eval_compare(e, n);
    case N_COND:
        v = eval_expression(e, n->b);
        if (!v)
            return NULL;
        result = value_true(v) ? eval_expression(e, n->a)
                 : n->c        ? eval_expression(e, n->c)
                               : eval_made(e, value_undefined(NULL));
        chat_value_unref(v);
        return result;
    case N_ATTR:
        v = eval_expression(e, n->a);
        result = v ? attribute_of(e, v, n->name) : NULL;
        chat_value_unref(v);
        return result;
    case N_ITEM:
        return eval_item(e, n);
    case N_SLICE:
        return eval_slice(e, n);
    case N_CALL:
        return eval_call_node(e, n);
    case N_FILTER:
    case N_TEST:
        return eval_filter_or_test(e, n);
    case N_HOLE:
        return chat_value_ref(e->hole);
    default:
        return eval_fail(e, "no expression");
    }
}

struct chat_value *eval_expression(struct eval *e, const struct node *n) {
    if (!enter(e, n))
        return NULL;
    struct chat_value *v = eval_kind(e, n);
    e->depth--;
    return v;
}

/* ---- statements ----------------------------------------------------------------------------- */

static struct chat_value *loop_value(const struct chat_value *list, size_t i) {
    const int64_t n = (int64_t)list->list.n, k = (int64_t)i;
    struct chat_value *loop = chat_dict();
    loop = chat_set(loop, "index", chat_int(k + 1));
    loop = chat_set(loop, "index0", chat_int(k));
    loop = chat_set(loop, "revindex", chat_int(n - k));
    loop = chat_set(loop, "revindex0", chat_int(n - k - 1));
    loop = chat_set(loop, "first", chat_bool(k == 0));
    loop = chat_set(loop, "last", chat_bool(k == n - 1));
    loop = chat_set(loop, "length", chat_int(n));
    if (k > 0)
        loop = chat_set(loop, "previtem", chat_value_ref(list->list.items[k - 1]));
    if (k < n - 1)
        loop = chat_set(loop, "nextitem", chat_value_ref(list->list.items[k + 1]));
    return loop;
}

/* Only the items that pass the loop's own condition: loop.length counts those. */
static struct chat_value *filter_items(struct eval *e, const struct node *n,
                                       struct chat_value *list) {
    struct chat_value *kept = chat_list();
    for (size_t i = 0; i < list->list.n && kept && !e->rc; i++) {
        struct scope scope;
        struct chat_value *truth = NULL;
        if (!push_scope(e, &scope))
            break;
        unpack(e, n, list->list.items[i]);
        if (!e->rc)
            truth = eval_expression(e, n->d);
        if (truth && value_true(truth))
            kept = chat_append(kept, chat_value_ref(list->list.items[i]));
        chat_value_unref(truth);
        pop_scope(e, &scope);
    }
    chat_value_unref(list);
    return eval_made(e, kept);
}

static void eval_for(struct eval *e, const struct node *n) {
    struct chat_value *v = eval_expression(e, n->a);
    struct chat_value *list = v ? items_of(e, v) : NULL;
    const struct node loop_name = {.kind = N_NAME, .name = (char[]){"loop"}};
    chat_value_unref(v);
    if (list && n->d)
        list = filter_items(e, n, list);
    if (list && list->list.n == 0 && n->c)
        eval_body(e, n->c);
    for (size_t i = 0; list && i < list->list.n && !e->rc; i++) {
        struct scope scope;
        if (!push_scope(e, &scope))
            break;
        assign(e, &loop_name, eval_made(e, loop_value(list, i)));
        unpack(e, n, list->list.items[i]);
        eval_body(e, n->b);
        pop_scope(e, &scope);
        const bool ends = e->jump == JUMP_BREAK;
        e->jump = JUMP_NONE;
        if (ends)
            break;
    }
    chat_value_unref(list);
}

/* The text of a block, through its filters when it has some. */
static struct chat_value *filtered_block(struct eval *e, const struct node *n) {
    struct chat_value *outer = e->hole, *text = capture(e, n->b), *result;
    if (!text || !n->a)
        return text;
    e->hole = text;
    result = eval_expression(e, n->a);
    e->hole = outer;
    chat_value_unref(text);
    return result;
}

static struct chat_value *macro_value(struct eval *e, const struct node *n) {
    struct chat_value *v = eval_made(e, value_new(V_MACRO));
    if (v)
        v->ref.macro = n;
    return v;
}

static void print_value(struct eval *e, struct chat_value *v) {
    if (v)
        text_print(e, e->out, v, false, 0);
    chat_value_unref(v);
}

static void eval_call_block(struct eval *e, const struct node *n) {
    struct args args;
    if (eval_args(e, n->a, &args) && args.n < EVAL_ARGS_MAX) {
        args.names[args.n] = "caller";
        args.at[args.n] = macro_value(e, n);
        args.n += args.at[args.n] != NULL;
        if (!e->rc)
            print_value(e, call_with(e, n->a, &args));
    }
    free_args(&args);
}

static void eval_statement(struct eval *e, const struct node *n) {
    struct chat_value *v;
    switch (n->kind) {
    case N_TEXT:
        text_add(e, e->out, n->constant->string.bytes, n->constant->string.n);
        break;
    case N_OUTPUT:
        print_value(e, eval_expression(e, n->a));
        break;
    case N_IF:
        v = eval_expression(e, n->a);
        if (v && value_true(v))
            eval_body(e, n->b);
        else if (v && n->c)
            eval_body(e, n->c);
        chat_value_unref(v);
        break;
    case N_FOR:
        eval_for(e, n);
        break;
    case N_SET:
        v = eval_expression(e, n->a);
        if (v)
            unpack(e, n, v);
        chat_value_unref(v);
        break;
    case N_SET_BLOCK:
        assign(e, n->items[0], filtered_block(e, n));
        break;
    case N_MACRO:
        assign(e, n, macro_value(e, n));
        break;
    case N_CALL_BLOCK:
        eval_call_block(e, n);
        break;
    case N_FILTER_BLOCK:
        print_value(e, filtered_block(e, n));
        break;
    case N_BREAK:
        e->jump = JUMP_BREAK;
        break;
    case N_CONTINUE:
        e->jump = JUMP_CONTINUE;
        break;
    default:
        eval_body(e, n);
    }
}

void eval_body(struct eval *e, const struct node *n) {
    if (!enter(e, n))
        return;
    if (n->kind != N_BODY)
        eval_statement(e, n);
    for (size_t i = 0; n->kind == N_BODY && i < n->n_items && !e->rc && e->jump == JUMP_NONE; i++)
        if (enter(e, n->items[i])) {
            eval_statement(e, n->items[i]);
            e->depth--;
        }
    e->depth--;
}
