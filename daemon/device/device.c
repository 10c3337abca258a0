/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/device.h"

#include <string.h>

#include "daemon/device/cpu/backend.h"

const struct device_ops *device_backend(const char *name) {
    static const struct device_ops *const backends[] = {&cpu_ops};
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i]->name, name))
            return backends[i];
    return NULL;
}
