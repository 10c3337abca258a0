/* SPDX-License-Identifier: Apache-2.0 */
/* share.h - inside placement: what a card takes of a model, and what follows from it.
 *
 * The searches (search.h) choose a share for every card; share_apply() turns it into the fields of
 * struct plan_card from layer_begin to embd_end, from which all the rest is derived. */
#ifndef OCTARC_PLACEMENT_SHARE_H
#define OCTARC_PLACEMENT_SHARE_H

#include "daemon/placement/plan.h"

/* Empty where all begins equal their ends: such a card takes no part and holds no byte. */
struct share {
    uint32_t layer_begin, layer_end;
    uint32_t lane_begin, lane_end;   /* of those layers */
    uint32_t vocab_begin, vocab_end; /* eighths of the output matrix (tied: and embedding) */
    uint32_t embd_begin, embd_end;   /* eighths of the embedding; tied: not looked at */
    uint32_t n_spilled;              /* layers whose matrices stay in host memory */
};

/* What is spilled of a layer takes whole blocks, so that it can be fetched. */
static inline uint64_t share_blocks(uint64_t bytes) {
    return (bytes + LANDING_BLOCK - 1) / LANDING_BLOCK * LANDING_BLOCK;
}

/* Heads, KV heads and vocabulary rows of a card, from its share. */
void share_apply(struct plan_card *card, const struct model_params *p, const struct share *share);

/* The share that a card of a plan has: what share_apply() made it of, or the same. */
void share_taken(struct share *share, const struct plan_card *card, const struct model_params *p);

/* The context of a plan, and the rows of a step, of which it never has more than tokens. */
void share_context(struct plan *plan, const struct plan_input *input, uint32_t context);
uint32_t share_context_pages(const struct plan *plan);

/* What a card holds of a tensor: false if nothing, else *range without its offset. */
bool share_range(const struct plan *plan, const struct model *model, uint32_t card, uint32_t tensor,
                 struct plan_range *range);

/* The ranges of all cards, and what they and the scratch take: -ENOMEM. */
int share_ranges(struct plan *plan, const struct plan_input *input);

/* Bytes of a range as the backend packs it. */
uint64_t share_packed_bytes(const struct plan_input *input, const struct plan_range *range);

/* Bytes of all of a card's ranges and their header, as the backend packs them; 0: no range. */
uint64_t share_weights_bytes(const struct plan *plan, const struct plan_input *input,
                             uint32_t card);
/* Bytes of one KV page on a card. */
uint64_t share_page_bytes(const struct plan *plan, const struct model_params *p, uint32_t card);
uint64_t share_scratch_bytes(const struct plan *plan, const struct model *model, uint32_t card);

#endif
