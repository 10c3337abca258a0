/* SPDX-License-Identifier: Apache-2.0 */
/* operations.c - what a layer's own operations launch. */
#include <string.h>

#include "daemon/device/check.h"
#include "daemon/device/level_zero/loading.h"
#include "daemon/device/pack.h"

void load_embed(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_embed e = {.w = loading_matrix(l, card, &op->embed.embd),
                               .hidden = loading_rows(l, card, op->embed.hidden),
                               .vocab_begin = op->embed.vocab_begin,
                               .vocab_end = op->embed.vocab_end,
                               .scale = op->embed.scale};
    loading_launch(l, card, op, KERNEL_EMBED, op->embed.embd.type, &e, sizeof e, 0, BY_ROW);
}

void load_norm(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_norm n = {.hidden = loading_rows(l, card, op->norm.hidden),
                              .act = loading_act(l, card, &op->norm.act),
                              .part = loading_part(op->norm.part),
                              .weight = loading_floats(l, card, op->norm.weight, op->norm.n),
                              .n = op->norm.n,
                              .outputs = op->norm.outputs,
                              .eps = op->norm.eps};
    if (op->norm.outputs)
        loading_launch(l, card, op, KERNEL_NORM, 0, &n, sizeof n, 0, BY_OUTPUT);
    else
        loading_launch_part(l, card, op, KERNEL_NORM, &n, sizeof n, 0, op->norm.part);
}

void load_add_norm(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_norm n = {.hidden = loading_rows(l, card, op->add_norm.hidden),
                              .sum = loading_rows(l, card, op->add_norm.sum),
                              .part = loading_part(op->add_norm.part),
                              .weight =
                                  loading_floats(l, card, op->add_norm.weight, op->add_norm.n),
                              .n = op->add_norm.n,
                              .eps = op->add_norm.eps};
    loading_launch_part(l, card, op, KERNEL_ADD_NORM, &n, sizeof n, 0, op->add_norm.part);
}

void load_qkv(struct loading *l, uint32_t card, const struct op *op) {
    const struct matrix *parts[] = {&op->qkv.q, &op->qkv.k, &op->qkv.v};
    const struct ze_act act = loading_act(l, card, &op->qkv.act);
    uint32_t before = 0;
    for (int i = 0; i < 3; before += parts[i++]->rows) {
        struct ze_matmul m = {
            .act = act, .out = loading_rows(l, card, op->qkv.out), .part = {0, 1}};
        if (parts[i]->rows == 0)
            continue;
        m.w = loading_matrix(l, card, parts[i]);
        m.out.at += (u64)before * 4;
        loading_launch(l, card, op, KERNEL_MATMUL, parts[i]->type, &m, sizeof m,
                       tiles_of(parts[i]->rows), BY_ROW_BLOCK);
    }
}

void load_rope(struct loading *l, uint32_t card, const struct op *op) {
    const uint64_t dim = op->rope.head_dim, q = op->rope.n_heads * dim, kv = op->rope.n_kv * dim;
    const struct ze_rope r = {.qkv = loading_rows(l, card, op->rope.qkv),
                              .kv = loading_kv(l, card, &op->rope.kv),
                              .q_bias = loading_vector(l, card, op->rope.q_bias, q),
                              .k_bias = loading_vector(l, card, op->rope.k_bias, kv),
                              .v_bias = loading_vector(l, card, op->rope.v_bias, kv),
                              .q_norm = loading_vector(l, card, op->rope.q_norm, dim),
                              .k_norm = loading_vector(l, card, op->rope.k_norm, dim),
                              .n_heads = op->rope.n_heads,
                              .n_kv = op->rope.n_kv,
                              .head_dim = op->rope.head_dim,
                              .rope_dims = op->rope.rope_dims,
                              .neox = op->rope.neox,
                              .rope_table = op->rope.rope_table,
                              .kv_slot = op->rope.kv_slot,
                              .eps = op->rope.eps};
    loading_launch(l, card, op, KERNEL_ROPE_STORE, 0, &r, sizeof r,
                   op->rope.n_heads + 2 * op->rope.n_kv, BY_ROW);
}

void load_attention(struct loading *l, uint32_t card, const struct op *op) {
    const uint32_t dim = op->attention.head_dim, unit = check_unit_heads(dim);
    const struct ze_attention a = {
        .q = loading_rows(l, card, op->attention.q),
        .kv = loading_kv(l, card, &op->attention.kv),
        .act = loading_act(l, card, &op->attention.act),
        .n_heads = op->attention.n_heads,
        .head_dim = dim,
        .head_begin = op->attention.head_begin,
        .heads_per_kv = op->attention.heads_per_kv,
        .kv_begin = op->attention.kv_begin,
        .window = op->attention.window,
        .unit = unit,
        .scale = op->attention.scale,
        .soft_cap = op->attention.soft_cap,
        .sinks = loading_vector(l, card, op->attention.sinks, op->attention.n_heads)};
    loading_launch(l, card, op, KERNEL_ATTENTION, 0, &a, sizeof a,
                   (op->attention.n_heads + unit - 1) / unit, BY_ROW);
}

