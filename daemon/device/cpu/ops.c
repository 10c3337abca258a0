/* SPDX-License-Identifier: Apache-2.0 */
/* ops.c - what each operation does, cut into items. */
#include <string.h>

#include "daemon/device/check.h"
#include "daemon/device/cpu/experts.h"
#include "daemon/device/cpu/gated.h"
#include "daemon/device/cpu/strip.h"
#include "daemon/device/cpu/views.h"
#include "daemon/device/pack.h"

#define COMBINE_ROWS      4  /* rows whose sums are added together */
#define ATTENTION_ROWS    4  /* rows of a prefill that share a pass over the pages, or more */
#define ATTENTION_HEADS   4  /* about as many heads do */
#define ATTENTION_QUERIES 12 /* rows times heads: a card with few heads takes more rows */

/* How OP_ATTENTION is cut: blocks of rows, and runs of heads that end on whole atoms.  A decode
 * step has few rows: single units then, so that every thread has one. */
struct attention_cut {
    uint32_t rows, heads, n_runs;
};

static struct attention_cut cut_attention(const struct op *op, uint32_t n_rows) {
    const uint32_t unit = check_unit_heads(op->attention.head_dim), n_heads = op->attention.n_heads;
    struct attention_cut cut = {.rows = 1, .heads = unit};
    if (n_rows >= 2 * ATTENTION_ROWS) {
        const uint32_t wanted = op->attention.heads_per_kv < ATTENTION_HEADS
                                    ? op->attention.heads_per_kv
                                    : ATTENTION_HEADS;
        while (cut.heads + unit <= wanted &&
               (cut.heads + unit) * op->attention.head_dim <= UNIT_VALUES_MAX)
            cut.heads += unit;
        const uint32_t heads = n_heads && n_heads < cut.heads ? n_heads : cut.heads;
        const uint32_t most =
            ATTENTION_ROWS * UNIT_VALUES_MAX / (cut.heads * op->attention.head_dim);
        cut.rows = ATTENTION_QUERIES / heads < most ? ATTENTION_QUERIES / heads : most;
        cut.rows = cut.rows > ATTENTION_ROWS ? cut.rows : ATTENTION_ROWS;
    }
    cut.n_runs = (n_heads + cut.heads - 1) / cut.heads;
    return cut;
}

/* The items of a matrix are its tiles, of a panel of rows after the other: whoever takes a run of
 * them makes each of its panels ready once, whatever others take. */
static uint32_t panel_count(uint32_t step, uint32_t n_rows) {
    return (n_rows + step - 1) / step;
}

/* Panels of about the same size, in whole groups of rows; `step`: the most a panel may have. */
static uint32_t panel_begin(uint32_t step, uint32_t n_rows, uint32_t panel) {
    const uint64_t groups = (n_rows + PANEL_STEP - 1) / PANEL_STEP;
    const uint64_t row = groups * panel / panel_count(step, n_rows) * PANEL_STEP;
    return row < n_rows ? (uint32_t)row : n_rows;
}

static uint32_t min_rows(uint32_t rows, const struct matrix *m) {
    const uint32_t other = panel_rows(m->type, m->cols);
    return rows < other ? rows : other;
}

static uint32_t qkv_panel(const struct op *op) {
    return min_rows(min_rows(min_rows(UINT32_MAX, &op->qkv.q), &op->qkv.k), &op->qkv.v);
}

static uint32_t qkv_tiles(const struct op *op) {
    return tiles_of(op->qkv.q.rows) + tiles_of(op->qkv.k.rows) + tiles_of(op->qkv.v.rows);
}

static uint32_t gate_up_panel(const struct op *op) {
    return min_rows(min_rows(UINT32_MAX, &op->gate_up.gate), &op->gate_up.up);
}

static uint32_t gate_up_atoms(const struct op *op) {
    return (op->gate_up.gate.rows + ATOM - 1) / ATOM;
}

