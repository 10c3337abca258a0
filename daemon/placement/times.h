/* SPDX-License-Identifier: Apache-2.0 */
/* times.h - inside placement: how long each share of a model takes for a decoded token, as tables.
 *
 * The same model of a step as predict.h, cut into parts that depend on one card, one run of lanes
 * and one kind of layer, so that a search may ask for thousands of plans.  Cards are those of the
 * box (search.h), by its index. */
#ifndef OCTARC_PLACEMENT_TIMES_H
#define OCTARC_PLACEMENT_TIMES_H

#include "daemon/placement/search.h"

/* Layers whose tensors have the same types are of one kind; of more kinds, the last stands for the
 * rest. */
#define TIMES_KINDS_MAX 8

/* Seconds of the phases of one layer, on one card. */
struct pass {
    double qkv, attention, out, gate_up, down;
};

/* The lanes of a group's cards, and what follows from them. */
struct group {
    uint8_t cards; /* bit per card of the box; 0: none */
    uint8_t n_slots;
    uint8_t lane_begin[CARDS_MAX], lane_end[CARDS_MAX];
    double layer[TIMES_KINDS_MAX]; /* seconds of a layer */
    double head;                   /* of the output matrix, cut like the lanes */
};

struct times {
    const struct box *box;
    bool known; /* the box states it all; else every card and link counts alike */
    bool filled;
    uint32_t n_kinds;
    uint8_t kind_of[LAYERS_MAX];
    uint32_t n_of_kind[TIMES_KINDS_MAX];
    struct pass passes[TIMES_KINDS_MAX][CARDS_MAX][LANES + 1][LANES + 1];
    double head[CARDS_MAX][LANES + 1][LANES + 1];
    struct plan_card heads[LANES + 1][LANES + 1]; /* which heads go with lanes */
    double row_bytes, kv_bytes;                   /* a hidden row; one head's K and V of a token */
    double bytes_per_s[CARDS_MAX], int8_ops_per_s[CARDS_MAX], f16_flops_per_s[CARDS_MAX];
    double row_s[CARDS_MAX][CARDS_MAX], kv_s[CARDS_MAX][CARDS_MAX]; /* over a link, [from][to] */
    double latency_s[CARDS_MAX][CARDS_MAX];
    uint8_t n_nodes[LANES + 1][LANES + 1]; /* sums that a card of these lanes sends */
};

/* Borrows the box; sets .known alone.  All else is there from times_fill() on, which does nothing
 * where it is. */
void times_open(struct times *times, const struct box *box);
void times_fill(struct times *times);

/* A hidden row from a card to each card of a group that is another. */
double times_hop(const struct times *times, uint32_t from, uint32_t cards);
/* Rows of the embedding from each card that has a part to each card of a group. */
double times_embed(const struct times *times, uint32_t holders, uint32_t cards);

/* Fill in the rest of a group whose cards and lanes are set: what its cards compute, then, added to
 * its layers, what they exchange, which may be nothing. */
void times_passes(const struct times *times, struct group *group);
void times_exchanges(const struct times *times, struct group *group);

#endif
