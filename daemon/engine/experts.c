/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/experts.h"

#include <string.h>

static bool has_shared(const struct model_op *op) {
    return op->tensor[EXPERTS_FFN_DOWN] != NO_TENSOR;
}

/* What the matrices of the operation read of the normed rows. */
static uint32_t forms_read(const struct compiler *c, const struct model_op *op) {
    uint32_t forms = 0;
    for (int slot = EXPERTS_ROUTER; slot <= EXPERTS_FFN_UP; slot++)
        if (slot != EXPERTS_DOWN && op->tensor[slot] != NO_TENSOR)
            forms |= compiler_form_of(c, op->tensor[slot]);
    return forms;
}

static void emit_route(struct compiler *c, uint32_t group, uint32_t card,
                       const struct model_op *op) {
    const struct vector shared = compiler_vector_from(c, card, op->tensor[EXPERTS_SHARED_GATE], 0);
    const struct vector bias = compiler_vector_from(c, card, op->tensor[EXPERTS_ROUTER_BIAS], 0);
    struct op *e = compiler_emit(c, card, OP_ROUTE, op->layer);
    e->route.act = compiler_with_forms(c->scratch[card].norm, forms_read(c, op));
    e->route.router = compiler_matrix_of(c, card, op->tensor[EXPERTS_ROUTER]);
    e->route.shared = shared;
    e->route.bias = bias;
    e->route.normed = c->model->params.experts_normed;
    e->route.part = compiler_part_of(group, card);
    e->route.routes = c->scratch[card].routes;
    e->route.apart = c->scratch[card].apart;
}

/* Every card of the group has routed its part of the rows and pulls the others'. */
static void share_routes(struct compiler *c, uint32_t group, int32_t layer) {
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && group >> src & 1 && src != dst) {
                struct op *op = compiler_emit_exchange_rows(c, EXCHANGE_ROWS, src, dst, layer,
                                                            c->scratch[src].routes.rows,
                                                            c->scratch[dst].routes.rows);
                op->exchange.from = compiler_part_of(group, src);
                op->exchange.row_bytes =
                    routes_width(c->model->params.n_experts_used) * (uint64_t)4;
            }
}

static void emit_dispatch(struct compiler *c, uint32_t card, int32_t layer,
                          const uint32_t lanes[LANES + 1]) {
    if (!c->scratch[card].hits.n_experts)
        return;
    struct op *e = compiler_emit(c, card, OP_DISPATCH, layer);
    e->dispatch.routes = c->scratch[card].routes;
    e->dispatch.expert_begin = lanes[c->plan->cards[card].lane_begin];
    e->dispatch.hits = c->scratch[card].hits;
    e->dispatch.places = c->scratch[card].places;
}

static void emit_expert_gate_up(struct compiler *c, uint32_t card, const struct model_op *op) {
    if (!c->scratch[card].hits.n_experts)
        return;
    const uint32_t gate = op->tensor[EXPERTS_GATE], up = op->tensor[EXPERTS_UP];
    const struct vector gate_bias = compiler_vector_from(c, card, op->tensor[EXPERTS_GATE_BIAS], 0);
    const struct vector up_bias = compiler_vector_from(c, card, op->tensor[EXPERTS_UP_BIAS], 0);
    struct op *e = compiler_emit(c, card, OP_EXPERT_GATE_UP, op->layer);
    e->expert_gate_up.act = compiler_with_forms(c->scratch[card].norm, compiler_form_of(c, gate) |
                                                                           compiler_form_of(c, up));
    e->expert_gate_up.gate = compiler_matrix_of(c, card, gate);
    e->expert_gate_up.up = compiler_matrix_of(c, card, up);
    e->expert_gate_up.gate_bias = gate_bias;
    e->expert_gate_up.up_bias = up_bias;
    e->expert_gate_up.function = c->model->params.gate;
    e->expert_gate_up.n_used = c->model->params.n_experts_used;
    e->expert_gate_up.hits = c->scratch[card].hits;
    e->expert_gate_up.out = compiler_with_forms(c->scratch[card].experts,
                                                compiler_form_of(c, op->tensor[EXPERTS_DOWN]));
    e->expert_gate_up.apart = c->scratch[card].apart_experts;
}

