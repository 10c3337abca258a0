/* SPDX-License-Identifier: Apache-2.0 */
/* spill.h - inside placement: what stays in host memory where the cards have no room for it.
 *
 * The policy.  Only where no split fits, and as little as can be: whole layers lie on the cards in
 * the order of their numbers, and of some of these layers the matrices stay in host memory and are
 * fetched in each step; norms, KV, embedding, output matrix and the buffers of a step stay on the
 * cards.  A card that spills also gives room to its landing, two of the largest layers that it
 * spills, so it spills three at least, or none.  They are spread evenly among its layers, so that
 * each is fetched while others are computed.  Of all ways the one that fetches for the shortest
 * time is taken, by the rates of the cards' ways to the host where the box states them all, else
 * the one that fetches the least; that one decides, too, whether it can be done with so much host
 * memory. */
#ifndef OCTARC_PLACEMENT_SPILL_H
#define OCTARC_PLACEMENT_SPILL_H

#include "daemon/placement/search.h"

/* Shares within the cards' capacities and so many bytes of host memory; output matrix and embedding
 * whole where that can be, else in quarters on any cards.  False: there are none. */
bool spill_find(const struct box *box, uint64_t host_bytes, struct share shares[CARDS_MAX]);

/* The least bytes of host memory with which it can be done, these two whole; UINT64_MAX: it cannot.
 */
uint64_t spill_least(const struct box *box);

/* What shares leave in host memory. */
uint64_t spill_bytes(const struct box *box, const struct share shares[CARDS_MAX]);

#endif
