/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/wire.h"

#include <errno.h>
#include <string.h>

static void take(struct wire *w, size_t n) {
    PROMISE(!buffer_append(&w->in, w->flight.bytes, n), "no memory");
    buffer_drop(&w->flight, n);
}

static void arrive(void *user) {
    struct wire *w = user;
    const size_t n = w->flight.n;
    const bool whole = n < 2 || one_in(&sim.random, 2);
    take(w, whole ? n : 1 + draw(&sim.random, (uint32_t)n - 1));
    if (w->flight.n)
        w->actor.due_ns = sim.now_ns + draw_delay_ns(&sim.random, w->slow_us);
    w->arrived(w->user);
}

void wire_init(struct wire *w, void (*arrived)(void *user), void *user) {
    *w = (struct wire){.actor = {NEVER, arrive, w}, .arrived = arrived, .user = user};
    w->slow_us = sim.calm ? 100 : one_in(&sim.random, 6) ? 20000 : 400;
    clock_add(&w->actor);
}

void wire_finish(struct wire *w) {
    clock_remove(&w->actor);
    buffer_finish(&w->flight);
    buffer_finish(&w->in);
}

int wire_send(struct wire *w, enum message_type type, const void *msg, uint64_t at_ns) {
    const int rc = message_encode(&w->flight, type, msg);
    if (!rc && w->actor.due_ns == NEVER)
        w->actor.due_ns = at_ns + draw_delay_ns(&sim.random, w->slow_us);
    return rc;
}

static uint32_t little(const char *at, int bytes) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)(uint8_t)at[i] << 8 * i;
    return v;
}

int wire_read(struct wire *w, struct message *msg) {
    const size_t left = w->in.n - w->in_at;
    const char *at = w->in.bytes + w->in_at;
    if (left < FRAME_HEADER_BYTES || left - FRAME_HEADER_BYTES < little(at, 4)) {
        buffer_drop(&w->in, w->in_at);
        w->in_at = 0;
        return -EAGAIN;
    }
    const uint32_t n = little(at, 4);
    w->in_at += FRAME_HEADER_BYTES + n;
    PROMISE(!message_decode(msg, (uint16_t)little(at + 4, 2), at + FRAME_HEADER_BYTES, n),
            "a message of type %u cannot be decoded", little(at + 4, 2));
    return 0;
}

void wire_cut(struct wire *w) {
    if (w->flight.n)
        w->flight.n = draw(&sim.random, (uint32_t)w->flight.n + 1);
}

void wire_deliver(struct wire *w) {
    take(w, w->flight.n);
    w->actor.due_ns = NEVER;
}