static uint32_t rows_of(struct row_part part, const struct step_params *p) {
    return row_part_end(part, p->n_rows) - row_part_begin(part, p->n_rows);
}

uint32_t cpu_op_items(const struct op *op, const struct step_params *p) {
    switch (op->kind) {
    case OP_EMBED:
    case OP_ROPE_STORE:
        return p->n_rows;
    case OP_COMBINE:
        return (rows_of(op->combine.part, p) + COMBINE_ROWS - 1) / COMBINE_ROWS;
    case OP_NORM:
        return op->norm.outputs ? p->n_outputs : rows_of(op->norm.part, p);
    case OP_ADD_NORM:
        return rows_of(op->add_norm.part, p);
    case OP_QKV:
        return panel_count(qkv_panel(op), p->n_rows) * qkv_tiles(op);
    case OP_ATTENTION: {
        const struct attention_cut cut = cut_attention(op, p->n_rows);
        return (p->n_rows + cut.rows - 1) / cut.rows * cut.n_runs;
    }
    case OP_LANES:
        return tiles_of(op->lanes.w.rows);
    case OP_GATE_UP:
        return panel_count(gate_up_panel(op), p->n_rows) * gate_up_atoms(op);
    case OP_LOGITS:
        return p->n_outputs ? tiles_of(op->logits.w.rows) : 0;
    case OP_ROUTE:
    case OP_DISPATCH:
    case OP_EXPERT_GATE_UP:
    case OP_EXPERT_DOWN:
        return experts_items(op, p);
    case OP_EXCHANGE:
        return cpu_exchange_items(op, p);
    case OP_FETCH:
        return cpu_fetch_items(op);
    }
    return 0;
}

static struct cpu_run tiles_run(const struct device *d, uint32_t card, const struct matrix *w,
                                uint32_t begin, uint32_t n) {
    const uint32_t tiles = tiles_of(w->rows);
    const uint64_t tile = packed_tile_bytes(w->type, w->cols);
    const struct matmul m = matmul_at(d, card, w, &(struct activation){0});
    return (struct cpu_run){(const char *)m.tiles + begin * tile,
                            (begin + n < tiles ? n : tiles - begin) * tile};
}

uint32_t cpu_op_weights(const struct device *d, uint32_t card, const struct op *op, uint32_t item,
                        struct cpu_run runs[2]) {
    const struct matrix *part = &op->qkv.q;
    runs[0] = runs[1] = (struct cpu_run){NULL, 0};
    switch (op->kind) {
    case OP_QKV:
        item %= qkv_tiles(op);
        if (item >= tiles_of(part->rows)) {
            item -= tiles_of(part->rows);
            part = &op->qkv.k;
            if (item >= tiles_of(part->rows)) {
                item -= tiles_of(part->rows);
                part = &op->qkv.v;
            }
        }
        runs[0] = tiles_run(d, card, part, item, 1);
        return 1;
    case OP_LANES:
        runs[0] = tiles_run(d, card, &op->lanes.w, item, 1);
        return 1;
    case OP_GATE_UP:
        item %= gate_up_atoms(op);
        runs[0] = tiles_run(d, card, &op->gate_up.gate, 2 * item, 2);
        runs[1] = tiles_run(d, card, &op->gate_up.up, 2 * item, 2);
        return 2;
    case OP_LOGITS:
        runs[0] = tiles_run(d, card, &op->logits.w, item, 1);
        return 1;
    default:
        return 0;
    }
}

/* Where the first weights of an item lie. */
static const uint8_t *first_weights(const struct device *d, uint32_t card, const struct op *op,
                                    uint32_t item) {
    struct cpu_run runs[2];
    cpu_op_weights(d, card, op, item, runs);
    return (const uint8_t *)runs[0].at;
}

