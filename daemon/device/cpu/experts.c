/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/experts.h"

#include <math.h>
#include <string.h>

#include "daemon/device/cpu/gated.h"
#include "daemon/device/cpu/views.h"
#include "daemon/device/pack.h"

#define ROUTE_ROWS 16 /* rows that pass over the router together */
#define SUMS_BYTES                                                                                 \
    (256u << 10) /* of lanes and tiles that are summed together, where rows are few */

/* --- routes --- */

/* True: a comes before b among the experts of a row. */
static bool is_before(const float *logits, uint32_t a, uint32_t b) {
    return logits[a] > logits[b] || (isnan(logits[b]) && !isnan(logits[a]));
}

void experts_choose(const struct kernels *k, float *logits, uint32_t n, uint32_t n_used,
                    bool normed, uint32_t *ids, float *weights) {
    bool used[EXPERTS_MAX] = {false};
    float sum = 0;
    for (uint32_t i = 0; i < n_used; i++) {
        uint32_t best = n;
        for (uint32_t e = 0; e < n; e++)
            if (!used[e] && (best == n || is_before(logits, e, best)))
                best = e;
        used[best] = true;
    }
    const float total = k->soften(logits, n);
    for (uint32_t e = 0, i = 0; e < n; e++)
        if (used[e]) {
            ids[i] = e;
            weights[i++] = logits[e] / total;
        }
    for (uint32_t i = 0; normed && i < n_used; i++)
        sum += weights[i];
    for (uint32_t i = 0; normed && i < n_used; i++)
        weights[i] /= sum;
}

struct route_view {
    uint32_t *ids;
    float *weights, *shared;
};

static struct route_view route_at(const struct device *d, uint32_t card,
                                  const struct routes *routes, uint32_t row) {
    float *at = rows_at(d, card, routes->rows, row);
    return (struct route_view){(uint32_t *)(void *)at, at + routes->n_used,
                               at + 2 * routes->n_used};
}

/* ROUTE_ROWS rows of the part. */
static void run_route(struct device *d, uint32_t card, const struct op *op,
                      const struct step_params *p, uint32_t item, struct cpu_work *work) {
    const struct matmul m = matmul_at(d, card, &op->route.router, &op->route.act);
    const uint32_t row = row_part_begin(op->route.part, p->n_rows) + item * ROUTE_ROWS;
    const uint32_t left = row_part_end(op->route.part, p->n_rows) - row;
    const uint32_t n = left < ROUTE_ROWS ? left : ROUTE_ROWS, tiles = tiles_of(m.rows);
    const uint32_t step = panel_rows(m.type, m.cols);
    float logits[ROUTE_ROWS][EXPERTS_MAX];
    const float *gate = vector_at(d, card, op->route.shared);
    const float *bias = vector_at(d, card, op->route.bias);
    cpu_landing_need(d, card, &op->route.router, 0, tiles);
    for (uint32_t i = 0; i < n; i += step) {
        d->kernels->gather(&m, row + i, n - i < step ? n - i : step, &work->panels[0]);
        for (uint32_t tile = 0; tile < tiles; tile++)
            d->kernels->tile(&m, tile, &work->panels[0], &logits[i][tile * TILE], EXPERTS_MAX);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct route_view route = route_at(d, card, &op->route.routes, row + i);
        const float *x = m.act.f32 + (uint64_t)(row + i) * m.act.cols;
        for (uint32_t e = 0; bias && e < m.rows; e++)
            logits[i][e] += bias[e];
        experts_choose(d->kernels, logits[i], m.rows, op->route.routes.n_used, op->route.normed,
                       route.ids, route.weights);
        *route.shared = gate ? d->kernels->sigmoid(x, gate, m.cols) : 1.0f;
    }
}

/* --- hits --- */

struct hits_view {
    uint32_t *n, *expert, *begin, *rows;
    float *weights;
};

static struct hits_view hits_at(const struct device *d, uint32_t card, const struct hits *hits) {
    struct hits_view v = {.n = (uint32_t *)(void *)cpu_at(d, card, AREA_SCRATCH, hits->offset)};
    v.expert = v.n + 1;
    v.begin = v.expert + hits->n_experts;
    v.rows = v.begin + hits->n_experts + 1;
    v.weights = (float *)(void *)(v.rows + hits->n_rows);
    return v;
}

