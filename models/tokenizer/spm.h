/* SPDX-License-Identifier: Apache-2.0 */
/* spm.h - inside tokenizer: SentencePiece's way of joining by score, with byte fallback. */
#ifndef OCTARC_MODELS_TOKENIZER_SPM_H
#define OCTARC_MODELS_TOKENIZER_SPM_H

#include "models/tokenizer/bpe.h"

/* Text without control tokens.  `prefix`: a space goes in front of it.  unknown: the id for what
 * has neither a token nor byte tokens, or NO_TOKEN.  The merger is memory that is used again. */
int spm_encode(const struct vocab *vocab, struct merger *merger, const char *text, size_t n,
               bool prefix, int32_t unknown, struct ids *ids);

#endif
