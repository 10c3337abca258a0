/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - names and their scopes, arguments, and what happens when something is called. */
#include <errno.h>
#include <string.h>

#include "models/chat/chat.h"
#include "models/chat/eval.h"

/* ---- names ---------------------------------------------------------------------------------- */

struct chat_value *look_up(struct eval *e, const char *name) {
    const size_t n = strlen(name);
    for (const struct scope *s = e->scope; s && eval_work(e, 1); s = s->outer) {
        struct chat_value *v = dict_get(s->names, name, n, &e->work);
        if (v)
            return chat_value_ref(v);
    }
    if (!eval_work(e, 1))
        return NULL;
    struct chat_value *v = dict_get(e->globals, name, n, &e->work);
    if (v)
        return chat_value_ref(v);
    v = function_find(e, name);
    return v ? v : eval_made(e, value_undefined(name));
}

void eval_put(struct eval *e, struct chat_value *dict, struct chat_value *key,
              struct chat_value *item) {
    const int rc = dict_put(dict, key, item, &e->work);
    if (rc && !e->rc)
        e->rc = rc;
    eval_work(e, 0);
}

/* What a dict holds, into another one, which may be part of it. */
void eval_put_all(struct eval *e, struct chat_value *dict, const struct chat_value *from) {
    for (size_t i = 0; dict != from && i < from->dict.n && !e->rc; i++) {
        const struct entry *entry = &from->dict.entries[i];
        const bool inside = value_holds(entry->item, dict, &e->work);
        if (!eval_room(e, 3 * EVAL_ITEM_BYTES) || !eval_work(e, 1))
            return;
        if (inside)
            eval_fail(e, "a dict cannot hold itself");
        else
            eval_put(e, dict, entry->key, chat_value_ref(entry->item));
    }
}

/* Takes over the value. */
void eval_assign(struct eval *e, const struct node *target, struct chat_value *v) {
    struct chat_value *key = NULL, *object = e->scope->names;
    if (!v)
        return;
    if (target->kind == N_ATTR) {
        object = look_up(e, target->a->name);
        if (object && (object->kind != V_DICT || !object->is_namespace)) {
            eval_fail(e, "only the attributes of a namespace can be set");
            chat_value_unref(object);
            object = NULL;
        } else if (object && value_holds(v, object, &e->work)) {
            if (eval_work(e, 0))
                eval_fail(e, "a namespace cannot hold itself");
        }
        chat_value_unref(object); /* the scope keeps it */
    }
    key = object ? eval_made(e, value_text(target->name)) : NULL;
    if (key && !e->rc)
        eval_put(e, object, key, v);
    else
        chat_value_unref(v);
    chat_value_unref(key);
}

bool scope_push(struct eval *e, struct scope *s) {
    s->names = eval_made(e, chat_dict());
    s->outer = e->scope;
    s->earlier = e->latest;
    s->id = ++e->n_scopes;
    if (s->names)
        e->latest = e->scope = s;
    return s->names != NULL;
}

void scope_pop(struct eval *e, struct scope *s) {
    e->scope = s->outer;
    e->latest = s->earlier;
    chat_value_unref(s->names);
}

/* ---- arguments ------------------------------------------------------------------------------ */

struct chat_value *args_get(const struct args *args, size_t i, const char *name) {
    size_t position = 0;
    for (size_t k = 0; k < args->n; k++) {
        if (args->names[k] ? name && !strcmp(args->names[k], name) : position++ == i)
            return args->at[k];
    }
    return NULL;
}

void args_free(struct args *args) {
    for (size_t i = 0; i < args->n; i++)
        chat_value_unref(args->at[i]);
    args->n = 0;
}

