/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cl - what is a row's own: one sub-group a row. */
#include "daemon/device/level_zero/kernels/numbers.clh"

WHOLE_GROUPS kernel void norm(global const struct ze_norm *op, global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint lane = get_sub_group_local_id();
    const uint first = part_begin(op->part, step->n_rows), end = part_end(op->part, step->n_rows);
    const uint to = get_group_id(0) + (op->outputs ? 0 : first);
    if (to >= (op->outputs ? step->n_outputs : end))
        return;
    const uint row = op->outputs ? ((global const uint *)step->outputs)[to] : to;
    global const float *x = (global const float *)op->hidden.at + row * op->hidden.stride;
    global const float *weight = (global const float *)op->weight;
    const float inverse = rms_inverse(x, op->n, op->eps);
    for (uint atom = 0; atom < op->act.cols / ATOM; atom++) {
        const uint a = atom * ATOM + lane, b = a + 16;
        const float low = a < op->n ? x[a] * inverse * weight[a] : 0.0f;
        const float high = b < op->n ? x[b] * inverse * weight[b] : 0.0f;
        store_atom(&op->act, to, atom, low, high);
    }
}

/* hidden += norm(sum) * weight */
WHOLE_GROUPS kernel void add_norm(global const struct ze_norm *op,
                                  global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint row = get_group_id(0) + part_begin(op->part, step->n_rows);
    if (row >= part_end(op->part, step->n_rows))
        return;
    global const float *x = (global const float *)op->sum.at + row * op->sum.stride;
    global float *hidden = (global float *)op->hidden.at + row * op->hidden.stride;
    global const float *weight = (global const float *)op->weight;
    const float inverse = rms_inverse(x, op->n, op->eps);
    for (uint i = get_sub_group_local_id(); i < op->n; i += SUB_GROUP)
        hidden[i] += x[i] * inverse * weight[i];
}

/* An atom of each row. */
WHOLE_GROUPS kernel void gate_apart(global const struct ze_apart *op,
                                    global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint row = get_group_id(1), atom = get_group_id(0);
    if (row >= (op->hits.at ? hits_begin(&op->hits)[*hits_n(&op->hits)] : step->n_rows))
        return;
    global const float *gate = (global const float *)op->gate.at + (ulong)row * op->gate.stride;
    global const float *up = (global const float *)op->up.at + (ulong)row * op->up.stride;
    float x[2];
    for (uint h = 0; h < 2; h++) {
        const uint i = atom * ATOM + h * SUB_GROUP + get_sub_group_local_id();
        x[h] = 0.0f;
        if (i < op->n)
            x[h] = gated(op->function, gate[i], up[i]);
    }
    store_atom(&op->out, row, atom, x[0], x[1]);
}

/* ---- sums of lanes -------------------------------------------------------------------------- */

/* Sixteen columns of a row; the tree over all slots, a node that has none made of its children. */
WHOLE_GROUPS kernel void combine(global const struct ze_combine *op,
                                 global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint lane = get_sub_group_local_id(), tile = get_group_id(0);
    const uint row = get_group_id(1) + part_begin(op->part, step->n_rows);
    const uint col = tile * SUB_GROUP + lane;
    if (row >= part_end(op->part, step->n_rows))
        return;
    float sum[TREE_NODES];
    bool present[TREE_NODES];
    UNROLLED for (uint i = TREE_NODES - 1; i > 0; i--) {
        present[i] = op->slot[i] != NO_SLOT;
        if (present[i]) {
            global const float *plane =
                (global const float *)(op->slots.at + op->slot[i] * op->slots.plane_bytes);
            sum[i] = plane[((ulong)tile * step->n_rows + row) * SUB_GROUP + lane];
        } else if (i < LANES) {
            const uint l = 2 * i, r = 2 * i + 1;
            present[i] = present[l] || present[r];
            sum[i] = present[l] && present[r] ? sum[l] + sum[r] : present[l] ? sum[l] : sum[r];
        }
    }
    global float *out = (global float *)op->out.at + row * op->out.stride;
    if (col < op->n && present[1])
        out[col] = (op->alone ? 0.0f : out[col]) + sum[1];
    else if (col < op->n && op->alone)
        out[col] = 0.0f;
    if (col < op->n && op->bias)
        out[col] = out[col] + ((global const float *)op->bias)[col];
}

/* ---- Q, K and V ----------------------------------------------------------------------------- */

static void prepare_head(global float *x, uint dim, global const float *bias,
                         global const float *weight, float eps) {
    const uint lane = get_sub_group_local_id();
    for (uint i = lane; bias && i < dim; i += SUB_GROUP)
        x[i] += bias[i];
    if (!weight)
        return;
    sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
    const float inverse = rms_inverse(x, dim, eps);
    for (uint i = lane; i < dim; i += SUB_GROUP)
        x[i] = x[i] * inverse * weight[i];
}

