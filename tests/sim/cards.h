/* SPDX-License-Identifier: Apache-2.0 */
/* cards.h - simulated cards: K and V in memory of each card's own, laid out as the plan says.
 *
 * What a position leaves in a layer depends on everything before it, and the logits on all of that,
 * as it is read back through the page table.  So a wrong page, one that was not carried over, one
 * that is stale or somebody else's, and a position that was never computed change the bits.
 * runner_*() and device_backend() are implemented here.
 *
 * Threads: as rebalance.h; a runner that follows another opens when it may. */
#ifndef OCTARC_TESTS_SIM_CARDS_H
#define OCTARC_TESTS_SIM_CARDS_H

#include "daemon/engine/runner.h"

/* Runners that load beside another wait until then, and end with this. */
void cards_hold_loading(void);
void cards_end_loading(int rc);
/* The memory of a card is gone. */
bool cards_lost(const struct runner *runner, uint32_t card);

#endif
