/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/groups.h"

#include <string.h>

/* Step to the next way of counting out LANES to n cards, from {LANES, 0 …} on; false after the
 * last, {0 …, LANES}. */
static bool next_counts(uint8_t *counts, uint32_t n) {
    for (uint32_t i = n - 1; i-- > 0;)
        if (counts[i]) {
            const uint8_t rest = counts[n - 1];
            counts[n - 1] = 0;
            counts[i]--;
            counts[i + 1] = (uint8_t)(rest + 1);
            return true;
        }
    return false;
}

/* Lanes by these counts. */
static void set_lanes(struct group *g, const uint8_t *counts, uint32_t n) {
    uint8_t next[LANES + 2] = {0}, lane = 0; /* the first lane of the cards with so many */
    for (uint32_t i = 0; i < n; i++)
        next[counts[i]]++;
    for (uint32_t count = LANES; count > 0; count--) {
        const uint8_t n_cards = next[count];
        next[count] = lane;
        lane = (uint8_t)(lane + n_cards * count);
    }
    g->cards = 0;
    for (uint32_t i = 0; i < n; i++) {
        g->cards |= (uint8_t)((counts[i] > 0) << i);
        g->lane_begin[i] = counts[i] ? next[counts[i]] : 0;
        g->lane_end[i] = next[counts[i]] = (uint8_t)(g->lane_begin[i] + counts[i]);
    }
}

/* Of all layers, each counted. */
static double layers_seconds(const struct times *t, const struct group *g) {
    double seconds = 0;
    for (uint32_t k = 0; k < t->n_kinds; k++)
        seconds += t->n_of_kind[k] * g->layer[k];
    return seconds;
}

/* Fill in the group and its seconds for all layers; false where these are no fewer than `least`,
 * which most groups show before their exchanges are counted. */
static bool is_faster(const struct times *t, struct group *g, double least, double *seconds) {
    times_passes(t, g);
    if (layers_seconds(t, g) >= least)
        return false;
    times_exchanges(t, g);
    *seconds = layers_seconds(t, g);
    return *seconds < least;
}

void groups_fill_single(const struct times *t, struct group groups[GROUPS]) {
    memset(groups, 0, GROUPS * sizeof *groups);
    for (uint32_t i = 0; i < t->box->n; i++) {
        struct group *g = &groups[1u << i];
        g->cards = (uint8_t)(1u << i);
        g->lane_end[i] = LANES;
        times_passes(t, g);
        times_exchanges(t, g);
    }
}

static bool is_no_slower(const struct times *t, const struct group *a, const struct group *b) {
    bool no_slower = a->cards && a->head <= b->head;
    for (uint32_t k = 0; k < t->n_kinds; k++)
        no_slower &= a->layer[k] <= b->layer[k];
    return no_slower;
}

/* The cards of a group that is slower than a part of it do better as runs of their own. */
static void drop_slower(const struct times *t, struct group groups[GROUPS]) {
    for (uint32_t cards = GROUPS - 1; cards > 0; cards--)
        for (uint32_t part = (cards - 1) & cards; part && groups[cards].cards;
             part = (part - 1) & cards)
            if (is_no_slower(t, &groups[part], &groups[cards]))
                groups[cards].cards = 0;
}

void groups_fill(const struct times *t, struct group groups[GROUPS]) {
    static const double never = 1e300;
    double least[GROUPS], seconds;
    uint8_t counts[CARDS_MAX] = {LANES};
    struct group g = {0};
    memset(groups, 0, GROUPS * sizeof *groups);
    for (uint32_t i = 0; i < GROUPS; i++)
        least[i] = never;
    do {
        set_lanes(&g, counts, t->box->n);
        if (!box_is_clique(t->box, g.cards))
            continue;
        if (is_faster(t, &g, least[g.cards], &seconds)) {
            least[g.cards] = seconds;
            groups[g.cards] = g;
        }
    } while (next_counts(counts, t->box->n));
    drop_slower(t, groups);
}

