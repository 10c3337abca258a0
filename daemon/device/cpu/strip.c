/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/strip.h"

#include <string.h>

#include "daemon/device/cpu/views.h"

#define STRIP_TILES    2 /* with the rows of a block and eight cards: half of a second-level cache */
#define STRIP_ROWS     48 /* of a block */
#define STRIP_ROWS_MIN 32 /* of a step: below, all planes together are small */

#define ROW_BYTES (TILE * sizeof(float)) /* of a tile */

/* --- the operations --- */

/* A strip's first row, or one behind it, in its first tile of a plane that begins at `offset`. */
static char *place_at(const struct device *d, uint32_t card, uint64_t offset, const struct strip *s,
                      uint32_t row) {
    return cpu_at(d, card, AREA_SCRATCH, offset + s->at + (row - s->row) * ROW_BYTES);
}

/* Bytes from plane to plane. */
static uint64_t plane_bytes(const struct device *d, struct planes planes) {
    return (uint64_t)d->max_rows * planes.stride * sizeof(float);
}

void strip_lanes(const struct device *d, uint32_t card, const struct op *op, const struct strip *s,
                 const struct panel *panel, const uint8_t *next) {
    const struct matmul m = matmul_until(d, card, &op->lanes.w, act_at(d, card, &op->lanes.act),
                                         s->tile + s->n_tiles, next);
    float *to = (float *)(void *)place_at(d, card, op->lanes.slots.offset, s, s->row);
    d->kernels->lanes(&m, s->tile, s->n_tiles, panel, op->lanes.col, op->lanes.slot, to,
                      plane_bytes(d, op->lanes.slots) / sizeof(float),
                      (uint64_t)s->tile_rows * TILE);
}

/* The strip's rows in a part: from *begin on; returns how many. */
static uint32_t rows_in(struct row_part part, const struct step_params *p, const struct strip *s,
                        uint32_t *begin) {
    const uint32_t first = row_part_begin(part, p->n_rows), last = row_part_end(part, p->n_rows);
    const uint32_t end = s->row + s->n_rows < last ? s->row + s->n_rows : last;
    *begin = s->row > first ? s->row : first;
    return *begin < end ? end - *begin : 0;
}

static const float *plane_of(const struct device *d, const struct cpu_task *task, int8_t slot,
                             const struct strip *s, uint32_t row) {
    const struct planes own = task->op->combine.slots;
    const struct cpu_pull *pull = &task->pulls[slot];
    const uint64_t offset =
        pull->sent ? pull->offset : own.offset + (uint64_t)slot * plane_bytes(d, own);
    return (float *)(void *)place_at(d, pull->sent ? pull->card : task->card, offset, s, row);
}

void strip_combine(const struct device *d, const struct cpu_task *task, const struct step_params *p,
                   const struct strip *s) {
    const struct op *op = task->op;
    const uint32_t card = task->card;
    const uint32_t col = s->tile * TILE, left = op->combine.n - col;
    const float *planes[TREE_NODES] = {NULL};
    uint32_t row;
    const uint32_t n = rows_in(op->combine.part, p, s, &row);
    if (n == 0)
        return;
    for (uint32_t i = 1; i < TREE_NODES; i++)
        if (op->combine.slot[i] != NO_SLOT)
            planes[i] = plane_of(d, task, op->combine.slot[i], s, row);
    const uint32_t width = left < s->n_tiles * TILE ? left : s->n_tiles * TILE;
    float *out = rows_at(d, card, op->combine.out, row) + col;
    for (uint32_t r = 0; op->combine.alone && r < n; r++)
        memset(out + (uint64_t)r * op->combine.out.stride, 0, width * sizeof *out);
    d->kernels->combine(out, op->combine.out.stride, n, planes, (uint64_t)s->tile_rows * TILE,
                        width);
    const float *bias = vector_at(d, card, op->combine.bias);
    for (uint32_t r = 0; bias && r < n; r++)
        for (uint32_t i = 0; i < width; i++)
            out[(uint64_t)r * op->combine.out.stride + i] += bias[col + i];
}

/* --- phases that may run strip by strip --- */

static const struct cpu_task *tasks_of(const struct device *d, uint32_t phase) {
    return &d->tasks[d->phases[phase].first];
}

static bool is_sum(const struct device *d, uint32_t phase, enum op_kind kind, uint32_t width,
                   uint32_t stride) {
    const struct cpu_task *tasks = tasks_of(d, phase);
    for (uint32_t i = 0; i < d->phases[phase].n; i++) {
        const struct op *op = tasks[i].op;
        if (op->kind != kind)
            return false;
        if (kind == OP_LANES && (op->lanes.w.rows != width || op->lanes.slots.stride != stride))
            return false;
        if (kind == OP_COMBINE && (op->combine.n != width || op->combine.slots.stride != stride))
            return false;
        if (kind == OP_EXCHANGE && !cpu_is_pulled(&tasks[i], UINT32_MAX))
            return false;
    }
    return d->phases[phase].n > 0;
}

uint32_t strip_phases(const struct device *d, uint32_t phase) {
    const struct op *op = d->phases[phase].n ? tasks_of(d, phase)->op : NULL;
    uint32_t n = 1;
    if (!op || op->kind != OP_LANES)
        return 0;
    const uint32_t width = op->lanes.w.rows, stride = op->lanes.slots.stride;
    if (!is_sum(d, phase, OP_LANES, width, stride))
        return 0;
    if (phase + n < d->n_phases && is_sum(d, phase + n, OP_EXCHANGE, width, stride))
        n++;
    return phase + n < d->n_phases && is_sum(d, phase + n, OP_COMBINE, width, stride) ? n + 1 : 0;
}

