/* SPDX-License-Identifier: Apache-2.0 */
#include "models/chat/lexer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"

#define NUMBER_MAX 40

int lexer_init(struct lexer *l, const char *source, size_t n, struct err *err) {
    *l = (struct lexer){.source = source, .n = n, .line = 1, .err = err};
    /* One newline at the very end of a template is no part of its output. */
    if (n && source[n - 1] == '\n')
        l->n--;
    l->strings = malloc(n + 1);
    return l->strings ? 0 : -ENOMEM;
}

void lexer_finish(struct lexer *l) {
    free(l->strings);
    *l = (struct lexer){0};
}

static int fail(struct lexer *l, const char *what) {
    return err_set(l->err, -EINVAL, "chat template, line %d: %s", l->line, what);
}

static bool sees(const struct lexer *l, size_t at, const char *what) {
    const size_t n = strlen(what);
    return at + n <= l->n && !memcmp(l->source + at, what, n);
}

static void advance(struct lexer *l, size_t to) {
    for (; l->at < to; l->at++)
        l->line += l->source[l->at] == '\n';
}

/* Where the next tag begins, or the end. */
static size_t find_tag(const struct lexer *l) {
    for (size_t i = l->at; i + 1 < l->n; i++)
        if (l->source[i] == '{' &&
            (l->source[i + 1] == '{' || l->source[i + 1] == '%' || l->source[i + 1] == '#'))
            return i;
    return l->n;
}

/* The end of the text in front of a tag at `tag`, without what the tag takes away. */
static size_t text_end(const struct lexer *l, size_t tag) {
    size_t end = tag;
    if (tag == l->n)
        return end;
    const char mark = tag + 2 < l->n ? l->source[tag + 2] : 0;
    if (mark == '-') {
        while (end > l->at && isspace((unsigned char)l->source[end - 1]))
            end--;
    } else if (l->source[tag + 1] != '{' && mark != '+') {
        while (end > l->at && (l->source[end - 1] == ' ' || l->source[end - 1] == '\t'))
            end--;
        /* Only where the tag begins its line. */
        if (end > 0 && l->source[end - 1] != '\n')
            end = tag;
    }
    return end;
}

static int skip_comment(struct lexer *l) {
    size_t i = l->at + 2;
    while (i + 1 < l->n && !(l->source[i] == '#' && l->source[i + 1] == '}'))
        i++;
    if (i + 1 >= l->n)
        return fail(l, "a comment is not closed");
    l->trim_next = l->source[i - 1] == '-' && i > l->at + 2;
    advance(l, i + 2);
    l->drop_newline = true;
    return 0;
}

/* Blanks (or one newline) behind the tag that ended. */
static void trim_front(struct lexer *l) {
    size_t i = l->at;
    if (l->trim_next)
        while (i < l->n && isspace((unsigned char)l->source[i]))
            i++;
    else if (l->drop_newline && i < l->n && l->source[i] == '\n')
        i++;
    advance(l, i);
    l->trim_next = l->drop_newline = false;
}

/* {% raw %} … {% endraw %}: its content as text.  1: it was one. */
static int read_raw(struct lexer *l, struct lexeme *out) {
    size_t i = l->at + 2;
    i += i < l->n && (l->source[i] == '-' || l->source[i] == '+');
    while (i < l->n && isspace((unsigned char)l->source[i]))
        i++;
    if (!sees(l, i, "raw"))
        return 0;
    for (i += 3; i < l->n && isspace((unsigned char)l->source[i]);)
        i++;
    const bool trim = i < l->n && l->source[i] == '-';
    i += trim;
    if (!sees(l, i, "%}"))
        return 0;
    i += 2;
    while (trim && i < l->n && isspace((unsigned char)l->source[i]))
        i++;
    if (!trim && i < l->n && l->source[i] == '\n')
        i++;
    for (size_t end = i; end + 1 < l->n; end++) {
        if (!sees(l, end, "{%"))
            continue;
        size_t k = end + 2;
        const bool trim_end = k < l->n && l->source[k] == '-';
        k += trim_end;
        while (k < l->n && isspace((unsigned char)l->source[k]))
            k++;
        if (!sees(l, k, "endraw"))
            continue;
        for (k += 6; k < l->n && isspace((unsigned char)l->source[k]);)
            k++;
        l->trim_next = k < l->n && l->source[k] == '-';
        k += l->trim_next;
        if (!sees(l, k, "%}"))
            continue;
        size_t stop = end;
        while (trim_end && stop > i && isspace((unsigned char)l->source[stop - 1]))
            stop--;
        *out = (struct lexeme){.kind = L_TEXT, .line = l->line, .at = l->source + i, .n = stop - i};
        advance(l, k + 2);
        l->drop_newline = true;
        return 1;
    }
    return fail(l, "raw is not closed by endraw");
}

