/* SPDX-License-Identifier: Apache-2.0 */
/* lexer.h - inside chat: a template's source as tokens.
 *
 * Whitespace is treated as chat templates are rendered everywhere: trim_blocks (the newline behind
 * a block tag or comment goes) and lstrip_blocks (blanks in front of one that begins a line go). */
#ifndef OCTARC_MODELS_CHAT_LEXER_H
#define OCTARC_MODELS_CHAT_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum lexeme_kind {
    L_TEXT,         /* bytes outside tags */
    L_OUTPUT_BEGIN, /* {{ */
    L_OUTPUT_END,
    L_BLOCK_BEGIN, /* {% */
    L_BLOCK_END,
    L_NAME,
    L_STRING, /* value in text, escapes resolved */
    L_INT,
    L_FLOAT,
    L_PUNCT, /* one of the operators, in text */
    L_END,
};

struct lexeme {
    enum lexeme_kind kind;
    int line;
    const char *at; /* into the source, or into the lexer's own text for strings */
    size_t n;
    int64_t integer;
    double real;
};

struct lexer {
    const char *source;
    size_t n, at;
    int line;
    int inside;        /* 0: text, 1: {{ }}, 2: {% %} */
    int depth;         /* of open brackets inside a tag */
    bool trim_next;    /* "-" at the end of the last tag */
    bool drop_newline; /* a block tag or comment ended just now */
    char *strings;     /* owned: resolved string literals; as long as the source */
    size_t strings_at;
    struct err *err;
};

int lexer_init(struct lexer *lexer, const char *source, size_t n, struct err *err);
void lexer_finish(struct lexer *lexer);
/* The next lexeme; -EINVAL with the line in err. */
int lexer_next(struct lexer *lexer, struct lexeme *out);

#endif
