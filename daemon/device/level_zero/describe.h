/* SPDX-License-Identifier: Apache-2.0 */
/* describe.h - what kernels read of a step: struct ze_step and what it points to, in host memory of
 * each card's, from where its list copies it. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_DESCRIBE_H
#define OCTARC_DEVICE_LEVEL_ZERO_DESCRIBE_H

#include "daemon/device/level_zero/launches.h"

/* Returns how long it is in *bytes.  Memory that is too small is made anew; errors of that, of
 * *card. */
int describe_step(struct device *device, const struct step_params *params, uint32_t id,
                  uint64_t *bytes, uint32_t *card);

#endif
