/* SPDX-License-Identifier: Apache-2.0 */
/* rebalance.h - from the plan in use to the next, inside a running engine.
 *
 * The runner of the next plan is made beside the one that serves: a thread that has what steps
 * leave of the cores copies what the cards hold and reads the rest (behind.h).  Then the K and V
 * follow, full pages first, a bounded slice between two steps; when what is left is one slice, it
 * is copied too and the next step runs on the new runner.  Where K and V cannot be carried over (a
 * card is lost), or may not (its weights are not whole, which is looked at first), there is nothing
 * to copy, and the sequences start over.
 *
 * On cards that have no room for both (layout.h: staged) nothing is written meanwhile: what is new
 * there waits in host memory, and arrives with the last slice, when what only the old runner used
 * has been given back.
 *
 *   loading -> copying -> done
 *          \-> failed  \-> broken
 *
 * It may be dropped at any point before done: the runner that serves was only read.  It must be
 * dropped before a card of that one is lost.  Threads: the engine's, and one of its own inside. */
#ifndef OCTARC_ENGINE_REBALANCE_H
#define OCTARC_ENGINE_REBALANCE_H

#include "daemon/engine/engine.h"
#include "daemon/engine/runner.h"

struct rebalance;

struct rebalance_result {
    struct runner *runner;         /* the caller owns it */
    bool kept;                     /* K and V were carried over */
    uint64_t kv_bytes;             /* of them */
    uint64_t load_ns;              /* until the weights were there */
    uint64_t gap_ns, gap_kv_bytes; /* the last slice, when no step could run */
    bool broken; /* it failed where the runner that served cannot go on: nothing serves */
};

#define REBALANCE_SLICE_BYTES (UINT64_C(16) << 20) /* some milliseconds of memory's speed */

/* options->before is the runner that serves, for the engine; the rest as for runner_open(),
 * borrowed until the rebalance is gone.  keep: carry K and V over, so many bytes between two steps
 * (a page at least). -ENOMEM, -EAGAIN. */
int rebalance_start(struct rebalance **rebalance, const struct runner_options *options,
                    const struct engine *engine, bool keep, uint64_t slice_bytes, struct err *err);
/* Between two steps: do a slice of what is to be done.  0: not yet done; 1: done, *result is filled
 * and the next step must run on its runner; negative: it failed, err says why, the old one serves
 * on, but where result->broken.  After 1 or negative only rebalance_drop() is left to call. */
int rebalance_advance(struct rebalance *rebalance, const struct engine *engine,
                      struct rebalance_result *result, struct err *err);
/* Nothing is loaded or copied while it is paused.  What it holds it keeps. */
void rebalance_pause(struct rebalance *rebalance, bool pause);
/* Ends it wherever it is; NULL is fine. */
void rebalance_drop(struct rebalance *rebalance);
/* Whether it waits, for its thread or paused: until then advance does nothing. */
bool rebalance_loading(const struct rebalance *rebalance);
/* Bytes of weights that are there, of all. */
void rebalance_progress(const struct rebalance *rebalance, uint64_t *done, uint64_t *total);

#endif
