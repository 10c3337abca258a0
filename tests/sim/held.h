/* SPDX-License-Identifier: Apache-2.0 */
/* held.h - the weight memory of the cards by its identity: what was told to an engine, and whether
 * the front still holds it. */
#ifndef OCTARC_TESTS_SIM_HELD_H
#define OCTARC_TESTS_SIM_HELD_H

#include <sys/types.h>

#include "tests/sim/sim.h"

struct held {
    ino_t of[CARDS_MAX]; /* 0: none; the card has nothing, or weights are private */
};

/* What comes with a plan: the memory of each card that has weights. */
void held_note(struct held *held, const struct plan *plan, const int *fds, uint32_t n_fds);
/* A card that is to keep what it has is told the memory that it has, and another is not: as
 * runner_open() wants it.  It may not be so where orders cross an answer. */
bool held_fits(const struct held *used, const struct plan *now, const struct held *told,
               const struct plan *then);
/* The front holds the memory that its engine uses, of every card of the plan in use that is left:
 * else the next generation would read what is there, and the one after this service, too. */
void held_check(const struct held *used);

#endif
