/* SPDX-License-Identifier: Apache-2.0 */
/* replan.h - the front's order to go over to another plan, from REPLAN to REPLANNED.
 *
 * Every order is answered once: done, failed, or -ECANCELED when another took its place or a card
 * of the plan in use was lost.  Threads: the engine's. */
#ifndef OCTARC_ENGINE_REPLAN_H
#define OCTARC_ENGINE_REPLAN_H

#include "daemon/engine/engine.h"
#include "daemon/engine/runner.h"

struct replan;

/* What an order works on; borrowed, and there as long as the orders. */
struct replan_site {
    uint64_t generation;
    struct runner **runner; /* the one that serves */
    struct plan **plan;     /* that it follows; malloc'ed, owned by the site */
    struct engine *engine;
    struct engine_output output;
    uint64_t slice_bytes; /* of K and V, copied between two steps */
};

/* Begin; *replan is what is under way, and is dropped first.  The plan becomes the order's (the
 * message is left without), and so do the descriptors: those of the new plan's cards with weights,
 * or none.  0, or the front is gone. */
int replan_begin(struct replan **replan, const struct replan_site *site, struct msg_replan *order,
                 const int *fds, uint32_t n_fds);
/* Between two steps.  0; or the front is gone, or a change of full cards broke off in the middle,
 * and the engine has to end.  *replan is NULL when the order was answered. */
int replan_advance(struct replan **replan);
/* Drop what is under way, and say so; NULL is fine. */
int replan_cancel(struct replan **replan, const char *why);
/* Have what is under way wait, or go on; NULL is fine. */
void replan_pause(struct replan *replan, bool pause);
/* How long nothing is to be done for it: milliseconds, -1 for ever. */
int replan_patience_ms(const struct replan *replan);

/* What a runner's cards hold, as READY and REPLANNED say it. */
void replan_fill_ready(struct runner *runner, uint64_t generation, struct msg_ready *ready);

#endif
