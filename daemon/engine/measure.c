/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/measure.h"

#include <stdio.h>

/* Of all cards' weights on huge pages; -1: not known. */
static int64_t count_huge(struct runner *runner) {
    uint64_t bytes[CARDS_MAX], sum = 0;
    if (runner_huge(runner, bytes))
        return -1;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        sum += bytes[i];
    return (int64_t)sum;
}

int measure_send(struct runner *runner, uint64_t generation, struct stream *stream) {
    struct device_limits found = {0};
    struct msg_limits msg = {.generation = generation, .error = runner_measure(runner, &found)};
    msg.read_bytes_per_s = (uint64_t)found.read_bytes_per_s;
    msg.int8_ops_per_s = (uint64_t)found.int8_ops_per_s;
    msg.weights_bytes = found.weights_bytes;
    msg.huge_bytes = count_huge(runner);
    msg.n_threads = found.n_threads;
    snprintf(msg.isa, sizeof msg.isa, "%s", found.isa);
    return stream_send(stream, MSG_LIMITS, &msg);
}
