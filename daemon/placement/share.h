/* SPDX-License-Identifier: Apache-2.0 */
/* share.h - inside placement: which layers and lanes each card takes, and what follows from it.
 *
 * A share is the part of struct plan_card from layer_begin to embd_end.  split_layer() and
 * split_tensor() choose the layers and lanes; share_derive() fills in the rest. */
#ifndef OCTARC_PLACEMENT_SHARE_H
#define OCTARC_PLACEMENT_SHARE_H

#include "daemon/placement/plan.h"

struct err;

/* Heads, KV heads and vocabulary rows of every card, from its layers and lanes. */
void share_derive(struct plan *plan, const struct model *model);

/* What a card holds of a tensor: false if nothing, else *range without its offset. */
bool share_range(const struct plan *plan, const struct model *model, uint32_t card, uint32_t tensor,
                 struct plan_range *range);

/* Bytes of all of a card's ranges and their header, as the backend packs them. */
uint64_t share_weights_bytes(const struct plan *plan, const struct plan_input *input,
                             uint32_t card);
/* Bytes of one KV page on a card. */
uint64_t share_page_bytes(const struct plan *plan, const struct model_params *p, uint32_t card);
uint64_t share_scratch_bytes(const struct plan *plan, const struct model *model, uint32_t card);

/* Choose layers and lanes for plan->cards (online and capacity are set).  Both look at every
 * possibility and take the one whose fullest card is the least full, so that a model which fits in
 * any way fits in this one; ties go to the earlier card. */
int split_layer(struct plan *plan, const struct plan_input *input, struct err *err);
int split_tensor(struct plan *plan, const struct plan_input *input, struct err *err);

#endif
