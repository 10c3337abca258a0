/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/images.h"

#include "octarc/model.h"

#define FLOATS(m) m(TENSOR_F32, 0) m(TENSOR_F16, 1) m(TENSOR_BF16, 30)
#define QUANTS(m)                                                                                  \
    m(TENSOR_Q4_0, 2) m(TENSOR_Q4_1, 3) m(TENSOR_Q5_0, 6) m(TENSOR_Q5_1, 7) m(TENSOR_Q8_0, 8)      \
        m(TENSOR_Q2_K, 10) m(TENSOR_Q3_K, 11) m(TENSOR_Q4_K, 12) m(TENSOR_Q5_K, 13)                \
            m(TENSOR_Q6_K, 14) m(TENSOR_IQ4_NL, 20) m(TENSOR_IQ4_XS, 23) m(TENSOR_MXFP4, 39)

/* clang-format off */
#define MATRICES(type, number)     m(matmul_##number) m(expert_##number)
#define MATRICES_XMX(type, number) m(matmul_xmx_##number) m(expert_xmx_##number)
#define MODULES \
    m(rows) m(attention) m(exchange) m(routes) m(measure) m(measure_xmx) m(digest) \
    FLOATS(MATRICES) QUANTS(MATRICES) QUANTS(MATRICES_XMX)

#define m(name) \
    extern const uint8_t ze_spirv_##name[], ze_spirv_##name##_end[], \
        ze_native_##name[], ze_native_##name##_end[];
MODULES
#undef m

static const struct {
    struct image spirv, native;
} images[] = {
#define m(name) \
    {{ze_spirv_##name, ze_spirv_##name##_end}, {ze_native_##name, ze_native_##name##_end}},
MODULES
#undef m
};

/* binaries.S has the numbers of the file. */
#define m(type, number) _Static_assert((type) == (number), #type);
FLOATS(m)
QUANTS(m)
#undef m
/* clang-format on */

static const uint32_t types[] = {
#define m(type, number) type,
    FLOATS(m) QUANTS(m)
#undef m
};

uint32_t images_count(void) {
    return sizeof images / sizeof *images;
}

uint32_t images_types(void) {
    return sizeof types / sizeof *types;
}

uint32_t images_type(uint32_t i) {
    return types[i];
}

struct image images_spirv(uint32_t module) {
    return images[module].spirv;
}

struct image images_native(uint32_t module) {
    return images[module].native;
}
