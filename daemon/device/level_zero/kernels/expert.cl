/* SPDX-License-Identifier: Apache-2.0 */
/* expert.cl - matrices of experts: a sub-group a tile of one that is used, for the rows that use
 * it.  The others are not read. */
#include "daemon/device/level_zero/kernels/tiles.clh"

/* Expert `hit` of those that are used: rows [begin, end) of the hits are its own. */
struct hit {
    uint expert, begin, end;
};

static inline bool find_hit(global const struct ze_hits *hits, uint hit, struct hit *out) {
    if (hit >= *hits_n(hits))
        return false;
    out->expert = hits_expert(hits)[hit];
    out->begin = hits_begin(hits)[hit];
    out->end = hits_begin(hits)[hit + 1];
    return true;
}

/* Each hit's row of the input (`picked`: of the step's rows) times its expert's matrix, to a row of
 * the output of its own. */
WHOLE_GROUPS kernel void expert_matmul(global const struct ze_expert_matmul *op,
                                       global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint tile = get_group_id(0), col = tile * SUB_GROUP + get_sub_group_local_id();
    global const uint *picked = op->picked ? hits_rows(&op->hits) : 0;
    struct hit h;
    if (!find_hit(&op->hits, get_group_id(1), &h))
        return;
    for (uint at = h.begin; at < h.end; at += ROWS) {
        const uint n = rows_left(at, h.end);
        float acc[ROWS];
        chain(&op->w, &op->act, picked, h.expert * (op->n / SUB_GROUP) + tile, at, n, 0,
              atoms_of(op->w.cols), acc);
        add_bias(op->bias, h.expert * (op->n / SUB_GROUP) + tile, n, acc);
        for (uint r = 0; r < n; r++)
            ((global float *)op->out.at)[(ulong)(at + r) * op->out.stride + col] = acc[r];
    }
}

/* An atom of the output of each hit; gate and up are of one type. */
WHOLE_GROUPS kernel void expert_gate_up(global const struct ze_expert_gate_up *op,
                                        global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint atom = get_group_id(0);
    struct hit h;
    if (!find_hit(&op->hits, get_group_id(1), &h))
        return;
    const struct gated_half both = {
        &op->gate,     &op->up,     &op->act,     hits_rows(&op->hits),
        op->gate_bias, op->up_bias, op->function, h.expert * (op->n / SUB_GROUP),
        op->n};
    for (uint at = h.begin; at < h.end; at += ROWS) {
        const uint n = rows_left(at, h.end);
        float low[ROWS], high[ROWS];
        gated_atom(&both, atom, at, n, low, high);
        for (uint r = 0; r < n; r++)
            store_atom(&op->out, at + r, atom, low[r], high[r]);
    }
}

/* A lane's sums of `n` rows: what is left of the shared expert's, then what each expert used adds,
 * ascending. */
static inline bool add_experts(global const struct ze_expert_sum *op, uint lane, uint tile,
                               uint row, uint n, float *sum) {
    const uint n_used = op->n_used, col = tile * SUB_GROUP + get_sub_group_local_id();
    const uint begin = op->expert[lane], end = op->expert[lane + 1];
    const bool shared = op->shared.rows && op->col[lane] < op->col[lane + 1];
    global const uint *places = (global const uint *)op->places;
    if (begin >= end && !shared)
        return false;
    for (uint r = 0; r < ROWS; r++)
        sum[r] = 0.0f;
    if (shared)
        chain(&op->shared, &op->shared_act, 0, tile, row, n, op->col[lane] / ATOM,
              atoms_of(op->col[lane + 1]), sum);
    for (uint r = 0; r < n; r++) {
        global const uint *ids = (global const uint *)op->routes.at + (row + r) * op->routes.stride;
        global const float *weights = (global const float *)ids + n_used;
        if (op->shared.rows)
            sum[r] = sum[r] * weights[n_used];
        for (uint i = 0; i < n_used; i++) {
            const uint e = ids[i] - op->expert_begin;
            if (e < begin || e >= end)
                continue;
            const ulong at = (ulong)places[(row + r) * n_used + i] * op->products.stride + col;
            sum[r] = fma(weights[i], ((global const float *)op->products.at)[at], sum[r]);
        }
    }
    return true;
}

#define LEAF(lane, sum)                                                                            \
    (add_experts(op, lane, tile, row, n, sum) &&                                                   \
     (put_slot(&op->slots, op->slot, step->n_rows, LANES + lane, tile, row, n, sum), true))

/* The sums of the card's lanes, then up the tree.  Compiled for the shared expert's type; of models
 * without one for the experts'. */
WHOLE_GROUPS kernel void expert_sum(global const struct ze_expert_sum *op,
                                    global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint tile = get_group_id(0), row = get_group_id(1) * ROWS;
    const uint n = rows_left(row, step->n_rows);
    if (n)
        ADD_LANES();
}
