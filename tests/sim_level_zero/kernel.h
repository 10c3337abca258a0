/* SPDX-License-Identifier: Apache-2.0 */
/* kernel.h - the model of the kernel (xe.h) in the place of the machine's, for tests in one process
 * with the backend: the card at PCI bus 03 is the simulated driver's first. */
#ifndef OCTARC_SIM_LEVEL_ZERO_KERNEL_H
#define OCTARC_SIM_LEVEL_ZERO_KERNEL_H

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/device/drm/xe.h"
#include "tests/check.h"
#include "tests/sim_level_zero/xe.h"

#define KERNEL_FIRST_BUS 3u

static int (*kernel_open)(unsigned card);
static struct xe_calls kernel_calls;

static int kernel_open_slot(const char *slot) {
    unsigned bus = 0;
    if (sscanf(slot, "%*x:%x:", &bus) != 1 || bus < KERNEL_FIRST_BUS) {
        errno = ENOENT;
        return -1;
    }
    return kernel_open(bus - KERNEL_FIRST_BUS);
}

/* After box_environment(). */
static inline void kernel_use(void) {
    void *driver = dlopen(getenv("ZE_ENABLE_ALT_DRIVERS"), RTLD_NOW);
    CHECK(driver);
    *(void **)&kernel_open = dlsym(driver, "sim_xe_open");
    *(void **)&kernel_calls.ioctl = dlsym(driver, "sim_xe_ioctl");
    *(void **)&kernel_calls.close = dlsym(driver, "sim_xe_close");
    CHECK(kernel_open && kernel_calls.ioctl && kernel_calls.close);
    kernel_calls.open = kernel_open_slot;
    xe_use(&kernel_calls);
}

#endif
