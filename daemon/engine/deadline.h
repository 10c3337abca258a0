/* SPDX-License-Identifier: Apache-2.0 */
/* deadline.h - how long a step may take, from those that were measured.
 *
 * A plain value.  Steps are kept by the power of two of their rows: more rows never take longer a
 * row, so a kind that was not measured yet is predicted from the nearest that was.
 * Threads: no shared state. */
#ifndef OCTARC_ENGINE_DEADLINE_H
#define OCTARC_ENGINE_DEADLINE_H

#include <stdint.h>

#define DEADLINE_KINDS    32 /* of steps, by the power of two of their rows */
#define DEADLINE_TIMES    10 /* the time predicted */
#define DEADLINE_LEAST_NS UINT64_C(1000000000)

struct deadline {
    uint64_t first_ns;                /* before any step was measured; key card_silence */
    uint64_t step_ns[DEADLINE_KINDS]; /* smoothed; 0: none measured */
};

/* A step of so many rows (at least 1) took so long. */
void deadline_learn(struct deadline *deadline, uint32_t rows, uint64_t ns);
/* 0: no step was measured. */
uint64_t deadline_predict(const struct deadline *deadline, uint32_t rows);
uint64_t deadline_of(const struct deadline *deadline, uint32_t rows);

#endif
