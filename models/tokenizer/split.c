/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"

#define PATTERNS_MAX 4
#define MATCH_LIMIT  50000000u /* steps of one match: a hostile text ends with an error */

#define CONTRACTIONS "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define GPT2         "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define WORDS(digits, tail)                                                                        \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+" tail            \
                 "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "(?:(?=\\p{L})[^a-z])"
#define LOWER "(?:(?=\\p{L})[^A-Z])"

/* What each model family cuts at; data of the published tokenizers. */
static const struct pre {
    const char *name;
    bool whole_words, adds_bos;
    const char *patterns[PATTERNS_MAX];
} pres[] = {
    {"deepseek-coder",
     false,
     false,
     {"[\\r\\n]", "\\s?\\p{L}+|\\s?\\p{P}+",
      "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"}},
    {"default", false, false, {GPT2}},
    {"deepseek-r1-qwen", false, false, {WORDS("\\p{N}", "[\\r\\n]*")}},
    {"gpt-2", false, false, {GPT2}},
    {"gpt-4o",
     false,
     false,
     {"[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER
      "+" LOWER "*" CONTRACTIONS
      "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"llama-bpe", true, true, {WORDS("\\p{N}{1,3}", "[\\r\\n]*")}},
    {"llama3", true, true, {WORDS("\\p{N}{1,3}", "[\\r\\n]*")}},
    {"qwen2", false, false, {WORDS("\\p{N}", "[\\r\\n]*")}},
    {"smollm", false, false, {"\\p{N}", GPT2}},
    {"starcoder", false, false, {"\\p{N}", GPT2}},
};

struct splitter {
    const struct pre *pre;
    pcre2_code *codes[PATTERNS_MAX];
    bool jit[PATTERNS_MAX];
    int n;
};

static int compile(struct splitter *s, const char *pattern, struct err *err) {
    int code;
    PCRE2_SIZE at;
    s->codes[s->n] = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!s->codes[s->n])
        return err_set(err, -EINVAL, "pre-tokenizer '%s': pattern error %d at %zu", s->pre->name,
                       code, (size_t)at);
    /* The compiler may not write code in a locked-down service; matching works without it. */
    s->jit[s->n] = pcre2_jit_compile(s->codes[s->n], PCRE2_JIT_COMPLETE) == 0;
    s->n++;
    return 0;
}

int splitter_create(struct splitter **out, const char *name, struct err *err) {
    const struct pre *pre = NULL;
    char known[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        if (!strcmp(pres[i].name, name))
            pre = &pres[i];
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", pres[i].name);
    }
    if (!pre)
        return err_set(err, -ENOTSUP, "pre-tokenizer '%.40s' is not known; known are %s", name,
                       known);
    struct splitter *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, -ENOMEM, "no memory for a pre-tokenizer");
    s->pre = pre;
    int rc = 0;
    for (int i = 0; i < PATTERNS_MAX && pre->patterns[i] && !rc; i++)
        rc = compile(s, pre->patterns[i], err);
    if (rc) {
        splitter_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

void splitter_destroy(struct splitter *s) {
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        pcre2_code_free(s->codes[i]);
    free(s);
}

bool splitter_whole_words(const struct splitter *s) {
    return s->pre->whole_words;
}

bool splitter_adds_bos(const struct splitter *s) {
    return s->pre->adds_bos;
}

struct spans {
    struct span *at;
    size_t n, capacity;
};

static int add_span(struct spans *s, size_t begin, size_t end) {
    if (begin == end)
        return 0;
    if (s->n == s->capacity) {
        const size_t more = s->capacity ? 2 * s->capacity : 64;
        struct span *grown = realloc(s->at, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        s->at = grown;
        s->capacity = more;
    }
    s->at[s->n++] = (struct span){begin, end};
    return 0;
}

struct matcher {
    const struct splitter *splitter;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

/* Cut text[span] at every match of a pattern; matches and what lies between them become words. */
static int cut_span(const struct matcher *m, int pattern, const char *text, struct span span,
                    struct spans *out) {
    const PCRE2_SPTR subject = (PCRE2_SPTR)text + span.begin;
    const PCRE2_SIZE length = span.end - span.begin;
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    PCRE2_SIZE done = 0, at = 0;
    while (at < length) {
        const int rc = m->splitter->jit[pattern]
                           ? pcre2_jit_match(m->splitter->codes[pattern], subject, length, at,
                                             PCRE2_NOTEMPTY, m->data, m->context)
                           : pcre2_match(m->splitter->codes[pattern], subject, length, at, options,
                                         m->data, m->context);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return rc == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -E2BIG;
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
        int failed = add_span(out, span.begin + done, span.begin + ends[0]);
        if (!failed)
            failed = add_span(out, span.begin + ends[0], span.begin + ends[1]);
        if (failed)
            return failed;
        done = at = ends[1];
    }
    return add_span(out, span.begin + done, span.end);
}

int splitter_cut(const struct splitter *splitter, const char *text, size_t n, struct span **spans,
                 size_t *n_spans) {
    struct matcher m = {.splitter = splitter};
    struct spans words = {0}, cut = {0};
    int rc = add_span(&words, 0, n);
    m.data = pcre2_match_data_create(1, NULL);
    m.context = pcre2_match_context_create(NULL);
    pcre2_jit_stack *stack = pcre2_jit_stack_create(32 * 1024, 8 << 20, NULL);
    if (!m.data || !m.context || !stack)
        rc = -ENOMEM;
    if (!rc) {
        pcre2_set_match_limit(m.context, MATCH_LIMIT);
        pcre2_jit_stack_assign(m.context, NULL, stack);
    }
    for (int p = 0; p < splitter->n && !rc; p++) {
        cut = (struct spans){0};
        for (size_t i = 0; i < words.n && !rc; i++)
            rc = cut_span(&m, p, text, words.at[i], &cut);
        free(words.at);
        words = cut;
    }
    pcre2_match_data_free(m.data);
    pcre2_match_context_free(m.context);
    pcre2_jit_stack_free(stack);
    if (rc) {
        free(words.at);
        return rc;
    }
    *spans = words.at;
    *n_spans = words.n;
    return 0;
}
