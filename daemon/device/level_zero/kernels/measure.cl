/* SPDX-License-Identifier: Apache-2.0 */
/* measure.cl - the yardsticks: how fast the card reads memory, and multiplies bytes, when there is
 * nothing else to do. */
#include "daemon/device/level_zero/kernels/numbers.clh"
#include "daemon/device/level_zero/kernels/products.h"

#define BLOCK 1024 /* bytes that a group reads at once */

/* Adds up all words, `rounds` times.  The groups take pieces in turn, in each round the ones of
 * their neighbour: so no round is the one before, and cannot be left out. */
WHOLE_GROUPS kernel void sweep(address at, ulong bytes, ulong piece, uint rounds,
                               global uint *sums) {
    const uint lane = get_sub_group_local_id(), group = get_group_id(0);
    const ulong stride = get_num_groups(0) * piece;
    uint4 sum[4];
    uint rest = 0;
    UNROLLED for (uint k = 0; k < 4; k++) sum[k] = (uint4)(0);
    for (uint round = 0; round < rounds; round++) {
        ulong begin = (group + round) % get_num_groups(0) * piece;
        for (; begin < bytes; begin += stride) {
            const ulong end = begin + piece < bytes ? begin + piece : bytes;
            ulong i = begin;
            for (; i + BLOCK <= end; i += BLOCK) {
                global const uint4 *p = (global const uint4 *)(at + i) + lane;
                UNROLLED for (uint k = 0; k < 4; k++) sum[k] += p[k * SUB_GROUP];
            }
            for (i += 4 * lane; i < end; i += 4 * SUB_GROUP)
                rest += *(global const uint *)(at + i);
        }
    }
    const uint4 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    sums[get_global_id(0)] = rest + all.s0 + all.s1 + all.s2 + all.s3;
}

/* Products of four bytes, as tiles.clh makes them without a matrix engine. */
WHOLE_GROUPS kernel void multiply(uint loops, global uint *out) {
    const uint lane = get_sub_group_local_id();
    const char4 by = as_char4(product_seed(lane, PRODUCT_SUMS));
    int sums[PRODUCT_SUMS];
    UNROLLED for (uint i = 0; i < PRODUCT_SUMS; i++) sums[i] = as_int(product_seed(lane, i));
    for (uint n = 0; n < loops; n++) {
        UNROLLED for (uint i = 0; i < PRODUCT_SUMS; i++) sums[i] +=
            dot4(as_char4(sums[(i + PRODUCT_SUMS / 2) % PRODUCT_SUMS]), by);
    }
    uint all = 0;
    UNROLLED for (uint i = 0; i < PRODUCT_SUMS; i++) all ^= as_uint(sums[i]);
    out[get_global_id(0)] = all;
}
