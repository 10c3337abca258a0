/* SPDX-License-Identifier: Apache-2.0 */
/* products.h - what the kernels that only multiply (measure.cl, measure_xmx.cl) begin with, so that
 * the host can say what comes out.
 *
 * Each sum is a factor of the product that is added to another one: nothing can be left out, or
 * done once for all loops, and nothing but products is done. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_KERNELS_PRODUCTS_H
#define OCTARC_DEVICE_LEVEL_ZERO_KERNELS_PRODUCTS_H

#include "daemon/device/level_zero/kernels/shared.h"

#define PRODUCT_SUMS   8 /* of a lane: each takes the one half of them away, ... */
#define PRODUCT_BLOCKS 4 /* and so do these, of eight sums, with the matrix engine */

static inline u32 product_seed(u32 lane, u32 i) {
    return (lane * 64 + i + 1) * 2654435761u;
}

#endif
