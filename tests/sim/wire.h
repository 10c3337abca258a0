/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - one direction of a channel: bytes arrive in order, late, and cut anywhere.
 *
 * Threads: one. */
#ifndef OCTARC_TESTS_SIM_WIRE_H
#define OCTARC_TESTS_SIM_WIRE_H

#include "daemon/channel/codec.h"
#include "tests/sim/sim.h"

struct wire {
    struct actor actor;
    struct buffer flight, in; /* sent; arrived */
    size_t in_at;             /* read of `in` */
    uint32_t slow_us;         /* a piece takes this long at most */
    void (*arrived)(void *user);
    void *user;
};

void wire_init(struct wire *wire, void (*arrived)(void *user), void *user);
void wire_finish(struct wire *wire);

/* The real encoding; it leaves at the time given.  0 or a negative errno of message_encode(). */
int wire_send(struct wire *wire, enum message_type type, const void *msg, uint64_t at_ns);
/* The next message that has arrived whole; -EAGAIN: none. */
int wire_read(struct wire *wire, struct message *msg);
/* The sender is dead: what has left it arrives, the end of it perhaps not. */
void wire_cut(struct wire *wire);
/* All that is on its way has arrived now. */
void wire_deliver(struct wire *wire);

#endif
