/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/search.h"

#include <string.h>

#include "daemon/placement/topology.h"

#define LIMIT_MAX (UINT64_C(1) << 60)

bool box_is_clique(const struct box *box, uint32_t cards) {
    for (uint32_t i = 0; i < box->n; i++)
        if (cards >> i & 1 && cards & ~(box->direct[i] | 1u << i))
            return false;
    return true;
}

static bool may_grow(const struct box *box, uint32_t cards) {
    for (uint32_t i = 0; i < box->n; i++)
        if (!(cards >> i & 1) && box_is_clique(box, cards | 1u << i))
            return true;
    return false;
}

static void find_cliques(struct box *box) {
    box->n_cliques = 0;
    for (uint32_t size = box->n; size > 0; size--)
        for (uint32_t cards = 1; cards < 1u << box->n; cards++)
            if ((uint32_t)__builtin_popcount(cards) == size && box_is_clique(box, cards) &&
                !may_grow(box, cards))
                box->cliques[box->n_cliques++] = (uint8_t)cards;
}

static void find_direct(struct box *box, const struct topology *t) {
    for (uint32_t a = 0; a < box->n; a++)
        for (uint32_t b = 0; b < box->n; b++)
            if (a != b && (!t || (t->links[box->card[a]][box->card[b]].mode == LINK_DIRECT &&
                                  t->links[box->card[b]][box->card[a]].mode == LINK_DIRECT)))
                box->direct[a] |= (uint8_t)(1u << b);
    find_cliques(box);
}

void box_push_card(struct box *box, uint64_t capacity) {
    for (uint32_t i = 0; i < box->n; i++)
        box->direct[i] |= (uint8_t)(1u << box->n);
    box->direct[box->n] = (uint8_t)((1u << box->n) - 1);
    box->capacity[box->n++] = capacity;
    find_cliques(box);
}

void box_pop_card(struct box *box) {
    box->n--;
    for (uint32_t i = 0; i < box->n; i++)
        box->direct[i] &= (uint8_t)((1u << box->n) - 1);
    find_cliques(box);
}

void box_open(struct box *box, const struct plan *plan, const struct plan_input *input) {
    box->input = input;
    box->plan = plan;
    box->n = 0;
    memset(box->direct, 0, sizeof box->direct);
    for (uint32_t i = 0; i < input->n_cards; i++)
        if (input->online[i]) {
            box->card[box->n] = i;
            box->capacity[box->n++] = input->capacity_bytes[i];
        }
    box->n_contexts = 1;
    find_direct(box, input->topology);
    bounds_open(&box->bounds, plan, input, box->card, box->n);
    costs_weights(&box->costs, input);
    box_context(box);
}

void box_context(struct box *box) {
    costs_context(&box->costs, box->plan, box->input, box->n_contexts);
}

void box_contexts(struct box *box, uint32_t n_contexts) {
    box->n_contexts = n_contexts;
    costs_contexts(&box->costs, box->plan, n_contexts);
}

uint32_t box_ways(enum split split, enum way ways[WAY_COUNT]) {
    uint32_t n = 0;
    if (split != SPLIT_TENSOR) {
        ways[n++] = WAY_LAYERS;
        ways[n++] = WAY_LAYERS_CUT_HEAD;
    }
    if (split != SPLIT_LAYER) {
        ways[n++] = WAY_LANES;
        ways[n++] = WAY_LANES_CUT_HEAD;
    }
    if (split == SPLIT_HYBRID || split == SPLIT_AUTO)
        ways[n++] = WAY_GROUPS;
    return n;
}

static void set_limits(struct box *box, uint64_t factor) {
    for (uint32_t i = 0; i < box->n; i++) {
        const double scaled = (double)box->capacity[i] * (double)factor / FACTOR_ONE;
        box->limit[i] = factor == FACTOR_ONE         ? box->capacity[i]
                        : scaled > (double)LIMIT_MAX ? LIMIT_MAX
                                                     : (uint64_t)scaled;
    }
}

void box_limit(struct box *box) {
    set_limits(box, FACTOR_ONE);
}

/* Most of what a search asks for is answered here. */
bool box_may_fit(const struct box *box) {
    const struct costs *c = &box->costs;
    const uint32_t n_layers = box->input->model->params.n_layers;
    uint64_t room = 0;
    for (uint32_t i = 0; i < box->n; i++)
        room += box->limit[i] < LIMIT_MAX ? box->limit[i] : LIMIT_MAX;
    return room >=
           c->layers[n_layers] + n_layers * c->layer_kv + c->head[0][LANES] + c->embd[0][LANES];
}

