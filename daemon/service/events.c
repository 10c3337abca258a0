/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/events.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

int events_init(struct events *events, uint32_t capacity) {
    *events = (struct events){.ring = calloc(capacity, sizeof *events->ring), .capacity = capacity};
    return events->ring ? 0 : -ENOMEM;
}

void events_finish(struct events *events) {
    free(events->ring);
    *events = (struct events){0};
}

void events_add(struct events *events, const struct event *event) {
    struct timespec t;
    if (!events->ring)
        return;
    clock_gettime(CLOCK_REALTIME, &t);
    struct event *slot = &events->ring[events->last++ % events->capacity];
    *slot = *event;
    slot->number = events->last;
    slot->ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t events_first(const struct events *events) {
    return events->last > events->capacity ? events->last - events->capacity + 1 : 1;
}

const struct event *events_get(const struct events *events, uint64_t number) {
    if (number < events_first(events) || number > events->last)
        return NULL;
    return &events->ring[(number - 1) % events->capacity];
}
