/* SPDX-License-Identifier: Apache-2.0 */
/* cards.h - simulated cards: K and V in memory of each card's own, laid out as the plan says.
 *
 * What a position leaves in a layer depends on everything before it, and the logits on all of that,
 * as it is read back through the page table.  So a wrong page, one that was not carried over, one
 * that is stale or somebody else's, and a position that was never computed change the bits.
 * A range of weights that is harmed changes what is computed with it, and its digest, and nothing
 * tells of it.  runner_*(), device_backend(), weights_restore() and prove_left()
 * are implemented here.
 *
 * Threads: as rebalance.h; a runner that follows another opens when it may. */
#ifndef OCTARC_TESTS_SIM_CARDS_H
#define OCTARC_TESTS_SIM_CARDS_H

#include "daemon/engine/runner.h"

/* Runners that load beside another wait until then, and end with this. */
void cards_hold_loading(void);
void cards_end_loading(int rc);
/* Bits of one of the card's ranges flip.  False: it holds none. */
bool cards_harm(struct runner *runner, uint32_t card);
/* One of the ranges of these cards (bits) that can still be read was harmed before then. */
bool cards_harmed(const struct runner *runner, uint32_t cards, uint64_t before_ns);
/* The next range that is read again ends with this instead. */
void cards_fail_restore(int rc);
/* What it takes to verify and to read weights, and to copy K and V, is added there from now on. */
void cards_spend_on(uint64_t *ns);
/* Of K and V: what is copied while one step's time at most goes by. */
uint64_t cards_slice_bytes(const struct runner *runner);
/* The memory of a card is gone. */
bool cards_lost(const struct runner *runner, uint32_t card);

#endif
