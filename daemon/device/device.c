/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/device.h"

#include <string.h>

#include "daemon/device/cpu/backend.h"
#ifdef OCTARC_LEVEL_ZERO
#include "daemon/device/level_zero/backend.h"
#endif

const struct device_ops *device_backend(const char *name) {
    static const struct device_ops *const backends[] = {
        &cpu_ops,
#ifdef OCTARC_LEVEL_ZERO
        &level_zero_ops,
#endif
    };
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i]->name, name))
            return backends[i];
    return NULL;
}

uint32_t device_usable(const struct device_found *found) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < found->n_cards; i++)
        n += !found->cards[i].why[0];
    return n;
}
