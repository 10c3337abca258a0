/* SPDX-License-Identifier: Apache-2.0 */
/* parser.c - statements of a template.  Expressions are in expression.c. */
#include "models/chat/parser.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/chat.h"
#include "octarc/error.h"

int parser_next(struct parser *p) {
    if (!p->rc)
        p->rc = lexer_next(&p->lexer, &p->now);
    if (p->rc)
        p->now = (struct lexeme){.kind = L_END, .line = p->lexer.line};
    return p->rc;
}

struct node *parser_fail(struct parser *p, const char *what) {
    if (!p->rc)
        p->rc = err_set(p->lexer.err, -EINVAL, "chat template, line %d: %s", p->now.line, what);
    return NULL;
}

struct node *parser_node(struct parser *p, enum node_kind kind) {
    struct node *n = p->rc ? NULL : calloc(1, sizeof *n);
    if (!n) {
        if (!p->rc)
            p->rc = -ENOMEM;
        return NULL;
    }
    n->kind = kind;
    n->line = p->now.line;
    n->next = p->all;
    p->all = n;
    return n;
}

int parser_add(struct parser *p, struct node *to, struct node *item) {
    if (p->rc || !to || !item)
        return -EINVAL;
    if ((to->n_items & (to->n_items - 1)) == 0) {
        struct node **items =
            realloc(to->items, (to->n_items ? 2 * to->n_items : 1) * sizeof *items);
        if (!items)
            return p->rc = -ENOMEM;
        to->items = items;
    }
    to->items[to->n_items++] = item;
    return 0;
}

char *parser_name(struct parser *p) {
    char *name = NULL;
    if (p->rc)
        return NULL;
    if (p->now.kind != L_NAME) {
        parser_fail(p, "a name is expected");
        return NULL;
    }
    name = strndup(p->now.at, p->now.n);
    if (!name)
        p->rc = -ENOMEM;
    else
        parser_next(p);
    return name;
}

bool parser_is(const struct parser *p, enum lexeme_kind kind, const char *text) {
    return !p->rc && p->now.kind == kind && p->now.n == strlen(text) &&
           !memcmp(p->now.at, text, p->now.n);
}

bool parser_take(struct parser *p, enum lexeme_kind kind, const char *text) {
    if (!parser_is(p, kind, text))
        return false;
    parser_next(p);
    return true;
}

void parser_need(struct parser *p, const char *punct) {
    char what[64];
    if (parser_take(p, L_PUNCT, punct))
        return;
    snprintf(what, sizeof what, "'%s' is expected", punct);
    parser_fail(p, what);
}

bool parser_enter(struct parser *p) {
    if (++p->depth > CHAT_DEPTH_MAX)
        parser_fail(p, "nested too deeply");
    return !p->rc;
}

void parser_leave(struct parser *p) {
    p->depth--;
}

static void end_block(struct parser *p) {
    if (!p->rc && p->now.kind != L_BLOCK_END)
        parser_fail(p, "the end of the tag is expected");
    else
        parser_next(p);
}

static struct node *parse_statement(struct parser *p, bool *stop);

/* Statements up to a block tag that begins with one of `ends` (a list with commas around each); the
 * tag's name is the current lexeme then.  At the end of the source when ends is NULL. */
static struct node *parse_body(struct parser *p, const char *ends) {
    struct node *body = parser_node(p, N_BODY);
    if (!parser_enter(p))
        return NULL;
    p->ends[p->n_ends++] = ends;
    while (!p->rc) {
        bool stop = false;
        struct node *statement = parse_statement(p, &stop);
        if (stop)
            break;
        if (statement)
            parser_add(p, body, statement);
    }
    p->n_ends--;
    parser_leave(p);
    return p->rc ? NULL : body;
}

static bool in_list(const char *list, const struct lexeme *l) {
    char word[32];
    if (!list || l->kind != L_NAME || l->n > sizeof word - 3)
        return false;
    snprintf(word, sizeof word, ",%.*s,", (int)l->n, l->at);
    return strstr(list, word) != NULL;
}

static struct node *parse_if(struct parser *p) {
    struct node *n = parser_node(p, N_IF);
    if (!n || !parser_enter(p))
        return NULL;
    n->a = parse_expression(p);
    end_block(p);
    n->b = parse_body(p, ",elif,else,endif,");
    if (parser_take(p, L_NAME, "elif")) {
        n->c = parse_if(p); /* it takes the endif with it */
    } else {
        if (parser_take(p, L_NAME, "else")) {
            end_block(p);
            n->c = parse_body(p, ",endif,");
        }
        if (parser_take(p, L_NAME, "endif"))
            end_block(p);
        else
            parser_fail(p, "endif is expected");
    }
    parser_leave(p);
    return n;
}