static void run_embed(struct device *d, uint32_t card, const struct op *op,
                      const struct step_params *p, uint32_t row) {
    const int32_t token = p->rows[row].token;
    if (token < (int32_t)op->embed.vocab_begin || token >= (int32_t)op->embed.vocab_end)
        return;
    const struct activation none = {0};
    const struct matmul m = matmul_at(d, card, &op->embed.embd, &none);
    float *x = rows_at(d, card, op->embed.hidden, row);
    d->kernels->unpack_row(&m, (uint32_t)token - op->embed.vocab_begin, x);
    for (uint32_t i = 0; op->embed.scale > 0 && i < m.cols; i++)
        x[i] *= op->embed.scale;
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
    const uint32_t to = op->norm.outputs ? item : row_part_begin(op->norm.part, p->n_rows) + item;
    const uint32_t row = op->norm.outputs ? p->outputs[item] : to;
    norm_row(d, rows_at(d, card, op->norm.hidden, row),
             (const float *)(void *)cpu_at(d, card, AREA_WEIGHTS, op->norm.weight), op->norm.n,
             op->norm.eps, &act, to);
}

static void run_add_norm(struct device *d, uint32_t card, const struct op *op,
                         const struct step_params *p, uint32_t item) {
    const uint32_t row = row_part_begin(op->add_norm.part, p->n_rows) + item, n = op->add_norm.n;
    const float *weight = (float *)(void *)cpu_at(d, card, AREA_WEIGHTS, op->add_norm.weight);
    float *sum = rows_at(d, card, op->add_norm.sum, row);
    float *hidden = rows_at(d, card, op->add_norm.hidden, row);
    d->kernels->scale(sum, weight, d->kernels->rms_inverse(sum, n, op->add_norm.eps), n, sum);
    for (uint32_t i = 0; i < n; i++)
        hidden[i] += sum[i];
}

/* Rows of a step's input, and tiles, or atoms of the output, for them. */
struct block {
    uint32_t row, n_rows, begin, end;
};

/* The block that a run of items [*item, end) begins with; moves *item behind it. */
static struct block next_block(uint32_t step, uint32_t n_rows, uint32_t tiles, uint32_t *item,
                               uint32_t end) {
    const uint32_t panel = *item / tiles, first = panel * tiles, from = *item - first;
    const uint32_t row = panel_begin(step, n_rows, panel);
    *item = end < first + tiles ? end : first + tiles;
    return (struct block){row, panel_begin(step, n_rows, panel + 1) - row, from, *item - first};
}

/* The tiles of one part of q, k, v, which begins at `first` tiles and column `at`.  The panel is
 * made ready for *gathered, if for any. */
static void run_part(struct device *d, const struct cpu_task *task, uint32_t n_rows,
                     const struct matrix *part, uint32_t first, uint32_t at, const struct block *b,
                     struct panel *panel, const struct matrix **gathered, const uint8_t *next) {
    const struct op *op = task->op;
    const uint32_t card = task->card;
    const uint32_t last = first + tiles_of(part->rows), stride = op->qkv.out.stride;
    const uint32_t begin = b->begin > first ? b->begin : first, end = b->end < last ? b->end : last;
    if (begin >= end)
        return;
    if (end < b->end)
        next = first_weights(d, card, op, end);
    const struct matmul m =
        matmul_until(d, card, part, input_at(d, task, &op->qkv.act, n_rows), end - first, next);
    cpu_landing_need(d, card, part, begin - first, end - first);
    if (!*gathered || !d->kernels->same_panel((*gathered)->type, part->type))
        d->kernels->gather(&m, b->row, b->n_rows, panel);
    *gathered = part;
    for (uint32_t tile = begin - first; tile < end - first; tile++)
        d->kernels->tile(&m, tile, panel, rows_at(d, card, op->qkv.out, b->row) + at + tile * TILE,
                         stride);
}