static void run_dispatch(struct device *d, uint32_t card, const struct op *op,
                         const struct step_params *p) {
    const struct routes *routes = &op->dispatch.routes;
    const struct hits_view hits = hits_at(d, card, &op->dispatch.hits);
    const uint32_t first = op->dispatch.expert_begin, n = op->dispatch.hits.n_experts;
    uint32_t next[EXPERTS_MAX] = {0}, at = 0;
    for (uint32_t row = 0; row < p->n_rows; row++) {
        const uint32_t *ids = route_at(d, card, routes, row).ids;
        for (uint32_t i = 0; i < routes->n_used; i++)
            if (ids[i] - first < n)
                next[ids[i] - first]++;
    }
    *hits.n = 0;
    for (uint32_t e = 0; e < n; e++) {
        const uint32_t rows = next[e];
        next[e] = at;
        if (rows) {
            hits.expert[*hits.n] = e;
            hits.begin[(*hits.n)++] = at;
        }
        at += rows;
    }
    hits.begin[*hits.n] = at;
    for (uint32_t row = 0; row < p->n_rows; row++) {
        const struct route_view route = route_at(d, card, routes, row);
        for (uint32_t i = 0; i < routes->n_used; i++)
            if (route.ids[i] - first < n) {
                const uint32_t to = next[route.ids[i] - first]++;
                hits.rows[to] = row;
                hits.weights[to] = route.weights[i];
            }
    }
}

/* The matrix of one expert out of those of all, `rows` rows each. */
static struct matmul one_of(struct matmul m, uint32_t expert, uint32_t rows) {
    const uint64_t tile = (uint64_t)((m.cols + ATOM - 1) / ATOM) * pack_atom_bytes(m.type);
    m.tiles += expert * (rows / TILE) * tile;
    m.rows = rows;
    return m;
}

/* The same of a bias, which there may not be. */
static const float *of_expert(const float *bias, uint32_t expert, uint32_t n) {
    return bias ? bias + (uint64_t)expert * n : NULL;
}

/* --- up --- */

/* Experts that as many rows use at most. */
static uint32_t most_hit(const struct hits *hits, uint32_t n_used, uint32_t n_rows) {
    const uint64_t all = (uint64_t)n_used * n_rows;
    return all < hits->n_experts ? (uint32_t)all : hits->n_experts;
}

static uint32_t width_of(const struct op *op) {
    return op->expert_gate_up.gate.rows / op->expert_gate_up.hits.n_experts;
}

/* Items are the atoms of one expert that is used after another. */
static void run_gate_up(struct device *d, uint32_t card, const struct op *op, uint32_t begin,
                        uint32_t end, struct cpu_work *work) {
    const struct matrix *gate = &op->expert_gate_up.gate, *up = &op->expert_gate_up.up;
    const struct hits_view hits = hits_at(d, card, &op->expert_gate_up.hits);
    const struct matmul gates = matmul_at(d, card, gate, &op->expert_gate_up.act);
    const struct matmul ups = matmul_at(d, card, up, &op->expert_gate_up.act);
    const float *gate_bias = vector_at(d, card, op->expert_gate_up.gate_bias);
    const float *up_bias = vector_at(d, card, op->expert_gate_up.up_bias);
    const uint32_t width = width_of(op), atoms = (width + ATOM - 1) / ATOM;
    struct gated g = {.function = op->expert_gate_up.function,
                      .out = act_at(d, card, &op->expert_gate_up.out)};
    for (uint32_t hit = begin / atoms; hit < *hits.n && hit * atoms < end; hit++) {
        const uint32_t from = hit * atoms < begin ? begin - hit * atoms : 0;
        const uint32_t to = end - hit * atoms < atoms ? end - hit * atoms : atoms;
        const uint32_t expert = hits.expert[hit], tile = expert * (width / TILE);
        const uint32_t last = 2 * to < width / TILE ? 2 * to : width / TILE;
        g.gate = one_of(gates, expert, width);
        g.up = one_of(ups, expert, width);
        g.gate_bias = of_expert(gate_bias, expert, width);
        g.up_bias = of_expert(up_bias, expert, width);
        g.gate.picked = g.up.picked = hits.rows + hits.begin[hit];
        g.n_rows = hits.begin[hit + 1] - hits.begin[hit];
        g.out_row = hits.begin[hit];
        cpu_landing_need(d, card, gate, tile + 2 * from, tile + last);
        cpu_landing_need(d, card, up, tile + 2 * from, tile + last);
        gated_atoms(d, &g, from, to, work);
    }
}

/* --- down --- */

/* Tiles [tile, tile + n_tiles) of all rows and the card's lanes, being summed:
 * [n_tiles][n_lanes][n_rows][TILE]. */
struct down {
    struct device *device;
    uint32_t card, n_rows, lane_begin, n_lanes;
    const struct op *op;
    uint32_t tile, n_tiles;
    float *one; /* what one expert makes of a panel: [PANEL_ROWS_MAX][TILE] */
    float *sums;
    struct panel *panel;
};

