/* SPDX-License-Identifier: Apache-2.0 */
/* place.h - overrides: the card on which the user wants tensors to lie.
 *
 * A pattern is a glob over the names of tensors as the file has them, by fnmatch() without flags:
 * `*` stands for any text, dots too, `?` for one byte, [a-z] for one of a set, \ for what follows.
 * What is placed is whole: a layer, the embedding, or the output matrix with its norm (a tied model
 * has the embedding there, too).  A pattern that matches any tensor of one binds all of it to the
 * card, which then holds it alone, in every split.  Of several that match the last one decides.
 *
 * Those of a card that is not online are dropped.  Threads: no shared state. */
#ifndef OCTARC_PLACEMENT_PLACE_H
#define OCTARC_PLACEMENT_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "octarc/model.h"

#define PLACES_MAX        64
#define PLACE_PATTERN_MAX 96 /* bytes, with the last one, 0 */

struct err;
struct plan;
struct plan_input;

struct place {
    char pattern[PLACE_PATTERN_MAX];
    uint32_t card;
};

struct places {
    uint32_t n;
    struct place of[PLACES_MAX];
};

/* Read "PATTERN = card N" and add it behind the others.  On failure *places is untouched: -EINVAL,
 * err holds the text and what is allowed; -E2BIG: there are PLACES_MAX already. */
int places_add(struct places *places, const char *text, struct err *err);
/* Each card is one of so many.  -EINVAL. */
int places_check_cards(const struct places *places, uint32_t n_cards, struct err *err);
/* Each pattern matches a tensor that lies on a card.  -EINVAL. */
int places_check_names(const struct places *places, const struct model *model, struct err *err);

/* Inside placement: which override decides, as its number from 1 on; 0: none. */
struct places_decided {
    uint8_t layer[LAYERS_MAX];
    uint8_t head, embd; /* output matrix; embedding, but of a tied model */
};

/* Without those that are a bit of `dropped`. */
void places_decide(struct places_decided *decided, const struct places *places,
                   const struct model *model, uint64_t dropped);

/* Of those whose card is not online, a bit each. */
uint64_t places_gone(const struct plan_input *input);
uint64_t places_all(const struct places *places);

/* Add to the reasons of a plan that is made what was placed, and what was dropped. */
void places_tell(struct plan *plan, const struct plan_input *input);

#endif
