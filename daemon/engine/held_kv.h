/* SPDX-License-Identifier: Apache-2.0 */
/* held_kv.h - K and V of real cards, which outlive this engine, and those of the one before.
 *
 * They are held where all weights are, and used where all weights were there and whole: so they are
 * as right as those that made them.  Threads: one. */
#ifndef OCTARC_ENGINE_HELD_KV_H
#define OCTARC_ENGINE_HELD_KV_H

#include "daemon/channel/messages.h"
#include "daemon/engine/kept.h"
#include "daemon/engine/runner.h"

#define HELD_KV_FDS_MAX (CARDS_MAX + 1)

struct err;

struct held_kv {
    struct kept *kept; /* owned; NULL: they end with this engine */
    uint64_t tokens;   /* taken over */
    char
        why[DEVICE_STORAGE_WHY]; /* none were, or they are not held; empty: nothing is to be said */
};

/* The runner has just been opened, with the K and V that came with SETUP, if the ledger did
 * (-1: nothing came).  -ENODEV: cards are lost, a bit each; -ENOMEM. */
int held_kv_open(struct held_kv *held, const struct msg_setup *setup, struct runner *runner,
                 int ledger_fd, uint32_t *lost, struct err *err);
void held_kv_close(struct held_kv *held);
/* What the front is to hold: said in *ready.  Returns how many fds (borrowed) go with it. */
uint32_t held_kv_list(const struct held_kv *held, const struct runner *runner,
                      struct msg_ready *ready, int fds[HELD_KV_FDS_MAX]);

#endif
