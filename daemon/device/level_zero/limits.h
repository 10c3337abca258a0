/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h - what cards can do at most, each by itself, as a limit of the programs that are loaded.
 */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_LIMITS_H
#define OCTARC_DEVICE_LEVEL_ZERO_LIMITS_H

#include "daemon/device/level_zero/launches.h"

/* The rates are those of the cards; of *limits both rates are set.  In a phase the cards work at
 * once, and it takes as long as the one that takes longest with its matrices; the phases follow
 * each other.  So the rate is all of a step's bytes, or products of its layers, by the time of all
 * phases: of cards that pass layers on that of one, of cards that share layers that of all, and as
 * much less as their shares are uneven.  Without programs it is that of all. */
void limits_of(const struct device *device, const double read_per_s[CARDS_MAX],
               const double int8_per_s[CARDS_MAX], struct device_limits *limits);

#endif
