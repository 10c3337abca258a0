/* SPDX-License-Identifier: Apache-2.0 */
/* sim.h - the front and its engines in one thread, on a virtual clock, under a seeded schedule.
 *
 * Real: the scheduler, the line of generations with its cards, plans and orders (service/engines.c,
 * changeover.c, order.c, check.c, card.c, events.c, memory.c; placement), the codec of every
 * message, the engine's loop over steps with sampler, pages and shared prefixes (engine/engine.c),
 * the way from one plan to another inside a running engine (engine/replan.c, rebalance.c,
 * handover.c), and the verifying of weights (engine/verify.c).
 *
 * Simulated, by functions of the same name that the linker takes before the archive's:
 *   clock.c       uv_hrtime, uv_timer_*           time
 *   process.c     process_*                       processes, and the bytes between them (wire.c)
 *   generation.c  the loop of engine/main.c       octarc-engine
 *   cards.c       runner_*, device_backend        cards with K and V in memory of their own, and a
 *                                                 model whose logits are a hash of the whole prefix
 *                                                 as it is read back from there, and of what is
 *                                                 harmed in the weights
 *   vocabulary.c  tokenizer_*                     pieces that cut code points and stop strings
 * So not covered here: engine/main.c, runner.c, weights.c, prove.c and the kernels,
 * channel/stream.c, service/process.c and spawner.c, socket/, protocol/: tests/e2e covers those.
 * A rebalance has as many slices of K and V as its pages need, each of them shorter than a step;
 * gaps.h says how long streams may wait for them, pauses.h how long for another generation.
 *
 * Everything is a function of the seed: there is one thread but for the ones that rebalance.c and
 * replan.c start, which are waited for. */
#ifndef OCTARC_TESTS_SIM_SIM_H
#define OCTARC_TESTS_SIM_SIM_H

#include "daemon/service/engines.h"
#include "daemon/service/events.h"
#include "tests/sim/random.h"

#define NEVER UINT64_MAX
#define US    UINT64_C(1000)
#define MS    UINT64_C(1000000)
#define S     UINT64_C(1000000000)

/* Whoever does something at a time. */
struct actor {
    uint64_t due_ns; /* NEVER: waits for someone to change that */
    void (*act)(void *user);
    void *user;
};

struct generation;
struct client;

struct sim {
    uint64_t seed, now_ns;
    struct random random;
    struct config config;
    struct topology topology;
    struct loaded loaded;
    struct events log;
    struct scheduler *scheduler;
    struct engines engines;
    struct actor timer; /* of the line of generations */
    void (*on_timer)(uv_timer_t *timer);
    uint64_t timer_repeat_ns;
    struct generation *generation; /* the latest that was started; NULL when it is dead */
    struct generation *elder;      /* that it was started beside; the same */
    uint32_t engine_pages;         /* that an engine uses of its plan's; fewer make them scarce */
    uint32_t busy_ms;              /* in which requests come, and faults begin */
    uint32_t deaths_left;          /* that nothing explains */
    bool tight;                    /* two plans seldom fit beside each other */
    bool calm;                     /* nothing fails: an operator moves cards under many streams */
    bool spills;                   /* the cards have no room for all weights, as a rule */
    bool admit_starves;            /* now and then there is no memory for an ADMIT */
    struct client *clients;
    uint32_t n_clients;
    struct client *late; /* come when all is over */
    uint32_t n_late;
    bool harmed;                  /* weights, and nobody knows; or what comes of that is not gone */
    bool asked, answered;         /* for the last check */
    struct msg_verified verified; /* its answer */
    bool stopped;
};
extern struct sim sim;

/* --- clock.c --- */
void clock_add(struct actor *actor);
void clock_remove(struct actor *actor);
void clock_clear(void);
/* Let the next actor act; false: nobody ever will. */
bool clock_turn(void);
void clock_at(struct actor *actor, uint64_t ns); /* then, or sooner where it is due sooner */

/* --- trace.c --- */
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void trace_clear(void);
uint64_t trace_digest(void); /* of all since it was cleared */
/* The schedule breaks a promise: print what happened last, and end. */
_Noreturn void broken(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define PROMISE(cond, ...)                                                                         \
    do {                                                                                           \
        if (!(cond))                                                                               \
            broken(__VA_ARGS__);                                                                   \
    } while (0)

/* --- vocabulary.c --- */
#define VOCAB    24u
#define T_POISON 22 /* an engine that computes it dies */
#define T_EOG    23
extern const struct tokenizer *const sim_tokenizer;

/* --- faults.c --- */
struct runner;
/* Weights of an engine are harmed: who is there now may be told something else. */
void harm_begins(const struct runner *runner);
void faults_start(void);
uint64_t faults_last_ns(void); /* NEVER: there are some left */
/* An engine has gone over and says so: now and then an operator asks for something else before the
 * front has heard of it. */
void faults_answer_under_way(void);

/* --- world.c --- */
#define CONTEXT 192u
/* One whole schedule; returns only when every promise was kept. */
void sim_run(uint64_t seed);
struct sim_totals {
    uint64_t requests, tokens, generations, rebalances, waves, replays, preempted, cancelled,
        failed;
    uint64_t staged;      /* full cards whose new ranges waited, in all orders */
    uint64_t moved_gaps;  /* between two tokens of a stream, while an order was under way */
    double longest_gap;   /* of them, in steps */
    uint64_t takeovers;   /* generations that took over from one that served on … */
    uint64_t moved;       /* … and sequences that moved */
    double longest_pause; /* between two tokens of a stream that the front heard, in steps */
    uint64_t spilled;     /* runners with weights in host memory */
    uint64_t crossed;     /* orders that crossed the answer of one that was carried out */
    uint64_t harms, harmed, disturbed; /* planted; found by engines; clients that were there */
};
extern struct sim_totals sim_totals; /* of all runs of this process */

#endif
