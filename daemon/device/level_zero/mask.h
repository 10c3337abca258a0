/* SPDX-License-Identifier: Apache-2.0 */
/* mask.h - cards that are not used are not shown to the driver, so that it does not open them.
 *
 * ZE_AFFINITY_MASK names devices by their numbers in the driver's own enumeration, and nothing else
 * does: of what is known (PCI addresses) the numbers are guessed, and each guess is tried by a
 * process of its own, which has to find the cards that are wanted and none of the others. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_MASK_H
#define OCTARC_DEVICE_LEVEL_ZERO_MASK_H

#include "daemon/device/device.h"

#define MASK_TRIAL_S 10 /* that a guess may take */

/* device_ops.hide. */
void mask_hide(const struct device_options *options);

/* level_zero.c: whether the driver shows all cards that are present, and none that is not. */
bool level_zero_shows(const struct device_options *options);

#endif
