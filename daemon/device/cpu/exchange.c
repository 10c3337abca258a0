/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.c - the one operation that carries bytes from one card to another. */
#include <string.h>

#include "daemon/device/cpu/cpu.h"

#define COPY_ROWS 16 /* of an activation, whose rows stand together */

/* The rows that an exchange copies, before it asks for tokens or outputs. */
struct row_range {
    uint32_t begin, end;
};

static struct row_range rows_between(const struct op *op, const struct step_params *p) {
    const struct row_part from = op->exchange.from, to = op->exchange.to;
    const uint32_t a = row_part_begin(from, p->n_rows), b = row_part_begin(to, p->n_rows);
    const uint32_t c = row_part_end(from, p->n_rows), d = row_part_end(to, p->n_rows);
    const struct row_range range = {a > b ? a : b, c < d ? c : d};
    return range.begin < range.end ? range : (struct row_range){0, 0};
}

uint32_t cpu_exchange_items(const struct op *op, const struct step_params *p) {
    const struct row_range range = rows_between(op, p);
    switch (op->exchange.kind) {
    case EXCHANGE_LOGITS:
    case EXCHANGE_OUTPUTS:
        return p->n_outputs;
    case EXCHANGE_KV:
        return p->n_rows;
    case EXCHANGE_PLANE:
        return range.begin < range.end;
    case EXCHANGE_ACTIVATION:
        return (range.end - range.begin + COPY_ROWS - 1) / COPY_ROWS;
    default:
        return range.end - range.begin;
    }
}

static void copy_row(const struct device *d, const struct op *op, uint32_t row) {
    memcpy(cpu_at(d, op->exchange.dst, AREA_SCRATCH,
                  op->exchange.dst_offset + row * op->exchange.dst_stride_bytes),
           cpu_at(d, op->exchange.src, AREA_SCRATCH,
                  op->exchange.src_offset + row * op->exchange.src_stride_bytes),
           op->exchange.row_bytes);
}

/* A plane that no COMBINE reads where it lies, all of it at once: the rows stand together in each
 * of its columns. */
static void copy_plane(const struct device *d, const struct op *op, const struct step_params *p) {
    const uint64_t row = TILE * sizeof(float), tile = p->n_rows * row;
    const struct row_range rows = rows_between(op, p);
    for (uint64_t at = rows.begin * row; at < p->n_rows * op->exchange.row_bytes; at += tile)
        memcpy(cpu_at(d, op->exchange.dst, AREA_SCRATCH, op->exchange.dst_offset + at),
               cpu_at(d, op->exchange.src, AREA_SCRATCH, op->exchange.src_offset + at),
               (rows.end - rows.begin) * row);
}

/* Bytes [begin, end) of an output's logits. */
static void copy_logits(const struct device *d, const struct op *op, const struct step_params *p,
                        uint32_t item, uint64_t begin, uint64_t end) {
    char *to = (char *)(p->logits + (uint64_t)item * p->n_vocab + op->exchange.vocab_begin);
    const char *from = cpu_at(d, op->exchange.src, AREA_SCRATCH,
                              op->exchange.src_offset + item * op->exchange.src_stride_bytes);
    end = end < op->exchange.row_bytes ? end : op->exchange.row_bytes;
    memcpy(to + begin, from + begin, end - begin);
}

/* Rows of a form, `bytes` each, of either card. */
static void copy_form(const struct device *d, const struct op *op, uint64_t from, uint64_t to,
                      struct row_range rows, uint64_t bytes) {
    memcpy(cpu_at(d, op->exchange.dst, AREA_SCRATCH, to + rows.begin * bytes),
           cpu_at(d, op->exchange.src, AREA_SCRATCH, from + rows.begin * bytes),
           (rows.end - rows.begin) * bytes);
}

static void copy_activation(const struct device *d, const struct op *op, struct row_range range,
                            uint32_t begin, uint32_t end) {
    const struct activation *from = &op->exchange.act_from, *to = &op->exchange.act_to;
    const struct row_range rows = {begin > range.begin ? begin : range.begin,
                                   end < range.end ? end : range.end};
    if (rows.begin >= rows.end)
        return;
    if (to->forms & FORM_Q8) {
        copy_form(d, op, from->q8, to->q8, rows, to->cols);
        copy_form(d, op, from->scale, to->scale, rows, to->cols / ATOM * 4);
        copy_form(d, op, from->sum, to->sum, rows, to->cols / ATOM * 4);
    }
    if (to->forms & FORM_F32)
        copy_form(d, op, from->f32, to->f32, rows, (uint64_t)to->cols * 4);
}

/* ---- K and V -------------------------------------------------------------------------------- */

/* Positions [at, at + n) of one KV head in one page, as struct kernels' store_k and store_v leave
 * them. */
