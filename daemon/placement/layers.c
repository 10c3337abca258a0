/* SPDX-License-Identifier: Apache-2.0 */
/* layers.c - the search for whole layers of each card. */
#include <string.h>

#include "daemon/placement/search.h"

#define IMPOSSIBLE UINT64_MAX

/* A step of the search: with the first cards, eighths [0, vocab) of the output matrix and [0, embd)
 * of the embedding have a home, and layers 0 .. layers - 1, which is as many as can.  To have
 * placed more layers is never worse, so nothing else need be remembered. */
struct reach {
    int32_t layers;      /* -1: impossible */
    uint8_t vocab, embd; /* before the last of these cards */
};

static uint64_t takes(const struct costs *c, uint32_t begin, uint32_t end) {
    return c->layers[end] - c->layers[begin] + (end - begin) * c->layer_kv;
}

/* How far the layers reach from `begin` on, for which there is so much room, up to `stop`; -1: no
 * further than is reached already. */
static int32_t furthest(const struct costs *c, uint64_t room, uint32_t begin, uint32_t stop,
                        int32_t reached) {
    uint32_t least = begin, most = stop;
    if (reached >= (int32_t)begin) {
        least = (uint32_t)reached + 1;
        if (least > most || takes(c, begin, least) > room)
            return -1;
    }
    while (least < most) {
        const uint32_t middle = (least + most + 1) / 2;
        if (takes(c, begin, middle) <= room)
            least = middle;
        else
            most = middle - 1;
    }
    return (int32_t)least;
}

/* Go on from one state over the card that is number `at` in the order.  What has a choice goes so
 * that the output matrix lies late and the embedding early: the first found is kept. */
static void extend(const struct box *box, uint32_t at, uint32_t stride, uint32_t vocab,
                   uint32_t embd, struct reach (*next)[LANES + 1], uint32_t layers) {
    const struct costs *c = &box->costs;
    const struct bounds *b = &box->bounds;
    const uint32_t i = box->order[at];
    const uint64_t limit = box->limit[i], scratch = c->scratch_lanes[0][LANES] + c->scratch_slot;
    const uint32_t stop = b->any ? b->stop[i][layers] : box->input->model->params.n_layers;
    const bool last = at + 1 == box->n; /* takes what is left of both matrices */
    for (uint32_t v = last ? LANES : vocab; v <= LANES; v += stride)
        for (uint32_t e = last ? LANES : embd; e <= LANES; e += stride) {
            struct reach *reach = &next[v][e];
            if (!bounds_allow_matrices(b, i, v > vocab, e > embd))
                break;
            if (reach->layers < (int32_t)layers && costs_beside(c, 0, vocab, v, embd, e) > limit)
                break; /* nor would more of the embedding fit */
            const uint64_t rest = costs_beside(c, scratch, vocab, v, embd, e);
            const int32_t far =
                furthest(c, limit > rest ? limit - rest : 0, layers, stop, reach->layers);
            if (far > reach->layers)
                *reach = (struct reach){far, (uint8_t)vocab, (uint8_t)embd};
        }
}

/* --- whether there are such shares --- */

/* Forget what holds no more of anything than another does: whatever follows it, holding less each,
 * follows the other too. */
static void drop_lesser(struct reach (*reach)[LANES + 1]) {
    int32_t most[LANES + 2][LANES + 2]; /* of all with as many eighths at least */
    for (uint32_t v = 0; v <= LANES + 1; v++)
        most[v][LANES + 1] = most[LANES + 1][v] = -1;
    for (uint32_t v = LANES + 1; v-- > 0;)
        for (uint32_t e = LANES + 1; e-- > 0;) {
            const int32_t a = most[v + 1][e], b = most[v][e + 1];
            const int32_t others = a > b ? a : b, mine = reach[v][e].layers;
            most[v][e] = mine > others ? mine : others;
            if (mine <= others)
                reach[v][e].layers = -1;
        }
}

static void start_reach(const struct box *box, struct reach (*first)[LANES + 1], uint32_t n) {
    for (uint32_t v = 0; v < n * (LANES + 1); v++)
        for (uint32_t e = 0; e <= LANES; e++)
            first[v][e].layers = -1;
    first[0][box->input->model->params.tied ? LANES : 0].layers = 0;
}

static void extend_all(const struct box *box, uint32_t at, uint32_t stride,
                       struct reach (*from)[LANES + 1], struct reach (*next)[LANES + 1]) {
    for (uint32_t v = 0; v <= LANES; v += stride)
        for (uint32_t e = LANES + 1; e-- > 0;)
            if (from[v][e].layers >= 0)
                extend(box, at, stride, v, e, next, (uint32_t)from[v][e].layers);
}

