/* SPDX-License-Identifier: Apache-2.0 */
/* images.h - the kernels as octarc brings them: as SPIR-V, which a driver builds for its card, and
 * where there was Intel's offline compiler (ocloc) when octarc was built, as what that made of the
 * same SPIR-V for Battlemage, which a driver only loads. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_IMAGES_H
#define OCTARC_DEVICE_LEVEL_ZERO_IMAGES_H

#include <stddef.h>
#include <stdint.h>

/* Modules: these, the last two of the first type; then two of each type of images_type(), matrices
 * and experts, then two more of each quantised one, which come behind the IMAGE_FLOATS first, for
 * cards with a matrix engine. */
enum {
    IMAGE_ROWS,
    IMAGE_ATTENTION,
    IMAGE_EXCHANGE,
    IMAGE_ROUTES,
    IMAGE_MEASURE,
    IMAGE_MEASURE_XMX,
    IMAGE_DIGEST,
    IMAGE_MATRICES,
    IMAGE_EXPERTS
};
#define IMAGE_FLOATS 3u

struct image {
    const uint8_t *begin, *end; /* the same: there is none */
};

uint32_t images_count(void);
uint32_t images_types(void);
uint32_t images_type(uint32_t i); /* enum tensor_type */
struct image images_spirv(uint32_t module);
struct image images_native(uint32_t module);

#endif
