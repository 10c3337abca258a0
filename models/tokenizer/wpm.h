/* SPDX-License-Identifier: Apache-2.0 */
/* wpm.h - inside tokenizer: WordPiece, as BERT has it.
 *
 * Text is folded (fold.h) and cut into words at white space and around marks; each word is spelled
 * by the longest piece it begins with, then the longest that the rest begins with, and so on.  A
 * piece that begins a word has U+2581 in front, in the vocabulary. */
#ifndef OCTARC_MODELS_TOKENIZER_WPM_H
#define OCTARC_MODELS_TOKENIZER_WPM_H

#include "models/tokenizer/bpe.h"
#include "models/tokenizer/vocab.h"

#define WPM_WORD_MAX 200u /* characters; a longer word is the unknown token */

struct wpm {
    size_t longest; /* bytes of a piece */
};

void wpm_init(struct wpm *wpm, const struct vocab *vocab);

/* A word that cannot be spelled is `unknown`, or nothing where that is NO_TOKEN; what is not UTF-8
 * is left out.  -ENOMEM. */
int wpm_encode(const struct wpm *wpm, const struct vocab *vocab, const char *text, size_t n,
               int32_t unknown, struct ids *ids);

#endif
