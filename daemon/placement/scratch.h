/* SPDX-License-Identifier: Apache-2.0 */
/* scratch.h - how a card's scratch memory is laid out for a step.
 *
 * Pure arithmetic, so that the plan can state the bytes before anything is loaded and the program
 * can be compiled from the same numbers. */
#ifndef OCTARC_PLACEMENT_SCRATCH_H
#define OCTARC_PLACEMENT_SCRATCH_H

#include "daemon/placement/plan.h"

struct scratch {
    struct rows hidden;     /* n_embd: the residual stream */
    struct rows qkv;        /* the card's query heads, then owned keys, then owned values */
    struct planes slots;    /* n_embd; n_slots of them */
    struct rows logits;     /* the card's part of the vocabulary; max_outputs rows */
    struct routes routes;   /* of models with experts */
    struct rows sum;        /* n_embd: what a layer adds, before its norm; of models with one */
    struct activation norm; /* n_embd */
    struct activation attention;           /* the card's query heads */
    struct activation ffn;                 /* the card's FFN columns */
    struct hits hits;                      /* of the card's experts; n_experts 0: it has none */
    struct activation experts;             /* n_ff_expert; hits.n_rows rows */
    uint64_t apart, apart_experts, places; /* of a plan with such room: program.h */
    uint32_t n_slots;                      /* of all cards that share a layer with this one */
    uint64_t bytes;
};

/* The layout for one card of a plan whose cards' layers, lanes, heads and vocabulary are set. */
void scratch_layout(struct scratch *scratch, const struct model *model, const struct plan *plan,
                    uint32_t card);

/* The forms of the activations, which are the same for every card of every plan; and the layout
 * where they are known. */
struct scratch_forms {
    uint32_t norm, attention, ffn, experts;
    bool post_norms;               /* the model norms sums before they are added */
    bool ffn_apart, experts_apart; /* gate and up of a layer are of different types */
};
struct scratch_forms scratch_forms(const struct model *model);
void scratch_layout_in(struct scratch *scratch, const struct scratch_forms *forms,
                       const struct model_params *params, const struct plan *plan, uint32_t card);

/* FORM_* that matrices of this tensor type read. */
uint32_t scratch_form(uint32_t tensor_type);

/* The nodes of the lane tree that lanes [begin, end) complete, from the left: the least set of
 * whole subtrees that covers them.  Returns how many (at most 6). */
uint32_t scratch_nodes(uint32_t lane_begin, uint32_t lane_end, uint8_t nodes[LANES]);

#endif
