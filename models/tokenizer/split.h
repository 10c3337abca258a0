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

/* What cutting needs besides: made once for a text, used for each part of it, by one thread. */
struct cutter {
    const struct splitter *splitter;
    void *data, *context, *stack;
    struct span *spans; /* of the last cut; owned */
    size_t n_spans;
};

int cutter_init(struct cutter *cutter, const struct splitter *splitter); /* -ENOMEM */
void cutter_finish(struct cutter *cutter);                               /* zeroed is fine */

/* Cut valid UTF-8 text into cutter->spans; they cover the text without gaps.
 * -ENOMEM; -E2BIG: a word that the patterns cannot handle within their limits. */
int cutter_run(struct cutter *cutter, const char *text, size_t n);

#endif
