/* SPDX-License-Identifier: Apache-2.0 */
/* hints.h - what the cards are told of their memory before it is used.
 *
 * Every part of it has one home and a set of readers: the cards, and the host, that use it in a
 * step.  Pure arithmetic from the plan alone: which operations are compiled from it is the
 * program's matter, and where the two disagree a step on isolated cards crashes. */
#ifndef OCTARC_PLACEMENT_HINTS_H
#define OCTARC_PLACEMENT_HINTS_H

#include "daemon/placement/plan.h"

struct hints {
    struct device_advice *all; /* owned; by home, area, offset; no two of them overlap */
    size_t n;
};

/* Weights: each range, for the card whose it is, or for its fetches.  K and V: one stretch a card,
 * also for the cards that pull heads from it.  Scratch: what exchanges read apart from what only
 * the card itself uses. hints_finish().  -ENOMEM. */
int hints_build(struct hints *hints, const struct model *model, const struct plan *plan);
void hints_finish(struct hints *hints);

/* Whether it is brought home as soon as it is loaded.  Pages of K and V are when they are first
 * needed: most of a large context's are not for a long time. */
static inline bool hint_is_prefetched(const struct device_advice *hint) {
    return hint->area != AREA_KV && !hint->in_host;
}

#endif
