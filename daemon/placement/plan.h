/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - who holds what.
 *
 * A plan is a plain value computed from numbers: no card is touched here, so every rule of
 * placement is tested without hardware.  The engine executes a plan to the letter: ranges are
 * loaded where it says, programs are compiled from it, and the bytes it states are the bytes used.
 *
 * Cards keep their numbers: cards[i] is card i of the machine; one that is not online holds
 * nothing, and one that is may hold nothing: all its ranges are empty and all its bytes are 0.
 * Threads: no shared state.  A built plan never changes and may be read from any thread.
 */
#ifndef OCTARC_PLACEMENT_PLAN_H
#define OCTARC_PLACEMENT_PLAN_H

#include "daemon/device/device.h"

#define PLAN_REASON_MAX     160
#define PLAN_OUTPUTS_MIN    64     /* max_outputs is this, or max_sequences where that is more */
#define PLAN_WEIGHTS_HEADER 65536u /* bytes at the front of a card's weight memory */

enum split { SPLIT_AUTO, SPLIT_LAYER, SPLIT_TENSOR, SPLIT_HYBRID, SPLITS };

struct topology;
struct places;

struct plan_input {
    const struct model *model;
    const struct device_ops *backend;
    uint32_t n_cards;
    bool online[CARDS_MAX];
    uint64_t capacity_bytes[CARDS_MAX];
    /* How fast the cards and links are, for the choice; cards as here.  NULL: nothing is known, and
     * each link is direct. */
    const struct topology *topology;
    enum split split; /* SPLIT_AUTO: the one that is predicted to decode fastest; where nothing is
                         known the first of layer, tensor and hybrid that fits */
    uint32_t context; /* tokens of one sequence; 0 = min(trained, 4096) */
    uint32_t max_sequences; /* at once */
    uint32_t max_rows;      /* of a step; never more than the context */
    enum kv_type kv_type;
    uint64_t host_spill; /* bytes of weights that may stay in host memory, all cards together */
    const struct places *places; /* overrides by the user; NULL: none */
};

/* Rows [row_begin, row_end) x columns [col_begin, col_end) of a tensor, on one card. */
struct plan_range {
    uint32_t tensor; /* index into model.tensors */
    uint32_t card;
    uint64_t row_begin, row_end;
    uint64_t col_begin, col_end;
    uint64_t offset; /* in the card's AREA_WEIGHTS */
    uint64_t bytes;  /* packed */
    bool copy;       /* a read-mostly copy of a small tensor whose home is another card */
};

struct plan_card {
    bool online;
    uint64_t capacity_bytes;
    uint32_t layer_begin, layer_end; /* layers computed here */
    uint32_t lane_begin, lane_end;   /* of each of those layers */
    uint32_t head_begin, head_end;   /* query heads, by the attention lanes */
    uint32_t kv_begin, kv_end;       /* KV heads kept here (owned or copied) */
    uint32_t own_begin, own_end;     /* KV heads computed here */
    uint64_t vocab_begin, vocab_end; /* rows of the output matrix */
    uint64_t embd_begin, embd_end;   /* rows of the embedding */
    uint64_t weights_bytes;          /* header and ranges; 0: no range */
    uint64_t kv_bytes;
    uint64_t scratch_bytes;
    /* Spilled: the matrices of some of its layers stay in host memory, evenly between the others,
     * and are fetched, each before it is its turn, to one half of the landing after the other. */
    uint32_t n_spilled;           /* layers; 0: none */
    uint64_t spilled_bytes;       /* of weights_bytes, the last of them: in host memory */
    uint64_t landing_bytes;       /* on the card: two of the largest of these layers */
    char reason[PLAN_REASON_MAX]; /* why the card holds this, in words */
};

struct plan {
    enum split split; /* never SPLIT_AUTO */
    uint32_t n_cards;
    struct plan_card cards[CARDS_MAX];
    struct plan_range *ranges; /* owned; by card, then tensor */
    size_t n_ranges;
    uint32_t context, max_sequences, max_rows;
    uint32_t max_outputs; /* rows of a step whose logits may be wanted */
    enum kv_type kv_type;
    uint32_t n_pages;             /* KV pages; a page lies on every card that keeps KV */
    bool dense, apart;            /* as its backend's: device_ops */
    char reason[PLAN_REASON_MAX]; /* of the split */
    uint64_t dropped_places;      /* overrides that are not kept, a bit each; not told an engine */
};

/* Overrides are kept where all cards are online; where one is gone, those of it are dropped, and
 * all of them where the cards that are left cannot hold the model otherwise.
 *
 * Borrows the input for the call.  On success *plan owns its ranges; plan_finish().  On failure
 * *plan is untouched:
 *   -EINVAL   no card online, context beyond the trained one or 0 sequences, an override of a card
 *             that there is not or that matches no tensor …
 *   -ENOTSUP  the backend cannot run a tensor's type, or the KV type with this head size
 *   -ENOSPC   it does not fit; err says what is missing on which card, where everything lies as
 *             well as it can, and every change by which it would fit, each of them tried: another
 *             split, the largest context, another card; or the bytes to be saved.  Where it would
 *             fit without the overrides, which of them is in the way
 *   -ENOMEM */
int plan_build(struct plan *plan, const struct plan_input *input, struct err *err);
void plan_finish(struct plan *plan);

/* Bytes of K and V that one card keeps for a page of `n_kv` heads in `n_layers` layers; its parts.
 */
uint64_t plan_kv_slot_bytes(enum kv_type type, uint32_t head_dim);

/* The card holds something of the plan, and so steps need it. */
static inline bool plan_uses(const struct plan *plan, uint32_t card) {
    const struct plan_card *c = &plan->cards[card];
    return c->weights_bytes + c->kv_bytes + c->scratch_bytes > 0;
}

/* Bytes on the card itself, of all purposes. */
static inline uint64_t plan_card_bytes(const struct plan_card *c) {
    return c->weights_bytes - c->spilled_bytes + c->kv_bytes + c->scratch_bytes + c->landing_bytes;
}

/* Of all cards: what stays in host memory. */
static inline uint64_t plan_host_bytes(const struct plan *plan) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        bytes += plan->cards[i].spilled_bytes;
    return bytes;
}

/* The matrices of a layer that is computed on the card lie in host memory. */
static inline bool plan_spills(const struct plan_card *c, uint32_t layer) {
    const uint32_t n = c->layer_end - c->layer_begin, i = layer - c->layer_begin;
    return layer >= c->layer_begin && i < n && (i + 1) * c->n_spilled / n != i * c->n_spilled / n;
}

/* A range of the plan lies in host memory. */
static inline bool plan_spilled(const struct plan *plan, const struct plan_range *range) {
    const struct plan_card *c = &plan->cards[range->card];
    return c->spilled_bytes && range->offset >= c->weights_bytes - c->spilled_bytes;
}

/* The ranges of one card, which lie together; *n may be 0. */
const struct plan_range *plan_card_ranges(const struct plan *plan, uint32_t card, size_t *n);

const char *plan_split_name(enum split split);
/* The same part of the same tensor at the same place of a card's memory. */
bool plan_same_range(const struct plan_range *a, const struct plan_range *b);

#endif