bool layers_fit(const struct box *box, bool cut_head) {
    const int32_t n_layers = (int32_t)box->input->model->params.n_layers;
    struct reach reach[2][LANES + 1][LANES + 1];
    start_reach(box, reach[0], 1);
    for (uint32_t i = 0; i < box->n; i++) {
        struct reach(*now)[LANES + 1] = reach[i % 2], (*next)[LANES + 1] = reach[(i + 1) % 2];
        memset(next, -1, sizeof reach[0]);
        drop_lesser(now);
        extend_all(box, i, cut_head ? 1 : LANES, now, next);
        if (next[LANES][LANES].layers == n_layers)
            return true; /* and nothing is left for the other cards */
    }
    return false;
}

/* --- the shares --- */

bool layers_find(const struct box *box, bool cut_head, struct share shares[CARDS_MAX]) {
    const struct model_params *p = &box->input->model->params;
    const uint32_t stride = cut_head ? 1 : LANES;
    struct reach reach[CARDS_MAX + 1][LANES + 1][LANES + 1];
    start_reach(box, reach[0], box->n + 1);
    for (uint32_t i = 0; i < box->n; i++)
        extend_all(box, i, stride, reach[i], reach[i + 1]);
    if (reach[box->n][LANES][LANES].layers != (int32_t)p->n_layers)
        return false;
    memset(shares, 0, CARDS_MAX * sizeof *shares);
    for (uint32_t i = box->n, v = LANES, e = LANES; i > 0; i--) {
        const struct reach r = reach[i][v][e];
        struct share *s = &shares[box->order[i - 1]];
        s->layer_begin = (uint32_t)reach[i - 1][r.vocab][r.embd].layers;
        s->layer_end = (uint32_t)r.layers;
        s->lane_end = s->layer_begin < s->layer_end ? LANES : 0;
        s->vocab_begin = r.vocab;
        s->vocab_end = v;
        s->embd_begin = r.embd;
        s->embd_end = e;
        v = r.vocab;
        e = r.embd;
    }
    return true;
}

/* How full card i is, squared, with layers [begin, end) beside its other things.  Scratch counts
 * with no layer too: what a first layer brings with it is no reason to leave a card idle. */
static uint64_t weigh(const struct box *box, uint32_t i, struct share share, uint32_t begin,
                      uint32_t end) {
    if (begin < end && !bounds_allow(&box->bounds, 1u << i, begin, end))
        return IMPOSSIBLE;
    share.layer_begin = begin;
    share.layer_end = end;
    share.lane_end = begin < end ? LANES : 0;
    uint64_t bytes = costs_of(&box->costs, &share, 1);
    if (bytes > box->limit[i])
        return IMPOSSIBLE;
    if (begin == end) {
        share.layer_begin = 0;
        share.layer_end = 1;
        share.lane_end = LANES;
        bytes = costs_of(&box->costs, &share, 1) - box->costs.layers[1] - box->costs.layer_kv;
    }
    const double full = (double)bytes / (double)box->capacity[i] * FACTOR_ONE;
    const uint64_t n = full < 1e8 ? (uint64_t)full : 100000000u;
    return n * n;
}

void layers_balance(const struct box *box, struct share shares[CARDS_MAX]) {
    const uint32_t n_layers = box->input->model->params.n_layers;
    /* sum[i][l]: of the weights of the first i cards when they hold layers 0 .. l - 1 in the best
     * way; from[i][l]: where the last of them begins then. */
    uint64_t sum[CARDS_MAX + 1][LAYERS_MAX + 1];
    uint16_t from[CARDS_MAX + 1][LAYERS_MAX + 1];
    for (uint32_t l = 0; l <= n_layers; l++)
        sum[0][l] = l ? IMPOSSIBLE : 0;
    for (uint32_t i = 0; i < box->n; i++)
        for (uint32_t l = 0; l <= n_layers; l++) {
            sum[i + 1][l] = IMPOSSIBLE;
            from[i + 1][l] = 0;
            for (uint32_t b = 0; b <= l; b++) {
                if (sum[i][b] == IMPOSSIBLE)
                    continue;
                const uint32_t card = box->order[i];
                const uint64_t mine = weigh(box, card, shares[card], b, l);
                if (mine != IMPOSSIBLE && sum[i][b] + mine < sum[i + 1][l]) {
                    sum[i + 1][l] = sum[i][b] + mine;
                    from[i + 1][l] = (uint16_t)b;
                }
            }
        }
    for (uint32_t i = box->n, l = n_layers; i > 0; l = from[i][l], i--) {
        struct share *s = &shares[box->order[i - 1]];
        s->layer_begin = from[i][l];
        s->layer_end = l;
        s->lane_end = s->layer_begin < s->layer_end ? LANES : 0;
    }
}
