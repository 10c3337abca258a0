/* SPDX-License-Identifier: Apache-2.0 */
/* tensor_noise.h - random blocks of every tensor type, the same for the same seed. */
#ifndef OCTARC_TESTS_TENSOR_NOISE_H
#define OCTARC_TESTS_TENSOR_NOISE_H

#include <stdlib.h>
#include <string.h>

#include "octarc/model.h"

static const uint32_t noise_types[] = {TENSOR_F32,  TENSOR_F16,    TENSOR_BF16,   TENSOR_Q8_0,
                                       TENSOR_Q4_0, TENSOR_Q4_1,   TENSOR_Q5_0,   TENSOR_Q5_1,
                                       TENSOR_Q2_K, TENSOR_Q3_K,   TENSOR_Q4_K,   TENSOR_Q5_K,
                                       TENSOR_Q6_K, TENSOR_IQ4_NL, TENSOR_IQ4_XS, TENSOR_MXFP4};
#define N_NOISE_TYPES (sizeof noise_types / sizeof *noise_types)

static uint64_t noise_state = 88172645463325252u;
static inline uint32_t noise(void) {
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 7;
    noise_state ^= noise_state << 17;
    return (uint32_t)(noise_state >> 16);
}
static inline float noise_float(void) {
    return (float)(int32_t)noise() * 0x1p-31f;
}

/* Random bits would make scales infinite: exponents of the halves stay small. */
static inline void tame(uint32_t type, uint8_t *b) {
    const uint16_t scale = (uint16_t)(0x2000 | (noise() & 0x83ff));
    const uint32_t bytes = tensor_type_info(type)->block_bytes;
    float f = noise_float();
    switch (type) {
    case TENSOR_F32:
        memcpy(b, &f, 4);
        break;
    case TENSOR_BF16:
        memcpy(b, (char *)&f + 2, 2);
        break;
    case TENSOR_F16:
        b[1] = (uint8_t)(0x30 | (b[1] & 0x8f & ~0x40));
        break;
    case TENSOR_Q3_K:
    case TENSOR_Q6_K:
        memcpy(b + bytes - 2, &scale, 2);
        break;
    case TENSOR_Q2_K:
        memcpy(b + 80, &scale, 2);
        memcpy(b + 82, &scale, 2);
        break;
    case TENSOR_MXFP4:
        b[0] = (uint8_t)(110 + noise() % 20);
        break;
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        memcpy(b + 2, &scale, 2);
        b[3] = (uint8_t)(0x24 | (noise() & 0x83));
        /* fall through */
    default:
        memcpy(b, &scale, 2);
    }
}

/* As many blocks; free() them. */
static inline uint8_t *noise_blocks(uint32_t type, uint64_t n) {
    const uint32_t bytes = tensor_type_info(type)->block_bytes;
    uint8_t *blocks = malloc(n * bytes);
    for (uint64_t i = 0; blocks && i < n * bytes; i++)
        blocks[i] = (uint8_t)noise();
    for (uint64_t i = 0; blocks && i < n; i++)
        tame(type, blocks + i * bytes);
    return blocks;
}

#endif
