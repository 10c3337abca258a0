/* SPDX-License-Identifier: Apache-2.0 */
/* handover.h - K and V from the runner that serves to the one that follows it.
 *
 * A page keeps its number: of each layer and KV head, one card of the old plan gives what it holds
 * of the page and every card of the new plan that reads it takes it, but for a card where it lies
 * already (layout.h).  Threads: the engine's, between two steps. */
#ifndef OCTARC_ENGINE_HANDOVER_H
#define OCTARC_ENGINE_HANDOVER_H

#include "daemon/engine/runner.h"

struct handover;

/* Both are borrowed for its life.  -ENODATA: a layer's K and V lie on no card that is left, or the
 * plans' pages are not the same; then the sequences have to be computed anew.  -ENOMEM. */
int handover_create(struct handover **handover, const struct runner *from, struct runner *to);
void handover_destroy(struct handover *handover); /* NULL is fine */

/* Copy what all cards hold of one page.  -ENODEV. */
int handover_page(const struct handover *handover, uint32_t page);
/* Have the memory ready that the page will be copied into (device_ops.prefetch). */
int handover_prefetch(const struct handover *handover, uint32_t page);
/* K and V of cards that are staged (stage.h) were copied there so far: bring the page's to its
 * cards, when these have room. */
int handover_bring(const struct handover *handover, uint32_t page);
uint64_t handover_page_bytes(const struct handover *handover);

#endif
