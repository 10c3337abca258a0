/* SPDX-License-Identifier: Apache-2.0 */
/* landing.h - weights that lie in host memory, and the landing that they are fetched to.
 *
 * No kernel looks whether what it reads there has come: that a program fetches everything in time
 * is proven when it is loaded. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_LANDING_H
#define OCTARC_DEVICE_LEVEL_ZERO_LANDING_H

#include "daemon/device/level_zero/cards.h"

/* -EINVAL: a step would read something in the landing of a card that is not there, or that a fetch
 * of the same phase writes, or a fetch leaves the areas; err names the operation.  -ENOMEM. */
int landing_prove(const struct device *device, const struct program *programs, struct err *err);

/* Before a step: fetch anew what is fetched ahead, for cards whose weights were written since, or
 * whose last step failed.  -ENODEV, *card: it is lost; or what the driver said. */
int landing_ready(struct device *device, uint32_t *card);
void landing_stale(struct device *device, uint32_t card);

/* Append a fetch to a list of the card's: it has ended when its phase has. */
int landing_fetch(struct device *device, uint32_t card, const struct op *op,
                  ze_command_list_handle_t list);

#endif