bool eval_args(struct eval *e, const struct node *n, struct args *args) {
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

static size_t count_positional(const struct args *args) {
    size_t n = 0;
    for (size_t i = 0; i < args->n; i++)
        n += !args->names[i];
    return n;
}

static bool wrong_argument(struct eval *e, const char *callee, const char *name, bool twice) {
    eval_fail(
        e, twice ? "%.40s: the argument '%.40s' is given twice" : "%.40s takes no argument '%.40s'",
        callee, name);
    return false;
}

bool args_fit(struct eval *e, const char *callee, const struct args *args, const char *params) {
    const size_t given = count_positional(args), all = strlen(params);
    const bool any_name = all > 1 && !strcmp(params + all - 2, "**");
    const bool any_number = all > 0 && params[all - 1] == '*';
    size_t n_params = 0;
    for (const char *p = params; *p && *p != '*'; n_params++) {
        const size_t n = strcspn(p, " ");
        for (size_t i = 0; i < args->n; i++) {
            const char *name = args->names[i];
            if (name && *p != '_' && strlen(name) == n && !memcmp(name, p, n) && n_params < given)
                return wrong_argument(e, callee, name, true);
        }
        p += n + (p[n] == ' ');
    }
    if (given > n_params && !any_number) {
        eval_fail(e, "%.40s takes at most %zu arguments", callee, n_params);
        return false;
    }
    for (size_t i = 0; i < args->n && !any_name; i++) {
        const char *name = args->names[i];
        const char *p = params;
        const size_t n = name ? strlen(name) : 0;
        while (name && *p && *p != '*') {
            const size_t word = strcspn(p, " ");
            if (*p != '_' && word == n && !memcmp(p, name, n))
                break;
            p += word + (p[word] == ' ');
        }
        if (name && (!*p || *p == '*'))
            return wrong_argument(e, callee, name, false);
    }
    return true;
}

/* ---- macros --------------------------------------------------------------------------------- */

/* Render a body to a string. */
struct chat_value *eval_capture(struct eval *e, const struct node *body) {
    struct text t = {0}, *out = e->out;
    e->out = &t;
    eval_body(e, body);
    e->out = out;
    return text_value(e, &t);
}

struct chat_value *eval_macro(struct eval *e, const struct node *n) {
    struct chat_value *v = eval_made(e, value_new(V_MACRO));
    if (v) {
        v->ref.macro = n;
        v->ref.scope = e->scope->id;
    }
    return v;
}

static bool macro_args_fit(struct eval *e, const struct node *macro, const struct args *args) {
    const size_t given = count_positional(args);
    if (given > macro->n_params) {
        eval_fail(e, "macro %.40s takes at most %zu arguments", macro->name, macro->n_params);
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        const char *name = args->names[i];
        size_t k = 0;
        while (name && k < macro->n_params && strcmp(macro->params[k].name, name))
            k++;
        if (name && k < given)
            return wrong_argument(e, macro->name, name, true);
        if (name && k == macro->n_params && !(macro->uses_caller && !strcmp(name, "caller")))
            return wrong_argument(e, macro->name, name, false);
    }
    return eval_work(e, args->n * macro->n_params);
}

static void give_args(struct eval *e, const struct node *macro, const struct args *args) {
    const struct node caller_name = {.kind = N_NAME, .name = (char[]){"caller"}};
    for (size_t i = 0; i < macro->n_params && !e->rc; i++) {
        struct chat_value *v = args_get(args, i, macro->params[i].name);
        v = v                        ? chat_value_ref(v)
            : macro->params[i].value ? eval_expression(e, macro->params[i].value)
                                     : eval_made(e, value_undefined(macro->params[i].name));
        const struct node target = {.kind = N_NAME, .name = macro->params[i].name};
        eval_assign(e, &target, v);
    }
    struct chat_value *caller = args_get(args, SIZE_MAX, "caller");
    /* Without one it is not the caller of a macro around this one either. */
    if (macro->uses_caller && !e->rc)
        eval_assign(e, &caller_name,
                    caller ? chat_value_ref(caller) : eval_made(e, value_undefined("caller")));
}

/* A macro sees its arguments and the names around where it was made, not those of its caller.  It
 * does not keep those names alive: a value that holds what holds it would never be freed. */
static struct chat_value *call_macro(struct eval *e, const struct chat_value *callee,
                                     const struct args *args) {
    const struct node *macro = callee->ref.macro;
    struct scope scope, *outer = e->scope, *around = e->latest;
    struct chat_value *result = NULL;
    if (!macro_args_fit(e, macro, args))
        return NULL;
    while (around && around->id != callee->ref.scope && eval_work(e, 1))
        around = around->earlier;
    if (!around)
        return eval_fail(e, "macro %.40s is called where the names around it are gone",
                         macro->name);
    if (++e->block_depth > CHAT_DEPTH_MAX)
        return eval_too_much(e, "macros call each other too deeply");
    e->scope = around;
    if (scope_push(e, &scope)) {
        give_args(e, macro, args);
        result = eval_capture(e, macro->b);
        scope_pop(e, &scope);
    }
    e->scope = outer;
    e->block_depth--;
    return result;
}

struct chat_value *eval_call(struct eval *e, const struct chat_value *callee,
                             const struct args *args) {
    if (callee->kind == V_MACRO)
        return call_macro(e, callee, args);
    if (callee->kind == V_BUILTIN)
        return function_call(e, callee->ref.name, args);
    return eval_fail(e, "%s%s%.40s cannot be called", value_type_name(callee),
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
        struct chat_value *own = subject->kind == V_DICT
                                     ? dict_get(subject, n->a->name, strlen(n->a->name), &e->work)
                                     : NULL;
        if (own && (own->kind == V_MACRO || own->kind == V_BUILTIN)) {
            chat_value_ref(own); /* the macro may change the dict */
            result = eval_call(e, own, args);
            chat_value_unref(own);
        } else {
            result = method_call(e, subject, n->a->name, args);
        }
        chat_value_unref(subject);
        return result;
    }
    callee = eval_expression(e, n->a);
    if (callee)
        result = eval_call(e, callee, args);
    chat_value_unref(callee);
    return result;
}

struct chat_value *eval_call_node(struct eval *e, const struct node *n) {
    struct args args;
    struct chat_value *result = NULL;
    if (eval_args(e, n, &args))
        result = call_with(e, n, &args);
    args_free(&args);
    return result;
}

/* A call whose macro gets the block as one more macro, named caller. */
void eval_call_block(struct eval *e, const struct node *n) {
    struct args args;
    if (eval_args(e, n->a, &args) && args.n == EVAL_ARGS_MAX)
        eval_fail(e, "more than %d arguments, the caller being one", EVAL_ARGS_MAX);
    if (!e->rc) {
        args.names[args.n] = "caller";
        args.at[args.n] = eval_macro(e, n);
        args.n += args.at[args.n] != NULL;
    }
    struct chat_value *v = e->rc ? NULL : call_with(e, n->a, &args);
    if (v)
        text_print(e, e->out, v, false, 0);
    chat_value_unref(v);
    args_free(&args);
}