static void rotate_head(global float *x, global const float *cos_sin, uint dims, bool neox) {
    const uint half_dims = dims / 2;
    sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
    for (uint i = get_sub_group_local_id(); i < half_dims; i += SUB_GROUP) {
        global float *a = neox ? &x[i] : &x[2 * i], *b = neox ? &x[i + half_dims] : &x[2 * i + 1];
        const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], u = *a, v = *b;
        const float us = v * s, vc = v * c;
        *a = fma(u, c, -us);
        *b = fma(u, s, vc);
    }
    sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
}

static inline void put_half(global uchar *to, float x) {
    vstore_half_rte(x, 0, (global half *)to);
}

/* 32 values of a head as 8-bit ones, `step` bytes apart, and their scale. */
static void store_q8(global const float *x, global uchar *q, uint apart, global uchar *scale) {
    const uint lane = get_sub_group_local_id();
    const float low = x[lane], high = x[lane + 16];
    const float largest = sub_group_reduce_max(fmax(fabs(low), fabs(high)));
    if (lane == 0)
        put_half(scale, quotient(largest, 127.0f));
    sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
    const float d = half_at(scale), inverse = d > 0 ? quotient(1.0f, d) : 0.0f;
    const float a = limited(low * inverse, -127.0f, 127.0f);
    const float b = limited(high * inverse, -127.0f, 127.0f);
    q[lane * apart] = (uchar)(as_uint(a + ROUNDING) - (uint)ROUNDING_BITS);
    q[(lane + 16) * apart] = (uchar)(as_uint(b + ROUNDING) - (uint)ROUNDING_BITS);
}

/* K is [head_dim][PAGE_TOKENS], V [PAGE_TOKENS][head_dim]; behind 8-bit ones their scales. */
static void store_kv(global uchar *page, uint type, uint dim, uint at, bool is_k,
                     global const float *x) {
    const uint lane = get_sub_group_local_id();
    for (uint d = lane; type != 2 && d < dim; d += SUB_GROUP) {
        const uint to = is_k ? d * PAGE_TOKENS + at : at * dim + d;
        if (type == 1)
            ((global float *)page)[to] = x[d];
        else
            put_half(page + 2 * to, x[d]);
    }
    for (uint k = 0; type == 2 && k < dim / ATOM; k++) {
        const uint scale = is_k ? k * PAGE_TOKENS + at : at * (dim / ATOM) + k;
        global uchar *q = page + (is_k ? k * ATOM * PAGE_TOKENS + at : at * dim + k * ATOM);
        store_q8(x + k * ATOM, q, is_k ? PAGE_TOKENS : 1, page + dim * PAGE_TOKENS + 2 * scale);
    }
}

WHOLE_GROUPS kernel void rope_store(global const struct ze_rope *op,
                                    global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint row = get_group_id(1), head = get_group_id(0), dim = op->head_dim;
    const uint n_q = op->n_heads, n_kv = op->n_kv;
    if (row >= step->n_rows)
        return;
    const struct ze_row r = ((global const struct ze_row *)step->rows)[row];
    const uint page = ((global const uint *)step->pages)[r.first_page + r.position / PAGE_TOKENS];
    global float *x = (global float *)op->qkv.at + row * op->qkv.stride + head * dim;
    const bool is_q = head < n_q, is_k = !is_q && head < n_q + n_kv;
    const uint own = is_q ? head : is_k ? head - n_q : head - n_q - n_kv;
    const ulong bias = is_q ? op->q_bias : is_k ? op->k_bias : op->v_bias;
    const ulong weight = is_q ? op->q_norm : is_k ? op->k_norm : 0;
    prepare_head(x, dim, bias ? (global const float *)bias + own * dim : 0,
                 (global const float *)weight, op->eps);
    if (is_q || is_k)
        rotate_head(x,
                    (global const float *)step->rope[op->rope_table] + (ulong)row * op->rope_dims,
                    op->rope_dims, op->neox);
    else
        sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
    if (is_q && step->q_scale)
        for (uint i = get_sub_group_local_id(); i < dim; i += SUB_GROUP)
            x[i] *= ((global const float *)step->q_scale)[row];
    if (is_q)
        return;
    global uchar *slot =
        (address)(op->kv.at + page * op->kv.page_bytes + (op->kv_slot + own) * op->kv.slot_bytes);
    store_kv(slot + (is_k ? 0 : op->kv.slot_bytes / 2), op->kv.type, dim, r.position % PAGE_TOKENS,
             is_k, x);
}