static void run_qkv(struct device *d, const struct cpu_task *task, const struct step_params *p,
                    uint32_t begin, uint32_t end, struct cpu_work *work) {
    const struct op *op = task->op;
    const struct matrix *parts[] = {&op->qkv.q, &op->qkv.k, &op->qkv.v};
    while (begin < end) {
        const struct block b = next_block(qkv_panel(op), p->n_rows, qkv_tiles(op), &begin, end);
        const struct matrix *gathered = NULL;
        uint32_t at = 0, first = 0;
        for (int i = 0; i < 3; first += tiles_of(parts[i]->rows), at += parts[i++]->rows)
            run_part(d, task, p->n_rows, parts[i], first, at, &b, &work->panels[0], &gathered,
                     work->next[0]);
    }
}

/* `n` heads of a row, side by side, before the rotation. */
static void prepare_heads(const struct device *d, uint32_t card, float *x, uint32_t n, uint32_t dim,
                          struct vector bias, struct vector norm, float eps) {
    const float *add = vector_at(d, card, bias), *weight = vector_at(d, card, norm);
    for (uint32_t i = 0; add && i < n * dim; i++)
        x[i] += add[i];
    for (uint32_t h = 0; weight && h < n; h++, x += dim)
        d->kernels->scale(x, weight, d->kernels->rms_inverse(x, dim, eps), dim, x);
}

static void run_rope_store(struct device *d, uint32_t card, const struct op *op,
                           const struct step_params *p, uint32_t row) {
    const struct step_row *r = &p->rows[row];
    const uint32_t page = p->sequences[r->sequence].pages[r->position / PAGE_TOKENS];
    const uint32_t at = r->position % PAGE_TOKENS, dim = op->rope.head_dim;
    const float *cos_sin = p->rope[op->rope.rope_table] + (uint64_t)row * op->rope.rope_dims;
    float *x = rows_at(d, card, op->rope.qkv, row);
    float *k = x + op->rope.n_heads * dim, *v = k + op->rope.n_kv * dim;
    prepare_heads(d, card, x, op->rope.n_heads, dim, op->rope.q_bias, op->rope.q_norm,
                  op->rope.eps);
    prepare_heads(d, card, k, op->rope.n_kv, dim, op->rope.k_bias, op->rope.k_norm, op->rope.eps);
    prepare_heads(d, card, v, op->rope.n_kv, dim, op->rope.v_bias, (struct vector){0}, 0);
    for (uint32_t h = 0; h < op->rope.n_heads + op->rope.n_kv; h++)
        d->kernels->rotate(x + h * dim, cos_sin, op->rope.rope_dims, op->rope.neox);
    for (uint32_t i = 0; p->q_scale && i < op->rope.n_heads * dim; i++)
        x[i] *= p->q_scale[row];
    for (uint32_t h = 0; h < op->rope.n_kv; h++) {
        char *kv = cpu_kv_at(d, card, &op->rope.kv, op->rope.kv_slot + h, page);
        d->kernels->store_k(kv, op->rope.kv.type, dim, at, k + h * dim);
        d->kernels->store_v(kv + op->rope.kv.slot_bytes / 2, op->rope.kv.type, dim, at,
                            v + h * dim);
    }
}

/* Rows [row, row_end), all of one sequence, and heads [head, head_end): passed to the kernel by the
 * KV head they read.  out: row after row, `stride` values apart, from head `head` on. */
