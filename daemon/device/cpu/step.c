/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one pass over all phases of all cards.
 *
 * Phase p of every card is one parallel-for over the items of its operations, so the number of
 * meetings does not depend on the number of cards.  A phase ends when its items are done, not when
 * every thread has come: one that the kernel has put aside delays only what it has begun. */
#include <errno.h>
#include <stdatomic.h>

#include "daemon/device/cpu/cpu.h"

#define CHUNKS_PER_MEMBER 4 /* pieces of a phase a member takes, when all are equally fast */

struct pass {
    struct device *device;
    const struct step_params *params;
};

/* Items [begin, end) of a phase, counted over its operations one after another. */
static void run_items(const struct pass *pass, const struct cpu_phase *phase, uint32_t begin,
                      uint32_t end, struct cpu_work *work) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < phase->n && at < end; i++) {
        const struct cpu_task *task = &pass->device->tasks[phase->first + i];
        const uint32_t n = cpu_op_items(task->op, pass->params);
        if (at + n > begin) {
            const uint32_t from = begin > at ? begin - at : 0, to = end - at < n ? end - at : n;
            cpu_op_run(pass->device, task->card, task->op, pass->params, from, to, work);
        }
        at += n;
    }
}

static void run_member(void *arg, uint32_t member) {
    const struct pass *pass = arg;
    struct device *d = pass->device;
    const uint32_t size = team_size(d->team);
    for (uint32_t p = 0; p < d->n_phases; p++) {
        const struct cpu_phase *phase = &d->phases[p];
        uint32_t total = 0, begin;
        for (uint32_t i = 0; i < phase->n; i++)
            total += cpu_op_items(d->tasks[phase->first + i].op, pass->params);
        if (total == 0)
            continue;
        const uint32_t chunk = (total + size * CHUNKS_PER_MEMBER - 1) / (size * CHUNKS_PER_MEMBER);
        uint32_t finished = 0;
        while ((begin = atomic_fetch_add_explicit(&d->next_item[p], chunk, memory_order_relaxed)) <
               total) {
            const uint32_t n = total - begin < chunk ? total - begin : chunk;
            run_items(pass, phase, begin, begin + n, &d->work[member]);
            finished += n;
        }
        team_finish(d->team, &d->done_items[p], finished, total);
    }
}

static int protect_all_but(struct device *d, const struct cpu_task *task) {
    int rc = 0;
    for (uint32_t c = 0; c < d->n_cards && !rc; c++)
        if (d->cards[c].present)
            rc = cpu_protect(d, c,
                             !task ||
                                 (task->op->kind == OP_EXCHANGE
                                      ? c == task->op->exchange.src || c == task->op->exchange.dst
                                      : c == task->card));
    return rc;
}

/* One operation at a time, with only the memory it may touch accessible.  The operations of a phase
 * are independent of each other: every other phase runs them backwards, so that one which is not
 * changes the bits. */
static int run_isolated(struct device *d, const struct step_params *params) {
    int rc = 0;
    for (uint32_t p = 0; p < d->n_phases && !rc; p++)
        for (uint32_t i = 0; i < d->phases[p].n && !rc; i++) {
            const uint32_t at = p % 2 ? d->phases[p].n - 1 - i : i;
            const struct cpu_task *task = &d->tasks[d->phases[p].first + at];
            rc = protect_all_but(d, task);
            if (!rc)
                cpu_op_run(d, task->card, task->op, params, 0, cpu_op_items(task->op, params),
                           &d->work[0]);
        }
    const int open = protect_all_but(d, NULL);
    return rc ? rc : open;
}

int cpu_step(struct device *d, const struct step_params *params, uint64_t deadline_ns,
             uint32_t *card) {
    struct pass pass = {d, params};
    /* The cards of this backend share one team of threads: none can be silent alone. */
    (void)deadline_ns;
    if (params->n_rows == 0 || params->n_rows > d->max_rows)
        return -EINVAL;
    /* A card that is lost matters only as long as the loaded programs need it. */
    for (uint32_t c = 0; c < d->n_cards; c++)
        if (d->cards[c].lost && d->needed >> c & 1) {
            *card = c;
            return -ENODEV;
        }
    if (d->isolate)
        return run_isolated(d, params);
    for (uint32_t p = 0; p < d->n_phases; p++) {
        atomic_store_explicit(&d->next_item[p], 0, memory_order_relaxed);
        atomic_store_explicit(&d->done_items[p], 0, memory_order_relaxed);
    }
    team_run(d->team, run_member, &pass);
    return 0;
}
