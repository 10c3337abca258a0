/* SPDX-License-Identifier: Apache-2.0 */
/* choose.h - inside placement: the split, and the share of every card. */
#ifndef OCTARC_PLACEMENT_CHOOSE_H
#define OCTARC_PLACEMENT_CHOOSE_H

#include "daemon/placement/plan.h"

struct err;

/* Set the plan's split, its reason and what share_apply() sets.  *balance: what the shares are good
 * for, in words.  -ENOSPC: no way fits (refuse.h); -ENOMEM. */
int choose(struct plan *plan, const struct plan_input *input, const char **balance,
           struct err *err);

#endif
