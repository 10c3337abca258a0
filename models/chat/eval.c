/* SPDX-License-Identifier: Apache-2.0 */
#include "models/chat/eval.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/chat.h"
#include "models/shown.h"
#include "octarc/error.h"

struct chat_value *eval_fail(struct eval *e, const char *fmt, ...) {
    char what[256];
    char shown[sizeof what];
    va_list ap;
    if (e->rc)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    shown_text(shown, sizeof shown, what, strlen(what));
    e->rc = err_set(e->err, -EINVAL, "chat template, line %d: %s", e->line, shown);
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

struct chat_value *eval_too_much(struct eval *e, const char *what) {
    eval_fail(e, "%s", what);
    e->rc = -E2BIG;
    return NULL;
}

bool eval_room(struct eval *e, size_t bytes) {
    e->made_bytes += bytes;
    if (!e->rc && e->made_bytes > EVAL_MEMORY_MAX)
        eval_too_much(e, "it makes more than 256 MiB of texts and lists");
    return !e->rc;
}

bool eval_work(struct eval *e, uint64_t n) {
    e->work += n;
    if (!e->rc && e->work >= VALUE_TOO_DEEP)
        eval_too_much(e, "values are nested too deeply to be walked through");
    else if (!e->rc && e->work > VALUE_WORK_MAX)
        eval_too_much(e, "it looks at too many values and too much text");
    return !e->rc;
}

bool eval_work_text(struct eval *e, size_t bytes) {
    return eval_work(e, 1 + bytes / EVAL_TEXT_STRIDE);
}

struct chat_value *eval_list(struct eval *e, size_t n, bool made) {
    const size_t each = EVAL_ITEM_BYTES + (made ? EVAL_VALUE_BYTES : 0);
    struct chat_value *list = NULL;
    if (eval_work(e, n) && eval_room(e, EVAL_VALUE_BYTES + n * each))
        list = eval_made(e, chat_list());
    if (list && !list_reserve(list, n)) {
        chat_value_unref(list);
        return eval_made(e, NULL);
    }
    return list;
}

/* Every node that is visited counts; nesting is limited before the stack is. */
static bool enter(struct eval *e, const struct node *n) {
    e->line = n->line;
    if (!e->rc && ++e->steps > CHAT_STEPS_MAX)
        eval_too_much(e, "it takes more than a million steps");
    if (!e->rc && e->depth >= EVAL_EXPRESSION_DEPTH)
        eval_too_much(e, "expressions or calls are nested too deeply");
    if (e->rc)
        return false;
    e->depth++;
    return true;
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

static struct chat_value *eval_items(struct eval *e, const struct node *n) {
    struct chat_value *list = eval_list(e, n->n_items, false);
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
    eval_room(e, EVAL_VALUE_BYTES + n->n_items * 2 * EVAL_ITEM_BYTES);
    for (size_t i = 0; i + 1 < n->n_items && dict && !e->rc; i += 2) {
        struct chat_value *key = eval_expression(e, n->items[i]);
        struct chat_value *item = key ? eval_expression(e, n->items[i + 1]) : NULL;
        if (item)
            eval_put(e, dict, key, item);
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
    args_free(&args);
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
        return eval_items(e, n);
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

/* One value to several names. */
static void unpack(struct eval *e, const struct node *n, struct chat_value *v) {
    if (n->n_items == 1) {
        eval_assign(e, n->items[0], chat_value_ref(v));
        return;
    }
    if (v->kind != V_LIST || v->list.n != n->n_items) {
        eval_fail(e, "%zu names, but not as many values", n->n_items);
        return;
    }
    for (size_t i = 0; i < n->n_items && !e->rc; i++)
        eval_assign(e, n->items[i], chat_value_ref(v->list.items[i]));
}

/* Only the items that pass the loop's own condition: loop.length counts those. */
static struct chat_value *filter_items(struct eval *e, const struct node *n,
                                       struct chat_value *list) {
    struct chat_value *kept = eval_list(e, list->list.n, false);
    for (size_t i = 0; i < list->list.n && kept && !e->rc; i++) {
        struct scope scope;
        struct chat_value *truth = NULL;
        if (!scope_push(e, &scope))
            break;
        unpack(e, n, list->list.items[i]);
        if (!e->rc)
            truth = eval_expression(e, n->d);
        if (truth && value_true(truth))
            kept = chat_append(kept, chat_value_ref(list->list.items[i]));
        chat_value_unref(truth);
        scope_pop(e, &scope);
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
        if (!scope_push(e, &scope))
            break;
        eval_assign(e, &loop_name, loop_value(e, list, i));
        unpack(e, n, list->list.items[i]);
        eval_body(e, n->b);
        scope_pop(e, &scope);
        const bool ends = e->jump == JUMP_BREAK;
        e->jump = JUMP_NONE;
        if (ends)
            break;
    }
    chat_value_unref(list);
}

/* The text of a block, through its filters when it has some. */
static struct chat_value *filtered_block(struct eval *e, const struct node *n) {
    struct chat_value *outer = e->hole, *text = eval_capture(e, n->b), *result;
    if (!text || !n->a)
        return text;
    e->hole = text;
    result = eval_expression(e, n->a);
    e->hole = outer;
    chat_value_unref(text);
    return result;
}

static void print_value(struct eval *e, struct chat_value *v) {
    if (v)
        text_print(e, e->out, v, false, 0);
    chat_value_unref(v);
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
        eval_assign(e, n->items[0], filtered_block(e, n));
        break;
    case N_MACRO:
        eval_assign(e, n, eval_macro(e, n));
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
