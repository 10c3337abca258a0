/* SPDX-License-Identifier: Apache-2.0 */
/* Engine processes as the line of generations sees them: process.h, without a process. */
#include "daemon/service/process.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/sim/generation.h"
#include "tests/sim/held.h"
#include "tests/sim/pauses.h"

#define FD_CARDS 3 /* of SETUP's descriptors, the first that is a card's */

struct process {
    uint64_t number;
    struct process_events events;
    void *user;
    struct wire down, up;
    struct generation *generation;
    struct held used, ordered[2]; /* an order's, by its number: at most two are not answered */
    struct actor end;             /* the signal that kills it; then the report that it has ended */
    bool kill_wanted, broken, over;
};

/* Those that have not ended. */
static struct process *alive[2];

static bool is_clean(const struct process *p) {
    return !p || (!p->generation->suspect && p->up.flight.n == 0 && p->up.in.n == p->up.in_at);
}

/* All that was said is heard, and it was said since weights are whole. */
static void judge_harm(void) {
    if (is_clean(alive[0]) && is_clean(alive[1]))
        sim.harmed = false;
}

static uint64_t used_bytes(const struct plan_card *c) {
    return c->weights_bytes - c->spilled_bytes + c->landing_bytes + c->kv_bytes + c->scratch_bytes;
}

/* One starts where nothing is left of those before, or beside one that serves: with room for both.
 */
static void check_beside(const struct plan *plan) {
    const struct engines *e = &sim.engines;
    PROMISE(!alive[0] || !alive[1], "a third engine starts");
    if (!alive[0] && !alive[1])
        return;
    PROMISE(e->current && !process_ending(e->current), "an engine starts before another is gone");
    for (uint32_t i = 0; i < plan->n_cards; i++)
        PROMISE(used_bytes(&plan->cards[i]) + used_bytes(&e->plan.cards[i]) <=
                    sim.topology.cards[i].memory_bytes,
                "two generations overflow card %u", i);
}

static void tell(struct process *p, const struct message *msg) {
    if (msg->type == MSG_REPLANNED && msg->replanned.error == 0)
        p->used = p->ordered[msg->replanned.number % 2];
    const uint64_t number = sim.engines.number;
    p->events.message(p->user, msg);
    if (msg->type == MSG_TOKEN)
        pauses_judge();
    sim_totals.takeovers += msg->type == MSG_READY && sim.engines.number != number;
    if (p == sim.engines.current && (msg->type == MSG_READY || msg->type == MSG_REPLANNED))
        held_check(&p->used); /* else it was dropped, and is not heard */
}

static void hear(void *user) {
    struct process *p = user;
    struct message msg;
    while (!p->over && !wire_read(&p->up, &msg)) {
        if (msg.type == MSG_TOKEN)
            trace("heard of %lu: token %u of sequence %lu", p->number, msg.token.position,
                  msg.token.sequence);
        else if (msg.type != MSG_CREDIT && msg.type != MSG_PROMPT)
            trace("heard of %lu: message %d", p->number, msg.type);
        tell(p, &msg);
        message_finish(&msg);
    }
    judge_harm();
}

static void arrived_down(void *user) {
    struct process *p = user;
    generation_wake(p->generation);
}

static void on_died(void *user) {
    struct process *p = user;
    if (sim.generation == p->generation) {
        sim.generation = sim.elder;
        sim.elder = NULL;
    }
    if (sim.elder == p->generation)
        sim.elder = NULL;
    p->end.due_ns = sim.now_ns + draw_delay_ns(&sim.random, 20000);
}

static void finish(struct process *p) {
    clock_remove(&p->end);
    generation_destroy(p->generation);
    wire_finish(&p->down);
    wire_finish(&p->up);
    free(p);
}