static void attend(struct device *d, uint32_t card, const struct op *op,
                   const struct step_params *p, uint32_t row, uint32_t row_end, uint32_t head,
                   uint32_t head_end, float *out, uint32_t stride) {
    struct attention_query queries[ATTENTION_ROWS * UNIT_HEADS_MAX];
    const uint32_t dim = op->attention.head_dim, first = head;
    const float *sinks = vector_at(d, card, op->attention.sinks);
    while (head < head_end) {
        const uint32_t kv_head = (op->attention.head_begin + head) / op->attention.heads_per_kv;
        const struct attention_job job = {
            .head_dim = dim,
            .pages = p->sequences[p->rows[row].sequence].pages,
            .kv = cpu_kv_at(d, card, &op->attention.kv, kv_head - op->attention.kv_begin, 0),
            .page_bytes = op->attention.kv.page_bytes,
            .half_bytes = op->attention.kv.slot_bytes / 2,
            .type = op->attention.kv.type,
            .scale = op->attention.scale,
            .soft_cap = op->attention.soft_cap,
        };
        uint32_t n = 0, end = head;
        while (end < head_end &&
               (op->attention.head_begin + end) / op->attention.heads_per_kv == kv_head)
            end++;
        for (uint32_t r = row; r < row_end; r++) {
            const uint32_t seen = p->rows[r].position + 1, window = op->attention.window;
            for (uint32_t h = head; h < end; h++)
                queries[n++] = (struct attention_query){
                    .q = rows_at(d, card, op->attention.q, r) + h * dim,
                    .n_positions = seen,
                    .out = out + (r - row) * stride + (h - first) * dim,
                    .first = window && seen > window ? seen - window : 0,
                    .sink = sinks ? sinks + h : NULL,
                };
        }
        d->kernels->attention(&job, queries, n);
        head = end;
    }
}

static void run_attention(struct device *d, uint32_t card, const struct op *op,
                          const struct step_params *p, uint32_t item) {
    const struct attention_cut cut = cut_attention(op, p->n_rows);
    const uint32_t dim = op->attention.head_dim, stride = cut.heads * dim;
    const uint32_t begin = item / cut.n_runs * cut.rows, head = item % cut.n_runs * cut.heads;
    const uint32_t end = begin + cut.rows < p->n_rows ? begin + cut.rows : p->n_rows;
    const uint32_t head_end =
        head + cut.heads < op->attention.n_heads ? head + cut.heads : op->attention.n_heads;
    const struct act_view act = act_at(d, card, &op->attention.act);
    float out[ATTENTION_ROWS * UNIT_VALUES_MAX];
    for (uint32_t row = begin, next; row < end; row = next) {
        for (next = row + 1; next < end && p->rows[next].sequence == p->rows[row].sequence;)
            next++;
        attend(d, card, op, p, row, next, head, head_end, out + (row - begin) * stride, stride);
    }
    for (uint32_t row = begin; row < end; row++)
        d->kernels->store(&act, row, head * dim, out + (row - begin) * stride,
                          (head_end - head) * dim);
}

static void run_lanes(struct device *d, uint32_t card, const struct op *op,
                      const struct step_params *p, uint32_t begin, uint32_t end,
                      struct cpu_work *work) {
    const struct matmul m = matmul_at(d, card, &op->lanes.w, &op->lanes.act);
    const uint32_t step = panel_rows(m.type, m.cols);
    struct panel *panel = &work->panels[0];
    cpu_landing_need(d, card, &op->lanes.w, begin, end);
    for (uint32_t row = 0; row < p->n_rows; row += step) {
        const uint32_t n = p->n_rows - row < step ? p->n_rows - row : step;
        const uint64_t at = ((uint64_t)begin * p->n_rows + row) * TILE * sizeof(float);
        d->kernels->gather(&m, row, n, panel);
        strip_lanes(d, card, op, &(struct strip){begin, end - begin, row, n, p->n_rows, at}, panel,
                    work->next[0]);
    }
}

/* Some rows: as many as make a run of memory in the planes. */
static void run_combine(struct device *d, const struct cpu_task *task, const struct step_params *p,
                        uint32_t item) {
    const struct op *op = task->op;
    const uint32_t row = row_part_begin(op->combine.part, p->n_rows) + item * COMBINE_ROWS;
    strip_combine(d, task, p,
                  &(struct strip){0, tiles_of(op->combine.n), row, COMBINE_ROWS, p->n_rows,
                                  row * TILE * sizeof(float)});
}

static void add_bias(float *x, uint32_t stride, uint32_t n_rows, const float *bias,
                     uint32_t width) {
    for (uint32_t i = 0; bias && i < n_rows; i++)
        for (uint32_t t = 0; t < width; t++)
            x[i * stride + t] += bias[t];
}