/* Whole layers in the first order of the cards that holds them: where nothing is bound there is
 * one.  Shares NULL: only whether. */
static bool find_layers(struct box *box, bool cut_head, struct share *shares) {
    for (uint32_t positions = 0; positions < 1u << box->n; positions++) {
        if (!bounds_order(&box->bounds, box->n, positions, box->order))
            continue;
        if (layers_fit(box, cut_head))
            return !shares || layers_find(box, cut_head, shares);
        if (!box->bounds.any)
            return false;
    }
    return false;
}

/* The cards of a clique that may hold lanes, where these may hold the like eighths of both big
 * matrices, too; else 0. */
static uint32_t may_hold_alike(const struct box *box, uint32_t clique) {
    const struct bounds *b = &box->bounds;
    const uint32_t lanes = clique & b->lanes;
    const uint32_t both = b->head & (box->input->model->params.tied ? BOUNDS_FREE : b->embd);
    return lanes & ~both ? 0 : lanes;
}

/* Lanes in the first of the cliques that holds them: the other cards have no room meanwhile. */
static bool find_lanes(struct box *box, enum way way, uint64_t factor,
                       struct share shares[CARDS_MAX]) {
    for (uint32_t k = 0; k < box->n_cliques; k++) {
        set_limits(box, factor);
        for (uint32_t i = 0; i < box->n; i++)
            if (!(box->cliques[k] >> i & 1))
                box->limit[i] = 0;
        memset(shares, 0, CARDS_MAX * sizeof *shares);
        const uint32_t alike = may_hold_alike(box, box->cliques[k]);
        if (box_may_fit(box) && (way == WAY_LANES ? alike && lanes_find_all(box, alike, shares)
                                                  : lanes_find_any(box, shares)))
            return true;
    }
    return false;
}

static bool find(struct box *box, enum way way, uint64_t factor, struct share *shares) {
    struct share unused[CARDS_MAX];
    set_limits(box, factor);
    if (!box_may_fit(box))
        return false;
    switch (way) {
    case WAY_LAYERS:
    case WAY_LAYERS_CUT_HEAD:
        return find_layers(box, way == WAY_LAYERS_CUT_HEAD, shares);
    case WAY_LANES:
    case WAY_LANES_CUT_HEAD:
        return find_lanes(box, way, factor, shares ? shares : unused);
    case WAY_GROUPS:
        return runs_find(box, shares);
    case WAY_COUNT:
        break;
    }
    return false;
}

bool box_fits_way(struct box *box, enum way way) {
    return find(box, way, FACTOR_ONE, NULL);
}

bool box_fits(struct box *box, enum split split) {
    return (split != SPLIT_TENSOR && box_fits_way(box, WAY_LAYERS_CUT_HEAD)) ||
           (split != SPLIT_LAYER && box_fits_way(box, WAY_LANES_CUT_HEAD)) ||
           ((split == SPLIT_HYBRID || split == SPLIT_AUTO) && box_fits_way(box, WAY_GROUPS));
}

/* The least factor above `none`, with which nothing fits, up to `all`, with which it does; within a
 * 1 / FACTOR_ONE of it.  The limits and shares are those of that factor then. */
static uint64_t narrow(struct box *box, enum way way, uint64_t none, uint64_t all,
                       struct share shares[CARDS_MAX]) {
    const uint64_t step = all > FACTOR_ONE ? all / FACTOR_ONE : 1;
    while (all - none > step) {
        const uint64_t middle = none + (all - none) / 2;
        if (find(box, way, middle, NULL))
            all = middle;
        else
            none = middle;
    }
    find(box, way, all, shares);
    return all;
}

bool box_choose(struct box *box, enum way way, struct share shares[CARDS_MAX]) {
    if (!find(box, way, FACTOR_ONE, NULL))
        return false;
    narrow(box, way, 0, FACTOR_ONE, shares);
    if (way == WAY_LAYERS || way == WAY_LAYERS_CUT_HEAD)
        layers_balance(box, shares);
    return true;
}

uint64_t box_grow(struct box *box, enum way way, struct share shares[CARDS_MAX]) {
    uint64_t all = FACTOR_ONE;
    while (!find(box, way, all, NULL))
        all *= 2;
    return narrow(box, way, all / 2, all, shares);
}
