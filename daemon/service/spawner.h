/* SPDX-License-Identifier: Apache-2.0 */
/* spawner.h - the small process that starts engines.
 *
 * It is forked before anything else exists in octarcd, so that an engine inherits nothing of the
 * front: no thread, no socket, no lock-down.  It takes a channel's descriptor, starts an engine on
 * it, reports its pid and its end, and kills it when asked; a pid it was not given by fork is never
 * signalled.  When the front is gone it ends, and its engines with it.  It starts the
 * processes that look at the cards in the same way (errand.h), with limits of their own.
 * Threads: one, the loop's. */
#ifndef OCTARC_SERVICE_SPAWNER_H
#define OCTARC_SERVICE_SPAWNER_H

#include <stdint.h>
#include <sys/types.h>

struct err;

struct spawner {
    int fd; /* owned; non-blocking; poll it for reports */
    pid_t pid;
};

/* In the place of a generation: octarc-engine is started with another option and a pipe
 * (errand.h). */
#define SPAWNER_PROBE    UINT64_MAX
#define SPAWNER_SELFTEST (UINT64_MAX - 1)
#define SPAWNER_LINKS    (UINT64_MAX - 2)

enum spawner_event { SPAWNER_STARTED, SPAWNER_EXITED, SPAWNER_FAILED };

struct spawner_report {
    enum spawner_event event;
    uint64_t generation;
    pid_t pid;  /* STARTED, EXITED */
    int status; /* EXITED: as waitpid gives it; FAILED: negative errno */
};

/* Call before any thread exists.  The engine's program is OCTARC_ENGINE of the environment, else
 * octarc-engine beside this program, else in OCTARC_LIBEXECDIR.  Returns in the front only. */
int spawner_fork(struct spawner *spawner, struct err *err);
void spawner_stop(struct spawner *spawner);

/* channel_fd is borrowed. */
int spawner_start_engine(struct spawner *spawner, uint64_t generation, int channel_fd);
/* An order is lost (-EAGAIN) while the spawner is too busy to take the ones before it.  Killing
 * again does no harm: a pid that has been reaped is nobody's. */
int spawner_kill(struct spawner *spawner, pid_t pid);
/* 0, -EAGAIN: no report; -EPIPE: the spawner is gone. */
int spawner_read(struct spawner *spawner, struct spawner_report *report);

#endif
