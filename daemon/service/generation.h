/* SPDX-License-Identifier: Apache-2.0 */
/* generation.h - one engine process and its channel, in the front's loop.
 *
 * It is over when the process has been reaped and everything it had said has been read: then, and
 * only then, gone() is called.  A channel that breaks or carries nonsense gets the process killed.
 * Threads: one, the loop's. */
#ifndef OCTARC_SERVICE_GENERATION_H
#define OCTARC_SERVICE_GENERATION_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/channel/stream.h"
#include "daemon/service/spawner.h"

struct generation;

struct generation_events {
    void (*message)(void *user, const struct message *msg);
    /* The process is gone; `why` in words.  The generation frees itself after this. */
    void (*gone)(void *user, const char *why);
};

/* Starts a process with this SETUP; fds (borrowed) go with it. */
int generation_start(struct generation **generation, uv_loop_t *loop, struct spawner *spawner,
                     const struct msg_setup *setup, const int *fds, uint32_t n_fds,
                     const struct generation_events *events, void *user, struct err *err);
/* 0, or negative: the channel is broken and gone() will follow, never from inside this. */
int generation_send(struct generation *generation, enum message_type type, const void *msg);
void generation_kill(struct generation *generation);
/* A report of the spawner; others' are ignored. */
void generation_report(struct generation *generation, const struct spawner_report *report);
pid_t generation_pid(const struct generation *generation); /* 0: not yet known */

#endif
