/* SPDX-License-Identifier: Apache-2.0 */
/* split.h - inside tokenizer: text -> the words that byte-pair merging stays inside. */
#ifndef OCTARC_MODELS_TOKENIZER_SPLIT_H
#define OCTARC_MODELS_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct splitter;

struct span {
    size_t begin, end; /* bytes of the text */
};

/* The pre-tokenizer of that name (tokenizer.ggml.pre).  -ENOTSUP lists the known ones. */
int splitter_create(struct splitter **splitter, const char *name, struct err *err);
void splitter_destroy(struct splitter *splitter);
bool splitter_whole_words(const struct splitter *splitter); /* a word that is a token stays one */
bool splitter_adds_bos(const struct splitter *splitter);    /* where the file does not say */

/* Cut valid UTF-8 text.  *spans is the caller's; they cover the text without gaps.
 * -ENOMEM; -E2BIG: a word that the patterns cannot handle within their limits. */
int splitter_cut(const struct splitter *splitter, const char *text, size_t n, struct span **spans,
                 size_t *n_spans);

#endif