static int next_outside(struct lexer *l, struct lexeme *out) {
    for (;;) {
        trim_front(l);
        const size_t tag = find_tag(l), end = text_end(l, tag);
        if (end > l->at) {
            *out = (struct lexeme){
                .kind = L_TEXT, .line = l->line, .at = l->source + l->at, .n = end - l->at};
            advance(l, tag);
            return 0;
        }
        advance(l, tag);
        if (tag == l->n) {
            *out = (struct lexeme){.kind = L_END, .line = l->line};
            return 0;
        }
        if (l->source[tag + 1] == '#') {
            const int rc = skip_comment(l);
            if (rc)
                return rc;
            continue;
        }
        if (l->source[tag + 1] == '%') {
            const int rc = read_raw(l, out);
            if (rc)
                return rc < 0 ? rc : 0;
        }
        l->inside = l->source[tag + 1] == '{' ? 1 : 2;
        l->depth = 0;
        *out = (struct lexeme){.kind = l->inside == 1 ? L_OUTPUT_BEGIN : L_BLOCK_BEGIN,
                               .line = l->line};
        l->at += 2;
        if (l->at < l->n && (l->source[l->at] == '-' || l->source[l->at] == '+'))
            l->at++;
        return 0;
    }
}

/* The digits of \xHH or \uHHHH as UTF-8; how many source bytes they took (0: no such escape). */
static size_t read_code_point(const struct lexer *l, size_t i, char *to, size_t *n) {
    const size_t digits = l->source[i] == 'x' ? 2 : l->source[i] == 'u' ? 4 : 0;
    char hex[5] = "";
    if (digits == 0 || i + digits >= l->n)
        return 0;
    memcpy(hex, l->source + i + 1, digits);
    if (strspn(hex, "0123456789abcdefABCDEF") != digits)
        return 0;
    const unsigned c = (unsigned)strtoul(hex, NULL, 16);
    if (c >= 0xd800 && c < 0xe000)
        return 0;
    if (c < 0x80) {
        to[(*n)++] = (char)c;
    } else if (c < 0x800) {
        to[(*n)++] = (char)(0xc0 | c >> 6);
        to[(*n)++] = (char)(0x80 | (c & 63));
    } else {
        to[(*n)++] = (char)(0xe0 | c >> 12);
        to[(*n)++] = (char)(0x80 | (c >> 6 & 63));
        to[(*n)++] = (char)(0x80 | (c & 63));
    }
    return digits;
}

static int read_string(struct lexer *l, struct lexeme *out) {
    const char quote = l->source[l->at];
    char *to = l->strings + l->strings_at;
    size_t i = l->at + 1, n = 0;
    for (; i < l->n && l->source[i] != quote; i++) {
        const char c = l->source[i];
        if (c != '\\' || i + 1 == l->n) {
            to[n++] = c;
            continue;
        }
        const char e = l->source[++i];
        const size_t used = read_code_point(l, i, to, &n);
        if (used) {
            i += used;
            continue;
        }
        if (!strchr("ntr\\'\"", e) || !e)
            to[n++] = '\\'; /* an escape that is none stays as it stands */
        to[n++] = e == 'n' ? '\n' : e == 't' ? '\t' : e == 'r' ? '\r' : e;
    }
    if (i >= l->n)
        return fail(l, "a string is not closed");
    *out = (struct lexeme){.kind = L_STRING, .line = l->line, .at = to, .n = n};
    l->strings_at += n;
    advance(l, i + 1);
    return 0;
}

