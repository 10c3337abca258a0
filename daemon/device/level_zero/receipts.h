/* SPDX-License-Identifier: Apache-2.0 */
/* receipts.h - what says that every launch of a step had the arguments that it was given.
 *
 * A driver may report an argument as set and leave the one before: the launch then does another
 * one's work again, and its own is left undone.  So a launch writes the step's number beside the
 * number of its description, and the host looks at all of them before a logit is believed. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_RECEIPTS_H
#define OCTARC_DEVICE_LEVEL_ZERO_RECEIPTS_H

#include "daemon/device/level_zero/cards.h"

struct ze_recording;

/* Room for those of each card's descriptions.  Errors of the allocations. */
int receipts_make(struct device *device, struct err *err);
void receipts_free(struct device *device);

/* 0, or -ENODEV: a launch of *card has not said that it is of step `id`; the log names it. */
int receipts_look(const struct device *device, const struct ze_recording *of, uint32_t id,
                  uint32_t *card);

#endif
