/* SPDX-License-Identifier: Apache-2.0 */
/* counted_modules.h - a table of Level Zero's calls that counts the modules a driver is given, and
 * those it takes, of each format.  One to a test program. */
#ifndef OCTARC_TESTS_COUNTED_MODULES_H
#define OCTARC_TESTS_COUNTED_MODULES_H

#include <string.h>

#include "daemon/device/level_zero/api.h"

static uint32_t given[2], taken[2]; /* by ze_module_format_t */
static const struct ze_api *real;

static ze_result_t count(ze_context_handle_t context, ze_device_handle_t card,
                         const ze_module_desc_t *desc, ze_module_handle_t *module,
                         ze_module_build_log_handle_t *log) {
    const ze_result_t result = real->zeModuleCreate(context, card, desc, module, log);
    given[desc->format]++;
    taken[desc->format] += result == ZE_RESULT_SUCCESS;
    return result;
}

/* From now on; `of` has to last as long as the table. */
static struct ze_api count_modules(const struct ze_api *of) {
    struct ze_api counting = *of;
    memset(given, 0, sizeof given);
    memset(taken, 0, sizeof taken);
    real = of;
    counting.zeModuleCreate = count;
    return counting;
}

#endif
