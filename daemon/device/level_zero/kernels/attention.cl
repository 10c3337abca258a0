/* SPDX-License-Identifier: Apache-2.0 */
/* attention.cl - a row's queries against its KV pages: one sub-group a unit of heads, which ends on
 * whole atoms.  Segments of absolute positions, merged from left to right. */
#include "daemon/device/level_zero/kernels/numbers.clh"

#define SEGMENT  256
#define UNIT_MAX 1024 /* UNIT_VALUES_MAX of check.h */
#define DIM_MAX  512  /* HEAD_DIM_MAX */
#define TILES    (DIM_MAX / SUB_GROUP)

static inline float k_at(global const uchar *page, uint type, uint dim, uint d, uint at) {
    const uint i = d * PAGE_TOKENS + at;
    if (type == 1)
        return ((global const float *)page)[i];
    if (type == 0)
        return half_at(page + 2 * i);
    return half_at(page + dim * PAGE_TOKENS + 2 * (d / ATOM * PAGE_TOKENS + at)) *
           (float)((global const char *)page)[i];
}

static inline float v_at(global const uchar *page, uint type, uint dim, uint d, uint at) {
    const uint i = at * dim + d;
    if (type == 1)
        return ((global const float *)page)[i];
    if (type == 0)
        return half_at(page + 2 * i);
    return half_at(page + dim * PAGE_TOKENS + 2 * (at * (dim / ATOM) + d / ATOM)) *
           (float)((global const char *)page)[i];
}

struct state {
    float top, sum;
};

/* Positions [first, n) of the segment at `begin`: their weights into p. */
static struct state soften(global const struct ze_attention *op, global const uint *pages,
                           global const float *q, ulong slot, uint begin, uint first, uint n,
                           local float *p) {
    const uint lane = get_sub_group_local_id(), dim = op->head_dim;
    float most = -INFINITY, part = 0.0f;
    for (uint i = first / SUB_GROUP * SUB_GROUP + lane; i < n; i += SUB_GROUP) {
        global const uchar *page =
            (address)(slot + pages[(begin + i) / PAGE_TOKENS] * op->kv.page_bytes);
        float s = 0.0f;
        if (i < first)
            continue;
        for (uint d = 0; d < dim; d++)
            s = fma(q[d], k_at(page, op->kv.type, dim, d, i % PAGE_TOKENS), s);
        s = s * op->scale;
        s = op->soft_cap > 0 ? soft_capped(s, op->soft_cap) : s;
        p[i] = s;
        most = s > most ? s : most;
    }
    const float top = sub_group_reduce_max(most);
    for (uint i = first / SUB_GROUP * SUB_GROUP + lane; i < n; i += SUB_GROUP)
        if (i >= first) {
            p[i] = exp_of(p[i] - top);
            part = part + p[i];
        }
    sub_group_barrier(CLK_LOCAL_MEM_FENCE);
    struct state state;
    state.top = top;
    state.sum = fold16(part);
    return state;
}

/* One head into out[0 .. dim). */
static void attend(global const struct ze_attention *op, global const struct ze_step *step,
                   struct ze_row row, global const float *q, uint head, local float *p,
                   local float *out) {
    const uint lane = get_sub_group_local_id(), dim = op->head_dim;
    const uint seen = row.position + 1;
    const uint from = op->window && seen > op->window ? seen - op->window : 0;
    const uint kv_head = (op->head_begin + head) / op->heads_per_kv - op->kv_begin;
    const ulong slot = op->kv.at + kv_head * op->kv.slot_bytes;
    global const uint *pages = (global const uint *)step->pages + row.first_page;
    float sum[TILES];
    struct state all;
    all.top = all.sum = 0.0f;
    bool any = false;
    for (uint begin = from / SEGMENT * SEGMENT; begin < seen; begin += SEGMENT) {
        const uint first = from > begin ? from - begin : 0;
        const uint n = seen - begin < SEGMENT ? seen - begin : SEGMENT;
        const struct state one = soften(op, pages, q, slot, begin, first, n, p);
        const float high = !any || one.top > all.top ? one.top : all.top;
        const float a = any ? exp_of(all.top - high) : 0.0f,
                    b = any ? exp_of(one.top - high) : 1.0f;
        for (uint t = 0, d = lane; d < dim; t++, d += SUB_GROUP) {
            float v = 0.0f;
            for (uint i = first; i < n; i++)
                v = fma(p[i],
                        v_at((address)(slot + op->kv.slot_bytes / 2 +
                                       pages[(begin + i) / PAGE_TOKENS] * op->kv.page_bytes),
                             op->kv.type, dim, d, i % PAGE_TOKENS),
                        v);
            const float before = any ? sum[t] * a : 0.0f;
            sum[t] = any ? fma(v, b, before) : v;
        }
        const float scaled = all.sum * a;
        all.sum = any ? fma(one.sum, b, scaled) : one.sum;
        all.top = high;
        any = true;
        sub_group_barrier(CLK_LOCAL_MEM_FENCE);
    }
    float share = 1.0f; /* of what the values make, where a sink has the rest */
    if (op->sinks) {
        const float sink = ((global const float *)op->sinks)[head];
        const float high = sink > all.top ? sink : all.top;
        share = exp_of(all.top - high);
        all.sum = fma(all.sum, share, exp_of(sink - high));
    }
    const float inverse = quotient(1.0f, all.sum);
    for (uint t = 0, d = lane; d < dim; t++, d += SUB_GROUP)
        out[d] = (op->sinks ? sum[t] * share : sum[t]) * inverse;
}

WHOLE_GROUPS kernel void attention(global const struct ze_attention *op,
                                   global const struct ze_step *step) {
    local float p[SEGMENT], out[UNIT_MAX];
    if (!given(op, step))
        return;
    const uint lane = get_sub_group_local_id(), dim = op->head_dim;
    const uint row = get_group_id(1), head = get_group_id(0) * op->unit;
    if (row >= step->n_rows)
        return;
    const struct ze_row r = ((global const struct ze_row *)step->rows)[row];
    const uint left = op->n_heads - head, n = left < op->unit ? left : op->unit;
    global const float *q = (global const float *)op->q.at + row * op->q.stride + head * dim;
    for (uint h = 0; h < n; h++)
        attend(op, step, r, q + h * dim, head + h, p, out + h * dim);
    sub_group_barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < n * dim; i += ATOM) {
        const float low = i + lane < n * dim ? out[i + lane] : 0.0f;
        const float high = i + lane + 16 < n * dim ? out[i + lane + 16] : 0.0f;
        store_atom(&op->act, row, (head * dim + i) / ATOM, low, high);
    }
}
