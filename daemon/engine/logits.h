/* SPDX-License-Identifier: Apache-2.0 */
/* logits.h - passes over a row of logits as long as a vocabulary.
 *
 * Every operation rounds by itself, in an order that is fixed, in the vectors that every processor
 * of an architecture has: the results are the same on any machine (docs/numerics.md).
 * Threads: no state. */
#ifndef OCTARC_ENGINE_LOGITS_H
#define OCTARC_ENGINE_LOGITS_H

#include <stdint.h>

#define LOGITS_CHUNK 1024u /* values whose weights are added on their own */

static inline uint32_t logits_chunks(uint32_t n) {
    return (n + LOGITS_CHUNK - 1) / LOGITS_CHUNK;
}

/* The place of the largest, the first of equal ones; -1 when one is NaN or +infinity, or all are
 * -infinity. */
int32_t logits_largest(const float *x, uint32_t n);

/* The weights e^((x[i] - top) * scale), for x[i] <= top: 0 below e^-87. */
void logits_weights(const float *x, uint32_t n, float top, float scale, float *weights);

/* sums[c]: of the weights of chunk c.  Returns their sum. */
double logits_sums(const float *x, uint32_t n, float top, float scale, double *sums);

/* The first place from `from` on whose value is above `least`, or n. */
uint32_t logits_next_above(const float *x, uint32_t from, uint32_t n, float least);

#endif
