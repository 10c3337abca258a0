/* SPDX-License-Identifier: Apache-2.0 */
/* experts.c - what the operations of layers with experts launch.  Products of matrices are kept
 * apart before they are chosen by, or added up: one kernel for each tile of each expert. */
#include <string.h>

#include "daemon/device/level_zero/loading.h"
#include "daemon/device/pack.h"

static struct ze_hits hits_at(struct loading *l, uint32_t card, const struct hits *hits) {
    return (struct ze_hits){loading_at(l, card, AREA_SCRATCH, hits->offset, hits_bytes(*hits)),
                            hits->n_experts, hits->n_rows};
}

static u64 places_at(struct loading *l, uint32_t card, uint64_t offset, uint32_t n_used) {
    return loading_at(l, card, AREA_SCRATCH, offset, (uint64_t)l->device->max_rows * n_used * 4);
}

void load_route(struct loading *l, uint32_t card, const struct op *op) {
    const struct matrix *router = &op->route.router;
    const struct ze_matmul m = {
        .act = loading_act(l, card, &op->route.act),
        .w = loading_matrix(l, card, router),
        .out = loading_apart(l, card, op->route.apart, l->device->max_rows, router->rows),
        .part = loading_part(op->route.part)};
    const struct ze_route r = {.logits = m.out,
                               .routes = loading_rows(l, card, op->route.routes.rows),
                               .act = m.act,
                               .part = m.part,
                               .shared = loading_vector(l, card, op->route.shared, router->cols),
                               .bias = loading_vector(l, card, op->route.bias, router->rows),
                               .n = router->rows,
                               .n_used = op->route.routes.n_used,
                               .normed = op->route.normed,
                               .cols = router->cols};
    loading_launch(l, card, op, KERNEL_MATMUL, router->type, &m, sizeof m, tiles_of(router->rows),
                   BY_PART_BLOCK);
    if (!l->rc)
        l->launches[l->n - 1].part = op->route.part;
    loading_launch_part(l, card, op, KERNEL_ROUTE, &r, sizeof r, 0, op->route.part);
    loading_waits(l);
}

void load_dispatch(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_dispatch d = {
        .routes = loading_rows(l, card, op->dispatch.routes.rows),
        .hits = hits_at(l, card, &op->dispatch.hits),
        .places = places_at(l, card, op->dispatch.places, op->dispatch.routes.n_used),
        .n_used = op->dispatch.routes.n_used,
        .expert_begin = op->dispatch.expert_begin};
    loading_launch(l, card, op, KERNEL_DISPATCH, 0, &d, sizeof d, d.hits.n_experts, BY_ONE);
}

/* The rows of each hit, or with `picked` the step's that it is of, times its expert's matrix. */
static void launch_products(struct loading *l, uint32_t card, const struct op *op,
                            const struct ze_expert_matmul *m, uint32_t type,
                            const struct hits *hits, uint32_t n_used) {
    loading_launch(l, card, op, KERNEL_EXPERT_MATMUL, type, m, sizeof *m, tiles_of(m->n), BY_HIT);
    loading_by_hits(l, hits, n_used);
}

static void load_experts_apart(struct loading *l, uint32_t card, const struct op *op,
                               const struct ze_expert_gate_up *g) {
    const struct hits *hits = &op->expert_gate_up.hits;
    const uint32_t n_used = op->expert_gate_up.n_used;
    const struct ze_rows both =
        loading_apart(l, card, op->expert_gate_up.apart, 2 * (uint64_t)hits->n_rows, g->n);
    struct ze_expert_matmul m = {.act = g->act,
                                 .w = g->gate,
                                 .out = both,
                                 .hits = g->hits,
                                 .n = g->n,
                                 .picked = 1,
                                 .bias = g->gate_bias};
    struct ze_apart apart = {
        .gate = both, .out = g->out, .hits = g->hits, .n = g->n, .function = g->function};
    launch_products(l, card, op, &m, op->expert_gate_up.gate.type, hits, n_used);
    m.w = g->up;
    m.bias = g->up_bias;
    m.out.at += (u64)hits->n_rows * both.stride * 4;
    launch_products(l, card, op, &m, op->expert_gate_up.up.type, hits, n_used);
    apart.up = m.out;
    loading_launch(l, card, op, KERNEL_GATE_APART, 0, &apart, sizeof apart,
                   (g->n + ATOM - 1) / ATOM, BY_HIT_ROW);
    loading_by_hits(l, hits, n_used);
    loading_waits(l);
}

