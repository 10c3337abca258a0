/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"

#define PATTERNS_MAX 6
#define MATCH_LIMIT  100000000u /* steps of one match: more than 16 MiB of anything takes */
#define HEAP_KIB     (256u << 10)
#define JIT_STACK    (4u << 20)

/* The patterns are data of the published tokenizers.  Each is written so that one match costs no
 * more than its length: no group repeats, and where a run could be tried from each of its places
 * a look-behind allows only the first.
 *
 * A space is not \s, to which U+180E belongs as well: it was one until Unicode 6.3. */
#define SPACE        "\\p{White_Space}"
#define NO_SPACE     "\\P{White_Space}"
#define CONTRACTIONS "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" SPACE               \
    "+(?!" NO_SPACE ")"
#define SPACES SPACE "*[\\r\\n]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"
#define WORDS(digits)                                                                              \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| "                                     \
                 "?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define UPPER "[^\\P{L}a-z]" /* letters but these */
#define LOWER "[^\\P{L}A-Z]"
#define CASED(contractions, digits)                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" contractions "|[^\\r\\n\\p{L}\\p{N}]?" UPPER      \
    "+" LOWER "*" contractions "|" digits "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define HAN_AND_HANGUL "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define ASCII_MARK     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
/* Cased letters of Unicode 9. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"         \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"                  \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                       \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}"                 \
    "\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}"         \
    "\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"        \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                  \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{"     \
    "212d}"                                                                                        \
    "\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}"         \
    "\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}"         \
    "\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"                 \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}"                 \
    "\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"             \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"         \
    "\\x{1e900}-\\x{1e943}"

enum { WHOLE_WORDS = 1, ADDS_BOS = 2 };

static const struct pre {
    const char *names; /* each between spaces */
    unsigned flags;
    const char *patterns[PATTERNS_MAX];
} pres[] = {
    {" default ", 0, {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {" gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum ",
     0,
     {GPT2}},
    {" smollm starcoder refact command-r codeshell exaone minerva-7b ", 0, {"\\p{N}", GPT2}},
    {" falcon ", 0, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {" llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 ",
     WHOLE_WORDS | ADDS_BOS,
     {WORDS("\\p{N}{1,3}")}},
    {" dbrx smaug-bpe glm4 chatglm-bpe ", 0, {WORDS("\\p{N}{1,3}")}},
    {" qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan ", 0, {WORDS("\\p{N}")}},
    {" gpt-4o llama4 kanana2 minimax-m2 ", 0, {CASED(CONTRACTIONS "?", "\\p{N}{1,3}")}},
    {" tekken ", WHOLE_WORDS | ADDS_BOS, {CASED("", "\\p{N}")}},
    {" deepseek-llm ",
     0,
     {"[\\r\\n]", SPACE "?[" CASED_LETTERS "]+",
      SPACE
      "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
      "(?<!" SPACE ")" SPACE "++\\z", HAN_AND_HANGUL, "\\p{N}+"}},
    {" deepseek-coder ",
     0,
     {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+", HAN_AND_HANGUL, "\\p{N}"}},
    {" deepseek-v3 hunyuan-dense joyai-llm ",
     0,
     {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+",
      ASCII_MARK
      "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES}},
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
        return err_set(err, -EINVAL, "pre-tokenizer%s: pattern %d: error %d at %zu", s->pre->names,
                       s->n, code, (size_t)at);
    /* The compiler may not write code in a locked-down service; matching works without it. */
    s->jit[s->n] = pcre2_jit_compile(s->codes[s->n], PCRE2_JIT_COMPLETE) == 0;
    s->n++;
    return 0;
}

static bool names(const struct pre *pre, const char *name) {
    char padded[80];
    const int n = snprintf(padded, sizeof padded, " %s ", name);
    return n > 2 && (size_t)n < sizeof padded && !strchr(name, ' ') && strstr(pre->names, padded);
}

static const struct pre *find_pre(const char *name, struct err *err) {
    char known[400] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        if (names(&pres[i], name))
            return &pres[i];
        n += (size_t)snprintf(known + n, sizeof known - n, "%s", pres[i].names + (i > 0));
        n = n < sizeof known ? n : sizeof known - 1;
    }
    err_set(err, -ENOTSUP, "pre-tokenizer '%.40s' is not known; known are%s", name, known);
    return NULL;
}

int splitter_create(struct splitter **out, const char *name, struct err *err) {
    const struct pre *pre = find_pre(name, err);
    if (!pre)
        return -ENOTSUP;
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
    return s->pre->flags & WHOLE_WORDS;
}

bool splitter_adds_bos(const struct splitter *s) {
    return s->pre->flags & ADDS_BOS;
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

/* One match at or behind `at`: code of PCRE2. */
static int match(const struct cutter *c, int pattern, PCRE2_SPTR subject, PCRE2_SIZE length,
                 PCRE2_SIZE at) {
    const pcre2_code *code = c->splitter->codes[pattern];
    if (c->splitter->jit[pattern] && c->stack) {
        const int rc =
            pcre2_jit_match(code, subject, length, at, PCRE2_NOTEMPTY, c->data, c->context);
        if (rc != PCRE2_ERROR_JIT_STACKLIMIT)
            return rc;
    }
    return pcre2_match(code, subject, length, at,
                       PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | PCRE2_NO_JIT, c->data, c->context);
}

/* Cut text[span] at every match of a pattern; matches and what lies between them become words. */
static int cut_span(const struct cutter *c, int pattern, const char *text, struct span span,
                    struct spans *out) {
    const PCRE2_SPTR subject = (PCRE2_SPTR)text + span.begin;
    const PCRE2_SIZE length = span.end - span.begin;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(c->data);
    PCRE2_SIZE done = 0;
    while (done < length) {
        const int rc = match(c, pattern, subject, length, done);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return rc == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -E2BIG;
        int failed = add_span(out, span.begin + done, span.begin + ends[0]);
        if (!failed)
            failed = add_span(out, span.begin + ends[0], span.begin + ends[1]);
        if (failed)
            return failed;
        done = ends[1];
    }
    return add_span(out, span.begin + done, span.end);
}

int cutter_init(struct cutter *c, const struct splitter *splitter) {
    *c = (struct cutter){.splitter = splitter};
    c->data = pcre2_match_data_create(1, NULL);
    c->context = pcre2_match_context_create(NULL);
    if (!c->data || !c->context) {
        cutter_finish(c);
        return -ENOMEM;
    }
    pcre2_set_match_limit(c->context, MATCH_LIMIT);
    pcre2_set_heap_limit(c->context, HEAP_KIB);
    c->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK, NULL); /* NULL: no JIT here */
    if (c->stack)
        pcre2_jit_stack_assign(c->context, NULL, c->stack);
    return 0;
}

void cutter_finish(struct cutter *c) {
    pcre2_match_data_free(c->data);
    pcre2_match_context_free(c->context);
    pcre2_jit_stack_free(c->stack);
    free(c->spans);
    *c = (struct cutter){0};
}

int cutter_run(struct cutter *c, const char *text, size_t n) {
    struct spans words = {0};
    int rc = add_span(&words, 0, n);
    for (int p = 0; p < c->splitter->n && !rc; p++) {
        struct spans cut = {0};
        for (size_t i = 0; i < words.n && !rc; i++)
            rc = cut_span(c, p, text, words.at[i], &cut);
        free(words.at);
        words = cut;
    }
    free(c->spans);
    c->spans = words.at;
    c->n_spans = rc ? 0 : words.n;
    return rc;
}
