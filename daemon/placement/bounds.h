/* SPDX-License-Identifier: Apache-2.0 */
/* bounds.h - inside placement: what the overrides leave each card of a box to hold.
 *
 * Cards are bits, by their index in the box.  A card that the search adds by itself may hold all
 * that is bound to no other. */
#ifndef OCTARC_PLACEMENT_BOUNDS_H
#define OCTARC_PLACEMENT_BOUNDS_H

#include "daemon/placement/plan.h"

#define BOUNDS_FREE UINT8_MAX /* on any card */

struct bounds {
    bool any;           /* else nothing below is filled in but for BOUNDS_FREE */
    uint8_t head, embd; /* the cards that may hold the output matrix, the embedding (tied: head) */
    uint8_t lanes;      /* a part of every layer */
    uint16_t stop[CARDS_MAX][LAYERS_MAX + 1]; /* the first layer from this one on that it may not */
    uint8_t bound;                            /* the cards that must have layers … */
    uint16_t first[CARDS_MAX];                /* … and the first of these */
};

/* For cards card[0 .. n - 1] of the input, without the overrides that the plan drops. */
void bounds_open(struct bounds *bounds, const struct plan *plan, const struct plan_input *input,
                 const uint32_t *card, uint32_t n);

/* Whether these cards may share layers [begin, end). */
bool bounds_allow(const struct bounds *bounds, uint32_t cards, uint32_t begin, uint32_t end);

/* Whether the card may hold anything of the output matrix, of the embedding. */
static inline bool bounds_allow_matrices(const struct bounds *bounds, uint32_t card, bool head,
                                         bool embd) {
    return (!head || bounds->head >> card & 1) && (!embd || bounds->embd >> card & 1);
}

/* An order of n cards for their runs of layers: those that must have layers in that of the layers,
 * at these positions (a bit each), the others in that of their numbers.  False: there are more or
 * fewer positions than such cards. */
bool bounds_order(const struct bounds *bounds, uint32_t n, uint32_t positions,
                  uint8_t order[CARDS_MAX]);

#endif
