/* SPDX-License-Identifier: Apache-2.0 */
/* behind.h - work of many slices that goes on beside steps, which do not wait for it.
 *
 * A thread does one slice after the other, and has a core only as long as nothing else wants it: a
 * step's threads wait for each other hundreds of times, and one that comes back from that takes its
 * core at once.  A thread of low priority alone would keep the core for some milliseconds, each
 * time.
 *
 * Who called looks on meanwhile.  Where the thread gets less than a twentieth of a core it does a
 * slice itself now and then, at its own priority: the work comes to its end however busy the
 * machine is. */
#ifndef OCTARC_ENGINE_BEHIND_H
#define OCTARC_ENGINE_BEHIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BEHIND_PAUSE_NS  50000L
#define BEHIND_LOOK_US   1000 /* until the caller looks again; the work's end waits for it */
#define BEHIND_WINDOW_NS UINT64_C(50000000)
#define BEHIND_LEAST_NS  (BEHIND_WINDOW_NS / 20) /* that the thread has to run in a window */

/* Who does a slice: two may be under way at once, one of each. */
enum behind_worker { BEHIND_THREAD, BEHIND_CALLER, BEHIND_WORKERS };

struct behind {
    size_t n;
    /* False: no more is to be begun. */
    bool (*slice)(void *user, size_t i, enum behind_worker by);
    void (*look)(void *user);  /* by the caller, now and then; may be NULL */
    bool (*rests)(void *user); /* the work is to wait, so the caller does nothing; may be NULL */
    void *user;
};

/* Between pieces of a slice, about a millisecond of work each; also called between slices.  A core
 * with nothing but such work is taken from it by who wakes up, not by who already runs elsewhere:
 * the kernel may leave two of a step's threads on one core for tens of milliseconds, and looks for
 * what could run here only when nothing does.  So now and then nothing does, for a moment. */
void behind_pause(void);

/* Returns when all are done, each once, or none is to be begun any more.  Where there is no thread
 * to be had the caller does all. */
void behind_run(const struct behind *work);

#endif
