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
 * opened; cards that are lost are left out.  -ECANCELED (options->cancelled), -ENOMEM, -EAGAIN. */
int prove_left(const struct runner_options *options, bool *whole);

#endif
