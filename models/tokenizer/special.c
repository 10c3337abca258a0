/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/special.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_special(const struct token *t) {
    return (t->type == TOKEN_CONTROL || t->type == TOKEN_USER || t->type == TOKEN_UNKNOWN) &&
           t->key_n;
}

static unsigned char at(const struct special *s, const struct vocab *v, size_t i, size_t depth) {
    return (unsigned char)v->bytes[v->tokens[s->ids[i]].key + depth];
}

static int compare(const void *a, const void *b, void *user) {
    const struct vocab *v = user;
    const struct token *x = &v->tokens[*(const int32_t *)a], *y = &v->tokens[*(const int32_t *)b];
    const uint32_t n = x->key_n < y->key_n ? x->key_n : y->key_n;
    const int order = memcmp(v->bytes + x->key, v->bytes + y->key, n);
    return order ? order : (x->key_n > y->key_n) - (x->key_n < y->key_n);
}

int special_init(struct special *special, const struct vocab *v) {
    struct special s = {0};
    for (uint32_t i = 0; i < v->n; i++)
        s.n += is_special(&v->tokens[i]);
    s.ids = malloc((s.n + 1) * sizeof *s.ids);
    if (!s.ids)
        return -ENOMEM;
    s.n = 0;
    for (uint32_t i = 0; i < v->n; i++)
        if (is_special(&v->tokens[i]))
            s.ids[s.n++] = (int32_t)i;
    qsort_r(s.ids, s.n, sizeof *s.ids, compare, (void *)(uintptr_t)v);
    for (size_t i = 0; i < s.n; i++)
        s.begin[at(&s, v, i, 0) + 1]++;
    for (int c = 0; c < 256; c++)
        s.begin[c + 1] += s.begin[c];
    *special = s;
    return 0;
}

void special_finish(struct special *s) {
    free(s->ids);
    *s = (struct special){0};
}

/* The first of [low, high) whose byte at depth is not below c. */
static size_t bound(const struct special *s, const struct vocab *v, size_t low, size_t high,
                    size_t depth, unsigned c) {
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (at(s, v, middle, depth) < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t special_find(const struct special *s, const struct vocab *v, const char *text, size_t n,
                     bool control) {
    int32_t best = NO_TOKEN;
    const unsigned char first = (unsigned char)text[0];
    size_t low = s->begin[first], high = s->begin[first + 1];
    /* [low, high) begin with the `depth` bytes of text; the one that is no longer is the first. */
    for (size_t depth = 1; low < high; depth++) {
        const struct token *t = &v->tokens[s->ids[low]];
        if (t->key_n == depth) {
            if (control || t->type == TOKEN_USER)
                best = s->ids[low];
            low++;
        }
        if (depth == n)
            break;
        const unsigned char c = (unsigned char)text[depth];
        low = bound(s, v, low, high, depth, c);
        high = bound(s, v, low, high, depth, c + 1u);
    }
    return best;
}

/* Names that published models give to tokens that end a generation or, in the second list, mark
 * the parts of a fill-in prompt.  Files exist where these are typed as normal text. */
static const char *const enders[] = {
    "<|eot_id|>",    "<|im_end|>",
    "<|end|>",       "<|return|>",
    "<|call|>",      "<|flush|>",
    "<|calls|>",     "<end_of_turn>",
    "<|endoftext|>", "</s>",
    "<|eom_id|>",    "<EOT>",
    "_<EOT>",        "[EOT]",
    "[EOS]",         "<|end_of_text|>",
    "<eos>",         "<end_of_utterance>",
    "<turn|>",       "<|tool_response>",
    "<|fim_pad|>",   "<fim-pad>",
    "<fim_pad>",     "<PAD>",
    "[PAD]",         "<|fim_repo|>",
    "<|repo_name|>", "<fim-repo>",
    "<REPO>",        "<reponame>",
    "<|file_sep|>",  "<｜end▁of▁sentence｜>",
};
static const char *const markers[] = {
    "<|fim_prefix|>", "<fim-prefix>",    "<fim_prefix>",    "<｜fim▁begin｜>", "<PRE>",
    "▁<PRE>",         "<|code_prefix|>", "<|prefix|>",      "<|fim_suffix|>",  "<fim-suffix>",
    "<fim_suffix>",   "<｜fim▁hole｜>",  "<SUF>",           "▁<SUF>",          "<|code_suffix|>",
    "<|suffix|>",     "<|fim_middle|>",  "<fim-middle>",    "<fim_middle>",    "<｜fim▁end｜>",
    "<MID>",          "▁<MID>",          "<|code_middle|>", "<|middle|>",
};

static bool among(const char *const *names, size_t n_names, const char *p, size_t n) {
    for (size_t i = 0; i < n_names; i++)
        if (strlen(names[i]) == n && !memcmp(names[i], p, n))
            return true;
    return false;
}

static bool is_ender(const char *p, size_t n) {
    return among(enders, sizeof enders / sizeof *enders, p, n);
}

bool special_named(const char *p, size_t n) {
    if (n < 4 || !strchr("<[_\xe2", p[0]))
        return false;
    return is_ender(p, n) || among(markers, sizeof markers / sizeof *markers, p, n);
}

static int32_t find_named(const struct special *s, const struct vocab *v, const char *name) {
    const size_t n = strlen(name);
    const int32_t id = special_find(s, v, name, n, true);
    return id != NO_TOKEN && v->tokens[id].key_n == n ? id : NO_TOKEN;
}

int special_enders(const struct special *s, const struct vocab *v, struct ids *ids) {
    int32_t no_end = NO_TOKEN, no_s = NO_TOKEN;
    int rc = 0;
    /* Where messages end with these, <|end|> only separates the parts of an answer; and </s> is
     * nothing to the family that has <|tool_response>. */
    if ((find_named(s, v, "<|call|>") != NO_TOKEN && find_named(s, v, "<|return|>") != NO_TOKEN) ||
        (find_named(s, v, "<|calls|>") != NO_TOKEN && find_named(s, v, "<|flush|>") != NO_TOKEN))
        no_end = find_named(s, v, "<|end|>");
    if (find_named(s, v, "<|tool_response>") != NO_TOKEN)
        no_s = find_named(s, v, "</s>");
    for (size_t i = 0; i < s->n && !rc; i++) {
        const struct token *t = &v->tokens[s->ids[i]];
        if (is_ender(v->bytes + t->key, t->key_n) && s->ids[i] != no_end && s->ids[i] != no_s)
            rc = ids_add(ids, s->ids[i]);
    }
    return rc;
}
