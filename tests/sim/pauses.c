/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/pauses.h"

#include "daemon/scheduler/state.h"

#define STREAMS 64
#define STEPS   256
#define WIRE_NS (10 * 100 * US) /* called back, let go of, given, and the token, each in pieces */

static struct pause {
    uint64_t request;
    uint32_t choice, n_tokens;
    uint64_t said_ns;
    bool seen;
} streams[STREAMS];
static uint32_t n_streams;

static struct step { uint64_t ns, end_ns; } steps[STEPS]; /* the latest */
static uint32_t n_steps;

void pauses_forget(void) {
    n_streams = n_steps = 0;
}

void pauses_step(uint64_t ns, uint64_t end_ns) {
    steps[n_steps++ % STEPS] = (struct step){ns, end_ns};
}

/* Of those that were not over by then. */
static uint64_t longest_since(uint64_t ns) {
    uint64_t longest = 1;
    for (uint32_t i = 0; i < n_steps && i < STEPS; i++)
        if (steps[i].end_ns > ns && steps[i].ns > longest)
            longest = steps[i].ns;
    return longest;
}

static struct pause *find(uint64_t request, uint32_t choice) {
    for (uint32_t i = 0; i < n_streams; i++)
        if (streams[i].request == request && streams[i].choice == choice)
            return &streams[i];
    PROMISE(n_streams < STREAMS, "more than %d streams", STREAMS);
    streams[n_streams] = (struct pause){.request = request, .choice = choice};
    return &streams[n_streams++];
}

static void judge(const struct pause *p) {
    const uint64_t ns = sim.now_ns - p->said_ns, wires = ns < WIRE_NS ? ns : WIRE_NS;
    const uint64_t step_ns = longest_since(p->said_ns);
    const double of_steps = (double)(ns - wires) / (double)step_ns;
    PROMISE(of_steps <= PAUSE_STEPS_MOST,
            "request %lu had no token for %.1f ms, and the longest step took %.1f ms", p->request,
            (double)ns * 1e-6, (double)step_ns * 1e-6);
    if (of_steps > sim_totals.longest_pause)
        sim_totals.longest_pause = of_steps;
}

static void look_at(const struct sequence *sequence) {
    if (sequence->n_generated == 0 || sequence->state == SEQUENCE_DONE)
        return;
    struct pause *p = find(sequence->request->id, sequence->choice);
    p->seen = true;
    if (p->n_tokens == sequence->n_generated)
        return;
    if (p->n_tokens)
        judge(p);
    p->n_tokens = sequence->n_generated;
    p->said_ns = sim.now_ns;
}

static void drop_ended(void) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_streams; i++)
        if (streams[i].seen)
            streams[n++] = streams[i];
    n_streams = n;
}

void pauses_judge(void) {
    if (!sim.calm)
        return;
    for (uint32_t i = 0; i < n_streams; i++)
        streams[i].seen = false;
    for (const struct request *r = sim.scheduler->first; r; r = r->next)
        for (uint32_t i = 0; !r->gone && i < r->spec.n; i++)
            look_at(&r->sequences[i]);
    drop_ended();
}
