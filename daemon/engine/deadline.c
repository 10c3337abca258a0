/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/deadline.h"

#define SMOOTH 8 /* a step counts for so much of the mean */

static uint32_t kind_of(uint32_t rows) {
    return 31 - (uint32_t)__builtin_clz(rows | 1);
}

void deadline_learn(struct deadline *d, uint32_t rows, uint64_t ns) {
    uint64_t *mean = &d->step_ns[kind_of(rows)];
    const uint64_t took = ns ? ns : 1;
    *mean = *mean ? (*mean * (SMOOTH - 1) + took + SMOOTH - 1) / SMOOTH : took;
}

uint64_t deadline_predict(const struct deadline *d, uint32_t rows) {
    const uint32_t kind = kind_of(rows);
    for (uint32_t k = kind; k < DEADLINE_KINDS; k++)
        if (d->step_ns[k])
            return d->step_ns[k];
    for (uint32_t k = kind; k-- > 0;)
        if (d->step_ns[k])
            return d->step_ns[k] << (kind - k);
    return 0;
}

uint64_t deadline_of(const struct deadline *d, uint32_t rows) {
    const uint64_t predicted = deadline_predict(d, rows);
    if (!predicted)
        return d->first_ns;
    const uint64_t ns = predicted * DEADLINE_TIMES;
    return ns > DEADLINE_LEAST_NS ? ns : DEADLINE_LEAST_NS;
}