struct kv_run {
    const char *src;
    char *dst;
    uint32_t dim, at, n;
};

/* A row of positions of `size` bytes each, in both. */
static void copy_positions(const struct kv_run *run, uint64_t row, uint32_t size) {
    const uint64_t at = row + (uint64_t)run->at * size;
    memcpy(run->dst + at, run->src + at, (uint64_t)run->n * size);
}

static void copy_k(const struct kv_run *run, enum kv_type type, uint32_t size) {
    for (uint32_t i = 0; i < run->dim; i++)
        copy_positions(run, (uint64_t)i * PAGE_TOKENS * size, size);
    const uint64_t scales = (uint64_t)run->dim * PAGE_TOKENS;
    for (uint32_t k = 0; type == KV_Q8_0 && k < run->dim / ATOM; k++)
        copy_positions(run, scales + (uint64_t)k * PAGE_TOKENS * 2, 2);
}

static void copy_v(const struct kv_run *run, enum kv_type type, uint32_t size) {
    copy_positions(run, 0, run->dim * size);
    if (type == KV_Q8_0)
        copy_positions(run, (uint64_t)run->dim * PAGE_TOKENS, run->dim / ATOM * 2);
}

/* Whether two rows of the step stand in one page, one position after the other. */
static bool follows(const struct step_row *before, const struct step_row *row) {
    return before->sequence == row->sequence && before->position + 1 == row->position &&
           row->position % PAGE_TOKENS != 0;
}

/* What this step wrote of one KV head for a row and those behind it, before `end`, that share its
 * page; returns how many.  K lies position by position in as many places as the head has
 * dimensions, so they are copied together. */
static uint32_t copy_kv(const struct device *d, const struct op *op, const struct step_params *p,
                        uint32_t item, uint32_t end) {
    const struct step_row *row = &p->rows[item];
    const enum kv_type type = op->exchange.src_kv.type;
    const uint32_t size = type == KV_F32 ? 4 : type == KV_F16 ? 2 : 1;
    const uint32_t page = p->sequences[row->sequence].pages[row->position / PAGE_TOKENS];
    const uint64_t half = op->exchange.src_kv.slot_bytes / 2;
    struct kv_run run = {
        .src = cpu_kv_at(d, op->exchange.src, &op->exchange.src_kv, op->exchange.src_slot, page),
        .dst = cpu_kv_at(d, op->exchange.dst, &op->exchange.dst_kv, op->exchange.dst_slot, page),
        .dim = op->exchange.head_dim,
        .at = row->position % PAGE_TOKENS,
        .n = 1,
    };
    while (item + run.n < end && follows(&row[run.n - 1], &row[run.n]))
        run.n++;
    copy_k(&run, type, size);
    run.src += half;
    run.dst += half;
    copy_v(&run, type, size);
    return run.n;
}

void cpu_exchange_part(struct device *d, const struct op *op, const struct step_params *p,
                       uint32_t begin, uint32_t end) {
    if (op->exchange.kind == EXCHANGE_ACTIVATION)
        copy_activation(d, op, rows_between(op, p), begin, end);
    for (uint32_t i = 0; op->exchange.kind == EXCHANGE_LOGITS && i < p->n_outputs; i++)
        copy_logits(d, op, p, i, begin * TILE * sizeof(float), end * TILE * sizeof(float));
    while (op->exchange.kind == EXCHANGE_KV && begin < end)
        begin += copy_kv(d, op, p, begin, end);
}

void cpu_exchange_run(struct device *d, const struct op *op, const struct step_params *p,
                      uint32_t item) {
    const struct row_range range = rows_between(op, p);
    uint32_t row = range.begin + item;
    switch (op->exchange.kind) {
    case EXCHANGE_KV:
        if (item == 0 || !follows(&p->rows[item - 1], &p->rows[item]))
            copy_kv(d, op, p, item, p->n_rows); /* by the item of the first */
        break;
    case EXCHANGE_LOGITS:
        copy_logits(d, op, p, item, 0, op->exchange.row_bytes);
        break;
    case EXCHANGE_ACTIVATION:
        copy_activation(d, op, range, range.begin + item * COPY_ROWS,
                        range.begin + (item + 1) * COPY_ROWS);
        break;
    case EXCHANGE_ROWS:
        copy_row(d, op, row);
        break;
    case EXCHANGE_PLANE:
        copy_plane(d, op, p);
        break;
    case EXCHANGE_OUTPUTS:
        row = p->outputs[item];
        if (row >= range.begin && row < range.end)
            copy_row(d, op, row);
        break;
    case EXCHANGE_TOKENS:
        if (p->rows[row].token >= (int32_t)op->exchange.vocab_begin &&
            p->rows[row].token < (int32_t)op->exchange.vocab_end)
            copy_row(d, op, row);
        break;
    }
}