typedef void gate_fn(float *gate, uint32_t stride, const float *up, uint32_t rows, uint32_t n);

static gate_fn *gate_of(const struct device *d, enum gate function) {
    switch (function) {
    case GATE_SILU:
        return d->kernels->silu_mul;
    case GATE_GELU:
        return d->kernels->gelu_mul;
    case GATE_LIMITED:
        return d->kernels->limited_mul;
    }
    return NULL;
}

/* Sixteen rows of gate and up times a panel, multiplied into one half of the atoms of x. */
static void gate_tile(struct device *d, const struct gated *gated, uint32_t tile,
                      const struct panel *for_gate, const struct panel *for_up, float (*x)[ATOM]) {
    gate_fn *const function = gate_of(d, gated->function);
    const uint32_t row = tile * TILE, left = gated->gate.rows - row;
    const uint32_t width = left < TILE ? left : TILE;
    float u[PANEL_ROWS_MAX][TILE], *g = &x[0][tile % 2 * TILE];
    d->kernels->tile(&gated->gate, tile, for_gate, g, ATOM);
    d->kernels->tile(&gated->up, tile, for_up, &u[0][0], TILE);
    add_bias(g, ATOM, for_gate->n, gated->gate_bias ? gated->gate_bias + row : NULL, width);
    add_bias(&u[0][0], TILE, for_gate->n, gated->up_bias ? gated->up_bias + row : NULL, width);
    function(g, ATOM, &u[0][0], for_gate->n, width);
}

/* A block of the output. */
static void gated_block(struct device *d, const struct gated *g, const struct block *b,
                        struct cpu_work *work) {
    const bool same = d->kernels->same_panel(g->gate.type, g->up.type);
    float x[PANEL_ROWS_MAX][ATOM];
    d->kernels->gather(&g->gate, b->row, b->n_rows, &work->panels[0]);
    if (!same)
        d->kernels->gather(&g->up, b->row, b->n_rows, &work->panels[1]);
    for (uint32_t atom = b->begin; atom < b->end; atom++) {
        const uint32_t left = g->gate.rows - atom * ATOM, width = left < ATOM ? left : ATOM;
        for (uint32_t half = 0; half * TILE < width; half++)
            gate_tile(d, g, 2 * atom + half, &work->panels[0], &work->panels[same ? 0 : 1], x);
        for (uint32_t i = 0; i < b->n_rows; i++)
            d->kernels->store(&g->out, g->out_row + b->row + i, atom * ATOM, x[i], width);
    }
}

void gated_atoms(struct device *d, const struct gated *g, uint32_t begin, uint32_t end,
                 struct cpu_work *work) {
    const uint32_t for_gate = panel_rows(g->gate.type, g->gate.cols);
    const uint32_t for_up = panel_rows(g->up.type, g->up.cols);
    const uint32_t step = for_gate < for_up ? for_gate : for_up;
    for (uint32_t i = 0; i < panel_count(step, g->n_rows); i++) {
        const uint32_t row = panel_begin(step, g->n_rows, i);
        const struct block b = {row, panel_begin(step, g->n_rows, i + 1) - row, begin, end};
        gated_block(d, g, &b, work);
    }
}

static void run_gate_up(struct device *d, const struct cpu_task *task, const struct step_params *p,
                        uint32_t begin, uint32_t end, struct cpu_work *work) {
    const struct op *op = task->op;
    const uint32_t card = task->card;
    const struct matrix *gate = &op->gate_up.gate, *up = &op->gate_up.up;
    const struct act_view act = input_at(d, task, &op->gate_up.act, p->n_rows);
    const uint32_t last = 2 * ((end - 1) % gate_up_atoms(op) + 1);
    const struct gated g = {.gate = matmul_until(d, card, gate, act, last, work->next[0]),
                            .up = matmul_until(d, card, up, act, last, work->next[1]),
                            .function = op->gate_up.function,
                            .n_rows = p->n_rows,
                            .out = act_at(d, card, &op->gate_up.out)};
    while (begin < end) {
        const struct block b =
            next_block(gate_up_panel(op), p->n_rows, gate_up_atoms(op), &begin, end);
        cpu_landing_need(d, card, &op->gate_up.gate, 2 * b.begin, 2 * b.end);
        cpu_landing_need(d, card, &op->gate_up.up, 2 * b.begin, 2 * b.end);
        gated_block(d, &g, &b, work);
    }
}

