/* SPDX-License-Identifier: Apache-2.0 */
/* abilities.h - what a card lets kernels do. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_ABILITIES_H
#define OCTARC_DEVICE_LEVEL_ZERO_ABILITIES_H

#include "daemon/device/level_zero/cards.h"

/* Whether a card has what all kernels need, the matrix engine that some can use (its xmx and
 * xmx_why), and a processor that there are images for (native and native_why).  -ENOTSUP: no
 * double precision. */
int abilities_ask(struct device *device, uint32_t card, struct err *err);

#endif
