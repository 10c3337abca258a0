/* SPDX-License-Identifier: Apache-2.0 */
/* measure_xmx.cl - how fast the card multiplies bytes by its matrix engine, as xmx.clh does it with
 * eight rows of input. */
#include "daemon/device/level_zero/kernels/numbers.clh"
#include "daemon/device/level_zero/kernels/products.h"

__attribute__((overloadable, convergent)) int8
intel_sub_group_i8_i8_matrix_mad_k32(short8 a, int8 b, int8 acc);

#define SEEDS(lane, i)                                                                             \
    (uint8)(product_seed(lane, i), product_seed(lane, (i) + 1), product_seed(lane, (i) + 2),       \
            product_seed(lane, (i) + 3), product_seed(lane, (i) + 4), product_seed(lane, (i) + 5), \
            product_seed(lane, (i) + 6), product_seed(lane, (i) + 7))

WHOLE_GROUPS kernel void multiply_xmx(uint loops, global uint *out) {
    const uint lane = get_sub_group_local_id();
    const short8 by = convert_short8(as_int8(SEEDS(lane, 8 * PRODUCT_BLOCKS)) >> 16);
    int8 sums[PRODUCT_BLOCKS];
    UNROLLED for (uint i = 0; i < PRODUCT_BLOCKS; i++) sums[i] = as_int8(SEEDS(lane, 8 * i));
    for (uint n = 0; n < loops; n++) {
        UNROLLED for (uint i = 0; i < PRODUCT_BLOCKS; i++) sums[i] =
            intel_sub_group_i8_i8_matrix_mad_k32(
                by, sums[(i + PRODUCT_BLOCKS / 2) % PRODUCT_BLOCKS], sums[i]);
    }
    int8 all = 0;
    UNROLLED for (uint i = 0; i < PRODUCT_BLOCKS; i++) all ^= sums[i];
    out[get_global_id(0)] =
        as_uint(all.s0 ^ all.s1 ^ all.s2 ^ all.s3 ^ all.s4 ^ all.s5 ^ all.s6 ^ all.s7);
}
