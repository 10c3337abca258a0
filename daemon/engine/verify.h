/* SPDX-License-Identifier: Apache-2.0 */
/* verify.h - whether the weights in use are still what was loaded; what is not is read again.
 *
 * Between two steps, a slice at a time.  Three kinds of passes, the first one first:
 *   held   the whole of a card that reported harm, or on which harm was found; no step runs until
 *          it is over
 *   asked  by VERIFY, one slice between two steps, or one after the other when nothing runs
 *   scrub  all cards once in scrub_s seconds, with at most a hundredth of the steps' time
 * A range is whole when its digest is the one that its card's header had when the runner was there.
 * One that is not is read from the file into its place, and proven.  What was computed since is
 * suspect: every sequence is given back (PREEMPTED), the shared pages are forgotten, and an order
 * to go over to another plan is dropped.
 *
 * Threads: the engine's. */
#ifndef OCTARC_ENGINE_VERIFY_H
#define OCTARC_ENGINE_VERIFY_H

#include "daemon/engine/engine.h"
#include "daemon/engine/replan.h"
#include "daemon/engine/runner.h"

#define VERIFY_SLICE_BYTES                                                                         \
    (UINT64_C(4) << 20) /* of a pass that was asked for, or is waited for                          \
                         */
#define SCRUB_SLICE_BYTES (UINT64_C(1) << 20)
#define VERIFY_SLICE_NS   UINT64_C(20000000) /* after which no range is begun in a slice */
#define SCRUB_SHARE       100u               /* of the steps' time, one part */

struct verify;

/* What is verified; borrowed, and there as long as this. */
struct verify_site {
    uint64_t generation;
    struct runner **runner; /* the one that serves: verify_runner_changed() */
    struct engine *engine;
    struct replan **replan;
    struct engine_output output;
    uint32_t scrub_s;  /* 0: no scrub */
    struct kept *kept; /* what harmed weights made goes with them; NULL: nothing is kept */
};

/* -ENOMEM. */
int verify_create(struct verify **verify, const struct verify_site *site);
void verify_destroy(struct verify *verify); /* NULL is fine */

/* Another runner serves: what is verified begins anew with it. */
void verify_runner_changed(struct verify *verify);
/* An asked pass over one card, or all (-1).  One that is under way begins anew as this one. */
int verify_ask(struct verify *verify, uint64_t number, int32_t card);
/* The card may be harmed: it is verified before the next step. */
void verify_hold(struct verify *verify, uint32_t card);
/* The scrub waits, or goes on; nothing else does. */
void verify_put_off(struct verify *verify, bool put_off);
/* No step may run now. */
bool verify_holds(const struct verify *verify);

/* A slice, where one is due.  step_ns: how long the step before took, 0: none ran.  Not to be
 * called while a card of the runner is lost.  0; -ENODEV: a card was lost while it was read;
 * -ENOMEM; the front is gone; or a range cannot be restored: FAILED was sent, and nothing may be
 * computed any more. */
int verify_advance(struct verify *verify, uint64_t step_ns);
/* Which card that was; false: none. */
bool verify_lost_card(const struct verify *verify, uint32_t *card);
/* How long nothing is to be done while no step runs: milliseconds, -1 for ever. */
int verify_patience_ms(const struct verify *verify);

#endif