static float *sums_at(const struct down *s, uint32_t tile, uint32_t lane) {
    return s->sums + ((uint64_t)tile * s->n_lanes + lane - s->lane_begin) * s->n_rows * TILE;
}

/* Every row's sums, so that nothing is left of the shared expert but what it counts. */
static void weigh_shared(const struct down *s) {
    for (uint32_t row = 0; row < s->n_rows; row++) {
        const float counts = *route_at(s->device, s->card, &s->op->expert_down.routes, row).shared;
        for (uint32_t i = 0; i < s->n_tiles * s->n_lanes; i++)
            for (uint32_t t = 0; t < TILE; t++)
                s->sums[((uint64_t)i * s->n_rows + row) * TILE + t] *= counts;
    }
}

/* Every lane begins with the shared expert's. */
static void begin_with_shared(const struct down *s) {
    const struct op *op = s->op;
    const struct matrix *w = &op->expert_down.shared;
    const struct matmul m = matmul_at(s->device, s->card, w, &op->expert_down.shared_act);
    const uint32_t step = panel_rows(m.type, m.cols);
    int8_t slot[TREE_NODES];
    memset(slot, NO_SLOT, sizeof slot);
    for (uint32_t l = 0; l < s->n_lanes; l++)
        slot[LANES + s->lane_begin + l] = (int8_t)l;
    cpu_landing_need(s->device, s->card, w, s->tile, s->tile + s->n_tiles);
    for (uint32_t row = 0; row < s->n_rows; row += step) {
        const uint32_t n = s->n_rows - row < step ? s->n_rows - row : step;
        s->device->kernels->gather(&m, row, n, s->panel);
        s->device->kernels->lanes(&m, s->tile, s->n_tiles, s->panel, op->expert_down.col, slot,
                                  sums_at(s, 0, s->lane_begin) + (uint64_t)row * TILE,
                                  (uint64_t)s->n_rows * TILE,
                                  (uint64_t)s->n_lanes * s->n_rows * TILE);
    }
    weigh_shared(s);
}

static void add_expert(const struct down *s, const struct hits_view *hits, uint32_t hit,
                       uint32_t lane) {
    const struct op *op = s->op;
    const uint32_t n = op->expert_down.n, expert = hits->expert[hit];
    const struct matmul m =
        one_of(matmul_at(s->device, s->card, &op->expert_down.w, &op->expert_down.act), expert, n);
    const float *bias = of_expert(vector_at(s->device, s->card, op->expert_down.bias), expert, n);
    const uint32_t step = panel_rows(m.type, m.cols), first = expert * (n / TILE) + s->tile;
    cpu_landing_need(s->device, s->card, &op->expert_down.w, first, first + s->n_tiles);
    for (uint32_t at = hits->begin[hit], some; at < hits->begin[hit + 1]; at += some) {
        some = hits->begin[hit + 1] - at < step ? hits->begin[hit + 1] - at : step;
        s->device->kernels->gather(&m, at, some, s->panel);
        for (uint32_t i = 0; i < s->n_tiles; i++) {
            s->device->kernels->tile(&m, s->tile + i, s->panel, s->one, TILE);
            for (uint32_t k = 0; bias && k < some * TILE; k++)
                s->one[k] += bias[(s->tile + i) * TILE + k % TILE];
            s->device->kernels->add_weighted(sums_at(s, i, lane), hits->rows + at,
                                             hits->weights + at, s->one, some);
        }
    }
}

static void add_experts(const struct down *s) {
    const struct hits_view hits = hits_at(s->device, s->card, &s->op->expert_down.hits);
    uint32_t lane = s->lane_begin;
    for (uint32_t hit = 0; hit < *hits.n; hit++) {
        while (hits.expert[hit] >= s->op->expert_down.expert[lane + 1])
            lane++;
        add_expert(s, &hits, hit, lane);
    }
}

/* Whether the model has anything in a lane. */
static bool is_present(const struct op *op, uint32_t lane) {
    return op->expert_down.expert[lane] < op->expert_down.expert[lane + 1] ||
           (op->expert_down.shared.rows &&
            op->expert_down.col[lane] < op->expert_down.col[lane + 1]);
}

/* The sums of a node's lanes as a tree, in the place of the first of them that is present, which is
 * returned; LANES: none is. */
