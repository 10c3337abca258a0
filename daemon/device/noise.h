/* SPDX-License-Identifier: Apache-2.0 */
/* noise.h - random blocks of every tensor type, the same for the same seed: what kernels are tried
 * with.
 *
 * Threads: no shared state. */
#ifndef OCTARC_DEVICE_NOISE_H
#define OCTARC_DEVICE_NOISE_H

#include <stdint.h>

#define NOISE_SEED UINT64_C(88172645463325252) /* any but 0 will do */

/* Every type that a build can run. */
#define NOISE_TYPES 16
extern const uint32_t noise_types[NOISE_TYPES];

uint32_t noise_next(uint64_t *state);
/* From -1 to 1. */
float noise_next_float(uint64_t *state);

/* Write so many blocks of the type (tensor_type_info).  Their values are finite, most of them well
 * below 1. */
void noise_tame(uint64_t *state, uint32_t type, uint8_t *block); /* of one that holds any bits */
void noise_fill(uint64_t *state, uint32_t type, uint8_t *blocks, uint64_t n);

#endif
