/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/abilities.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "octarc/error.h"

/* Of Intel's driver, which fills it in since 2023 where it hangs on the module's properties
 * (extension ZE_intel_experimental_device_module_dp_properties); other drivers pass it by. */
#define DOT_PRODUCTS_TYPE   ((ze_structure_type_t)0x00030013)
#define DOT_PRODUCTS_MATRIX 2u

struct dot_products {
    ze_structure_type_t stype;
    void *next;
    uint32_t flags;
};

/* The matrix functions are for sub-groups of the smallest size that a card has; others than of
 * SUB_GROUP lay their operands out otherwise. */
static bool groups_fit(const struct ze_api *api, ze_device_handle_t device) {
    ze_device_compute_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_COMPUTE_PROPERTIES};
    uint32_t least = UINT32_MAX;
    if (api->zeDeviceGetComputeProperties(device, &p))
        return false;
    for (uint32_t i = 0; i < p.numSubGroupSizes && i < ZE_SUBGROUPSIZE_COUNT; i++)
        least = p.subGroupSizes[i] < least ? p.subGroupSizes[i] : least;
    return least == SUB_GROUP;
}

int abilities_ask(struct device *d, uint32_t card, struct err *err) {
    struct ze_card *c = &d->cards[card];
    struct dot_products dots = {.stype = DOT_PRODUCTS_TYPE};
    ze_device_module_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MODULE_PROPERTIES,
                                       .pNext = &dots};
    const char *why = "";
    /* Drivers and layers that look at what hangs there, and know nothing of it, may refuse it all.
     */
    if (d->api->zeDeviceGetModuleProperties(c->handle, &p)) {
        why = "the driver refuses to be asked for a matrix engine";
        p.pNext = NULL;
        const int rc = ze_failed(d->api->zeDeviceGetModuleProperties(c->handle, &p),
                                 "zeDeviceGetModuleProperties", err);
        if (rc)
            return rc;
    }
    /* Quotients are taken in it. */
    if (!(p.flags & ZE_DEVICE_MODULE_FLAG_FP64))
        return err_set(err, -ENOTSUP, "card %u has no double precision, which the kernels need",
                       card);
    if (!*why && !(dots.flags & DOT_PRODUCTS_MATRIX))
        why = "the driver says nothing of a matrix engine";
    else if (!*why && !groups_fit(d->api, c->handle))
        why = "its matrix engine is for sub-groups of other than 16";
    c->xmx = !*why;
    snprintf(c->xmx_why, sizeof c->xmx_why, "%s", why);
    return 0;
}
