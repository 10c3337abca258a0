/* SPDX-License-Identifier: Apache-2.0 */
/* spm.h - inside tokenizer: SentencePiece's way of joining by score, with byte fallback. */
#ifndef OCTARC_MODELS_TOKENIZER_SPM_H
#define OCTARC_MODELS_TOKENIZER_SPM_H

#include "models/tokenizer/bpe.h"

/* Places of a text that no token spans cut it into words, so that a long text costs no more than
 * its words do; which these are is read off the vocabulary. */
struct spm {
    uint8_t joins[8192]; /* bits, by hash: a token holds such a byte before such a character */
};

void spm_init(struct spm *spm, const struct vocab *vocab);

/* Text without control tokens.  `prefix`: a space goes in front of it.  unknown: the id for what
 * has neither a token nor byte tokens, or NO_TOKEN.  The merger is memory that is used again. */
int spm_encode(const struct spm *spm, const struct vocab *vocab, struct merger *merger,
               const char *text, size_t n, bool prefix, int32_t unknown, struct ids *ids);

#endif
