/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/loading.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/pack.h"
#include "octarc/error.h"

#define DESCRIPTION_ALIGN 64

/* ---- addresses ------------------------------------------------------------------------------ */

u64 loading_at(struct loading *l, uint32_t card, enum area area, uint64_t offset, uint64_t bytes) {
    char *address = NULL;
    const int rc = level_zero_stretch(l->device, card, area, offset, bytes, &address);
    if (rc && !l->rc)
        l->rc = err_set(l->err, rc, "card %u: area %d has no bytes %llu to %llu", card, area,
                        (unsigned long long)offset, (unsigned long long)(offset + bytes));
    return (u64)(uintptr_t)address;
}

struct ze_rows loading_rows(struct loading *l, uint32_t card, struct rows rows) {
    const uint64_t bytes = (uint64_t)l->device->max_rows * rows.stride * 4;
    return (struct ze_rows){loading_at(l, card, AREA_SCRATCH, rows.offset, bytes), rows.stride};
}

struct ze_rows loading_some_rows(struct loading *l, uint32_t card, struct rows rows) {
    return (struct ze_rows){
        loading_at(l, card, AREA_SCRATCH, rows.offset, (uint64_t)rows.stride * 4), rows.stride};
}

struct ze_act loading_act_rows(struct loading *l, uint32_t card, const struct activation *a,
                               uint64_t n_rows) {
    const uint64_t n = n_rows * a->cols, atoms = n / ATOM;
    struct ze_act act = {.forms = a->forms, .cols = a->cols};
    if (a->forms & FORM_Q8) {
        act.q8 = loading_at(l, card, AREA_SCRATCH, a->q8, n);
        act.scale = loading_at(l, card, AREA_SCRATCH, a->scale, atoms * 4);
        act.sum = loading_at(l, card, AREA_SCRATCH, a->sum, atoms * 4);
    }
    if (a->forms & FORM_F32)
        act.f32 = loading_at(l, card, AREA_SCRATCH, a->f32, n * 4);
    return act;
}

struct ze_act loading_act(struct loading *l, uint32_t card, const struct activation *a) {
    return loading_act_rows(l, card, a, l->device->max_rows);
}

struct ze_matrix loading_matrix(struct loading *l, uint32_t card, const struct matrix *w) {
    const uint64_t bytes = pack_bytes(w->type, false, w->rows, w->cols);
    return (struct ze_matrix){w->fetched ? loading_at(l, card, AREA_LANDING, w->landing, bytes)
                                         : loading_at(l, card, AREA_WEIGHTS, w->offset, bytes),
                              w->rows, w->cols};
}

u64 loading_floats(struct loading *l, uint32_t card, uint64_t offset, uint64_t n) {
    return loading_at(l, card, AREA_WEIGHTS, offset, n * 4);
}

u64 loading_vector(struct loading *l, uint32_t card, struct vector v, uint64_t n) {
    return v.offset ? loading_floats(l, card, v.offset + (uint64_t)v.begin * 4, n) : 0;
}

struct ze_rows loading_apart(struct loading *l, uint32_t card, uint64_t offset, uint64_t n_rows,
                             uint32_t cols) {
    const uint32_t stride = tiles_of(cols) * TILE;
    return (struct ze_rows){loading_at(l, card, AREA_SCRATCH, offset, n_rows * stride * 4), stride};
}

struct ze_planes loading_planes(struct loading *l, uint32_t card, struct planes p) {
    const uint64_t bytes = (uint64_t)l->device->max_rows * p.stride * 4;
    return (struct ze_planes){loading_at(l, card, AREA_SCRATCH, p.offset, bytes), bytes};
}

struct ze_part loading_part(struct row_part part) {
    return (struct ze_part){part.index, part.count};
}

struct ze_kv loading_kv(struct loading *l, uint32_t card, const struct kv_place *kv) {
    return (struct ze_kv){loading_at(l, card, AREA_KV, kv->offset, kv->page_bytes), kv->page_bytes,
                          kv->slot_bytes, kv->type, 0};
}

/* ---- launches ------------------------------------------------------------------------------- */

uint64_t loading_describe(struct loading *l, uint32_t card, const void *what, uint32_t n,
                          size_t each, uint32_t *number) {
    const uint64_t bytes = n * (uint64_t)each,
                   end = l->bytes[card] +
                         (bytes + DESCRIPTION_ALIGN - 1) / DESCRIPTION_ALIGN * DESCRIPTION_ALIGN;
    if (end > l->capacity[card] && !l->rc) {
        const uint64_t more = 2 * end;
        char *grown = realloc(l->described[card], more);
        if (!grown) {
            l->rc = err_set(l->err, -ENOMEM, "no memory for the programs of card %u", card);
        } else {
            memset(grown + l->capacity[card], 0, more - l->capacity[card]);
            l->described[card] = grown;
            l->capacity[card] = more;
        }
    }
    if (l->rc)
        return 0;
    const uint64_t begin = l->bytes[card];
    memcpy(l->described[card] + begin, what, bytes);
    *number = l->numbers[card];
    for (uint32_t i = 0; i < n; i++) {
        const u64 own = l->numbers[card]++;
        memcpy(l->described[card] + begin + i * each, &own, sizeof own);
    }
    l->bytes[card] = end;
    return begin;
}

struct ze_launch *loading_add(struct loading *l, const struct ze_launch *launch) {
    if (l->n == l->room && !l->rc) {
        const size_t more = l->room ? 2 * l->room : 256;
        struct ze_launch *grown = realloc(l->launches, more * sizeof *grown);
        if (!grown) {
            l->rc = err_set(l->err, -ENOMEM, "no memory for %zu kernels", more);
        } else {
            l->launches = grown;
            l->room = more;
        }
    }
    if (l->rc)
        return NULL;
    l->launches[l->n] = *launch;
    l->launches[l->n].order = launch->op->kind == OP_FETCH ? 0 : (uint32_t)l->n + 1;
    return &l->launches[l->n++];
}

void loading_launch(struct loading *l, uint32_t card, const struct op *op, enum kernel_name name,
                    uint32_t type, const void *what, size_t bytes, uint32_t groups, enum ze_by by) {
    struct ze_launch one = {
        .card = card, .phase = op->phase, .op = op, .groups = groups, .by = by, .n_numbers = 1};
    if (!l->rc)
        l->rc = modules_kernel(l->device, card, name, type, &one.kernel, l->err);
    one.description = loading_describe(l, card, what, 1, bytes, &one.number);
    loading_add(l, &one);
}

void loading_launch_part(struct loading *l, uint32_t card, const struct op *op,
                         enum kernel_name name, const void *what, size_t bytes, uint32_t groups,
                         struct row_part part) {
    loading_launch(l, card, op, name, 0, what, bytes, groups, BY_PART);
    if (!l->rc)
        l->launches[l->n - 1].part = part;
}

void loading_waits(struct loading *l) {
    if (!l->rc)
        l->launches[l->n - 1].waits = true;
}

void loading_by_hits(struct loading *l, const struct hits *hits, uint32_t n_used) {
    if (l->rc)
        return;
    l->launches[l->n - 1].n_used = n_used;
    l->launches[l->n - 1].n_experts = hits->n_experts;
}
