/* SPDX-License-Identifier: Apache-2.0 */
/* silence.h - how long nothing of a step was done, counted in ticks.
 *
 * A tick that comes late counts once: a machine that stood still, or was suspended, makes nobody
 * silent.  But one that comes a little late does not put off the next: ticks are due at fixed times
 * from the step's begin, so that lateness does not add up over a long deadline.  What was done was
 * done at any time since the tick before, so the tick that sees it counts as the first silent one:
 * a deadline is never overdrawn by that, and it ends a tick too early at most.
 *
 * A deadline is ten times what the step takes by itself, so a tenth of it may pass with work before
 * a card falls silent: that counts, and the card is fenced when the step has run for its deadline.
 * A step that works for longer is a slow one, and has to be silent for nine tenths of it.
 *
 * A plain value; threads: no shared state. */
#ifndef OCTARC_ENGINE_SILENCE_H
#define OCTARC_ENGINE_SILENCE_H

#include <stdbool.h>
#include <stdint.h>

struct silence {
    uint64_t tick_ns, due_ns; /* the next tick */
    uint64_t done;            /* as the latest tick saw it */
    uint32_t ticks, silent;   /* since the begin; since anything was done */
    bool many; /* set after the begin: not one step but many waits, each with the whole deadline */
};

void silence_begin(struct silence *silence, uint64_t tick_ns, uint64_t now_ns);
/* A tick, which was due and comes now.  True: nothing was done for so long (at least a tick), or
 * for so much of it as what was done before has left, which is nine tenths at least. */
bool silence_tick(struct silence *silence, uint64_t done, uint64_t deadline_ns, uint64_t now_ns);
/* Time that was counted since the begin, with the tick under way. */
uint64_t silence_counted_ns(const struct silence *silence);

#endif
