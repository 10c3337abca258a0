/* SPDX-License-Identifier: Apache-2.0 */
/* fold.h - inside tokenizer: characters as an uncased vocabulary sees them.
 *
 * A letter loses its case and its accents: it becomes lower case, is taken apart canonically
 * (Unicode's NFD, Hangul too), and loses the marks that take no room. */
#ifndef OCTARC_MODELS_TOKENIZER_FOLD_H
#define OCTARC_MODELS_TOKENIZER_FOLD_H

#include <stddef.h>
#include <stdint.h>

enum fold_kind {
    FOLD_LETTER,  /* part of a word: a letter, a digit, a symbol */
    FOLD_SPACE,   /* between words */
    FOLD_MARK,    /* punctuation, and ideographs: a word of its own */
    FOLD_DROPPED, /* control characters, and what stands for none */
};

#define FOLD_MAX 3 /* characters that one becomes */

/* What becomes of a character; of letters and marks also what they are then, *n of them, which may
 * be none. */
enum fold_kind fold(uint32_t c, uint32_t to[FOLD_MAX], size_t *n);

/* The tables, ascending: fold_table.c. */
struct fold_class {
    uint32_t first, last;
    uint32_t kind;
};
struct fold_run {
    uint32_t first, last;
    uint8_t step, slope; /* every step-th one becomes `to`, plus slope times how far it is */
    uint32_t to;         /* 0: nothing is left of it */
};
struct fold_pair {
    uint32_t from, to;
};
struct fold_several {
    uint32_t from, to[FOLD_MAX];
};
extern const struct fold_class fold_classes[];
extern const struct fold_run fold_runs[];
extern const struct fold_pair fold_pairs[];
extern const struct fold_several fold_several[];
extern const size_t fold_n_classes, fold_n_runs, fold_n_pairs, fold_n_several;

#endif
