/* SPDX-License-Identifier: Apache-2.0 */
/* experts.h - weights of experts, and sums that are weighted by them (docs/numerics.md). */
#ifndef OCTARC_DEVICE_CPU_ISA_EXPERTS_H
#define OCTARC_DEVICE_CPU_ISA_EXPERTS_H

#include "daemon/device/cpu/isa/scalar.h"

static float soften_kernel(float *x, uint32_t n) {
    float last[TILE], top = -INFINITY;
    vf sum = vf_set(0.0f);
    for (uint32_t i = 0; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (uint32_t i = 0; i < n; i += TILE) {
        const uint32_t some = n - i < TILE ? n - i : TILE;
        for (uint32_t t = 0; t < TILE; t++)
            last[t] = t < some ? x[i + t] : -INFINITY;
        const vf power = vf_exp(vf_sub(vf_load(last), vf_set(top)));
        vf_store(last, power);
        memcpy(x + i, last, some * sizeof *x);
        sum = vf_add(sum, power);
    }
    return vf_fold(sum);
}

static float sigmoid_kernel(const float *x, const float *weight, uint32_t n) {
    float part[TILE] = {0};
    for (uint32_t i = 0; i < n; i++)
        part[i % TILE] = fma1(x[i], weight[i], part[i % TILE]);
    const float sum = vf_fold(vf_load(part));
    vf_store(part, vf_exp(vf_set(-sum)));
    return 1.0f / (1.0f + part[0]);
}

static void add_weighted_kernel(float *sums, const uint32_t *rows, const float *weights,
                                const float *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        float *to = sums + (uint64_t)rows[i] * TILE;
        vf_store(to, vf_fma(vf_set(weights[i]), vf_load(from + (uint64_t)i * TILE), vf_load(to)));
    }
}

#endif
