/* SPDX-License-Identifier: Apache-2.0 */
/* philox.h - counter-based random numbers: a function of what they are for, not of what came
 * before.
 *
 * Philox4x32-10 of J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).  Key:
 * the request's seed.  Counter: (choice, position, draw, 0).  So a replayed sequence draws the
 * same. */
#ifndef OCTARC_ENGINE_PHILOX_H
#define OCTARC_ENGINE_PHILOX_H

#include <stdint.h>

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1), 53 bits. */
double philox_uniform(uint64_t seed, uint32_t choice, uint32_t position, uint32_t draw);

#endif
