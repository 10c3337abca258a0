/* SPDX-License-Identifier: Apache-2.0 */
/* ops.c - what each operation does, cut into items. */
#include <string.h>

#include "daemon/device/cpu/cpu.h"

#define UNIT_MAX (2 * CPU_HEAD_DIM_MAX) /* values of a unit of heads */

static uint32_t tiles_of(uint32_t rows) {
    return (rows + TILE - 1) / TILE;
}

static float *rows_at(const struct device *d, uint32_t card, struct rows rows, uint64_t row) {
    return (float *)(void *)cpu_at(d, card, AREA_SCRATCH, rows.offset) + row * rows.stride;
}

static struct act_view act_at(const struct device *d, uint32_t card, const struct activation *act) {
    char *base = cpu_at(d, card, AREA_SCRATCH, 0);
    return (struct act_view){
        .q8 = (int8_t *)base + act->q8,
        .scale = (float *)(void *)(base + act->scale),
        .sum = (int32_t *)(void *)(base + act->sum),
        .f32 = (float *)(void *)(base + act->f32),
        .cols = act->cols,
        .forms = act->forms,
    };
}

static struct matmul matmul_at(const struct device *d, uint32_t card, const struct matrix *w,
                               const struct activation *act) {
    return (struct matmul){
        .tiles = (const uint8_t *)cpu_at(d, card, AREA_WEIGHTS, w->offset),
        .type = w->type,
        .rows = w->rows,
        .cols = w->cols,
        .act = act_at(d, card, act),
    };
}

/* Heads whose attention ends on whole atoms: the unit of work of OP_ATTENTION. */
static uint32_t unit_heads(uint32_t head_dim) {
    uint32_t n = 1;
    while (n * head_dim % ATOM && (n + 1) * head_dim <= UNIT_MAX)
        n++;
    return n;
}

uint32_t cpu_op_items(const struct op *op, const struct step_params *p) {
    switch (op->kind) {
    case OP_EMBED:
    case OP_ROPE_STORE:
    case OP_COMBINE:
        return p->n_rows;
    case OP_NORM:
        return op->norm.outputs ? p->n_outputs : p->n_rows;
    case OP_QKV:
        return tiles_of(op->qkv.q.rows) + tiles_of(op->qkv.k.rows) + tiles_of(op->qkv.v.rows);
    case OP_ATTENTION: {
        const uint32_t unit = unit_heads(op->attention.head_dim);
        return p->n_rows * ((op->attention.n_heads + unit - 1) / unit);
    }
    case OP_LANES:
        return tiles_of(op->lanes.w.rows);
    case OP_GATE_UP:
        return (op->gate_up.gate.rows + ATOM - 1) / ATOM;
    case OP_LOGITS:
        return p->n_outputs ? tiles_of(op->logits.w.rows) : 0;
    case OP_EXCHANGE:
        return op->exchange.kind == EXCHANGE_LOGITS ? p->n_outputs : p->n_rows;
    }
    return 0;
}

static void run_embed(struct device *d, uint32_t card, const struct op *op,
                      const struct step_params *p, uint32_t row) {
    const int32_t token = p->rows[row].token;
    if (token < (int32_t)op->embed.vocab_begin || token >= (int32_t)op->embed.vocab_end)
        return;
    const struct activation none = {0};
    const struct matmul m = matmul_at(d, card, &op->embed.embd, &none);
    d->kernels->unpack_row(&m, (uint32_t)token - op->embed.vocab_begin,
                           rows_at(d, card, op->embed.hidden, row));
}

/* Norm of n values straight into the forms, a piece at a time would need the sum first: the row is
 * normed in place of a small buffer on the stack. */
static void norm_row(const struct device *d, const float *x, const float *weight, uint32_t n,
                     float eps, const struct act_view *act, uint32_t row) {
    float inverse = d->kernels->rms_inverse(x, n, eps), y[ATOM * 8];
    for (uint32_t col = 0; col < n; col += ATOM * 8) {
        const uint32_t some = n - col < ATOM * 8 ? n - col : ATOM * 8;
        d->kernels->scale(x + col, weight + col, inverse, some, y);
        d->kernels->store(act, row, col, y, some);
    }
}

static void run_norm(struct device *d, uint32_t card, const struct op *op,
                     const struct step_params *p, uint32_t item) {
    const struct act_view act = act_at(d, card, &op->norm.act);
    const uint32_t row = op->norm.outputs ? p->outputs[item] : item;
    norm_row(d, rows_at(d, card, op->norm.hidden, row),
             (const float *)(void *)cpu_at(d, card, AREA_WEIGHTS, op->norm.weight), op->norm.n,
             op->norm.eps, &act, item);
}

static void run_qkv(struct device *d, uint32_t card, const struct op *op,
                    const struct step_params *p, uint32_t item) {
    const struct matrix *parts[] = {&op->qkv.q, &op->qkv.k, &op->qkv.v};
    uint32_t at = 0;
    for (int i = 0; i < 3; i++) {
        const uint32_t tiles = tiles_of(parts[i]->rows);
        if (item < tiles) {
            const struct matmul m = matmul_at(d, card, parts[i], &op->qkv.act);
            d->kernels->tile(&m, item, 0, p->n_rows,
                             rows_at(d, card, op->qkv.out, 0) + at + item * TILE,
                             op->qkv.out.stride);
            return;
        }
        item -= tiles;
        at += parts[i]->rows;
    }
}

