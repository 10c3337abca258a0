/* SPDX-License-Identifier: Apache-2.0 */
/* moves.h - what lies elsewhere in another plan: the moves from one plan to the next.
 *
 * A move is a part of a tensor that a card has to have in the second plan and has not in the first:
 * it comes from a card that has it there, or else from the model file.  Pure arithmetic; nothing is
 * moved here.  Threads: no shared state. */
#ifndef OCTARC_PLACEMENT_MOVES_H
#define OCTARC_PLACEMENT_MOVES_H

#include "daemon/placement/plan.h"

#define MOVE_FROM_FILE (-1)

/* Rows [row_begin, row_end) x columns [col_begin, col_end) of a tensor. */
struct move {
    uint32_t tensor;
    int32_t from; /* a card, or MOVE_FROM_FILE */
    uint32_t to;
    uint64_t row_begin, row_end, col_begin, col_end;
    uint64_t bytes; /* its share of the range's, by area */
};

struct moves {
    struct move *moves; /* owned; in the order of the second plan's ranges */
    size_t n;
    uint64_t card_bytes; /* that come from other cards */
    uint64_t file_bytes; /* from the file */
    uint64_t
        kept_bytes; /* that are where they have to be; the three are all of the ranges' bytes */
};

/* sources[card]: what the card holds in the first plan can still be read; where it cannot, nothing
 * of it is kept either.  -ENOMEM; *moves is untouched then. */
int moves_between(struct moves *moves, const struct plan *before, const struct plan *after,
                  const bool sources[CARDS_MAX]);
void moves_finish(struct moves *moves);

#endif