static uint32_t add_up(const struct down *s, uint32_t tile, uint32_t lane, uint32_t width) {
    if (width == 1)
        return is_present(s->op, lane) ? lane : LANES;
    const uint32_t left = add_up(s, tile, lane, width / 2);
    const uint32_t right = add_up(s, tile, lane + width / 2, width / 2);
    if (left == LANES || right == LANES)
        return left == LANES ? right : left;
    float *to = sums_at(s, tile, left);
    const float *from = sums_at(s, tile, right);
    for (uint64_t i = 0; i < (uint64_t)s->n_rows * TILE; i++)
        to[i] += from[i];
    return left;
}

static void put_slots(const struct down *s) {
    const struct op *op = s->op;
    const uint64_t run = (uint64_t)s->n_rows * TILE;
    const uint64_t plane = (uint64_t)s->device->max_rows * op->expert_down.slots.stride;
    float *slots =
        (float *)(void *)cpu_at(s->device, s->card, AREA_SCRATCH, op->expert_down.slots.offset);
    for (uint32_t node = 1; node < TREE_NODES; node++) {
        const uint32_t width = LANES >> (31 - __builtin_clz(node));
        if (op->expert_down.slot[node] == NO_SLOT)
            continue;
        for (uint32_t i = 0; i < s->n_tiles; i++) {
            const uint32_t lane = add_up(s, i, node * width - LANES, width);
            if (lane == LANES)
                continue;
            memcpy(slots + (uint64_t)op->expert_down.slot[node] * plane + (s->tile + i) * run,
                   sums_at(s, i, lane), run * sizeof(float));
        }
    }
}

static uint64_t tile_bytes(const struct op *op, uint32_t n_rows) {
    return (op->expert_down.lane_end - op->expert_down.lane_begin) * (uint64_t)n_rows * TILE *
           sizeof(float);
}

static void run_down(struct device *d, uint32_t card, const struct op *op,
                     const struct step_params *p, uint32_t begin, uint32_t end,
                     struct cpu_work *work) {
    const uint64_t bytes = tile_bytes(op, p->n_rows);
    const uint32_t step = bytes < SUMS_BYTES ? (uint32_t)(SUMS_BYTES / bytes) : 1;
    struct down s = {.device = d,
                     .card = card,
                     .n_rows = p->n_rows,
                     .lane_begin = op->expert_down.lane_begin,
                     .n_lanes = op->expert_down.lane_end - op->expert_down.lane_begin,
                     .op = op,
                     .one = work->sums,
                     .sums = work->sums + PANEL_ROWS_MAX * TILE,
                     .panel = &work->panels[0]};
    for (s.tile = begin; s.tile < end; s.tile += s.n_tiles) {
        s.n_tiles = end - s.tile < step ? end - s.tile : step;
        memset(s.sums, 0, s.n_tiles * bytes);
        if (op->expert_down.shared.rows)
            begin_with_shared(&s);
        if (op->expert_down.hits.n_experts) /* a card may have a shared expert's columns alone */
            add_experts(&s);
        put_slots(&s);
    }
}

uint64_t experts_sums_bytes(const struct op *op, uint32_t max_rows) {
    const uint64_t tile = op->kind == OP_EXPERT_DOWN ? tile_bytes(op, max_rows) : 0;
    if (!tile)
        return 0;
    return PANEL_ROWS_MAX * TILE * sizeof(float) + (tile > SUMS_BYTES ? tile : SUMS_BYTES);
}

/* --- all --- */

uint32_t experts_items(const struct op *op, const struct step_params *p) {
    switch (op->kind) {
    case OP_ROUTE:
        return (row_part_end(op->route.part, p->n_rows) -
                row_part_begin(op->route.part, p->n_rows) + ROUTE_ROWS - 1) /
               ROUTE_ROWS;
    case OP_DISPATCH:
        return 1;
    case OP_EXPERT_GATE_UP:
        return most_hit(&op->expert_gate_up.hits, op->expert_gate_up.n_used, p->n_rows) *
               ((width_of(op) + ATOM - 1) / ATOM);
    case OP_EXPERT_DOWN:
        return tiles_of(op->expert_down.n);
    default:
        return 0;
    }
}

void experts_run(struct device *d, uint32_t card, const struct op *op, const struct step_params *p,
                 uint32_t begin, uint32_t end, struct cpu_work *work) {
    switch (op->kind) {
    case OP_ROUTE:
        for (uint32_t i = begin; i < end; i++)
            run_route(d, card, op, p, i, work);
        break;
    case OP_DISPATCH:
        run_dispatch(d, card, op, p);
        break;
    case OP_EXPERT_GATE_UP:
        run_gate_up(d, card, op, begin, end, work);
        break;
    case OP_EXPERT_DOWN:
        run_down(d, card, op, p, begin, end, work);
        break;
    default:
        break;
    }
}
