/* SPDX-License-Identifier: Apache-2.0 */
/* generation.h - an engine process: what engine/main.c does with its messages, step by step.
 *
 * It ends by STOP, by a signal (generation_die), or where a fault was planted in it.  Threads: one,
 * and those of engine/rebalance.c. */
#ifndef OCTARC_TESTS_SIM_GENERATION_H
#define OCTARC_TESTS_SIM_GENERATION_H

#include "daemon/engine/engine.h"
#include "daemon/engine/replan.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/verify.h"
#include "tests/sim/gaps.h"
#include "tests/sim/held.h"
#include "tests/sim/wire.h"

struct generation {
    struct actor actor;
    struct wire *down, *up; /* from and to the front; the process's */
    void (*died)(void *user);
    void *user;
    struct msg_setup setup;
    struct plan *plan;
    struct runner *runner;
    struct engine *engine;
    uint32_t n_pages; /* that it uses */
    struct replan *replan;
    struct verify *verify;
    bool beside;  /* another generation is at work */
    bool lost;    /* a card of the plan in use is */
    bool suspect; /* what it has said, or K and V that it has, may be of harmed weights */
    bool
        left_harmed; /* the weights that it leaves for another plan's were, when those were there */
    uint64_t asked_ns; /* when the latest check was */
    uint64_t held_ns;  /* … and the latest card that reported harm */
    enum { BORN, LOADING, SERVING } state;
    bool dying, dead, stop;
    bool ends;         /* by itself: all that it said goes out before */
    uint64_t spent_ns; /* of this turn */
    uint64_t busy_ns;  /* until then, with the latest one */
    struct gaps gaps;
    struct held used, ordered[2]; /* an order's, by its number: at most two are not answered */
    uint64_t loaded_ns;           /* when the plan that is gone over to is there */
    struct msg_credit credit;     /* the latest that was said */
    /* Faults. */
    bool hangs;
    uint32_t dies_after;       /* messages; 0: none of that */
    uint32_t loses, loses_row; /* a card, in the middle of a step; CARDS_MAX: none */
    int load_error;            /* of the next plan */
};

struct generation *generation_start(struct wire *down, struct wire *up, void (*died)(void *user),
                                    void *user);
/* The front has said something. */
void generation_wake(struct generation *generation);
/* At once, whatever it is at. */
void generation_die(struct generation *generation);
void generation_destroy(struct generation *generation);

#endif
