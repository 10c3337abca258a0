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

static bool named(const struct vocab *v, int32_t id, const char *name) {
    const struct token *t = &v->tokens[id];
    return t->key_n == strlen(name) && !memcmp(v->bytes + t->key, name, t->key_n);
}

static int compare_ids(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int special_enders(const struct special *s, const struct vocab *v, struct ids *ids) {
    static const char *const names[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "<|eom_id|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|end_of_text|>",
                                        "</s>",
                                        "<eos>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<|end_of_turn|>",
                                        "<｜end▁of▁sentence｜>",
                                        "<|eot|>",
                                        "<end_of_utterance>"};
    const size_t begin = ids->n;
    bool returns = false, calls = false;
    int rc = 0;
    for (size_t i = 0; i < s->n && !rc; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names && !rc; k++)
            if (named(v, s->ids[i], names[k])) {
                returns |= !strcmp(names[k], "<|return|>");
                calls |= !strcmp(names[k], "<|call|>");
                rc = ids_add(ids, s->ids[i]);
            }
    /* Where messages end with these two, <|end|> only separates the parts of an answer. */
    for (size_t i = begin; i < ids->n && returns && calls;)
        if (named(v, ids->at[i], "<|end|>"))
            ids->at[i] = ids->at[--ids->n];
        else
            i++;
    if (ids->n > begin)
        qsort(ids->at + begin, ids->n - begin, sizeof *ids->at, compare_ids);
    return rc;
}