static char *kv_at(const struct device *d, uint32_t card, const struct kv_place *kv, uint32_t slot,
                   uint32_t page) {
    return cpu_at(d, card, AREA_KV, page * kv->page_bytes + kv->offset + slot * kv->slot_bytes);
}

static void run_rope_store(struct device *d, uint32_t card, const struct op *op,
                           const struct step_params *p, uint32_t row) {
    const struct step_row *r = &p->rows[row];
    const uint32_t page = p->sequences[r->sequence].pages[r->position / PAGE_TOKENS];
    const uint32_t at = r->position % PAGE_TOKENS, dim = op->rope.head_dim;
    const float *cos_sin = p->rope[op->rope.rope_table] + (uint64_t)row * op->rope.rope_dims;
    float *x = rows_at(d, card, op->rope.qkv, row);
    for (uint32_t h = 0; h < op->rope.n_heads + op->rope.n_kv; h++)
        d->kernels->rotate(x + h * dim, cos_sin, op->rope.rope_dims, op->rope.neox);
    const float *k = x + op->rope.n_heads * dim, *v = k + op->rope.n_kv * dim;
    for (uint32_t h = 0; h < op->rope.n_kv; h++) {
        char *kv = kv_at(d, card, &op->rope.kv, op->rope.kv_slot + h, page);
        d->kernels->store_k(kv, op->rope.kv.type, dim, at, k + h * dim);
        d->kernels->store_v(kv + op->rope.kv.slot_bytes / 2, op->rope.kv.type, dim, at,
                            v + h * dim);
    }
}

static void run_attention(struct device *d, uint32_t card, const struct op *op,
                          const struct step_params *p, uint32_t item) {
    const uint32_t unit = unit_heads(op->attention.head_dim), dim = op->attention.head_dim;
    const uint32_t n_units = (op->attention.n_heads + unit - 1) / unit;
    const uint32_t row = item / n_units, first = item % n_units * unit;
    const struct step_row *r = &p->rows[row];
    const struct act_view act = act_at(d, card, &op->attention.act);
    const float *q = rows_at(d, card, op->attention.q, row);
    float out[UNIT_MAX];
    uint32_t n = 0;
    for (uint32_t h = first; h < first + unit && h < op->attention.n_heads; h++, n++) {
        const uint32_t slot =
            (op->attention.head_begin + h) / op->attention.heads_per_kv - op->attention.kv_begin;
        const struct attention_job job = {
            .q = q + h * dim,
            .head_dim = dim,
            .n_positions = r->position + 1,
            .pages = p->sequences[r->sequence].pages,
            .kv = kv_at(d, card, &op->attention.kv, slot, 0),
            .page_bytes = op->attention.kv.page_bytes,
            .half_bytes = op->attention.kv.slot_bytes / 2,
            .type = op->attention.kv.type,
            .scale = op->attention.scale,
            .out = out + n * dim,
        };
        d->kernels->attention(&job);
    }
    d->kernels->store(&act, row, first * dim, out, n * dim);
}

static void run_lanes(struct device *d, uint32_t card, const struct op *op,
                      const struct step_params *p, uint32_t tile) {
    const struct matmul m = matmul_at(d, card, &op->lanes.w, &op->lanes.act);
    d->kernels->lanes(&m, tile, 0, p->n_rows, op->lanes.col, op->lanes.slot,
                      rows_at(d, card, op->lanes.slots, 0),
                      (uint64_t)d->max_rows * op->lanes.slots.stride, op->lanes.slots.stride);
}

static void run_combine(struct device *d, uint32_t card, const struct op *op, uint32_t row) {
    const float *nodes[TREE_NODES] = {NULL};
    float *hidden = rows_at(d, card, op->combine.hidden, row);
    for (uint32_t i = 1; i < TREE_NODES; i++)
        if (op->combine.slot[i] != NO_SLOT)
            nodes[i] = rows_at(d, card, op->combine.slots,
                               (uint64_t)op->combine.slot[i] * d->max_rows + row);
    d->kernels->combine(hidden, nodes, op->combine.n);
    if (op->combine.norm) {
        const struct act_view act = act_at(d, card, &op->combine.act);
        norm_row(d, hidden,
                 (const float *)(void *)cpu_at(d, card, AREA_WEIGHTS, op->combine.weight),
                 op->combine.n, op->combine.eps, &act, row);
    }
}

#define GATE_ROWS 8 /* rows at a time: their gates and ups wait on the stack */

