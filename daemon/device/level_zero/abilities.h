/* SPDX-License-Identifier: Apache-2.0 */
/* abilities.h - what a card lets kernels do. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_ABILITIES_H
#define OCTARC_DEVICE_LEVEL_ZERO_ABILITIES_H

#include "daemon/device/level_zero/cards.h"

struct abilities {
    bool xmx, native;
    char xmx_why[DEVICE_XMX_WHY], native_why[DEVICE_NATIVE_WHY];
};

/* Whether a card has what all kernels need, the matrix engine that some can use (else xmx_why), and
 * a processor that there are images for (else native_why).  -ENOTSUP: no double precision. */
int abilities_ask(const struct ze_api *api, ze_device_handle_t card, struct abilities *out,
                  struct err *err);

#endif
