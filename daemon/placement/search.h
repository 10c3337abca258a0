/* SPDX-License-Identifier: Apache-2.0 */
/* search.h - inside placement: the choice of a share for every card.
 *
 * These searches look at bytes alone: layers and lanes run over the cards in the order of their
 * numbers (layers: but for the cards to which an override binds some), and so do the eighths of the
 * output matrix and of the embedding; groups, and the parts of each, are in any order.  Which cards
 * take part in which of these, and with how much, is searched exactly.  A card may hold nothing, so
 * a box that is given another card, or more bytes, still holds what it held.  Where the box states
 * how fast it is, pipeline.h looks first, and these find what it does not. */
#ifndef OCTARC_PLACEMENT_SEARCH_H
#define OCTARC_PLACEMENT_SEARCH_H

#include "daemon/placement/bounds.h"
#include "daemon/placement/costs.h"

/* How a model may lie on the cards.  Of layers, and of lanes, the later way holds whatever the
 * earlier one does, at the price of more exchanges in a step. */
enum way {
    WAY_LAYERS,          /* whole layers; output matrix and embedding each whole on one card */
    WAY_LAYERS_CUT_HEAD, /* the same; these two in eighths, on any cards */
    WAY_LANES,           /* lanes on every card of a clique, and the like eighths of these two */
    WAY_LANES_CUT_HEAD,  /* lanes, and eighths of these two (together), on any cards of a clique */
    WAY_GROUPS, /* runs of layers, in lanes on cliques of cards that share no card; the output
                 * matrix cut like the lanes of the last of them, the embedding like those of the
                 * first */
    WAY_COUNT,
};

/* No eight cards have more sets of direct pairs that another card cannot join. */
#define CLIQUES_MAX 18

/* Factors are in units of 1 / FACTOR_ONE. */
#define FACTOR_ONE (UINT64_C(1) << 16)

/* The cards to be filled, and what shares of the model cost for one context. */
struct box {
    const struct plan_input *input;
    const struct plan *plan; /* of which the context and the sizes of a step are read */
    struct costs costs;
    uint32_t n; /* online cards */
    uint32_t card[CARDS_MAX];
    uint64_t capacity[CARDS_MAX];
    uint64_t limit[CARDS_MAX];    /* bytes that a search may use */
    uint32_t n_contexts;          /* whose KV must find room */
    uint8_t direct[CARDS_MAX];    /* bit per card of the box: both ways are direct links */
    uint32_t n_cliques;           /* the largest sets of cards all of whose pairs are direct … */
    uint8_t cliques[CLIQUES_MAX]; /* … the one with the most cards first */
    struct bounds bounds;         /* what the overrides leave the cards */
    uint8_t order[CARDS_MAX];     /* of the cards' runs, in a search for whole layers */
};

/* Borrows both; after a change of the plan's context, box_context(). */
void box_open(struct box *box, const struct plan *plan, const struct plan_input *input);
void box_context(struct box *box);
/* KV must find room of so many. */
void box_contexts(struct box *box, uint32_t n_contexts);

/* A further card, each of whose links is direct; and without it again. */
void box_push_card(struct box *box, uint64_t capacity);
void box_pop_card(struct box *box);
/* The limits are the capacities. */
void box_limit(struct box *box);
/* Whether lanes of a layer may be shared by these cards of the box (a bit each): only direct links
 * are between them. */
/* Whether the limits together are as much as the model whole, without scratch: where they are not,
 * no way fits, for a cut saves nothing. */
bool box_may_fit(const struct box *box);
bool box_is_clique(const struct box *box, uint32_t cards);

/* The ways of a split, first choice first; SPLIT_HYBRID and SPLIT_AUTO have all.  Returns how many.
 */
uint32_t box_ways(enum split split, enum way ways[WAY_COUNT]);

/* Whether the model fits, in any way of a split. */
bool box_fits(struct box *box, enum split split);
bool box_fits_way(struct box *box, enum way way);

/* The share of each of the box's cards in this way: the one whose fullest card is the least full.
 * False: it does not fit. */
bool box_choose(struct box *box, enum way way, struct share shares[CARDS_MAX]);

/* The least factor by which the capacities would have to grow for this way, and the shares then. */
uint64_t box_grow(struct box *box, enum way way, struct share shares[CARDS_MAX]);

/* Of the ways: shares within the limits, zeroed before (runs_find() does; NULL: only whether there
 * are).  False: there are none.  `cards`: a bit for each that must have lanes. */
bool layers_find(const struct box *box, bool cut_head, struct share shares[CARDS_MAX]);
bool layers_fit(const struct box *box, bool cut_head); /* whether there are, in less time */
bool lanes_find_all(const struct box *box, uint32_t cards, struct share shares[CARDS_MAX]);
bool lanes_find_any(const struct box *box, struct share shares[CARDS_MAX]);
bool runs_find(const struct box *box, struct share shares[CARDS_MAX]);
/* A card has no more lanes than this where so many slots are filled; nor has it with more slots. */
uint32_t lanes_most(const struct box *box, uint32_t card, uint32_t n_slots);

/* Move whole layers between the cards, within the limits, so that they are evenly full. */
void layers_balance(const struct box *box, struct share shares[CARDS_MAX]);

#endif
