/* SPDX-License-Identifier: Apache-2.0 */
/* filters.c - "value | name(arguments)": a sorted table. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/filters.h"

/* The text a value prints as. */
static struct chat_value *as_string(struct eval *e, struct chat_value *v) {
    struct text t = {0};
    if (v->kind == V_STRING)
        return chat_value_ref(v);
    text_print(e, &t, v, false, 0);
    return text_value(e, &t);
}

static struct chat_value *by_method(struct eval *e, struct chat_value *v, const char *name,
                                    const struct args *args) {
    struct chat_value *s = as_string(e, v), *result = s ? method_apply(e, s, name, args) : NULL;
    chat_value_unref(s);
    return result;
}

#define METHOD_FILTER(filter_name, method)                                                         \
    static struct chat_value *filter_name(struct eval *e, struct chat_value *v,                    \
                                          const struct args *args) {                               \
        return by_method(e, v, method, args);                                                      \
    }
METHOD_FILTER(f_capitalize, "capitalize")
METHOD_FILTER(f_lower, "lower")
METHOD_FILTER(f_replace, "replace")
METHOD_FILTER(f_title, "title")
METHOD_FILTER(f_trim, "strip")
METHOD_FILTER(f_upper, "upper")

static struct chat_value *f_default(struct eval *e, struct chat_value *v, const struct args *args) {
    struct chat_value *otherwise = args_get(args, 0, "default_value");
    if (v->kind != V_UNDEFINED && !(true_arg(args, 1, "boolean") && !value_true(v)))
        return chat_value_ref(v);
    return otherwise ? chat_value_ref(otherwise) : eval_made(e, value_text(""));
}

static struct chat_value *f_escape(struct eval *e, struct chat_value *v, const struct args *args) {
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    static const char plain[] = "&<>\"'";
    struct chat_value *s = as_string(e, v);
    struct text t = {0};
    (void)args;
    for (size_t i = 0; s && i < s->string.n; i++) {
        const char *known = s->string.bytes[i] ? strchr(plain, s->string.bytes[i]) : NULL;
        if (known)
            text_add(e, &t, names[known - plain], strlen(names[known - plain]));
        else
            text_add(e, &t, &s->string.bytes[i], 1);
    }
    chat_value_unref(s);
    return text_value(e, &t);
}

/* Indent all lines but the first by `width` (or a text). */
static struct chat_value *f_indent(struct eval *e, struct chat_value *v, const struct args *args) {
    const char *with = text_arg(args, 0, "width");
    const int64_t width = int_arg(args, 0, "width", 4);
    struct chat_value *s = as_string(e, v);
    struct text t = {0};
    bool begin = true_arg(args, 1, "first");
    const bool blank = true_arg(args, 2, "blank");
    if (width > 1000)
        eval_fail(e, "indent by more than 1000");
    for (size_t i = 0; s && i < s->string.n && !e->rc; i++) {
        const char c = s->string.bytes[i];
        if (begin && (c != '\n' || blank)) {
            for (int64_t k = 0; !with && k < width; k++)
                text_add(e, &t, " ", 1);
            if (with)
                text_add(e, &t, with, strlen(with));
        }
        text_add(e, &t, &c, 1);
        begin = c == '\n';
    }
    chat_value_unref(s);
    return text_value(e, &t);
}

static struct chat_value *f_length(struct eval *e, struct chat_value *v, const struct args *args) {
    size_t n = 0;
    (void)args;
    if (v->kind == V_DICT || v->kind == V_LIST)
        n = v->kind == V_DICT ? v->dict.n : v->list.n;
    else if (v->kind == V_STRING && eval_work_text(e, v->string.n))
        n = text_characters(v->string.bytes, v->string.n);
    else if (v->kind != V_UNDEFINED)
        return eval_fail(e, "%s has no length", value_type_name(v));
    return eval_made(e, chat_int((int64_t)n));
}

static struct chat_value *f_same(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)e;
    (void)args;
    return chat_value_ref(v);
}

static struct chat_value *f_string(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    return as_string(e, v);
}

