/* SPDX-License-Identifier: Apache-2.0 */
/* choose.h - inside placement: the split, and the share of every card. */
#ifndef OCTARC_PLACEMENT_CHOOSE_H
#define OCTARC_PLACEMENT_CHOOSE_H

#include "daemon/placement/plan.h"

struct err;

/* Set the plan's split, its reason and what share_apply() sets.  *by_speed: shares are those with
 * which decoding is predicted to be fastest; else those with which the fullest card is least full.
 * -ENOSPC: no way fits (refuse.h); -ENOMEM. */
int choose(struct plan *plan, const struct plan_input *input, bool *by_speed, struct err *err);

#endif
