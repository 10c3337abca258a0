/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/silence.h"

#define OWN_PART 10 /* of a deadline that a step may work: its DEADLINE_TIMES */

void silence_begin(struct silence *s, uint64_t tick_ns, uint64_t now_ns) {
    *s = (struct silence){.tick_ns = tick_ns, .due_ns = now_ns + tick_ns};
}

bool silence_tick(struct silence *s, uint64_t done, uint64_t deadline_ns, uint64_t now_ns) {
    s->ticks++;
    s->silent = done == s->done ? s->silent + 1 : 1;
    s->done = done;
    s->due_ns += s->tick_ns;
    if (s->due_ns <= now_ns) /* a whole tick was missed: there is nothing to make up for */
        s->due_ns = now_ns + s->tick_ns;
    const uint64_t most = deadline_ns / s->tick_ns, own = s->many ? 0 : most / OWN_PART,
                   worked = s->ticks - s->silent;
    return s->silent + (worked < own ? worked : own) >= most;
}

uint64_t silence_counted_ns(const struct silence *s) {
    return (s->ticks + 1) * s->tick_ns;
}
