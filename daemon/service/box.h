/* SPDX-License-Identifier: Apache-2.0 */
/* box.h - the box that a configuration describes. */
#ifndef OCTARC_SERVICE_BOX_H
#define OCTARC_SERVICE_BOX_H

#include "daemon/placement/plan.h"
#include "daemon/placement/topology.h"
#include "daemon/service/config.h"

#define STEP_ROWS_MAX 512

/* The box of the file that the key topology names; without one, a plain box of as many cards as the
 * key cards says, with the memory of card_memory or, without that, equal shares of half of what is
 * free now, or holds weights already (kept_bytes).  Also how much of the host's memory plans may
 * use, now and later: host_spill, else a share that leaves the host enough.  On failure *topology
 * is untouched, and err names the file:
 *   -ERANGE  cards or card_memory are given too and say something else, or something is placed on a
 *            card that there is not
 *   what reading failed with, or topology_read() */
int box_read(const struct config *config, uint64_t kept_bytes, struct topology *topology,
             struct err *err);

/* The box of cards that a backend found: all of them, or the first of the key cards; with the
 * memory of card_memory, where it is given, or what they say they have, less what a driver may
 * need, and the rates that their maker states. -ERANGE: there are fewer cards, or a card has less
 * memory, than is asked for. */
int box_found(const struct config *config, const struct device_found *found,
              struct topology *topology, struct err *err);

/* What a plan for this model is made from, with every card online.  Borrows both. */
void box_plan_input(const struct config *config, const struct device_ops *backend,
                    const struct topology *topology, const struct model *model,
                    struct plan_input *input);

#endif
