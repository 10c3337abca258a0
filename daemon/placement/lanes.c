/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.c - the search for lanes of each card.
 *
 * What a card needs depends on the others in one number: the slots that all of them fill, for every
 * card collects the sums of all lanes (scratch.h). */
#include <string.h>

#include "daemon/placement/search.h"

/* A share of lanes [begin, end), with eighths [vocab, vocab_end) of the two big matrices. */
static struct share share_of(const struct box *box, uint32_t begin, uint32_t end, uint32_t vocab,
                             uint32_t vocab_end) {
    const struct model_params *p = &box->input->model->params;
    struct share s = {.vocab_begin = vocab, .vocab_end = vocab_end};
    if (begin < end) {
        s.layer_end = p->n_layers;
        s.lane_begin = begin;
        s.lane_end = end;
    }
    if (!p->tied) {
        s.embd_begin = vocab;
        s.embd_end = vocab_end;
    }
    return s;
}

/* Step to the next way of cutting LANES into n runs of at least one lane; false after the last. */
static bool next_edges(uint32_t *edges, uint32_t n) {
    for (uint32_t i = n - 1; i > 0; i--)
        if (edges[i] > edges[i - 1] + 1) {
            edges[i]--;
            for (uint32_t j = i + 1; j < n; j++)
                edges[j] = LANES - (n - j);
            return true;
        }
    return false;
}

bool lanes_find_all(const struct box *box, uint32_t cards, struct share shares[CARDS_MAX]) {
    uint32_t edges[CARDS_MAX + 1] = {0}, card[CARDS_MAX], n = 0;
    for (uint32_t i = 0; i < box->n; i++)
        if (cards >> i & 1)
            card[n++] = i;
    /* Longest run first: at most 35 ways (7 choose 3), so all of them are looked at. */
    for (uint32_t i = 1; i <= n; i++)
        edges[i] = LANES - (n - i);
    do {
        uint32_t n_slots = 0;
        bool fits = true;
        for (uint32_t i = 0; i < n; i++)
            n_slots += box->costs.nodes[edges[i]][edges[i + 1]];
        for (uint32_t i = 0; i < n && fits; i++) {
            struct share *s = &shares[card[i]];
            *s = share_of(box, edges[i], edges[i + 1], edges[i], edges[i + 1]);
            fits = costs_of(&box->costs, s, n_slots) <= box->limit[card[i]];
        }
        if (fits)
            return true;
    } while (next_edges(edges, n));
    return false;
}

/* A step of the search for a given count of slots: the first cards hold lanes [0, lanes) and fill
 * `nodes` slots; of the vocabulary they hold eighths [0, vocab), which is as many as they can.  To
 * have placed more of it is never worse. */
struct reach {
    int8_t vocab;         /* -1: impossible */
    uint8_t lanes, nodes; /* before the last of these cards */
};

/* More than `reached` eighths, from `vocab` on; -1: there is no room. */
static int8_t furthest(const struct box *box, uint32_t i, uint32_t begin, uint32_t end,
                       uint32_t vocab, uint32_t n_slots, int32_t reached) {
    const struct costs *c = &box->costs;
    const struct bounds *b = &box->bounds;
    const uint64_t limit = box->limit[i];
    const uint32_t n_layers = begin < end ? box->input->model->params.n_layers : 0;
    const uint64_t scratch =
        n_layers ? c->scratch_lanes[begin][end] + n_slots * c->scratch_slot : 0;
    const uint64_t layers =
        n_layers ? c->lanes[begin][end][n_layers] + n_layers * c->lanes_kv[begin][end] : 0;
    const uint32_t cards = box->input->model->params.tied ? b->head : b->head & b->embd;
    const int32_t least = reached >= (int32_t)vocab ? reached + 1 : (int32_t)vocab;
    if (layers + scratch > limit)
        return -1;
    for (uint32_t v = (cards >> i & 1 ? LANES : vocab) + 1; (int32_t)v-- > least;) {
        if (layers + costs_beside(c, scratch, vocab, v, vocab, v) <= limit)
            return (int8_t)v;
    }
    return -1;
}

uint32_t lanes_most(const struct box *box, uint32_t card, uint32_t n_slots) {
    const uint64_t slots = n_slots * box->costs.scratch_slot;
    uint32_t most = box->bounds.lanes >> card & 1 ? LANES : 0;
    while (most > 0 && box->costs.least_lanes[most] + slots > box->limit[card])
        most--;
    return most;
}

struct search {
    const struct box *box;
    uint32_t n_slots;
    uint32_t most[CARDS_MAX];     /* lanes of each card … */
    uint32_t rest[CARDS_MAX + 1]; /* … and of all from this one on */
};

/* False: the cards have no room for all lanes. */
static bool open_search(struct search *s, const struct box *box, uint32_t n_slots) {
    s->box = box;
    s->n_slots = n_slots;
    s->rest[box->n] = 0;
    for (uint32_t i = box->n; i-- > 0;) {
        s->most[i] = lanes_most(box, i, n_slots);
        s->rest[i] = s->rest[i + 1] + s->most[i];
    }
    return s->rest[0] >= LANES;
}

static void extend(const struct search *s, uint32_t i, uint32_t lanes, uint32_t nodes,
                   struct reach from, struct reach (*next)[LANES + 1]) {
    const struct costs *c = &s->box->costs;
    const uint32_t rest = s->rest[i + 1];
    for (uint32_t end = rest + lanes < LANES ? LANES - rest : lanes;
         end <= LANES && end - lanes <= s->most[i]; end++) {
        const uint32_t n = nodes + c->nodes[lanes][end];
        /* The other cards complete as many nodes at least as one would, and a lane each at most. */
        if (n + c->nodes[end][LANES] > s->n_slots || n + LANES - end < s->n_slots)
            continue;
        const int8_t far =
            furthest(s->box, i, lanes, end, (uint32_t)from.vocab, s->n_slots, next[end][n].vocab);
        if (far > next[end][n].vocab)
            next[end][n] = (struct reach){far, (uint8_t)lanes, (uint8_t)nodes};
    }
}

static bool find_with(const struct search *s, struct share shares[CARDS_MAX]) {
    const struct box *box = s->box;
    const uint32_t n_slots = s->n_slots;
    struct reach reach[CARDS_MAX + 1][LANES + 1][LANES + 1];
    memset(reach, -1, (box->n + 1) * sizeof *reach);
    reach[0][0][0].vocab = 0;
    for (uint32_t i = 0; i < box->n; i++)
        for (uint32_t l = 0; l <= LANES; l++)
            for (uint32_t k = 0; k <= n_slots; k++)
                if (reach[i][l][k].vocab >= 0)
                    extend(s, i, l, k, reach[i][l][k], reach[i + 1]);
    if (reach[box->n][LANES][n_slots].vocab != LANES)
        return false;
    for (uint32_t i = box->n, l = LANES, k = n_slots; i > 0; i--) {
        const struct reach r = reach[i][l][k], before = reach[i - 1][r.lanes][r.nodes];
        shares[i - 1] = share_of(box, r.lanes, l, (uint32_t)before.vocab, (uint32_t)r.vocab);
        l = r.lanes;
        k = r.nodes;
    }
    return true;
}

bool lanes_find_any(const struct box *box, struct share shares[CARDS_MAX]) {
    struct search s;
    for (uint32_t n_slots = 1; n_slots <= LANES && open_search(&s, box, n_slots); n_slots++)
        if (find_with(&s, shares))
            return true;
    return false;
}