void load_expert_gate_up(struct loading *l, uint32_t card, const struct op *op) {
    const struct hits *hits = &op->expert_gate_up.hits;
    const struct ze_expert_gate_up g = {
        .act = loading_act(l, card, &op->expert_gate_up.act),
        .out = loading_act_rows(l, card, &op->expert_gate_up.out, hits->n_rows),
        .gate = loading_matrix(l, card, &op->expert_gate_up.gate),
        .up = loading_matrix(l, card, &op->expert_gate_up.up),
        .hits = hits_at(l, card, hits),
        .gate_bias =
            loading_vector(l, card, op->expert_gate_up.gate_bias, op->expert_gate_up.gate.rows),
        .up_bias = loading_vector(l, card, op->expert_gate_up.up_bias, op->expert_gate_up.up.rows),
        .n = op->expert_gate_up.gate.rows / hits->n_experts,
        .function = op->expert_gate_up.function};
    if (op->expert_gate_up.gate.type != op->expert_gate_up.up.type) {
        load_experts_apart(l, card, op, &g);
        return;
    }
    loading_launch(l, card, op, KERNEL_EXPERT_GATE_UP, op->expert_gate_up.gate.type, &g, sizeof g,
                   (g.n + ATOM - 1) / ATOM, BY_HIT);
    loading_by_hits(l, hits, op->expert_gate_up.n_used);
}

/* The edges of the card's lanes; the others are empty. */
static void put_edges(const struct op *op, const uint32_t edges[LANES + 1], u32 out[LANES + 1]) {
    const uint32_t begin = op->expert_down.lane_begin, end = op->expert_down.lane_end;
    for (uint32_t lane = 0; lane <= LANES; lane++)
        out[lane] = edges[lane < begin ? begin : lane > end ? end : lane];
}

void load_expert_down(struct loading *l, uint32_t card, const struct op *op) {
    const struct matrix *w = &op->expert_down.w, *shared = &op->expert_down.shared;
    const struct hits *hits = &op->expert_down.hits;
    const uint32_t n = op->expert_down.n;
    struct ze_expert_sum s = {.routes = loading_rows(l, card, op->expert_down.routes.rows),
                              .slots = loading_planes(l, card, op->expert_down.slots),
                              .n_used = op->expert_down.routes.n_used,
                              .expert_begin = op->expert_down.expert_begin};
    if (w->rows) {
        s.products = loading_apart(l, card, op->expert_down.apart, hits->n_rows, n);
        s.places = places_at(l, card, op->expert_down.places, s.n_used);
        const struct ze_expert_matmul m = {
            .act = loading_act_rows(l, card, &op->expert_down.act, hits->n_rows),
            .w = loading_matrix(l, card, w),
            .out = s.products,
            .hits = hits_at(l, card, hits),
            .bias = loading_vector(l, card, op->expert_down.bias, w->rows),
            .n = n};
        launch_products(l, card, op, &m, w->type, hits, s.n_used);
    }
    if (shared->rows) {
        s.shared_act = loading_act(l, card, &op->expert_down.shared_act);
        s.shared = loading_matrix(l, card, shared);
    }
    put_edges(op, op->expert_down.expert, s.expert);
    put_edges(op, op->expert_down.col, s.col);
    memcpy(s.slot, op->expert_down.slot, sizeof s.slot);
    loading_launch(l, card, op, KERNEL_EXPERT_SUM, shared->rows ? shared->type : w->type, &s,
                   sizeof s, tiles_of(n), BY_ROW_BLOCK);
    loading_waits(l);
}
