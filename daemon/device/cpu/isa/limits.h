/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h - the yardsticks: how fast this instruction set can read memory and multiply bytes when
 * nothing else is in the loop.  No kernel can be faster. */
#ifndef OCTARC_DEVICE_CPU_ISA_LIMITS_H
#define OCTARC_DEVICE_CPU_ISA_LIMITS_H

#include "daemon/device/cpu/isa/vec.h"

#if defined(__AVX512F__)
#define SWEEP_WIDTH 64
#elif defined(__AVX2__)
#define SWEEP_WIDTH 32
#else
#define SWEEP_WIDTH 16
#endif
#define SWEEP_REGS 8

typedef uint64_t sweep_vec __attribute__((vector_size(SWEEP_WIDTH), may_alias));

/* Eight sums, so that no load waits for another's. */
INLINE uint64_t sweep_bytes(const uint8_t *p, uint64_t n) {
    sweep_vec sum[SWEEP_REGS] = {{0}};
    uint64_t all = 0;
    for (uint64_t i = 0; i + sizeof sum <= n; i += sizeof sum) {
        UNROLL
        for (int k = 0; k < SWEEP_REGS; k++)
            sum[k] ^= *(const sweep_vec *)(const void *)(p + i + SWEEP_WIDTH * k);
    }
    for (int k = 1; k < SWEEP_REGS; k++)
        sum[0] ^= sum[k];
    for (unsigned i = 0; i < SWEEP_WIDTH / sizeof all; i++)
        all ^= sum[0][i];
    return all;
}

/* INT8_OPS operations (a multiplication or an addition of bytes) a loop, INT8_REGS sums that do not
 * wait for each other. */
#if defined(__AVX512VNNI__)

#define INT8_REGS 12
#define INT8_OPS  (INT8_REGS * 64 * 2)
INLINE uint64_t int8_loops(uint32_t loops) {
    const __m512i x = _mm512_set1_epi8(3);
    __m512i sum[INT8_REGS];
    UNROLL
    for (int j = 0; j < INT8_REGS; j++)
        sum[j] = _mm512_set1_epi32(j);
    for (uint32_t i = 0; i < loops; i++) {
        UNROLL
        for (int j = 0; j < INT8_REGS; j++)
            __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum[j]) : "v"(x));
    }
    UNROLL
    for (int j = 1; j < INT8_REGS; j++)
        sum[0] = _mm512_add_epi32(sum[0], sum[j]);
    return (uint64_t)_mm512_reduce_add_epi32(sum[0]);
}

#elif defined(__AVX2__)

/* As vi_dot16() does it: products of bytes summed in 16 bits, the widening left out. */
#define INT8_REGS 10
#define INT8_OPS  (INT8_REGS * 32 * 2)
INLINE uint64_t int8_loops(uint32_t loops) {
    const __m256i x = _mm256_set1_epi8(3);
    __m256i sum[INT8_REGS], product;
    UNROLL
    for (int j = 0; j < INT8_REGS; j++)
        sum[j] = _mm256_set1_epi16((int16_t)j);
    for (uint32_t i = 0; i < loops; i++) {
        UNROLL
        for (int j = 0; j < INT8_REGS; j++)
            __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpaddw %1, %0, %0"
                             : "+x"(sum[j]), "=&x"(product)
                             : "x"(x));
    }
    UNROLL
    for (int j = 1; j < INT8_REGS; j++)
        sum[0] = _mm256_add_epi16(sum[0], sum[j]);
    return (uint64_t)_mm256_extract_epi64(sum[0], 0);
}

#else

/* What the compiler makes of a sum of products, over bytes in the first cache. */
#define INT8_VALUES 1024
#define INT8_OPS    (INT8_VALUES * 2)
INLINE uint64_t int8_loops(uint32_t loops) {
    int8_t a[INT8_VALUES], b[INT8_VALUES];
    uint64_t all = 0;
    memset(a, 3, sizeof a);
    memset(b, 5, sizeof b);
    for (uint32_t i = 0; i < loops; i++) {
        int32_t sum = 0;
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory"); /* else one loop would do for all */
        for (int k = 0; k < INT8_VALUES; k++)
            sum += a[k] * b[k];
        all += (uint64_t)sum;
    }
    return all;
}

#endif
#endif