bool strip_wanted(uint32_t n_rows) {
    return n_rows >= STRIP_ROWS_MIN;
}

/* Rows of a block: as many as each card's panel takes. */
static uint32_t block_rows(const struct device *d, uint32_t phase) {
    uint32_t least = STRIP_ROWS;
    for (uint32_t i = 0; i < d->phases[phase].n; i++) {
        const struct matrix *w = &tasks_of(d, phase)[i].op->lanes.w;
        const uint32_t n = panel_rows(w->type, w->cols);
        least = n < least ? n : least;
    }
    return least;
}

static uint32_t width_of(const struct device *d, uint32_t phase) {
    return tiles_of(tasks_of(d, phase)->op->lanes.w.rows);
}

uint32_t strip_cells(const struct device *d, uint32_t phase, uint32_t n_rows) {
    const uint32_t block = block_rows(d, phase);
    return (n_rows + block - 1) / block * width_of(d, phase);
}

/* --- running them --- */

struct strip_pass {
    struct device *device;
    const struct step_params *params;
    struct cpu_work *work;
    int rc; /* the first failure */
};

/* Every other phase runs backwards in isolation, as whole phases do. */
static const struct cpu_task *enter(struct strip_pass *pass, uint32_t phase, uint32_t i) {
    struct device *d = pass->device;
    const uint32_t n = d->phases[phase].n;
    const struct cpu_task *task = &tasks_of(d, phase)[d->isolate && phase % 2 ? n - 1 - i : i];
    if (pass->rc || cpu_is_hung(d, task->card))
        return NULL;
    if (d->isolate)
        pass->rc = cpu_isolate(d, task);
    return pass->rc ? NULL : task;
}

/* What every card multiplies with tiles [begin, end). */
static void gather_block(struct strip_pass *pass, uint32_t phase, uint32_t row, uint32_t n_rows,
                         uint32_t begin, uint32_t end) {
    struct device *d = pass->device;
    for (uint32_t i = 0; i < d->phases[phase].n; i++) {
        const struct cpu_task *task = enter(pass, phase, i);
        if (!task)
            continue;
        const struct op *op = task->op;
        const struct matmul m = matmul_at(d, task->card, &op->lanes.w, &op->lanes.act);
        cpu_landing_need(d, task->card, &op->lanes.w, begin, end);
        d->kernels->gather(&m, row, n_rows, &pass->work->lanes[task->card]);
    }
}

static void run_strip(struct strip_pass *pass, uint32_t phase, const struct strip *s) {
    struct device *d = pass->device;
    const uint32_t end = phase + d->phases[phase].strips;
    for (uint32_t p = phase; p < end; p++)
        for (uint32_t i = 0; i < d->phases[p].n; i++) {
            const struct cpu_task *task =
                tasks_of(d, p)->op->kind == OP_EXCHANGE ? NULL : enter(pass, p, i);
            if (!task)
                continue;
            if (task->op->kind == OP_LANES)
                strip_lanes(d, task->card, task->op, s, &pass->work->lanes[task->card], NULL);
            else
                strip_combine(d, task, pass->params, s);
        }
}

/* Tiles [begin, end) of one block. */
static void run_block(struct strip_pass *pass, uint32_t phase, uint32_t row, uint32_t n_rows,
                      uint32_t begin, uint32_t end, struct strip_place *place) {
    const uint32_t width = width_of(pass->device, phase);
    gather_block(pass, phase, row, n_rows, begin, end);
    for (uint32_t tile = begin, n; tile < end; tile += n) {
        n = end - tile < STRIP_TILES ? end - tile : STRIP_TILES;
        const uint64_t bytes = (uint64_t)n * n_rows * ROW_BYTES;
        /* A strip of which no other member has a cell: its own place is nobody else's. */
        if (bytes > place->bytes)
            *place = (struct strip_place){
                ((uint64_t)row * width + (uint64_t)tile * n_rows) * ROW_BYTES, bytes};
        run_strip(pass, phase, &(struct strip){tile, n, row, n_rows, n_rows, place->at});
    }
}

/* Every task has a part in every cell. */
static bool count_cells(struct device *d, uint32_t phase, struct cpu_work *work, uint32_t n) {
    bool whole = true;
    for (uint32_t p = phase; p < phase + d->phases[phase].strips; p++)
        for (uint32_t i = 0; i < d->phases[p].n; i++) {
            const uint32_t card = tasks_of(d, p)[i].card;
            if (cpu_is_hung(d, card))
                whole = false;
            else
                cpu_count_done(work, card, n);
        }
    return whole;
}

int strip_run(struct device *d, uint32_t phase, const struct step_params *params, uint32_t begin,
              uint32_t end, struct cpu_work *work, struct strip_place *place, uint32_t *finished) {
    struct strip_pass pass = {d, params, work, 0};
    const uint32_t block = block_rows(d, phase), width = width_of(d, phase);
    for (uint32_t cell = begin, n; cell < end; cell += n) {
        const uint32_t tile = cell % width, row = cell / width * block;
        n = end - cell < width - tile ? end - cell : width - tile;
        run_block(&pass, phase, row, params->n_rows - row < block ? params->n_rows - row : block,
                  tile, tile + n, place);
    }
    *finished = count_cells(d, phase, work, end - begin) ? end - begin : 0;
    return pass.rc;
}