/* A big matrix lies whole on the card to which it is bound, else in eighths like the lanes. */
static void cut_matrix(const struct group *g, uint8_t bound, uint32_t card, uint32_t *begin,
                       uint32_t *end) {
    if (bound == BOUNDS_FREE) {
        *begin = g->lane_begin[card];
        *end = g->lane_end[card];
    } else if (bound >> card & 1) {
        *end = LANES;
    }
}

static bool holds_all(const struct times *t, const struct group *g,
                      struct share shares[CARDS_MAX]) {
    const struct model_params *p = &t->box->input->model->params;
    const struct bounds *b = &t->box->bounds;
    memset(shares, 0, CARDS_MAX * sizeof *shares);
    for (uint32_t i = 0; i < t->box->n; i++) {
        struct share *s = &shares[i];
        if (g->cards >> i & 1) {
            s->layer_end = p->n_layers;
            s->lane_begin = g->lane_begin[i];
            s->lane_end = g->lane_end[i];
        }
        cut_matrix(g, b->head, i, &s->vocab_begin, &s->vocab_end);
        if (!p->tied)
            cut_matrix(g, b->embd, i, &s->embd_begin, &s->embd_end);
        if (costs_of(&t->box->costs, s, g->n_slots) > t->box->limit[i])
            return false;
    }
    return true;
}

static double head_seconds(const struct times *t, const struct group *g) {
    const uint8_t bound = t->box->bounds.head;
    if (bound == BOUNDS_FREE)
        return g->head;
    return t->head[__builtin_ctz(bound)][0][LANES] +
           (g->cards & bound ? 0 : times_hop(t, (uint32_t)__builtin_ctz(g->cards), bound));
}

static double embed_seconds(const struct times *t, const struct group *g) {
    const struct bounds *b = &t->box->bounds;
    const uint8_t bound = t->box->input->model->params.tied ? b->head : b->embd;
    return times_embed(t, bound == BOUNDS_FREE ? g->cards : bound, g->cards);
}

/* The most lanes that each card has room for; false: they are too few on every clique. */
static bool find_most(const struct box *box, uint32_t most[CARDS_MAX]) {
    bool enough = false;
    for (uint32_t i = 0; i < box->n; i++)
        most[i] = lanes_most(box, i, 1);
    for (uint32_t k = 0; k < box->n_cliques && !enough; k++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < box->n; i++)
            n += box->cliques[k] >> i & 1 ? most[i] : 0;
        enough = n >= LANES;
    }
    return enough;
}

static bool may_have(const struct box *box, const uint8_t *counts, const uint32_t *most) {
    uint32_t cards = 0;
    for (uint32_t i = 0; i < box->n; i++) {
        if (counts[i] > most[i])
            return false;
        cards |= (uint32_t)(counts[i] > 0) << i;
    }
    return box_is_clique(box, cards);
}

/* What takes less time to find out comes first. */
static bool is_better(const struct times *t, struct group *g, double *least,
                      struct share shares[CARDS_MAX]) {
    times_passes(t, g);
    if (layers_seconds(t, g) >= *least || !holds_all(t, g, shares))
        return false;
    times_exchanges(t, g);
    if (layers_seconds(t, g) >= *least)
        return false;
    const double seconds = layers_seconds(t, g) + head_seconds(t, g) + embed_seconds(t, g);
    if (seconds >= *least)
        return false;
    *least = seconds;
    return true;
}

bool groups_find(const struct times *t, struct share shares[CARDS_MAX]) {
    uint8_t counts[CARDS_MAX] = {LANES};
    uint32_t most[CARDS_MAX];
    struct share made[CARDS_MAX];
    double least = 1e300;
    struct group g = {0};
    if (!find_most(t->box, most))
        return false;
    do {
        if (!may_have(t->box, counts, most))
            continue;
        set_lanes(&g, counts, t->box->n);
        if (is_better(t, &g, &least, made))
            memcpy(shares, made, sizeof made);
    } while (next_counts(counts, t->box->n));
    return least < 1e300;
}
