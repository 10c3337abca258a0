/* SPDX-License-Identifier: Apache-2.0 */
/* rope.h - the angles by which rotary position embedding turns pairs of a head.
 *
 * Pure arithmetic in double with this file's own exp, log, sine and cosine, made of additions,
 * products, quotients and fma, which IEEE 754 rounds the same way everywhere: the result is the
 * same bits on every machine and with every C library.
 *
 * Pair i of dims / 2 is turned at position m by the angle  m * f(i), where
 *   e = freq_base^(-2 i / dims) / freqs[i]          (freqs: the divisors of the file, else 1)
 *   none:    f = e
 *   linear:  f = e / factor
 *   yarn:    f = e * w + e / factor * (1 - w),   w = ext_factor * (1 - clamp((i - low) / (high -
 *            low), 0, 1)), low and high the pairs (rounded outwards, kept inside the head) that
 *            turn beta_fast and beta_slow times within original_context
 * and sine and cosine are multiplied by attn_factor, with yarn (ext_factor > 0, factor > 1) also by
 * (1 + 0.1 ln(factor)) / (1 + 0.1 log_multiplier ln(factor)). */
#ifndef OCTARC_MODELS_ROPE_H
#define OCTARC_MODELS_ROPE_H

#include <stdint.h>

#include "octarc/model.h"

/* The largest angle in radians; beyond it the reduction would lose bits. */
#define ROPE_ANGLE_MAX 0x1p33

/* Fill cos_sin[2 i] and cos_sin[2 i + 1] with cosine and sine of every pair i of p->dims / 2,
 * rounded to f32 at the end.  freqs: [dims / 2] divisors, or NULL.  Work is O(dims) and holds no
 * state; any thread.
 *   -EINVAL  dims is odd or zero, or a parameter or divisor is not finite and positive
 *   -ERANGE  an angle exceeds ROPE_ANGLE_MAX
 * cos_sin may be partly written then. */
int rope_table(const struct rope_params *p, const float *freqs, uint32_t position, float *cos_sin);

/* What the rotated queries of a position are multiplied by so that attention stays sharp over many:
 * 1 + scale * ln(1 + floor(position / original_context)).  original_context > 0. */
float rope_temperature(uint32_t original_context, float scale, uint32_t position);

#endif
