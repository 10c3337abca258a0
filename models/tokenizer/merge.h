/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h - inside tokenizer: joins neighbours in a word, best pair first.
 *
 * Pairs wait in a heap over a linked list of symbols, so a word of n symbols costs n log n. */
#ifndef OCTARC_MODELS_TOKENIZER_MERGE_H
#define OCTARC_MODELS_TOKENIZER_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbol {
    uint32_t begin, n; /* bytes; n 0: joined to an earlier one */
    int32_t previous, next;
};

/* How good joining text[begin, begin + left + right) is: smaller is better; false: not allowed. */
typedef bool (*merge_rank)(const void *user, const char *text, size_t begin, size_t left,
                           size_t right, float *rank);

struct merger {
    struct symbol *symbols;
    size_t n, capacity;
    struct pair *heap;
    size_t n_pairs, pairs_capacity;
};

void merger_finish(struct merger *merger);
/* Start a new word. */
void merger_clear(struct merger *merger);
int merger_add(struct merger *merger, size_t begin, size_t n); /* the next symbol */
/* Join until no pair is allowed; then walk symbols from 0 by next. */
int merger_run(struct merger *merger, const char *text, merge_rank rank, const void *user);

#endif
