/* SPDX-License-Identifier: Apache-2.0 */
/* tensor_noise.h - random blocks of every tensor type, from a state that all of a test share. */
#ifndef OCTARC_TESTS_TENSOR_NOISE_H
#define OCTARC_TESTS_TENSOR_NOISE_H

#include <stdlib.h>
#include <string.h>

#include "daemon/device/noise.h"
#include "octarc/model.h"

#define N_NOISE_TYPES NOISE_TYPES

static uint64_t noise_state = NOISE_SEED;
static inline uint32_t noise(void) {
    return noise_next(&noise_state);
}
static inline float noise_float(void) {
    return noise_next_float(&noise_state);
}

static inline void tame(uint32_t type, uint8_t *block) {
    noise_tame(&noise_state, type, block);
}

/* As many blocks; free() them. */
static inline uint8_t *noise_blocks(uint32_t type, uint64_t n) {
    uint8_t *blocks = malloc(n * tensor_type_info(type)->block_bytes);
    if (blocks)
        noise_fill(&noise_state, type, blocks, n);
    return blocks;
}

#endif
