/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual clock: time is when the next one acts. */
#include "tests/sim/sim.h"

#define ACTORS_MAX 64

static struct actor *actors[ACTORS_MAX];
static uint32_t n_actors;

void clock_add(struct actor *actor) {
    PROMISE(n_actors < ACTORS_MAX, "more than %d actors", ACTORS_MAX);
    actors[n_actors++] = actor;
}

void clock_remove(struct actor *actor) {
    for (uint32_t i = 0; i < n_actors; i++)
        if (actors[i] == actor) {
            n_actors--;
            for (; i < n_actors; i++) /* their order decides who is first of those due together */
                actors[i] = actors[i + 1];
            return;
        }
}

void clock_clear(void) {
    n_actors = 0;
}

void clock_at(struct actor *actor, uint64_t ns) {
    if (ns < actor->due_ns)
        actor->due_ns = ns;
}

bool clock_turn(void) {
    struct actor *next = NULL;
    for (uint32_t i = 0; i < n_actors; i++)
        if (actors[i]->due_ns != NEVER && (!next || actors[i]->due_ns < next->due_ns))
            next = actors[i];
    if (!next)
        return false;
    if (next->due_ns > sim.now_ns)
        sim.now_ns = next->due_ns;
    next->due_ns = NEVER;
    next->act(next->user);
    return true;
}

/* --- what the front knows of time --- */

uint64_t uv_hrtime(void) {
    return sim.now_ns;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer) {
    (void)loop, (void)timer;
    return 0;
}

static void ring(void *user) {
    if (sim.timer_repeat_ns)
        sim.timer.due_ns = sim.now_ns + sim.timer_repeat_ns;
    sim.on_timer(user);
}

/* The line of generations has the only one. */
int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat) {
    sim.on_timer = cb;
    sim.timer_repeat_ns = repeat * MS;
    sim.timer.act = ring;
    sim.timer.user = timer;
    sim.timer.due_ns = sim.now_ns + timeout * MS;
    return 0;
}

int uv_timer_stop(uv_timer_t *timer) {
    (void)timer;
    sim.timer.due_ns = NEVER;
    return 0;
}
