/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/noise.h"

#include <string.h>

#include "octarc/model.h"

const uint32_t noise_types[NOISE_TYPES] = {TENSOR_F32,  TENSOR_F16,    TENSOR_BF16,   TENSOR_Q8_0,
                                           TENSOR_Q4_0, TENSOR_Q4_1,   TENSOR_Q5_0,   TENSOR_Q5_1,
                                           TENSOR_Q2_K, TENSOR_Q3_K,   TENSOR_Q4_K,   TENSOR_Q5_K,
                                           TENSOR_Q6_K, TENSOR_IQ4_NL, TENSOR_IQ4_XS, TENSOR_MXFP4};

uint32_t noise_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 16);
}

float noise_next_float(uint64_t *state) {
    return (float)(int32_t)noise_next(state) * 0x1p-31f;
}

/* Random bits would make scales infinite: exponents of the halves stay small. */
void noise_tame(uint64_t *state, uint32_t type, uint8_t *b) {
    const uint16_t scale = (uint16_t)(0x2000 | (noise_next(state) & 0x83ff));
    const uint32_t bytes = tensor_type_info(type)->block_bytes;
    const float f = noise_next_float(state);
    switch (type) {
    case TENSOR_F32:
        memcpy(b, &f, 4);
        break;
    case TENSOR_BF16:
        memcpy(b, (const char *)&f + 2, 2);
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
        b[0] = (uint8_t)(110 + noise_next(state) % 20);
        break;
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        memcpy(b + 2, &scale, 2);
        b[3] = (uint8_t)(0x24 | (noise_next(state) & 0x83));
        /* fall through */
    default:
        memcpy(b, &scale, 2);
    }
}

void noise_fill(uint64_t *state, uint32_t type, uint8_t *blocks, uint64_t n) {
    const uint32_t bytes = tensor_type_info(type)->block_bytes;
    for (uint64_t i = 0; i < n * bytes; i++)
        blocks[i] = (uint8_t)noise_next(state);
    for (uint64_t i = 0; i < n; i++)
        noise_tame(state, type, blocks + i * bytes);
}