static int read_number(struct lexer *l, struct lexeme *out) {
    char text[NUMBER_MAX + 1];
    size_t n = 0;
    bool real = false;
    *out = (struct lexeme){.kind = L_INT, .line = l->line};
    for (; l->at < l->n; l->at++) {
        const char c = l->source[l->at];
        const bool dot =
            c == '.' && !real && l->at + 1 < l->n && isdigit((unsigned char)l->source[l->at + 1]);
        const bool exponent =
            (c == 'e' || c == 'E') && l->at + 1 < l->n &&
            (isdigit((unsigned char)l->source[l->at + 1]) || strchr("+-", l->source[l->at + 1]));
        if (c == '_')
            continue;
        if (!isdigit((unsigned char)c) && !dot && !exponent)
            break;
        real |= dot || exponent;
        if (n >= NUMBER_MAX - 1)
            return fail(l, "a number is too long");
        text[n++] = c;
        if (exponent)
            text[n++] = l->source[++l->at];
    }
    text[n] = 0;
    errno = 0;
    if (real) {
        out->kind = L_FLOAT;
        out->real = strtod(text, NULL);
    } else {
        out->integer = strtoll(text, NULL, 10);
    }
    return errno && !real ? fail(l, "an integer is too large") : 0;
}

static int end_tag(struct lexer *l, struct lexeme *out, size_t n) {
    out->kind = l->inside == 1 ? L_OUTPUT_END : L_BLOCK_END;
    out->line = l->line;
    l->trim_next = n == 3 && l->source[l->at] == '-';
    l->drop_newline = l->inside == 2 && l->source[l->at] != '+';
    l->at += n;
    l->inside = 0;
    return 0;
}

static int read_punct(struct lexer *l, struct lexeme *out) {
    static const char *const two[] = {"==", "!=", "<=", ">=", "**", "//"};
    const char c = l->source[l->at];
    size_t n = 1;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (sees(l, l->at, two[i]))
            n = 2;
    if (n == 1 && (c == 0 || !strchr("+-*/%~|()[]{}.,:=<>", c)))
        return fail(l, "a character that no expression has");
    l->depth += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
    *out = (struct lexeme){.kind = L_PUNCT, .line = l->line, .at = l->source + l->at, .n = n};
    l->at += n;
    return 0;
}

static int next_inside(struct lexer *l, struct lexeme *out) {
    const char *close = l->inside == 1 ? "}}" : "%}";
    size_t i = l->at;
    *out = (struct lexeme){.kind = L_END};
    while (i < l->n && isspace((unsigned char)l->source[i]))
        i++;
    advance(l, i);
    if (l->at == l->n)
        return fail(l, "a tag is not closed");
    if (l->depth <= 0) {
        if (sees(l, l->at, close))
            return end_tag(l, out, 2);
        if ((l->source[l->at] == '-' || l->source[l->at] == '+') && sees(l, l->at + 1, close))
            return end_tag(l, out, 3);
    }
    const unsigned char c = (unsigned char)l->source[l->at];
    if (c == '"' || c == '\'')
        return read_string(l, out);
    if (isdigit(c))
        return read_number(l, out);
    if (!isalpha(c) && c != '_')
        return read_punct(l, out);
    const size_t begin = l->at;
    while (l->at < l->n && (isalnum((unsigned char)l->source[l->at]) || l->source[l->at] == '_'))
        l->at++;
    *out = (struct lexeme){
        .kind = L_NAME, .line = l->line, .at = l->source + begin, .n = l->at - begin};
    return 0;
}

int lexer_next(struct lexer *l, struct lexeme *out) {
    return l->inside ? next_inside(l, out) : next_outside(l, out);
}
