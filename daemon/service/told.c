/* SPDX-License-Identifier: Apache-2.0 */
/* told.c - what the scheduler has the current generation do, and the one that leaves. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/line.h"

/* The scheduler takes this failure for the engine's end, so it must be. */
static int end_unheard(struct engines *e, int rc) {
    if (process_ending(e->current))
        return rc;
    if (rc == -ENOMEM && e->ending == ENDING_UNSEEN)
        e->ending = ENDING_ASKED; /* nobody's request is to blame for that */
    snprintf(e->why, sizeof e->why, "it could not be told what to do: %s", strerror(-rc));
    process_kill(e->current);
    return rc;
}

static int admit(void *user, const struct msg_admit *msg) {
    struct engines *e = user;
    if (!e->current)
        return -EPIPE;
    const int rc = process_send(e->current, MSG_ADMIT, msg);
    return rc < 0 && rc != -ENOMEM ? end_unheard(e, rc) : rc;
}

static bool leaves(const struct engines *e, uint64_t generation) {
    return e->beside.process && e->beside.leaves && e->beside.number == generation;
}

static int cancel(void *user, uint64_t generation, uint64_t sequence) {
    struct engines *e = user;
    const struct msg_cancel msg = {sequence};
    if (leaves(e, generation))
        return process_send(e->beside.process, MSG_CANCEL, &msg);
    if (!e->current)
        return -EPIPE;
    const int rc = process_send(e->current, MSG_CANCEL, &msg);
    return rc < 0 ? end_unheard(e, rc) : 0;
}

static void emptied(void *user, uint64_t generation) {
    struct engines *e = user;
    if (!leaves(e, generation) || e->beside.deaf)
        return;
    e->beside.asked = true;
    e->beside.silent_s = 0;
    process_send(e->beside.process, MSG_STOP, NULL);
}

const struct scheduler_engine_ops engines_ops = {admit, cancel, emptied};
