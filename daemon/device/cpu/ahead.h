/* SPDX-License-Identifier: Apache-2.0 */
/* ahead.h - a member of the team that waits fetches what it will read next.
 *
 * With one row a step is a race with memory, and memory rests whenever a member waits for the
 * others or an operation has no weights.  Nothing is read ahead but into caches, so no bit changes
 * and no harm is done where the guess is wrong. */
#ifndef OCTARC_DEVICE_CPU_AHEAD_H
#define OCTARC_DEVICE_CPU_AHEAD_H

#include "daemon/device/cpu/cpu.h"

/* Where a member is in the weights of items [item, end) of a stage. */
struct ahead {
    const struct device *device;
    const struct cpu_phase *phase; /* NULL: there is nothing to fetch */
    uint32_t item, end;
    uint32_t task;
    struct cpu_run runs[2]; /* of the item; what is left of them */
    uint64_t left;          /* bytes that may still be fetched: more would drive out others */
};

/* For a member that is done with stage `stage`. */
void ahead_begin(struct ahead *ahead, const struct device *device, uint32_t stage, uint32_t member);
/* Fetch a few lines; false: nothing is left. */
bool ahead_some(void *ahead);

/* Before a member runs items [begin, end) of a phase: where they store K and V, all lines are asked
 * for together, for each store alone would wait for memory.  Of many only the first. */
void ahead_stores(const struct device *device, const struct cpu_phase *phase,
                  const struct step_params *params, uint32_t begin, uint32_t end);

#endif