static void run_gate_up(struct device *d, uint32_t card, const struct op *op,
                        const struct step_params *p, uint32_t item) {
    const struct matmul gate = matmul_at(d, card, &op->gate_up.gate, &op->gate_up.act);
    const struct matmul up = matmul_at(d, card, &op->gate_up.up, &op->gate_up.act);
    const struct act_view act = act_at(d, card, &op->gate_up.out);
    const uint32_t left = gate.rows - item * ATOM, width = left < ATOM ? left : ATOM;
    float g[GATE_ROWS][ATOM], u[GATE_ROWS][ATOM];
    for (uint32_t row = 0; row < p->n_rows; row += GATE_ROWS) {
        const uint32_t n = p->n_rows - row < GATE_ROWS ? p->n_rows - row : GATE_ROWS;
        for (uint32_t half = 0; half * TILE < width; half++) {
            d->kernels->tile(&gate, 2 * item + half, row, n, &g[0][half * TILE], ATOM);
            d->kernels->tile(&up, 2 * item + half, row, n, &u[0][half * TILE], ATOM);
        }
        for (uint32_t i = 0; i < n; i++) {
            d->kernels->silu_mul(g[i], u[i], width);
            d->kernels->store(&act, row + i, item * ATOM, g[i], width);
        }
    }
}

static void run_logits(struct device *d, uint32_t card, const struct op *op,
                       const struct step_params *p, uint32_t tile) {
    const struct matmul m = matmul_at(d, card, &op->logits.w, &op->logits.act);
    d->kernels->tile(&m, tile, 0, p->n_outputs, rows_at(d, card, op->logits.out, 0) + tile * TILE,
                     op->logits.out.stride);
}

/* Copy what this step wrote of one KV head: a column of K, a row of V, and their scales. */
static void exchange_kv(struct device *d, const struct op *op, const struct step_row *r,
                        uint32_t page) {
    const uint32_t dim = op->exchange.head_dim, at = r->position % PAGE_TOKENS;
    const enum kv_type type = op->exchange.src_kv.type;
    const uint32_t size = type == KV_F32 ? 4 : type == KV_F16 ? 2 : 1;
    const char *src = kv_at(d, op->exchange.src, &op->exchange.src_kv, op->exchange.src_slot, page);
    char *dst = kv_at(d, op->exchange.dst, &op->exchange.dst_kv, op->exchange.dst_slot, page);
    const uint64_t v = op->exchange.src_kv.slot_bytes / 2;
    for (uint32_t i = 0; i < dim; i++)
        memcpy(dst + (i * PAGE_TOKENS + at) * size, src + (i * PAGE_TOKENS + at) * size, size);
    memcpy(dst + v + at * dim * size, src + v + at * dim * size, dim * size);
    if (type != KV_Q8_0)
        return;
    const uint64_t scales = (uint64_t)dim * PAGE_TOKENS;
    for (uint32_t k = 0; k < dim / ATOM; k++) {
        memcpy(dst + scales + 2 * (k * PAGE_TOKENS + at), src + scales + 2 * (k * PAGE_TOKENS + at),
               2);
        memcpy(dst + v + scales + 2 * (at * (dim / ATOM) + k),
               src + v + scales + 2 * (at * (dim / ATOM) + k), 2);
    }
}

static void run_exchange(struct device *d, const struct op *op, const struct step_params *p,
                         uint32_t item) {
    const struct step_row *r = &p->rows[item];
    const char *src;
    switch (op->exchange.kind) {
    case EXCHANGE_KV:
        exchange_kv(d, op, r, p->sequences[r->sequence].pages[r->position / PAGE_TOKENS]);
        return;
    case EXCHANGE_TOKENS:
        if (r->token < (int32_t)op->exchange.vocab_begin ||
            r->token >= (int32_t)op->exchange.vocab_end)
            return;
        break;
    case EXCHANGE_ROWS:
    case EXCHANGE_LOGITS:
        break;
    }
    src = cpu_at(d, op->exchange.src, AREA_SCRATCH,
                 op->exchange.src_offset + item * op->exchange.src_stride_bytes);
    if (op->exchange.kind == EXCHANGE_LOGITS)
        memcpy(p->logits + (uint64_t)item * p->n_vocab + op->exchange.vocab_begin, src,
               op->exchange.row_bytes);
    else
        memcpy(cpu_at(d, op->exchange.dst, AREA_SCRATCH,
                      op->exchange.dst_offset + item * op->exchange.dst_stride_bytes),
               src, op->exchange.row_bytes);
}

void cpu_op_run(struct device *d, uint32_t card, const struct op *op, const struct step_params *p,
                uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end; i++)
        switch (op->kind) {
        case OP_EMBED:
            run_embed(d, card, op, p, i);
            break;
        case OP_NORM:
            run_norm(d, card, op, p, i);
            break;
        case OP_QKV:
            run_qkv(d, card, op, p, i);
            break;
        case OP_ROPE_STORE:
            run_rope_store(d, card, op, p, i);
            break;
        case OP_ATTENTION:
            run_attention(d, card, op, p, i);
            break;
        case OP_LANES:
            run_lanes(d, card, op, p, i);
            break;
        case OP_COMBINE:
            run_combine(d, card, op, i);
            break;
        case OP_GATE_UP:
            run_gate_up(d, card, op, p, i);
            break;
        case OP_LOGITS:
            run_logits(d, card, op, p, i);
            break;
        case OP_EXCHANGE:
            run_exchange(d, op, p, i);
            break;
        }
}
