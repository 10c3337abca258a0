/* SPDX-License-Identifier: Apache-2.0 */
/* held.h - the descriptors of cards' weight memory, which the front holds beside this engine, and
 * after it.
 *
 * What comes with SETUP is for the runner to take; what READY carries is to be held from then on.
 * Threads: one. */
#ifndef OCTARC_ENGINE_HELD_H
#define OCTARC_ENGINE_HELD_H

#include "daemon/channel/messages.h"
#include "daemon/engine/runner.h"

#define HELD_FDS_MAX (CARDS_MAX * DEVICE_PIECES_MAX)

/* fds[n] came with SETUP for cards' memory, in their order; *ledger_fd: that of their K and V, -1:
 * none.  -EPROTO: they are not those of the cards that it says have some. */
int held_take(const struct msg_setup *setup, const int *fds, uint32_t n,
              struct runner_options *options, int *ledger_fd);
/* Of each card's weights, what the front is to hold: said in *ready, or there in words why not.
 * Returns how many fds (borrowed) go with it. */
uint32_t held_list(const struct runner *runner, struct msg_ready *ready, int fds[HELD_FDS_MAX]);
/* The plan cannot be carried out with what these cards had: what is said of it. */
void held_refuse(const struct msg_setup *setup, uint32_t cards, const char *why,
                 struct msg_tried *tried);

#endif