static void on_end(void *user) {
    struct process *p = user;
    if (!p->generation->dead) {
        generation_die(p->generation); /* its report follows */
        return;
    }
    wire_deliver(&p->up); /* its last words count */
    hear(p);
    p->over = p->broken = true;
    for (int i = 0; i < 2; i++)
        if (alive[i] == p)
            alive[i] = NULL;
    judge_harm(); /* the next one proves, or reads */
    p->events.gone(p->user, "it has ended");
    finish(p);
}

int process_start(struct process **process, uv_loop_t *loop, struct spawner *spawner,
                  const struct msg_setup *setup, const int *fds, uint32_t n_fds,
                  const struct process_events *events, void *user, struct err *err) {
    struct process *p = calloc(1, sizeof *p);
    const struct msg_hello hello = {CHANNEL_VERSION, 1};
    (void)loop, (void)spawner, (void)err;
    PROMISE(p, "no memory");
    check_beside(&setup->plan);
    alive[alive[0] != NULL] = p;
    p->number = setup->generation;
    p->events = *events;
    p->user = user;
    p->end = (struct actor){NEVER, on_end, p};
    clock_add(&p->end);
    wire_init(&p->down, arrived_down, p);
    wire_init(&p->up, hear, p);
    p->generation = generation_start(&p->down, &p->up, on_died, p);
    held_note(&p->used, &setup->plan, fds + FD_CARDS, n_fds - FD_CARDS);
    p->generation->used = p->used;
    sim.elder = sim.generation;
    sim.generation = p->generation;
    *process = p;
    int rc = wire_send(&p->down, MSG_HELLO, &hello, sim.now_ns);
    if (!rc)
        rc = wire_send(&p->down, MSG_SETUP, setup, sim.now_ns);
    PROMISE(!rc, "SETUP cannot be encoded");
    return 0;
}

static void kill_soon(struct process *p) {
    p->kill_wanted = true;
    clock_at(&p->end, sim.now_ns + draw_delay_ns(&sim.random, 20000));
}

int process_send_fds(struct process *p, enum message_type type, const void *msg, const int *fds,
                     uint32_t n_fds) {
    if (p->broken || p->over)
        return -EPIPE;
    if (type == MSG_ADMIT && sim.admit_starves && one_in(&sim.random, 5))
        return -ENOMEM;
    /* Of one that has just died, the socket may take another message, or not. */
    if (p->generation->dead && one_in(&sim.random, 2)) {
        kill_soon(p);
        return -EPIPE;
    }
    if (type == MSG_ADMIT)
        trace("told %lu: sequence %lu, %u tokens", p->number,
              ((const struct msg_admit *)msg)->sequence, ((const struct msg_admit *)msg)->n_tokens);
    else
        trace("told %lu: message %d", p->number, type);
    if (type == MSG_REPLAN) {
        const struct msg_replan *order = msg;
        PROMISE(plan_host_bytes(&order->plan) <= sim.engines.host_room,
                "an order leaves more in host memory than there is room for");
        held_note(&p->ordered[order->number % 2], &order->plan, fds, n_fds);
        p->generation->ordered[order->number % 2] = p->ordered[order->number % 2];
    }
    return wire_send(&p->down, type, msg, sim.now_ns);
}

int process_send(struct process *p, enum message_type type, const void *msg) {
    return process_send_fds(p, type, msg, NULL, 0);
}

void process_kill(struct process *p) {
    if (!p->over)
        kill_soon(p);
}

bool process_ending(const struct process *p) {
    return p->kill_wanted || p->broken || p->over;
}

void process_leave(struct process *p, const char *why) {
    (void)p, (void)why;
    broken("a process is left behind");
}

void process_report(struct process *p, const struct spawner_report *report) {
    (void)p, (void)report;
}

/* Its cards' memory is the front's. */
uint32_t process_take_fds(struct process *p, int fds[STREAM_FDS_MAX]) {
    (void)p, (void)fds;
    return 0;
}

void process_hear(struct process *p, const struct process_events *events, void *user) {
    p->events = *events;
    p->user = user;
}

pid_t process_pid(const struct process *p) {
    (void)p;
    return 1;
}
