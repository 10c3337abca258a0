/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/logits.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define WIDTH        4u /* values of a vector */
#define LANES_OF_SUM 4u /* vectors whose sums run beside each other */
#define STEP         (WIDTH * LANES_OF_SUM)

typedef float vec __attribute__((vector_size(16)));
typedef int32_t ivec __attribute__((vector_size(16)));

static inline vec load(const float *x) {
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline vec all(float x) {
    return (vec){x, x, x, x};
}

/* Lane by lane, a where the mask is set, else b. */
static inline vec choose(ivec mask, vec a, vec b) {
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

static inline bool any(ivec mask) {
    uint64_t half[2];
    memcpy(half, &mask, sizeof half);
    return (half[0] | half[1]) != 0;
}

/* e^x for x <= 0 as 2^k * p(r): the polynomial of the kernels' exp, without fused steps. */
static inline vec exp_vec(vec x) {
    const vec rounding = all(12582912.0f); /* 1.5 * 2^23: leaves the nearest integer behind */
    const ivec small = x < all(-87.0f);
    x = choose(small, all(0.0f), x);
    const vec t = x * all(1.44269504f) + rounding, k = t - rounding;
    const vec r = (x - k * all(0.693359375f)) + k * all(2.12194440e-4f);
    vec p = all(1.9875691500e-4f);
    p = p * r + all(1.3981999507e-3f);
    p = p * r + all(8.3334519073e-3f);
    p = p * r + all(4.1665795894e-2f);
    p = p * r + all(1.6666665459e-1f);
    p = p * r + all(5.0000001201e-1f);
    p = (p * (r * r) + r) + all(1.0f);
    const ivec power = ((ivec)t + (127 - 0x4b400000)) << 23;
    return choose(small, all(0.0f), p * (vec)power);
}

static inline vec weights_of(vec x, vec top, vec scale) {
    return exp_vec((x - top) * scale);
}

int32_t logits_largest(const float *x, uint32_t n) {
    vec most[LANES_OF_SUM];
    ivec nan = {0};
    uint32_t i = 0;
    float top = -INFINITY;
    for (uint32_t k = 0; k < LANES_OF_SUM; k++)
        most[k] = all(-INFINITY);
    for (; i + STEP <= n; i += STEP)
        for (uint32_t k = 0; k < LANES_OF_SUM; k++) {
            const vec v = load(x + i + k * WIDTH);
            nan |= v != v;
            most[k] = choose(v > most[k], v, most[k]);
        }
    bool unsound = any(nan);
    for (uint32_t k = 0; k < LANES_OF_SUM; k++)
        for (uint32_t t = 0; t < WIDTH; t++)
            top = most[k][t] > top ? most[k][t] : top;
    for (; i < n; i++) {
        unsound |= x[i] != x[i];
        top = x[i] > top ? x[i] : top;
    }
    if (unsound || top == INFINITY || top == -INFINITY)
        return -1;
    for (i = 0; i + WIDTH <= n && !any(load(x + i) == all(top)); i += WIDTH)
        ;
    while (x[i] != top)
        i++;
    return (int32_t)i;
}

void logits_weights(const float *x, uint32_t n, float top, float scale, float *weights) {
    for (uint32_t i = 0; i < n; i += WIDTH) {
        const uint32_t left = n - i < WIDTH ? n - i : WIDTH;
        vec v = all(-INFINITY);
        memcpy(&v, x + i, left * sizeof *x);
        v = weights_of(v, all(top), all(scale));
        memcpy(weights + i, &v, left * sizeof *x);
    }
}

/* Sixteen partial sums, which are then folded as a tree. */
static double sum_chunk(const float *x, uint32_t n, vec top, vec scale) {
    vec sum[LANES_OF_SUM];
    uint32_t i = 0;
    for (uint32_t k = 0; k < LANES_OF_SUM; k++)
        sum[k] = all(0.0f);
    for (; i + STEP <= n; i += STEP)
        for (uint32_t k = 0; k < LANES_OF_SUM; k++)
            sum[k] += weights_of(load(x + i + k * WIDTH), top, scale);
    for (uint32_t k = 0; i < n; i += WIDTH, k++) {
        vec v = all(-INFINITY);
        memcpy(&v, x + i, (n - i < WIDTH ? n - i : WIDTH) * sizeof *x);
        sum[k] += weights_of(v, top, scale);
    }
    const vec all_four = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    return (double)((all_four[0] + all_four[2]) + (all_four[1] + all_four[3]));
}

double logits_sums(const float *x, uint32_t n, float top, float scale, double *sums) {
    double total = 0;
    for (uint32_t at = 0; at < n; at += LOGITS_CHUNK) {
        const uint32_t some = n - at < LOGITS_CHUNK ? n - at : LOGITS_CHUNK;
        sums[at / LOGITS_CHUNK] = sum_chunk(x + at, some, all(top), all(scale));
        total += sums[at / LOGITS_CHUNK];
    }
    return total;
}

uint32_t logits_next_above(const float *x, uint32_t from, uint32_t n, float least) {
    while (from + STEP <= n) {
        const ivec found = (load(x + from) > all(least)) | (load(x + from + 4) > all(least)) |
                           (load(x + from + 8) > all(least)) | (load(x + from + 12) > all(least));
        if (any(found))
            break;
        from += STEP;
    }
    while (from < n && !(x[from] > least))
        from++;
    return from;
}
