/* SPDX-License-Identifier: Apache-2.0 */
/* costs.h - inside placement: what each share of a model would cost, as tables.
 *
 * A search asks for thousands of shares; the bytes of a share are a sum of parts that depend on one
 * of its ranges alone, so each part is computed once, by the functions that compute the plan's own
 * bytes (share.h).  Tables are indexed [begin][end]. */
#ifndef OCTARC_PLACEMENT_COSTS_H
#define OCTARC_PLACEMENT_COSTS_H

#include "daemon/placement/share.h"

struct costs {
    uint32_t n_layers;
    uint8_t nodes[LANES + 1][LANES + 1]; /* sums that a card of these lanes fills in */
    /* Weights. */
    uint64_t lanes[LANES + 1][LANES + 1][LAYERS_MAX + 1]; /* lanes of layers 0 .. l - 1 */
    uint64_t layers[LAYERS_MAX + 1];                      /* whole layers 0 .. l - 1 */
    uint64_t matrices[LAYERS_MAX];       /* of a whole layer, what may be spilled */
    uint64_t head[LANES + 1][LANES + 1]; /* eighths of the output matrix, and its norm */
    uint64_t embd[LANES + 1][LANES + 1]; /* eighths of the embedding; tied: 0 */
    /* For so many contexts. */
    uint64_t layer_kv;                       /* one layer */
    uint64_t lanes_kv[LANES + 1][LANES + 1]; /* lanes of one layer */
    uint64_t least_lanes[LANES + 1]; /* a card with so many lanes of all layers, without slots */
    /* For a context's length. */
    uint64_t lanes_page[LANES + 1][LANES + 1];    /* one KV page of lanes of one layer */
    uint64_t scratch_embd;                        /* of a card with a part of the embedding alone */
    uint64_t scratch_both;                        /* counted in each of the next two */
    uint64_t scratch_lanes[LANES + 1][LANES + 1]; /* without slots */
    uint64_t scratch_head[LANES + 1][LANES + 1];
    uint64_t scratch_slot;
};

/* Fill the weights, then the rest for so many contexts of the length that the plan has; where only
 * their number is another, costs_contexts() is enough. */
void costs_weights(struct costs *costs, const struct plan_input *input);
void costs_context(struct costs *costs, const struct plan *plan, const struct plan_input *input,
                   uint32_t n_contexts);
void costs_contexts(struct costs *costs, const struct plan *plan, uint32_t n_contexts);

/* Bytes of a card beside its layers and their KV: eighths of the two matrices, header, and scratch,
 * of which that of the layers is given; 0 where there are no layers. */
static inline uint64_t costs_beside(const struct costs *c, uint64_t layers_scratch,
                                    uint32_t vocab_begin, uint32_t vocab_end, uint32_t embd_begin,
                                    uint32_t embd_end) {
    const uint64_t head = c->head[vocab_begin][vocab_end], embd = c->embd[embd_begin][embd_end];
    if (!layers_scratch && head + embd == 0)
        return 0;
    uint64_t bytes = PLAN_WEIGHTS_HEADER + head + embd + layers_scratch;
    if (head)
        bytes += c->scratch_head[vocab_begin][vocab_end];
    if (layers_scratch && head)
        bytes -= c->scratch_both;
    if (!layers_scratch && !head)
        bytes += c->scratch_embd;
    return bytes;
}

/* All bytes of a card with this share, where the cards of its layers fill n_slots slots. */
uint64_t costs_of(const struct costs *costs, const struct share *share, uint32_t n_slots);

#endif
