/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c - where the time of steps goes. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "daemon/device/cpu/cpu.h"

uint64_t cpu_profile_now(const struct device *d) {
    struct timespec t;
    if (!d->profile)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t weights_of(const struct device *d, const struct cpu_task *task) {
    const struct step_params one = {.n_rows = 1, .n_outputs = 1};
    const uint32_t items = cpu_op_items(task->op, &one);
    struct cpu_run runs[2];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < items && cpu_op_weights(d, task->card, task->op, i, runs); i++)
        bytes += runs[0].bytes + runs[1].bytes;
    return bytes;
}

int cpu_profile(struct device *d, struct device_profile *out) {
    if (!d->profile)
        return -ENOTSUP;
    *out = (struct device_profile){.steps = d->steps,
                                   .whole = 1e-9 * (double)d->whole_ns * team_size(d->team)};
    for (uint32_t m = 0; d->work && m < team_size(d->team); m++) {
        struct cpu_spent *spent = &d->work[m].spent;
        for (uint32_t k = 0; k < OP_KINDS; k++) {
            out->ops[k].seconds += 1e-9 * (double)spent->ops[k];
            out->ops[k].pieces += spent->pieces[k];
        }
        out->strips += 1e-9 * (double)spent->strips;
        out->wait += 1e-9 * (double)spent->wait;
        memset(spent, 0, sizeof *spent);
    }
    for (size_t i = 0; i < d->n_tasks; i++)
        out->weight_bytes[d->tasks[i].op->kind] += weights_of(d, &d->tasks[i]);
    d->steps = d->whole_ns = 0;
    return 0;
}
