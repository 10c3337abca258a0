/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/ahead.h"

#define AHEAD_BYTES (256 << 10) /* half of a second-level cache, or less */
#define LINE        64
#define LINES       8 /* at a time: a waiting member looks up about every 100 ns */

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
