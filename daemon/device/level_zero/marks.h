/* SPDX-License-Identifier: Apache-2.0 */
/* marks.h - the places of a step where cards meet, and an event of each card for each of them.
 *
 * Behind the marks comes one that is no meeting: the end of the step.  Steps take turns at two sets
 * of events. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_MARKS_H
#define OCTARC_DEVICE_LEVEL_ZERO_MARKS_H

#include "daemon/device/level_zero/cards.h"

/* Of the device's launches.  -ENOMEM, or what the driver said; what there is then, marks_free()
 * frees. */
int marks_make(struct device *device, struct err *err);
void marks_free(struct device *device);

#define TURNS 2

static inline uint32_t marks_events(const struct device *d) {
    return TURNS * (d->n_marks + 1) * d->n_cards;
}

static inline ze_event_handle_t marks_event(const struct device *d, uint32_t turn, uint32_t mark,
                                            uint32_t card) {
    return d->events[(turn * (d->n_marks + 1) + mark) * d->n_cards + card];
}

#endif
