/* SPDX-License-Identifier: Apache-2.0 */
/* refuse.h - inside placement: what to say of a model that does not fit. */
#ifndef OCTARC_PLACEMENT_REFUSE_H
#define OCTARC_PLACEMENT_REFUSE_H

#include "daemon/placement/search.h"

struct err;

/* -ENOSPC: what is missing where it comes closest to fitting, and which changes were found, by the
 * same search, to be enough.  Uses up the box and the plan that it looks at. */
int refuse(struct box *box, struct plan *plan, struct err *err);

/* The same of a plan that was started and fits only without the overrides: which of them, left out
 * alone, would let it fit. */
int refuse_places(const struct plan *start, const struct plan_input *input, struct err *err);

#endif
