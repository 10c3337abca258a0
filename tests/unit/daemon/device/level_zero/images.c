/* SPDX-License-Identifier: Apache-2.0 */
/* Every module of the cards' kernels is built by the simulated driver; where PoCL runs it, those
 * that it cannot do are named. */
#include <stdbool.h>

#include "daemon/device/level_zero/images.h"
#include "tests/sim_level_zero/box.h"

#define IMPORTS "_matrix_mad_k"

static void name_of(uint32_t module, char *out, size_t size) {
    static const char *const alone[] = {"rows",    "attention",   "exchange", "routes",
                                        "measure", "measure_xmx", "digest"};
    _Static_assert(sizeof alone / sizeof *alone == IMAGE_MATRICES, "a name for each");
    const uint32_t plain = IMAGE_MATRICES + 2 * images_types();
    const uint32_t at = module < plain ? module - IMAGE_MATRICES : module - plain;
    const uint32_t first = module < plain ? 0 : IMAGE_FLOATS;
    if (module < IMAGE_MATRICES)
        snprintf(out, size, "%s", alone[module]);
    else
        snprintf(out, size, "%s%s_%u", at % 2 ? "expert" : "matmul", module < plain ? "" : "_xmx",
                 images_type(first + at / 2));
}

/* Whether it is built; else the driver's word. */
static bool is_built(const struct box *box, struct image image, char *text, size_t size) {
    const ze_module_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_MODULE_DESC,
                                   .format = ZE_MODULE_FORMAT_IL_SPIRV,
                                   .inputSize = (size_t)(image.end - image.begin),
                                   .pInputModule = image.begin};
    ze_module_handle_t module = NULL;
    ze_module_build_log_handle_t log = NULL;
    const ze_result_t result = zeModuleCreate(box->context, box->cards[0], &desc, &module, &log);
    CHECK(result == ZE_RESULT_SUCCESS || result == ZE_RESULT_ERROR_MODULE_BUILD_FAILURE);
    ZE(zeModuleBuildLogGetString(log, &size, text));
    ZE(zeModuleBuildLogDestroy(log));
    return result == ZE_RESULT_SUCCESS;
}

static void all_are_built_that_the_runtime_can_do(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    uint32_t n = 0;
    for (uint32_t i = 0; i < images_count(); i++) {
        char text[400] = "", name[32];
        const struct image image = images_spirv(i);
        const bool matrix =
            memmem(image.begin, (size_t)(image.end - image.begin), IMPORTS, strlen(IMPORTS));
        const bool built = is_built(&box, image, text, sizeof text);
        name_of(i, name, sizeof name);
        CHECK_EQ(matrix, strstr(name, "xmx") != NULL);
        if (!built)
            printf("# skipped %s: %s\n", name, text);
        CHECK_EQ(built, !(matrix && box_is_pocl()));
        CHECK(built || strstr(text, "matrix functions"));
        n += built;
    }
    printf("# %s builds %u of %u modules\n", box_is_pocl() ? "PoCL" : "Intel's OpenCL runtime", n,
           images_count());
}

CHECK_MAIN(T(all_are_built_that_the_runtime_can_do))