static void emit_shared_gate_up(struct compiler *c, uint32_t card, const struct model_op *op) {
    const uint32_t gate = op->tensor[EXPERTS_FFN_GATE], up = op->tensor[EXPERTS_FFN_UP];
    if (!has_shared(op) || !compiler_has(c, card, gate))
        return;
    struct op *e = compiler_emit(c, card, OP_GATE_UP, op->layer);
    e->gate_up.act = compiler_with_forms(c->scratch[card].norm,
                                         compiler_form_of(c, gate) | compiler_form_of(c, up));
    e->gate_up.gate = compiler_matrix_of(c, card, gate);
    e->gate_up.up = compiler_matrix_of(c, card, up);
    e->gate_up.function = c->model->params.gate;
    e->gate_up.out = compiler_with_forms(c->scratch[card].ffn,
                                         compiler_form_of(c, op->tensor[EXPERTS_FFN_DOWN]));
    e->gate_up.apart = c->scratch[card].apart;
}

static void emit_expert_down(struct compiler *c, uint32_t card, const struct model_op *op,
                             const uint32_t lanes[LANES + 1], const int8_t *slots) {
    const struct plan_card *pc = &c->plan->cards[card];
    const uint32_t down = op->tensor[EXPERTS_DOWN], ffn = op->tensor[EXPERTS_FFN_DOWN];
    const struct vector bias = compiler_has(c, card, down)
                                   ? compiler_vector_from(c, card, op->tensor[EXPERTS_DOWN_BIAS], 0)
                                   : (struct vector){0};
    struct op *e = compiler_emit(c, card, OP_EXPERT_DOWN, op->layer);
    e->expert_down.act = compiler_with_forms(c->scratch[card].experts, compiler_form_of(c, down));
    e->expert_down.w = compiler_matrix_of(c, card, down);
    e->expert_down.bias = bias;
    e->expert_down.n = c->model->params.n_embd;
    e->expert_down.hits = c->scratch[card].hits;
    e->expert_down.routes = c->scratch[card].routes;
    e->expert_down.expert_begin = lanes[pc->lane_begin];
    e->expert_down.apart = c->scratch[card].apart;
    e->expert_down.places = c->scratch[card].places;
    if (has_shared(op)) {
        e->expert_down.shared_act =
            compiler_with_forms(c->scratch[card].ffn, compiler_form_of(c, ffn));
        e->expert_down.shared = compiler_matrix_of(c, card, ffn);
    }
    e->expert_down.lane_begin = pc->lane_begin;
    e->expert_down.lane_end = pc->lane_end;
    for (uint32_t l = pc->lane_begin; l <= pc->lane_end; l++) {
        e->expert_down.expert[l] = lanes[l] - lanes[pc->lane_begin];
        e->expert_down.col[l] = c->ffn_lanes[l] - c->ffn_lanes[pc->lane_begin];
    }
    memcpy(e->expert_down.slot, slots, TREE_NODES);
    e->expert_down.slots = c->scratch[card].slots;
}

/* A lane is there where it has an expert, or columns of the shared one. */
static void find_edges(const struct compiler *c, const uint32_t lanes[LANES + 1],
                       uint32_t edges[LANES + 1]) {
    edges[0] = 0;
    for (uint32_t l = 0; l < LANES; l++)
        edges[l + 1] = edges[l] + lanes[l + 1] - lanes[l] + c->ffn_lanes[l + 1] - c->ffn_lanes[l];
}

void experts_compile(struct compiler *c, const struct model_op *op) {
    const uint32_t group = compiler_group_of(c, op->layer), n = c->plan->n_cards;
    int8_t slot_of[CARDS_MAX][TREE_NODES], all[TREE_NODES];
    uint32_t lanes[LANES + 1], edges[LANES + 1];
    model_expert_lanes(&c->model->params, lanes);
    find_edges(c, lanes, edges);
    compiler_assign_slots(c, group, edges, slot_of, all);

    compiler_move_hidden(c, group, op->layer);
    for (uint32_t i = 0; i < n; i++)
        if (group >> i & 1)
            compiler_emit_norm(c, i, op->layer, op->tensor[EXPERTS_NORM], forms_read(c, op),
                               compiler_part_of(group, i), false);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < n; i++)
        if (group >> i & 1)
            emit_route(c, group, i, op);
    compiler_next_phase(c);
    compiler_emit_shared_norm(c, group, op->layer, forms_read(c, op));
    share_routes(c, group, op->layer);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < n; i++)
        if (group >> i & 1)
            emit_dispatch(c, i, op->layer, lanes);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < n; i++)
        if (group >> i & 1) {
            emit_shared_gate_up(c, i, op);
            emit_expert_gate_up(c, i, op);
        }
    compiler_next_phase(c);
    for (uint32_t i = 0; i < n; i++)
        if (group >> i & 1 &&
            edges[c->plan->cards[i].lane_begin] < edges[c->plan->cards[i].lane_end])
            emit_expert_down(c, i, op, lanes, slot_of[i]);
    compiler_next_phase(c);
    compiler_add_lanes(c, group, op->layer, slot_of, all, NO_TENSOR, NO_TENSOR);
}
