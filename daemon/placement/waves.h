/* SPDX-License-Identifier: Apache-2.0 */
/* waves.h - plans on the way from one plan to another, where no card may ever overflow.
 *
 * A wave goes from a plan to the next: while it lasts a card holds what it has in either
 * (layout_peak_bytes()).  Where the two plans do not fit beside each other some cards have to give
 * before they can take: layers, and eighths of the output matrix and of the embedding, shift from
 * card to card along the order in which the cards hold them, each as far as there is room, wave by
 * wave.  A cut in lanes that changes, and an order that is another, change in one wave or not at
 * all.  Every wave only brings parts nearer to where the last plan has them: so whoever asks again
 * from a plan between is told the rest of the way, and nothing is moved twice.
 *
 * Where that leads nowhere, as when full cards exchange what they hold, what is new on a card that
 * has no room for it waits in host memory (it is staged) until nothing of the plan before is used
 * any more: so that card holds what it has in the one plan, and then what it has in the next.  No
 * more than `stage_most` bytes wait at once, so that such a way may have many waves, too; with a
 * stage for all that is new there is a way between any two plans that have the same pages, spill
 * nothing, and whose addresses take no memory (plan.dense).
 *
 * Pure arithmetic; threads: no shared state. */
#ifndef OCTARC_PLACEMENT_WAVES_H
#define OCTARC_PLACEMENT_WAVES_H

#include "daemon/placement/plan.h"

#define WAVES_MAX 64u

struct waves {
    struct plan first; /* owned; without places for its ranges (layout.h); none where n is 1 */
    uint32_t n;        /* waves until `then` is in use; 1: it fits beside, or does with the stage */
    uint64_t staged_bytes; /* that the first wave takes of the stage */
};

/* The way from `now` to `then`, which have the same pages and sizes of a step; input: what `then`
 * was made of, and the capacities of all cards.  On success *waves is the caller's, waves_finish().
 * -ENOSPC: there is no such way, and *wanted is as large a stage as one would surely need, 0: none
 * helps; -ENOMEM; *waves is untouched then. */
int waves_find(struct waves *waves, const struct plan *now, const struct plan *then,
               const struct plan_input *input, uint64_t stage_most, uint64_t *wanted);
void waves_finish(struct waves *waves);

#endif
