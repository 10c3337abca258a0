/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/abilities.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/device/level_zero/images.h"
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

/* Level Zero's ZE_extension_device_ip_version, of specification 1.5 (ze_device_ip_version_ext_t):
 * newer than Debian 12's header.  What it says is what `ocloc -device` takes as a number, and the
 * kernel's ip_ver_* of struct drm_xe_gt: ten bits, eight, and the revision in the last six. */
#define IP_VERSION_TYPE ((ze_structure_type_t)0x0001000f)

struct ip_version {
    ze_structure_type_t stype;
    void *next;
    uint32_t ip;
};

#define IP_FAMILY(ip)         ((ip) >> 22)
#define IP_RELEASE(ip)        ((ip) >> 14 & 0xff)
#define BATTLEMAGE            20u
#define BATTLEMAGE_SMALL_DIES 1u /* G21: Arc Pro B50, B60 */
#define BATTLEMAGE_LARGE_DIES 2u /* G31: Arc Pro B65, B70 */

/* Images name the version that they were made for, 20.1.0.  Intel's driver takes them for cards of
 * that version and of others in a table of its own (AOT::compatibilityMapping in its
 * third_party/aot_config_headers/platforms.h; zebin_decoder.cpp, validateTargetDevice): 20.2.0 in
 * 2026.  So all that are Battlemage are offered them, and the driver has the last word. */
static const char *why_no_image(const struct ze_api *api, ze_device_handle_t device) {
    struct ip_version version = {.stype = IP_VERSION_TYPE};
    ze_device_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES, .pNext = &version};
    const struct image any = images_native(IMAGE_ROWS);
    if (any.begin == any.end)
        return "octarc was built without images of its kernels (without ocloc)";
    if (api->zeDeviceGetProperties(device, &p))
        return "the driver refuses to be asked for its card's version";
    if (!version.ip)
        return "the driver does not say of which version its card is";
    if (IP_FAMILY(version.ip) != BATTLEMAGE || (IP_RELEASE(version.ip) != BATTLEMAGE_SMALL_DIES &&
                                                IP_RELEASE(version.ip) != BATTLEMAGE_LARGE_DIES))
        return "octarc's images are for Battlemage cards";
    return "";
}

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

int abilities_ask(const struct ze_api *api, ze_device_handle_t card, struct abilities *out,
                  struct err *err) {
    struct dot_products dots = {.stype = DOT_PRODUCTS_TYPE};
    ze_device_module_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MODULE_PROPERTIES,
                                       .pNext = &dots};
    const char *why = "";
    /* Drivers and layers that look at what hangs there, and know nothing of it, may refuse it all.
     */
    if (api->zeDeviceGetModuleProperties(card, &p)) {
        why = "the driver refuses to be asked for a matrix engine";
        p.pNext = NULL;
        const int rc = ze_failed(api->zeDeviceGetModuleProperties(card, &p),
                                 "zeDeviceGetModuleProperties", err);
        if (rc)
            return rc;
    }
    /* Quotients are taken in it. */
    if (!(p.flags & ZE_DEVICE_MODULE_FLAG_FP64))
        return err_set(err, -ENOTSUP, "it has no double precision, which the kernels need");
    if (!*why && !(dots.flags & DOT_PRODUCTS_MATRIX))
        why = "the driver says nothing of a matrix engine";
    else if (!*why && !groups_fit(api, card))
        why = "its matrix engine is for sub-groups of other than 16";
    out->xmx = !*why;
    snprintf(out->xmx_why, sizeof out->xmx_why, "%s", why);
    why = why_no_image(api, card);
    out->native = !*why;
    snprintf(out->native_why, sizeof out->native_why, "%s", why);
    return 0;
}
