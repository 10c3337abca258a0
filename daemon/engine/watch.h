/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - fences a card that is silent in a step or while a model is loaded, while the engine's
 * thread waits for it.
 *
 * A thread of its own counts ticks while a step is under way, anew whenever anything was done: a
 * slow card is not a silent one.  A tick that comes late counts once, so a machine that stood still
 * fences nobody (silence.h).  Where the deadline is over, the cards that the step waits for are
 * fenced, unless these are all that it needs: then nothing tells a silent card from a silent
 * process, which the front replaces (engine_silence).
 *
 * Between watch_begin() and watch_end() fenced() may be called from the watch's thread, never at
 * any other time; watch_end() waits until it has returned. */
#ifndef OCTARC_ENGINE_WATCH_H
#define OCTARC_ENGINE_WATCH_H

#include "daemon/device/device.h"

#define WATCH_TICK_NS UINT64_C(50000000)
#define BUILD_NS      UINT64_C(50000000000) /* less than a front waits for word of an engine */

struct watch;

struct watch_options {
    uint64_t first_ns; /* a step's deadline before one was measured */
    /* Bit per card.  0: said; else it is called again at the next tick, while the step goes on. */
    int (*fenced)(void *user, uint32_t cards, uint64_t deadline_ns);
    void (*alive)(void *user); /* once a second in which a device's calls ended; may be NULL */
    void *user;
};

/* -ENOMEM, -EAGAIN. */
int watch_create(struct watch **watch, const struct watch_options *options);
void watch_destroy(struct watch *watch); /* not inside a step; NULL is fine */

/* A step of so many rows on the device begins; it ends.  One thread. */
void watch_begin(struct watch *watch, const struct device_ops *ops, struct device *device,
                 uint32_t rows);
void watch_end(struct watch *watch);

/* A device begins to be opened and filled, which needs these cards (a bit each): the same, by the
 * calls that wait for them.  What nothing of a card's is waited for takes, as a disk, counts
 * against none.  Kernels may be built for BUILD_NS.  Until watch_end(), fenced() and alive() may be
 * called; they are the watch's thread's. */
void watch_begin_calls(struct watch *watch, const struct device_calls *calls, uint32_t needed);

#endif
