/* SPDX-License-Identifier: Apache-2.0 */
/* special.h - inside tokenizer: finds control and user-defined tokens in text, and the tokens that
 * end a generation. */
#ifndef OCTARC_MODELS_TOKENIZER_SPECIAL_H
#define OCTARC_MODELS_TOKENIZER_SPECIAL_H

#include "models/tokenizer/bpe.h"
#include "models/tokenizer/vocab.h"

struct special {
    int32_t *ids; /* owned; sorted by spelling */
    size_t n;
    uint32_t begin[257]; /* in ids, of those that begin with this byte */
};

int special_init(struct special *special, const struct vocab *vocab); /* -ENOMEM */
void special_finish(struct special *special);

/* The longest such token that text begins with, or NO_TOKEN.  Without `control` only user-defined
 * ones.  Costs the length of what matches, however many tokens there are. */
int32_t special_find(const struct special *special, const struct vocab *vocab, const char *text,
                     size_t n, bool control);

/* Whether a token of that spelling is one of control, whatever type the file gives it. */
bool special_named(const char *spelling, size_t n);

/* Add to ids the tokens whose names end a generation in published models. */
int special_enders(const struct special *special, const struct vocab *vocab, struct ids *ids);

#endif