void load_lanes(struct loading *l, uint32_t card, const struct op *op) {
    struct ze_lanes w = {.act = loading_act(l, card, &op->lanes.act),
                         .w = loading_matrix(l, card, &op->lanes.w),
                         .slots = loading_planes(l, card, op->lanes.slots)};
    for (uint32_t lane = 0; lane <= LANES; lane++)
        w.col[lane] = op->lanes.col[lane < op->lanes.lane_begin ? op->lanes.lane_begin
                                    : lane > op->lanes.lane_end ? op->lanes.lane_end
                                                                : lane];
    memcpy(w.slot, op->lanes.slot, sizeof w.slot);
    loading_launch(l, card, op, KERNEL_LANES, op->lanes.w.type, &w, sizeof w,
                   tiles_of(op->lanes.w.rows), BY_ROW_BLOCK);
}

void load_combine(struct loading *l, uint32_t card, const struct op *op) {
    struct ze_combine c = {.out = loading_rows(l, card, op->combine.out),
                           .slots = loading_planes(l, card, op->combine.slots),
                           .part = loading_part(op->combine.part),
                           .n = op->combine.n,
                           .alone = op->combine.alone,
                           .bias = loading_vector(l, card, op->combine.bias, op->combine.n)};
    memcpy(c.slot, op->combine.slot, sizeof c.slot);
    loading_launch_part(l, card, op, KERNEL_COMBINE, &c, sizeof c, tiles_of(op->combine.n),
                        op->combine.part);
}

/* One product after the other. */
static void load_gate_apart(struct loading *l, uint32_t card, const struct op *op,
                            const struct ze_gate_up *g) {
    const uint32_t n = l->device->max_rows;
    const struct ze_rows both =
        loading_apart(l, card, op->gate_up.apart, 2 * (uint64_t)n, g->gate.rows);
    const struct ze_rows second = {both.at + (u64)n * both.stride * 4, both.stride};
    const struct ze_matmul gate = {.act = g->act, .w = g->gate, .out = both, .part = {0, 1}};
    const struct ze_matmul up = {.act = g->act, .w = g->up, .out = second, .part = {0, 1}};
    const struct ze_apart apart = {
        .gate = both, .up = second, .out = g->out, .n = g->gate.rows, .function = g->function};
    loading_launch(l, card, op, KERNEL_MATMUL, op->gate_up.gate.type, &gate, sizeof gate,
                   tiles_of(g->gate.rows), BY_ROW_BLOCK);
    loading_launch(l, card, op, KERNEL_MATMUL, op->gate_up.up.type, &up, sizeof up,
                   tiles_of(g->up.rows), BY_ROW_BLOCK);
    loading_launch(l, card, op, KERNEL_GATE_APART, 0, &apart, sizeof apart,
                   (g->gate.rows + ATOM - 1) / ATOM, BY_ROW);
    loading_waits(l);
}

void load_gate_up(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_gate_up g = {.act = loading_act(l, card, &op->gate_up.act),
                                 .out = loading_act(l, card, &op->gate_up.out),
                                 .gate = loading_matrix(l, card, &op->gate_up.gate),
                                 .up = loading_matrix(l, card, &op->gate_up.up),
                                 .function = op->gate_up.function};
    if (op->gate_up.gate.type != op->gate_up.up.type) {
        load_gate_apart(l, card, op, &g);
        return;
    }
    loading_launch(l, card, op, KERNEL_GATE_UP, op->gate_up.gate.type, &g, sizeof g,
                   (op->gate_up.gate.rows + ATOM - 1) / ATOM, BY_ROW_BLOCK);
}

void load_logits(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_matmul m = {.act = loading_act(l, card, &op->logits.act),
                                .w = loading_matrix(l, card, &op->logits.w),
                                .out = loading_some_rows(l, card, op->logits.out),
                                .part = {0, 1},
                                .outputs = 1,
                                .soft_cap = op->logits.soft_cap};
    loading_launch(l, card, op, KERNEL_MATMUL, op->logits.w.type, &m, sizeof m,
                   tiles_of(op->logits.w.rows), BY_OUTPUT_BLOCK);
}