/* Names, or name.attribute, separated by commas. */
static void parse_targets(struct parser *p, struct node *n) {
    const bool paren = parser_take(p, L_PUNCT, "(");
    do {
        struct node *target = parser_node(p, N_NAME);
        if (!target)
            return;
        target->name = parser_name(p);
        if (parser_take(p, L_PUNCT, ".")) {
            struct node *attribute = parser_node(p, N_ATTR);
            if (!attribute)
                return;
            attribute->a = target;
            attribute->name = parser_name(p);
            target = attribute;
        }
        parser_add(p, n, target);
    } while (parser_take(p, L_PUNCT, ","));
    if (paren)
        parser_need(p, ")");
}

static struct node *parse_for(struct parser *p) {
    struct node *n = parser_node(p, N_FOR);
    if (!n)
        return NULL;
    parse_targets(p, n);
    if (!parser_take(p, L_NAME, "in"))
        return parser_fail(p, "in is expected");
    n->a = parse_or(p); /* no inline if: the loop's own filter follows */
    if (parser_take(p, L_NAME, "if"))
        n->d = parse_expression(p);
    if (parser_is(p, L_NAME, "recursive"))
        return parser_fail(p, "recursive loops are not supported");
    end_block(p);
    p->loops++;
    n->b = parse_body(p, ",else,endfor,");
    p->loops--;
    if (parser_take(p, L_NAME, "else")) {
        end_block(p);
        n->c = parse_body(p, ",endfor,");
    }
    if (!parser_take(p, L_NAME, "endfor"))
        return parser_fail(p, "endfor is expected");
    end_block(p);
    return n;
}

/* A filter chain that begins at the text of a block. */
static struct node *parse_block_filters(struct parser *p) {
    struct node *hole = parser_node(p, N_HOLE);
    return parse_filters(p, hole, true);
}

static struct node *parse_set(struct parser *p) {
    struct node *n = parser_node(p, N_SET);
    if (!n)
        return NULL;
    parse_targets(p, n);
    if (parser_take(p, L_PUNCT, "=")) {
        n->a = parse_tuple(p);
        end_block(p);
        return n;
    }
    n->kind = N_SET_BLOCK;
    if (parser_take(p, L_PUNCT, "|"))
        n->a = parse_block_filters(p);
    end_block(p);
    n->b = parse_body(p, ",endset,");
    if (!parser_take(p, L_NAME, "endset"))
        return parser_fail(p, "endset is expected");
    end_block(p);
    return n;
}

/* "(a, b=1)" of a macro or call block. */
static void parse_params(struct parser *p, struct node *n) {
    if (!parser_take(p, L_PUNCT, "("))
        return;
    while (!p->rc && !parser_is(p, L_PUNCT, ")")) {
        struct param *params = realloc(n->params, (n->n_params + 1) * sizeof *params);
        if (!params) {
            p->rc = -ENOMEM;
            return;
        }
        n->params = params;
        n->params[n->n_params] = (struct param){0};
        n->params[n->n_params++].name = parser_name(p);
        if (parser_take(p, L_PUNCT, "="))
            n->params[n->n_params - 1].value = parse_expression(p);
        if (!parser_take(p, L_PUNCT, ","))
            break;
    }
    parser_need(p, ")");
}

/* The body of a macro is none of the loops around it. */
static void parse_macro_body(struct parser *p, struct node *n, const char *end) {
    const int loops = p->loops;
    const bool names_caller = p->names_caller;
    p->loops = 0;
    p->names_caller = false;
    n->b = parse_body(p, end);
    n->uses_caller = p->names_caller;
    p->loops = loops;
    p->names_caller |= names_caller;
}

static struct node *parse_macro(struct parser *p) {
    struct node *n = parser_node(p, N_MACRO);
    if (!n)
        return NULL;
    n->name = parser_name(p);
    parse_params(p, n);
    end_block(p);
    parse_macro_body(p, n, ",endmacro,");
    if (!parser_take(p, L_NAME, "endmacro"))
        return parser_fail(p, "endmacro is expected");
    end_block(p);
    return n;
}