/* As json.dumps takes them; the one that may come without a name is the indent. */
static struct chat_value *f_tojson(struct eval *e, struct chat_value *v, const struct args *args) {
    struct text t = {0};
    const int64_t indent = int_arg(args, SIZE_MAX, "indent", int_arg(args, 0, NULL, -1));
    const struct chat_value *separators = args_get(args, SIZE_MAX, "separators");
    struct json_style style = {(int)indent, indent < 0 ? ", " : ",", ": ",
                               true_arg(args, SIZE_MAX, "ensure_ascii")};
    if (indent > 100)
        return eval_fail(e, "tojson: an indent of more than 100");
    if (true_arg(args, SIZE_MAX, "sort_keys"))
        return eval_fail(e, "tojson: sort_keys is not supported");
    if (separators && separators->kind != V_NONE) {
        if (separators->kind != V_LIST || separators->list.n != 2 ||
            separators->list.items[0]->kind != V_STRING ||
            separators->list.items[1]->kind != V_STRING)
            return eval_fail(e, "tojson: separators are two strings");
        style.item = separators->list.items[0]->string.bytes;
        style.key = separators->list.items[1]->string.bytes;
    }
    text_json(e, &t, v, &style, 0);
    return text_value(e, &t);
}

static struct chat_value *f_wordcount(struct eval *e, struct chat_value *v,
                                      const struct args *args) {
    struct chat_value *s = as_string(e, v);
    int64_t n = 0;
    (void)args;
    if (s)
        eval_work_text(e, s->string.n);
    for (size_t i = 0; s && i < s->string.n; i++)
        n += !isspace((unsigned char)s->string.bytes[i]) &&
             (i == 0 || isspace((unsigned char)s->string.bytes[i - 1]));
    chat_value_unref(s);
    return eval_made(e, chat_int(n));
}

static const struct {
    const char *name;
    filter apply;
    const char *params; /* of args_fit() */
} filters[] = {
    {"abs", f_abs, ""},
    {"batch", f_batch, "linecount fill_with"},
    {"capitalize", f_capitalize, ""},
    {"count", f_length, ""},
    {"d", f_default, "default_value boolean"},
    {"default", f_default, "default_value boolean"},
    {"dictsort", f_dictsort, "case_sensitive by reverse"},
    {"e", f_escape, ""},
    {"escape", f_escape, ""},
    {"first", f_first, ""},
    {"float", f_float, "default"},
    {"forceescape", f_escape, ""},
    {"groupby", f_groupby, "attribute default case_sensitive"},
    {"indent", f_indent, "width first blank"},
    {"int", f_int, "default base"},
    {"items", f_items, ""},
    {"join", f_join, "d attribute"},
    {"last", f_last, ""},
    {"length", f_length, ""},
    {"list", f_list, ""},
    {"lower", f_lower, ""},
    {"map", f_map, "**"},
    {"max", f_max, "case_sensitive attribute"},
    {"min", f_min, "case_sensitive attribute"},
    {"reject", f_reject, "**"},
    {"rejectattr", f_rejectattr, "**"},
    {"replace", f_replace, "old new count"},
    {"reverse", f_reverse, ""},
    {"round", f_round, "precision method"},
    {"safe", f_same, ""},
    {"select", f_select, "**"},
    {"selectattr", f_selectattr, "**"},
    {"sort", f_sort, "reverse case_sensitive attribute"},
    {"string", f_string, ""},
    {"sum", f_sum, "attribute start"},
    {"title", f_title, ""},
    {"tojson", f_tojson, "indent ensure_ascii separators sort_keys"},
    {"trim", f_trim, "chars"},
    {"unique", f_unique, "case_sensitive attribute"},
    {"upper", f_upper, ""},
    {"wordcount", f_wordcount, ""},
};

struct chat_value *filter_apply(struct eval *e, const char *name, struct chat_value *subject,
                                const struct args *args) {
    size_t low = 0, high = sizeof filters / sizeof *filters;
    while (low < high) {
        const size_t i = (low + high) / 2;
        const int c = strcmp(name, filters[i].name);
        if (c == 0)
            return args_fit(e, name, args, filters[i].params) ? filters[i].apply(e, subject, args)
                                                              : NULL;
        if (c < 0)
            high = i;
        else
            low = i + 1;
    }
    return eval_fail(e, "filter '%.40s' is not known", name);
}
