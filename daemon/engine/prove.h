/* SPDX-License-Identifier: Apache-2.0 */
/* prove.h - whether the weights that are left for another plan's were whole.
 *
 * K and V of harmed weights are not carried over, and a range that the other plan cuts in another
 * way is neither copied nor looked at by anyone else.  Threads: any one; steps may run meanwhile,
 * and none of the cards may become lost. */
#ifndef OCTARC_ENGINE_PROVE_H
#define OCTARC_ENGINE_PROVE_H

#include "daemon/engine/runner.h"

/* Compare all that the cards of options->before hold with the digests that it had when that was
 * opened; cards that are lost are left out.  Behind the steps.  -ECANCELED (options->cancelled). */
int prove_left(const struct runner_options *options, bool *whole);

#define PROVE_PIECE_BYTES (UINT64_C(2) << 20) /* about a millisecond of memory's speed */

/* The digest of a range of the plan, as the card of the device has it; in pieces, so that whoever
 * drops an order never waits for all of a large tensor.  -ECANCELED, -ENODEV. */
int prove_digest(const struct runner_options *options, struct device *device,
                 const struct plan_range *range, uint64_t *digest);

#endif
