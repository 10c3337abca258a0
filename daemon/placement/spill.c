/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/spill.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/topology.h"

/* What layers [begin, end) of one card take when n of them are spilled, for each n asked for. */
struct table {
    uint32_t begin, end;
    uint64_t card[LAYERS_MAX + 1]; /* bytes on the card; 0: not asked yet */
    uint64_t host[LAYERS_MAX + 1]; /* bytes in host memory */
};

/* With cards 0 .. i - 1, layers 0 .. l - 1 and eighths [0, v) and [0, e) of the two big matrices
 * have a home: what that costs at least, and the last card's part of it. */
struct state {
    double cost; /* INFINITY: there is no way */
    uint16_t begin, n_spilled;
    uint8_t vocab, embd; /* before it */
};

struct search {
    const struct box *box;
    uint32_t stride;                   /* in eighths: where the two big matrices may be cut */
    double weight[CARDS_MAX];          /* of a byte that a card fetches */
    uint64_t blocks[LAYERS_MAX];       /* of what may be spilled of each layer, in bytes … */
    uint64_t most_bytes, least_blocks; /* … and of all the most bytes, and the least in blocks */
    struct table table;
    struct state of[CARDS_MAX + 1][LAYERS_MAX + 1][LANES + 1][LANES + 1];
};

/* The i-th of n layers that are spilled of m, from 0 on: as plan_spills() has it. */
static uint32_t spilled_layer(uint32_t i, uint32_t n, uint32_t m) {
    return ((i + 1) * m + n - 1) / n - 1;
}

/* What n spilled layers of m from `begin` on take in all, and the largest: layer after layer as
 * spilled_layer() has them, without its divisions. */
static void sum_spilled(const struct search *s, uint32_t begin, uint32_t n, uint32_t m,
                        uint64_t *bytes, uint64_t *blocks, uint64_t *largest) {
    const uint64_t *matrices = s->box->costs.matrices + begin;
    uint32_t at = 0, over = 0; /* i + 1 times m is `at` times n, and this over */
    *bytes = *blocks = *largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        at += m / n;
        over += m % n;
        at += over >= n;
        over -= over >= n ? n : 0;
        const uint32_t layer = at - (over == 0);
        *bytes += matrices[layer];
        *blocks += s->blocks[begin + layer];
        *largest = s->blocks[begin + layer] > *largest ? s->blocks[begin + layer] : *largest;
    }
}

static void open_table(struct search *s, uint32_t begin, uint32_t end) {
    const struct costs *c = &s->box->costs;
    struct table *t = &s->table;
    t->begin = begin;
    t->end = end;
    t->card[0] = c->layers[end] - c->layers[begin] + (end - begin) * c->layer_kv;
    t->host[0] = 0;
    memset(t->card + 1, 0, (end - begin) * sizeof *t->card);
}

static uint64_t card_bytes(struct search *s, uint32_t n) {
    struct table *t = &s->table;
    if (t->card[n] == 0 && n > 0) {
        uint64_t less, half;
        sum_spilled(s, t->begin, n, t->end - t->begin, &less, &t->host[n], &half);
        /* A block more: what is spilled begins with one. */
        t->card[n] = t->card[0] - less + 2 * half + LANDING_BLOCK;
    }
    return t->card[n];
}

/* The least n with which the layers of the table have room; -1: none. */
static int32_t count_spilled(struct search *s, uint64_t room) {
    const struct table *t = &s->table;
    if (t->card[0] <= room)
        return 0;
    /* Fewer would be too few, were each as large as the largest, and the landing the least. */
    const uint64_t over = t->card[0] - room + 2 * s->least_blocks + LANDING_BLOCK;
    const uint32_t m = t->end - t->begin;
    for (uint64_t n = (over + s->most_bytes - 1) / s->most_bytes; n <= m; n++)
        if (card_bytes(s, (uint32_t)n) <= room)
            return (int32_t)n;
    return -1;
}

static void find_extremes(struct search *s) {
    s->most_bytes = 1;
    s->least_blocks = UINT64_MAX;
    for (uint32_t l = 0; l < s->box->costs.n_layers; l++) {
        const uint64_t bytes = s->box->costs.matrices[l];
        s->blocks[l] = share_blocks(bytes);
        s->most_bytes = bytes > s->most_bytes ? bytes : s->most_bytes;
        s->least_blocks = s->blocks[l] < s->least_blocks ? s->blocks[l] : s->least_blocks;
    }
}

static void improve(struct state *state, double cost, const struct state *part) {
    if (cost >= state->cost)
        return;
    *state = *part;
    state->cost = cost;
}

/* Go on from one state over card i, with the layers of the table (none where it is empty). */
static void extend(struct search *s, uint32_t i, uint32_t vocab, uint32_t embd) {
    const struct box *box = s->box;
    const struct costs *c = &box->costs;
    const uint32_t stride = s->stride, begin = s->table.begin, end = s->table.end;
    const double before = s->of[i][begin][vocab][embd].cost;
    const uint64_t scratch = begin < end ? c->scratch_lanes[0][LANES] + c->scratch_slot : 0;
    if (before == INFINITY || !bounds_allow(&box->bounds, 1u << i, begin, end))
        return;
    for (uint32_t v = vocab; v <= LANES; v += stride)
        for (uint32_t e = embd; e <= LANES; e += stride) {
            if (!bounds_allow_matrices(&box->bounds, i, v > vocab, e > embd))
                break;
            const uint64_t rest = costs_beside(c, scratch, vocab, v, embd, e);
            const int32_t n =
                rest <= box->capacity[i] ? count_spilled(s, box->capacity[i] - rest) : -1;
            if (n < 0)
                continue;
            const struct state part = {0, (uint16_t)begin, (uint16_t)n, (uint8_t)vocab,
                                       (uint8_t)embd};
            improve(&s->of[i + 1][end][v][e], before + s->weight[i] * (double)s->table.host[n],
                    &part);
        }
}

