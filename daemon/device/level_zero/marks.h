/* SPDX-License-Identifier: Apache-2.0 */
/* marks.h - the places of a step where cards meet, and an event of each card for each of them.
 *
 * Behind the marks come two events of each card that are no meeting: the end of the step, and that
 * its list is empty after a step that failed. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_MARKS_H
#define OCTARC_DEVICE_LEVEL_ZERO_MARKS_H

#include "daemon/device/level_zero/cards.h"

/* Of the device's launches.  -ENOMEM, or what the driver said; what there is then, marks_free()
 * frees. */
int marks_make(struct device *device, struct err *err);
void marks_free(struct device *device);

static inline ze_event_handle_t marks_event(const struct device *d, uint32_t mark, uint32_t card) {
    return d->events[mark * d->n_cards + card];
}

#endif
