/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h - where in a card's memory what it holds has its place, from one plan to the next.
 *
 * A range that a card keeps stays where it is.  What is new goes to where the plan in use has
 * nothing, into holes or behind its end: so while both are there a card needs room for the union of
 * their ranges, not for the sum.  What is not kept is a hole of the next plan, and its memory is
 * given back (device_ops.clear): addresses are plenty, and only ranges count.  K and V of a layer
 * have the same place in every plan with as many pages and the same KV heads on the card.
 *
 * Bytes.  Pure arithmetic; threads: no shared state. */
#ifndef OCTARC_PLACEMENT_LAYOUT_H
#define OCTARC_PLACEMENT_LAYOUT_H

#include "daemon/placement/plan.h"

/* Addresses of a card's weights are this many times its capacity. */
#define LAYOUT_ROOM_FACTOR 2u

/* Places for the card's ranges in `plan`: those of `held` that it keeps are where they are, all
 * others outside of them, and where `in_use` outside of all that is held.  -ENOSPC: `room` bytes of
 * addresses are too few, or the holes too small; -ENOMEM; the plan is untouched then. */
int layout_card(struct plan *plan, uint32_t card, const struct plan_range *held, size_t n_held,
                bool in_use, uint64_t room);

/* The same for memory in pieces, that end at borders[n]: no range lies on a border.  What is behind
 * the last one is one piece. */
int layout_card_in_pieces(struct plan *plan, uint32_t card, const struct plan_range *held,
                          size_t n_held, const uint64_t *borders, size_t n);
/* Where the last of `held` that the plan keeps on the card ends; 0: it keeps none. */
uint64_t layout_kept_end(const struct plan *plan, uint32_t card, const struct plan_range *held,
                         size_t n_held);

/* Bytes of addresses that a card's weights are given, at least; in a dense plan what they take. */
uint64_t layout_room(const struct plan *plan, uint32_t card);
/* Where the last range of the card ends; 0: it has none. */
uint64_t layout_end(const struct plan *plan, uint32_t card);

/* The same part of the same tensor, wherever it lies. */
bool layout_same_values(const struct plan_range *a, const struct plan_range *b);
/* Of the card's ranges in `then`, those that it has in `now`. */
uint64_t layout_kept_bytes(const struct plan *now, const struct plan *then, uint32_t card);
/* The card has weights in both plans, in the same memory.  What is spilled has to lie together
 * (plan.h), so a card that spills in either has memory of its own for each. */
bool layout_in_place(const struct plan *now, const struct plan *then, uint32_t card);
/* On the card: header, and the ranges of both plans, each once where they are in place. */
uint64_t layout_weights_bytes(const struct plan *now, const struct plan *then, uint32_t card);

/* The card has K and V in both plans, each layer's at the same place. */
bool layout_keeps_kv(const struct plan *now, const struct plan *then, uint32_t card);
/* Where all K and V of a plan lie: two plans of one model with the same (by all bytes) have each
 * token's at the same places of the same cards. */
struct kv_layout {
    uint32_t n_pages, type; /* enum kv_type */
    struct {
        uint32_t layer_begin, layer_end, kv_begin, kv_end;
        uint64_t bytes; /* 0: none, and zeros before */
    } cards[CARDS_MAX];
};
void layout_kv(const struct plan *plan, struct kv_layout *layout);
bool layout_same_kv(const struct kv_layout *a, const struct kv_layout *b);
/* Addresses of a card's K and V: of all of the model's layers; in a dense plan of its own. */
uint64_t layout_kv_room(const struct plan *plan, const struct model_params *params, uint32_t card);
/* Of them what a layer takes, and where one of the card's begins. */
uint64_t layout_kv_of_layer(const struct plan *plan, const struct model_params *params,
                            uint32_t card);
uint64_t layout_kv_at(const struct plan *plan, const struct model_params *params, uint32_t card,
                      uint32_t layer);
/* K and V of both plans; of layers that are kept, once. */
uint64_t layout_kv_bytes(const struct plan *now, const struct plan *then, uint32_t card);

/* No range of the card in `then` lies on one in `now`, but the same in the same place. */
bool layout_is_beside(const struct plan *now, const struct plan *then, uint32_t card);

/* What a card holds at most while `then` is prepared beside `now`, which serves. */
uint64_t layout_peak_bytes(const struct plan *now, const struct plan *then, uint32_t card);

/* It has not that much room, but room for each of the two: what is new on it may wait in host
 * memory until nothing of `now` is used any more. */
bool layout_is_staged(const struct plan *now, const struct plan *then, uint32_t card);
/* What waits there: the weights of a card that is staged, and its K and V; else 0.  Also of a card
 * that takes nothing new and has only no room for the buffers of both a little is counted. */
#define LAYOUT_STAGED_LEAST UINT64_C(4096)
uint64_t layout_staged_of(uint64_t new_weights);
uint64_t layout_staged_weights(const struct plan *now, const struct plan *then, uint32_t card);
uint64_t layout_staged_kv(const struct plan *now, const struct plan *then, uint32_t card);
/* Of all cards. */
uint64_t layout_staged_bytes(const struct plan *now, const struct plan *then);

#endif
