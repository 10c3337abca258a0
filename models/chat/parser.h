/* SPDX-License-Identifier: Apache-2.0 */
/* parser.h - inside chat: the state of parsing, shared by statements and expressions.
 *
 * After the first failure (rc) every function returns at once, so callers check at the end. */
#ifndef OCTARC_MODELS_CHAT_PARSER_H
#define OCTARC_MODELS_CHAT_PARSER_H

#include <stdio.h>

#include "models/chat/ast.h"
#include "models/chat/chat.h"
#include "models/chat/lexer.h"

struct parser {
    struct lexer lexer;
    struct lexeme now;
    struct node *all;
    int rc, depth, loops;
    bool names_caller;                    /* since it was last set to false */
    const char *ends[CHAT_DEPTH_MAX + 2]; /* the tags that end the bodies being parsed */
    int n_ends;
};

int parser_next(struct parser *p);
struct node *parser_fail(struct parser *p, const char *what); /* NULL */
struct node *parser_node(struct parser *p, enum node_kind kind);
int parser_add(struct parser *p, struct node *to, struct node *item);
char *parser_name(struct parser *p); /* the caller's */
bool parser_is(const struct parser *p, enum lexeme_kind kind, const char *text);
bool parser_take(struct parser *p, enum lexeme_kind kind, const char *text);
void parser_need(struct parser *p, const char *punct);
/* One level deeper; false beyond CHAT_DEPTH_MAX. */
bool parser_enter(struct parser *p);
void parser_leave(struct parser *p);

struct node *parse_expression(struct parser *p);
struct node *parse_or(struct parser *p);    /* without "x if y" */
struct node *parse_tuple(struct parser *p); /* "a, b" too */
/* "| name(args) | …" behind a value; `begun`: the first bar is taken already, or not written. */
struct node *parse_filters(struct parser *p, struct node *value, bool begun);

#endif
