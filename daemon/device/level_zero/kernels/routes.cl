/* SPDX-License-Identifier: Apache-2.0 */
/* routes.cl - which experts a row uses, and which rows use an expert. */
#include "daemon/device/level_zero/kernels/numbers.clh"

#define EXPERTS_MAX 512
#define NOTHING     0xffffffffu

/* Ordered as the logits are: a NaN below all others, both zeros alike. */
static inline uint order_of(float x) {
    const uint bits = as_uint(x);
    if (x != x)
        return 0;
    if (x == 0.0f)
        return 0x80000000u;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* The n_used largest, of equal ones the lower ids: bit k of a lane's mask is its k-th logit. */
static uint choose(global const float *x, uint n, uint n_used) {
    const uint lane = get_sub_group_local_id();
    uint used = 0;
    for (uint i = 0; i < n_used; i++) {
        uint most = 0, mine = NOTHING;
        for (uint k = 0, e = lane; e < n; k++, e += SUB_GROUP)
            if (!(used >> k & 1) && (mine == NOTHING || order_of(x[e]) > most)) {
                most = order_of(x[e]);
                mine = e;
            }
        const uint best = sub_group_reduce_max(mine == NOTHING ? 0 : most);
        const uint id = sub_group_reduce_min(mine != NOTHING && most == best ? mine : NOTHING);
        if (id % SUB_GROUP == lane)
            used |= 1u << id / SUB_GROUP;
    }
    return used;
}

/* x = e^(x - the largest); returns their sum, the same in every lane. */
static float soften_all(global float *x, uint n) {
    const uint lane = get_sub_group_local_id();
    float most = -INFINITY, part = 0.0f;
    for (uint e = lane; e < n; e += SUB_GROUP)
        most = x[e] > most ? x[e] : most;
    const float top = sub_group_reduce_max(most);
    for (uint e = lane; e < n; e += SUB_GROUP) {
        x[e] = exp_of(x[e] - top);
        part = part + x[e];
    }
    return fold16(part);
}

static float sigmoid_of(global const float *x, global const float *weight, uint n) {
    float part = 0.0f;
    for (uint i = get_sub_group_local_id(); i < n; i += SUB_GROUP)
        part = fma(x[i], weight[i], part);
    return quotient(1.0f, 1.0f + exp_of(0.0f - fold16(part)));
}

/* A row's routes, of the products of its input with the router. */
WHOLE_GROUPS kernel void route(global const struct ze_route *op,
                               global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint lane = get_sub_group_local_id(), n = op->n, n_used = op->n_used;
    const uint row = get_group_id(0) + part_begin(op->part, step->n_rows);
    if (row >= part_end(op->part, step->n_rows))
        return;
    global float *x = (global float *)op->logits.at + (ulong)row * op->logits.stride;
    global uint *ids = (global uint *)op->routes.at + (ulong)row * op->routes.stride;
    global float *weights = (global float *)ids + n_used;
    for (uint e = lane; op->bias && e < n; e += SUB_GROUP)
        x[e] = x[e] + ((global const float *)op->bias)[e];
    const uint used = choose(x, n, n_used);
    const float total = soften_all(x, n);
    for (uint k = 0, e = lane, before = 0; k * SUB_GROUP < n; k++, e += SUB_GROUP) {
        const uint is = used >> k & 1, at = before + sub_group_scan_exclusive_add(is);
        if (is) {
            ids[at] = e;
            weights[at] = quotient(x[e], total);
        }
        before += sub_group_reduce_add(is);
    }
    if (op->normed) {
        float sum = 0.0f;
        sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
        for (uint i = 0; i < n_used; i++)
            sum = sum + weights[i];
        sub_group_barrier(CLK_GLOBAL_MEM_FENCE);
        for (uint i = lane; i < n_used; i += SUB_GROUP)
            weights[i] = quotient(weights[i], sum);
    }
    const float shared =
        op->shared ? sigmoid_of((global const float *)op->act.f32 + (ulong)row * op->act.cols,
                                (global const float *)op->shared, op->cols)
                   : 1.0f;
    if (lane == 0)
        weights[n_used] = shared;
}

/* ---- hits ----------------------------------------------------------------------------------- */

/* Of all routes, those to experts of the card before `own`; and which of these there are. */
static uint count_before(global const struct ze_dispatch *op, uint n_rows, uint own,
                         local uint *there) {
    const uint n_used = op->n_used;
    uint before = 0;
    for (uint i = get_sub_group_local_id(); i < n_rows * n_used; i += SUB_GROUP) {
        const uint id =
            ((global const uint *)op->routes.at)[i / n_used * op->routes.stride + i % n_used];
        const uint e = id - op->expert_begin;
        if (e >= op->hits.n_experts)
            continue;
        atomic_or(&there[e / 32], 1u << e % 32);
        before += e < own;
    }
    return sub_group_reduce_add(before);
}

/* The expert's rows, ascending; returns where they end. */
static uint put_rows(global const struct ze_dispatch *op, uint n_rows, uint own, uint at) {
    const uint n_used = op->n_used;
    for (uint first = 0; first < n_rows; first += SUB_GROUP) {
        const uint row = first + get_sub_group_local_id();
        global const uint *ids =
            (global const uint *)op->routes.at + (ulong)row * op->routes.stride;
        uint i = n_used;
        for (uint k = 0; row < n_rows && k < n_used; k++)
            i = ids[k] - op->expert_begin == own ? k : i;
        const uint is = i < n_used, to = at + sub_group_scan_exclusive_add(is);
        if (is) {
            hits_rows(&op->hits)[to] = row;
            ((global uint *)op->places)[row * n_used + i] = to;
        }
        at += sub_group_reduce_add(is);
    }
    return at;
}

/* One of the card's experts; the first says how many are used. */
WHOLE_GROUPS kernel void dispatch(global const struct ze_dispatch *op,
                                  global const struct ze_step *step) {
    local uint there[EXPERTS_MAX / 32];
    if (!given(op, step))
        return;
    const uint own = get_group_id(0), lane = get_sub_group_local_id();
    if (own >= op->hits.n_experts)
        return;
    for (uint i = lane; i < EXPERTS_MAX / 32; i += SUB_GROUP)
        there[i] = 0;
    sub_group_barrier(CLK_LOCAL_MEM_FENCE);
    const uint begin = count_before(op, step->n_rows, own, there);
    sub_group_barrier(CLK_LOCAL_MEM_FENCE);
    uint place = 0, n = 0;
    for (uint i = 0; i < EXPERTS_MAX / 32; i++) {
        const uint below = i < own / 32 ? 0xffffffffu : i == own / 32 ? (1u << own % 32) - 1 : 0;
        place += popcount(there[i] & below);
        n += popcount(there[i]);
    }
    if (own == 0 && lane == 0) {
        *hits_n(&op->hits) = n;
        if (n == 0)
            hits_begin(&op->hits)[0] = 0;
    }
    if (!(there[own / 32] >> own % 32 & 1))
        return;
    if (lane == 0) {
        hits_expert(&op->hits)[place] = own;
        hits_begin(&op->hits)[place] = begin;
    }
    const uint end = put_rows(op, step->n_rows, own, begin);
    if (lane == 0 && place + 1 == n)
        hits_begin(&op->hits)[n] = end;
}