/* Tiles [begin, end) of a matrix, n rows of input, into rows of f32. */
static void run_tiles(struct device *d, const struct matmul *m, uint32_t n, uint32_t begin,
                      uint32_t end, float *out, uint32_t stride, struct cpu_work *work) {
    const uint32_t step = panel_rows(m->type, m->cols);
    struct panel *panel = &work->panels[0];
    for (uint32_t row = 0; row < n && begin < end; row += step) {
        d->kernels->gather(m, row, n - row < step ? n - row : step, panel);
        for (uint32_t tile = begin; tile < end; tile++)
            d->kernels->tile(m, tile, panel, out + (uint64_t)row * stride + tile * TILE, stride);
    }
}

static void run_logits(struct device *d, uint32_t card, const struct op *op,
                       const struct step_params *p, uint32_t begin, uint32_t end,
                       struct cpu_work *work) {
    const struct matmul m =
        matmul_until(d, card, &op->logits.w, act_at(d, card, &op->logits.act), end, work->next[0]);
    const uint32_t left = m.rows - begin * TILE, all = (end - begin) * TILE;
    run_tiles(d, &m, p->n_outputs, begin, end, rows_at(d, card, op->logits.out, 0),
              op->logits.out.stride, work);
    for (uint32_t i = 0; op->logits.soft_cap > 0 && i < p->n_outputs; i++)
        d->kernels->soft_cap(rows_at(d, card, op->logits.out, i) + begin * TILE,
                             op->logits.soft_cap, left < all ? left : all);
}

/* Operations whose items stand alone. */
static void run_item(struct device *d, const struct cpu_task *task, const struct step_params *p,
                     uint32_t item) {
    const struct op *op = task->op;
    const uint32_t card = task->card;
    switch (op->kind) {
    case OP_EMBED:
        run_embed(d, card, op, p, item);
        break;
    case OP_NORM:
        run_norm(d, card, op, p, item);
        break;
    case OP_ADD_NORM:
        run_add_norm(d, card, op, p, item);
        break;
    case OP_ROPE_STORE:
        run_rope_store(d, card, op, p, item);
        break;
    case OP_ATTENTION:
        run_attention(d, card, op, p, item);
        break;
    case OP_COMBINE:
        run_combine(d, task, p, item);
        break;
    case OP_EXCHANGE:
        cpu_exchange_run(d, op, p, item);
        break;
    case OP_FETCH:
        cpu_fetch_run(d, card, op, item);
        break;
    default:
        break;
    }
}

void cpu_op_run(struct device *d, const struct cpu_task *task, const struct step_params *p,
                uint32_t begin, uint32_t end, struct cpu_work *work) {
    const struct op *op = task->op;
    const uint32_t card = task->card;
    switch (op->kind) {
    case OP_QKV:
        run_qkv(d, task, p, begin, end, work);
        break;
    case OP_LANES:
        run_lanes(d, card, op, p, begin, end, work);
        break;
    case OP_GATE_UP:
        run_gate_up(d, task, p, begin, end, work);
        break;
    case OP_LOGITS:
        run_logits(d, card, op, p, begin, end, work);
        break;
    case OP_ROUTE:
    case OP_DISPATCH:
    case OP_EXPERT_GATE_UP:
    case OP_EXPERT_DOWN:
        experts_run(d, card, op, p, begin, end, work);
        break;
    default:
        for (uint32_t i = begin; i < end; i++)
            run_item(d, task, p, i);
    }
}