static void extend_all(struct search *s, uint32_t i) {
    for (uint32_t v = 0; v <= LANES; v += s->stride)
        for (uint32_t e = 0; e <= LANES; e += s->stride)
            extend(s, i, v, e);
}

/* From fewer layers to more: whatever leads to a state comes before what goes on from it. */
static void search(struct search *s) {
    const struct model_params *p = &s->box->input->model->params;
    for (uint32_t i = 0; i <= s->box->n; i++)
        for (uint32_t l = 0; l <= p->n_layers; l++)
            for (uint32_t v = 0; v <= LANES; v++)
                for (uint32_t e = 0; e <= LANES; e++)
                    s->of[i][l][v][e].cost = INFINITY;
    s->of[0][0][0][p->tied ? LANES : 0].cost = 0;
    find_extremes(s);
    for (uint32_t begin = 0; begin <= p->n_layers; begin++) {
        open_table(s, begin, begin);
        for (uint32_t i = 0; i < s->box->n; i++)
            extend_all(s, i);
        for (uint32_t end = begin + 1; end <= p->n_layers; end++) {
            open_table(s, begin, end);
            for (uint32_t i = 0; i < s->box->n; i++)
                extend_all(s, i);
        }
    }
}

static bool read_shares(const struct search *s, struct share shares[CARDS_MAX]) {
    uint32_t l = s->box->input->model->params.n_layers, v = LANES, e = LANES;
    if (s->of[s->box->n][l][v][e].cost == INFINITY)
        return false;
    for (uint32_t i = s->box->n; i > 0; i--) {
        const struct state *state = &s->of[i][l][v][e];
        shares[i - 1] = (struct share){.layer_begin = state->begin,
                                       .layer_end = l,
                                       .lane_end = state->begin < l ? LANES : 0,
                                       .vocab_begin = state->vocab,
                                       .vocab_end = v,
                                       .embd_begin = state->embd,
                                       .embd_end = e,
                                       .n_spilled = state->n_spilled};
        l = state->begin;
        v = state->vocab;
        e = state->embd;
    }
    return true;
}

/* Seconds a byte where the box states all ways to the host: true; else bytes alone count. */
static bool weigh_by_time(struct search *s) {
    const struct topology *t = s->box->input->topology;
    for (uint32_t i = 0; i < s->box->n; i++) {
        const uint64_t rate = t ? topology_fetch_rate(t, s->box->card[i]) : 0;
        if (!rate)
            return false;
        s->weight[i] = 1 / (double)rate;
    }
    return true;
}

static void weigh_by_bytes(struct search *s) {
    for (uint32_t i = 0; i < s->box->n; i++)
        s->weight[i] = 1;
}

uint64_t spill_bytes(const struct box *box, const struct share shares[CARDS_MAX]) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < box->n; i++) {
        const struct share *s = &shares[i];
        for (uint32_t k = 0; k < s->n_spilled; k++)
            bytes += share_blocks(
                box->costs.matrices[s->layer_begin +
                                    spilled_layer(k, s->n_spilled, s->layer_end - s->layer_begin)]);
    }
    return bytes;
}

/* What cannot be spilled has room on the cards together. */
static bool may_fit(const struct box *box) {
    const struct costs *c = &box->costs;
    const uint32_t n_layers = box->input->model->params.n_layers;
    uint64_t need =
        c->layers[n_layers] + n_layers * c->layer_kv + c->head[0][LANES] + c->embd[0][LANES];
    for (uint32_t l = 0; l < n_layers; l++)
        need -= c->matrices[l];
    for (uint32_t i = 0; i < box->n; i++)
        need -= need < box->capacity[i] ? need : box->capacity[i];
    return need == 0;
}

/* With the two big matrices cut at such places. */
static bool find(struct search *s, uint32_t stride, uint64_t host_bytes,
                 struct share shares[CARDS_MAX]) {
    s->stride = stride;
    if (weigh_by_time(s)) {
        search(s);
        if (read_shares(s, shares) && spill_bytes(s->box, shares) <= host_bytes)
            return true;
    }
    weigh_by_bytes(s);
    search(s);
    return read_shares(s, shares) && spill_bytes(s->box, shares) <= host_bytes;
}

bool spill_find(const struct box *box, uint64_t host_bytes, struct share shares[CARDS_MAX]) {
    struct search *s = host_bytes && may_fit(box) ? malloc(sizeof *s) : NULL;
    bool found = false;
    if (s) {
        s->box = box;
        found = find(s, LANES, host_bytes, shares) || find(s, LANES / 4, host_bytes, shares);
    }
    free(s);
    return found;
}

uint64_t spill_least(const struct box *box) {
    struct search *s = may_fit(box) ? malloc(sizeof *s) : NULL;
    struct share shares[CARDS_MAX];
    uint64_t bytes = UINT64_MAX;
    if (!s)
        return bytes;
    s->box = box;
    s->stride = LANES;
    weigh_by_bytes(s);
    search(s);
    if (read_shares(s, shares))
        bytes = spill_bytes(box, shares);
    free(s);
    return bytes;
}
