/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h - inside tokenizer: joins neighbours in a word, best pair first; of equal ones the first.
 *
 * Pairs wait in a heap over a linked list of symbols, so a word of n symbols costs n log n.  In
 * long words of few kinds of pairs (a megabyte of blanks) most come in the order in which they are
 * wanted, and wait in lanes instead, where they cost no more than their place.  A symbol knows its
 * token, so that to join two need not read their text again. */
#ifndef OCTARC_MODELS_TOKENIZER_MERGE_H
#define OCTARC_MODELS_TOKENIZER_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbol {
    uint32_t begin, n; /* bytes; n 0: joined to an earlier one */
    int32_t previous, next;
    int32_t id; /* its token, or NO_TOKEN */
};

struct joined {
    uint32_t order; /* less is better */
    int32_t id;     /* of the two together */
};

/* Whether two neighbours may be joined, and to what. */
typedef bool (*merge_rule)(const void *user, const char *text, const struct symbol *left,
                           const struct symbol *right, struct joined *joined);

#define MERGER_LANES 8

struct lane { /* pairs in order */
    struct pair *at;
    size_t head, n, capacity;
};

struct merger {
    struct symbol *symbols;
    size_t n, capacity;
    struct pair *heap;
    size_t n_pairs, pairs_capacity;
    struct lane lanes[MERGER_LANES];
};

void merger_finish(struct merger *merger);
/* Start a new word. */
void merger_clear(struct merger *merger);
int merger_add(struct merger *merger, size_t begin, size_t n, int32_t id); /* the next symbol */
/* Join until no pair is allowed; then walk symbols from 0 by next. */
int merger_run(struct merger *merger, const char *text, merge_rule rule, const void *user);

#endif
