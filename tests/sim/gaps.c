/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/gaps.h"

static struct gap *find(struct gaps *g, uint64_t sequence) {
    struct gap *unused = NULL;
    for (uint32_t i = 0; i < GAPS_STREAMS; i++) {
        if (g->of[i].said_ns && g->of[i].sequence == sequence)
            return &g->of[i];
        if (!g->of[i].said_ns)
            unused = &g->of[i];
    }
    PROMISE(unused, "an engine runs more than %d streams", GAPS_STREAMS);
    return unused;
}

static void judge(const struct gap *gap, uint64_t now_ns) {
    const uint64_t ns = now_ns - gap->said_ns - gap->other_ns;
    PROMISE(ns <= GAP_STEPS_MOST * gap->step_ns,
            "sequence %lu had no token for %.1f ms, and its longest step took %.1f ms",
            gap->sequence, (double)ns * 1e-6, (double)gap->step_ns * 1e-6);
    const double steps = gap->step_ns ? (double)ns / (double)gap->step_ns : 0;
    if (gap->moved && steps > sim_totals.longest_gap)
        sim_totals.longest_gap = steps;
    sim_totals.moved_gaps += gap->moved;
}

void gaps_token(struct gaps *g, uint64_t sequence, uint64_t now_ns) {
    struct gap *gap = find(g, sequence);
    if (gap->said_ns)
        judge(gap, now_ns);
    *gap = (struct gap){.sequence = sequence, .said_ns = now_ns};
}

void gaps_end(struct gaps *g, uint64_t sequence) {
    find(g, sequence)->said_ns = 0;
}

void gaps_step(struct gaps *g, uint64_t ns) {
    for (uint32_t i = 0; i < GAPS_STREAMS; i++)
        if (ns > g->of[i].step_ns)
            g->of[i].step_ns = ns;
}

void gaps_other(struct gaps *g, uint64_t ns) {
    for (uint32_t i = 0; i < GAPS_STREAMS; i++)
        g->of[i].other_ns += ns;
}

void gaps_moving(struct gaps *g) {
    for (uint32_t i = 0; i < GAPS_STREAMS; i++)
        g->of[i].moved = true;
}

void gaps_forget(struct gaps *g) {
    *g = (struct gaps){{{0}}};
}
