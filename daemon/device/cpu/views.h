/* SPDX-License-Identifier: Apache-2.0 */
/* views.h - what an operation names by offsets, as pointers into its card's memory. */
#ifndef OCTARC_DEVICE_CPU_VIEWS_H
#define OCTARC_DEVICE_CPU_VIEWS_H

#include "daemon/device/cpu/cpu.h"
#include "daemon/device/pack.h"

static inline float *rows_at(const struct device *d, uint32_t card, struct rows rows,
                             uint64_t row) {
    return (float *)(void *)cpu_at(d, card, AREA_SCRATCH, rows.offset) + row * rows.stride;
}

/* NULL: there is none. */
static inline const float *vector_at(const struct device *d, uint32_t card, struct vector v) {
    if (!v.offset)
        return NULL;
    return (const float *)(const void *)cpu_at(d, card, AREA_WEIGHTS, v.offset) + v.begin;
}

static inline struct act_view act_at(const struct device *d, uint32_t card,
                                     const struct activation *act) {
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

/* What a task multiplies by: in a step of one row it may lie on the card that normed it. */
static inline struct act_view input_at(const struct device *d, const struct cpu_task *task,
                                       const struct activation *act, uint32_t n_rows) {
    if (task->input && n_rows == 1)
        return act_at(d, task->input->exchange.src, &task->input->exchange.act_from);
    return act_at(d, task->card, act);
}

static inline struct matmul matmul_at(const struct device *d, uint32_t card, const struct matrix *w,
                                      const struct activation *act) {
    return (struct matmul){
        .tiles = (const uint8_t *)(w->fetched ? cpu_at(d, card, AREA_LANDING, w->landing)
                                              : cpu_at(d, card, AREA_WEIGHTS, w->offset)),
        .type = w->type,
        .rows = w->rows,
        .cols = w->cols,
        .act = act_at(d, card, act),
    };
}

/* The same with such an input, whose tiles are read up to `tile` and after them what lies at
 * `next`. */
static inline struct matmul matmul_until(const struct device *d, uint32_t card,
                                         const struct matrix *w, struct act_view act, uint32_t tile,
                                         const uint8_t *next) {
    struct matmul m = matmul_at(d, card, w, &(struct activation){0});
    const uint32_t tiles = tiles_of(w->rows);
    m.end = m.tiles + (uint64_t)(tile < tiles ? tile : tiles) * packed_tile_bytes(w->type, w->cols);
    m.act = act;
    m.next = next;
    return m;
}

#endif
