/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/ahead.h"

#define AHEAD_BYTES (256 << 10) /* half of a second-level cache, or less */
#define LINE        64
#define STORES_MAX  16 /* positions of a head, each in a line of its own for every dimension */
#define LINES       8  /* at a time: a waiting member looks up about every 100 ns */

/* A stage's first item behind a member's part, as step.c deals them out. */
void ahead_begin(struct ahead *a, const struct device *d, uint32_t stage, uint32_t member) {
    *a = (struct ahead){.device = d};
    const uint32_t next = d->stages[stage].reads_next;
    if (next >= d->n_stages)
        return;
    const struct cpu_stage *s = &d->stages[next];
    a->phase = &d->phases[s->first];
    a->item = cpu_part_begin(d, s, member);
    a->end = cpu_part_begin(d, s, member + 1);
    a->left = AHEAD_BYTES;
}

/* The next item's runs; false: there is none. */
static bool next_item(struct ahead *a) {
    const struct cpu_task *tasks = &a->device->tasks[a->phase->first];
    while (a->item < a->end) {
        const struct cpu_task *task = &tasks[a->task];
        if (a->task + 1 < a->phase->n && task[1].begin <= a->item) {
            a->task++;
            continue;
        }
        if (cpu_op_weights(a->device, task->card, task->op, a->item++ - task->begin, a->runs))
            return true;
    }
    return false;
}

bool ahead_some(void *arg) {
    struct ahead *a = arg;
    if (!a->phase || !a->left)
        return false;
    struct cpu_run *run = a->runs[0].bytes ? &a->runs[0] : &a->runs[1];
    if (!run->bytes) {
        if (!next_item(a)) {
            a->phase = NULL;
            return false;
        }
        run = &a->runs[0];
    }
    uint64_t n = run->bytes < LINES * LINE ? run->bytes : LINES * LINE;
    n = n < a->left ? n : a->left;
    for (uint64_t at = 0; at < n; at += LINE)
        __builtin_prefetch(run->at + at);
    run->at += n;
    run->bytes -= n;
    a->left -= n;
    return true;
}

/* ---- what will be written ------------------------------------------------------------------- */

/* Lines of K and V of one position of a KV head.  K lies in as many places as the head has
 * dimensions. */
static void fetch_position(const char *kv, const struct kv_place *place, uint32_t dim,
                           uint32_t at) {
    const uint32_t size = place->type == KV_F32 ? 4 : place->type == KV_F16 ? 2 : 1;
    const char *v = kv + place->slot_bytes / 2 + (uint64_t)at * dim * size;
    for (uint32_t i = 0; i < dim; i++)
        __builtin_prefetch(kv + ((uint64_t)i * PAGE_TOKENS + at) * size, 1);
    for (uint32_t i = 0; i < dim * size; i += LINE)
        __builtin_prefetch(v + i, 1);
}

static void fetch_row(const struct device *d, const struct cpu_task *task,
                      const struct step_params *p, uint32_t item) {
    const struct op *op = task->op;
    const struct step_row *row = &p->rows[item];
    const uint32_t page = p->sequences[row->sequence].pages[row->position / PAGE_TOKENS];
    const uint32_t at = row->position % PAGE_TOKENS;
    if (op->kind == OP_EXCHANGE)
        fetch_position(
            cpu_kv_at(d, op->exchange.dst, &op->exchange.dst_kv, op->exchange.dst_slot, page),
            &op->exchange.dst_kv, op->exchange.head_dim, at);
    for (uint32_t h = 0; op->kind == OP_ROPE_STORE && h < op->rope.n_kv; h++)
        fetch_position(cpu_kv_at(d, task->card, &op->rope.kv, op->rope.kv_slot + h, page),
                       &op->rope.kv, op->rope.head_dim, at);
}

static bool stores_kv(const struct op *op) {
    return op->kind == OP_ROPE_STORE ||
           (op->kind == OP_EXCHANGE && op->exchange.kind == EXCHANGE_KV);
}

void ahead_stores(const struct device *d, const struct cpu_phase *phase,
                  const struct step_params *params, uint32_t begin, uint32_t end) {
    const struct cpu_task *tasks = &d->tasks[phase->first];
    uint32_t left = STORES_MAX;
    for (uint32_t i = 0; i < phase->n && tasks[i].begin < end && left; i++) {
        const uint32_t at = tasks[i].begin,
                       next = i + 1 < phase->n ? tasks[i + 1].begin : phase->items;
        if (!stores_kv(tasks[i].op))
            return;
        for (uint32_t item = begin > at ? begin : at; item < next && item < end && left;
             item++, left--) {
            fetch_row(d, &tasks[i], params, item - at);
            for (uint32_t k = 0; k < tasks[i].n_copies; k++)
                fetch_row(d, &d->tasks[tasks[i].copies + k], params, item - at);
        }
    }
}