static struct node *parse_call_block(struct parser *p) {
    struct node *n = parser_node(p, N_CALL_BLOCK);
    if (!n)
        return NULL;
    n->name = strdup("caller");
    parse_params(p, n);
    n->a = parse_expression(p);
    if (n->a && n->a->kind != N_CALL)
        return parser_fail(p, "a call is expected");
    end_block(p);
    parse_macro_body(p, n, ",endcall,");
    if (!parser_take(p, L_NAME, "endcall"))
        return parser_fail(p, "endcall is expected");
    end_block(p);
    return n;
}

static struct node *parse_filter_block(struct parser *p) {
    struct node *n = parser_node(p, N_FILTER_BLOCK);
    if (!n)
        return NULL;
    n->a = parse_block_filters(p);
    end_block(p);
    n->b = parse_body(p, ",endfilter,");
    if (!parser_take(p, L_NAME, "endfilter"))
        return parser_fail(p, "endfilter is expected");
    end_block(p);
    return n;
}

/* {% generation %}: marks what the model said, for training; its content is rendered as it is. */
static struct node *parse_generation(struct parser *p) {
    end_block(p);
    struct node *body = parse_body(p, ",endgeneration,");
    if (!parser_take(p, L_NAME, "endgeneration"))
        return parser_fail(p, "endgeneration is expected");
    end_block(p);
    return body;
}

static struct node *parse_jump(struct parser *p, enum node_kind kind) {
    if (p->loops == 0)
        return parser_fail(p, "break and continue belong into a loop");
    struct node *n = parser_node(p, kind);
    end_block(p);
    return n;
}

static struct node *parse_block(struct parser *p) {
    if (parser_take(p, L_NAME, "if"))
        return parse_if(p);
    if (parser_take(p, L_NAME, "for"))
        return parse_for(p);
    if (parser_take(p, L_NAME, "set"))
        return parse_set(p);
    if (parser_take(p, L_NAME, "macro"))
        return parse_macro(p);
    if (parser_take(p, L_NAME, "call"))
        return parse_call_block(p);
    if (parser_take(p, L_NAME, "filter"))
        return parse_filter_block(p);
    if (parser_take(p, L_NAME, "generation"))
        return parse_generation(p);
    if (parser_take(p, L_NAME, "break"))
        return parse_jump(p, N_BREAK);
    if (parser_take(p, L_NAME, "continue"))
        return parse_jump(p, N_CONTINUE);
    return parser_fail(p, "a tag that is not known here");
}

static struct node *parse_statement(struct parser *p, bool *stop) {
    struct node *n;
    switch (p->now.kind) {
    case L_TEXT:
        n = parser_node(p, N_TEXT);
        if (n && !(n->constant = chat_string(p->now.at, p->now.n)))
            p->rc = -ENOMEM;
        parser_next(p);
        return n;
    case L_OUTPUT_BEGIN:
        n = parser_node(p, N_OUTPUT);
        parser_next(p);
        if (n)
            n->a = parse_tuple(p);
        if (!p->rc && p->now.kind != L_OUTPUT_END)
            return parser_fail(p, "'}}' is expected");
        parser_next(p);
        return n;
    case L_BLOCK_BEGIN:
        parser_next(p);
        if (in_list(p->ends[p->n_ends - 1], &p->now)) {
            *stop = true;
            return NULL;
        }
        return parse_block(p);
    case L_END:
        if (p->ends[p->n_ends - 1])
            parser_fail(p, "the template ends inside a block");
        *stop = true;
        return NULL;
    default:
        return parser_fail(p, "unexpected");
    }
}

int template_parse(struct chat_template *tmpl, const char *source, size_t n, struct err *err) {
    struct parser p = {0};
    p.rc = lexer_init(&p.lexer, source, n, err);
    parser_next(&p);
    struct node *root = p.rc ? NULL : parse_body(&p, NULL);
    lexer_finish(&p.lexer);
    if (p.rc) {
        template_free_nodes(p.all);
        return p.rc == -ENOMEM ? err_set(err, p.rc, "no memory for the chat template") : p.rc;
    }
    tmpl->root = root;
    tmpl->all = p.all;
    return 0;
}

void template_free_nodes(struct node *all) {
    while (all) {
        struct node *next = all->next;
        for (size_t i = 0; i < all->n_params; i++)
            free(all->params[i].name);
        chat_value_unref(all->constant);
        free(all->name);
        free(all->items);
        free(all->ops);
        free(all->params);
        free(all);
        all = next;
    }
}
