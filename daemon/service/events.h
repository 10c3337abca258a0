/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - what happened to cards and generations: the latest ones, in a ring.
 *
 * Every event has a number, from 1 on without a gap.  The ring holds as many as key max_events
 * says; an older one makes room.  Whoever follows keeps the number of the last one seen, so a
 * reader costs nothing here.  Threads: one, the loop's. */
#ifndef OCTARC_SERVICE_EVENTS_H
#define OCTARC_SERVICE_EVENTS_H

#include "daemon/protocol/host.h"

struct events {
    struct event *ring; /* owned */
    uint32_t capacity;
    uint64_t last; /* number of the newest; 0: none yet */
};

/* -ENOMEM. */
int events_init(struct events *events, uint32_t capacity);
void events_finish(struct events *events);

/* Copies; number and time are set here. */
void events_add(struct events *events, const struct event *event);
/* The oldest that is kept; last + 1 where there is none. */
uint64_t events_first(const struct events *events);
/* NULL: not kept any more, or not there yet. */
const struct event *events_get(const struct events *events, uint64_t number);

#endif
