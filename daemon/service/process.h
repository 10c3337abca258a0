/* SPDX-License-Identifier: Apache-2.0 */
/* process.h - one engine process and its channel, in the front's loop.
 *
 * It is over when the process has been reaped and everything it had said has been read; then gone()
 * is called.  A channel that breaks or carries nonsense gets the process killed.  One that is
 * killed gets the order again every PROCESS_AGAIN_MS (an order may be lost), and if it does not end
 * (it may hang in the kernel) it is left behind after PROCESS_REAP_MS: its channel is shut, gone()
 * is called, and nothing it says is heard any more.  Threads: one, the loop's. */
#ifndef OCTARC_SERVICE_PROCESS_H
#define OCTARC_SERVICE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/channel/stream.h"
#include "daemon/service/spawner.h"

#define PROCESS_REAP_MS  5000
#define PROCESS_AGAIN_MS 500

struct process;

struct process_events {
    void (*message)(void *user, const struct message *msg);
    /* The process is gone; `why` in words.  The struct frees itself after this. */
    void (*gone)(void *user, const char *why);
};

/* Starts a process with this SETUP; fds (borrowed) go with it. */
int process_start(struct process **process, uv_loop_t *loop, struct spawner *spawner,
                  const struct msg_setup *setup, const int *fds, uint32_t n_fds,
                  const struct process_events *events, void *user, struct err *err);
/* What it says goes there from now on. */
void process_hear(struct process *process, const struct process_events *events, void *user);
/* 0; -ENOMEM, -EMSGSIZE: it was not said, and nothing else changed; other negatives: the channel is
 * broken and gone() will follow, never from inside this. */
int process_send(struct process *process, enum message_type type, const void *msg);
/* The same with descriptors (borrowed); -EBUSY, -EMFILE: it was not said either. */
int process_send_fds(struct process *process, enum message_type type, const void *msg,
                     const int *fds, uint32_t n_fds);
/* Descriptors that came with the message that is heard now: how many; the caller's. */
uint32_t process_take_fds(struct process *process, int fds[STREAM_FDS_MAX]);
void process_kill(struct process *process);
bool process_ending(const struct process *process); /* killed, or not heard any more */
/* No report will come any more: gone() is called from inside this. */
void process_leave(struct process *process, const char *why);
/* A report of the spawner; others' are ignored. */
void process_report(struct process *process, const struct spawner_report *report);
pid_t process_pid(const struct process *process); /* 0: not yet known */

#endif
