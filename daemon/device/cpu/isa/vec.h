/* SPDX-License-Identifier: Apache-2.0 */
/* vec.h - sixteen lanes, in the registers of the instruction set that is compiled for.
 *
 * Every function is exact or rounds once, lane by lane, so the sets differ in speed only. */
#ifndef OCTARC_DEVICE_CPU_ISA_VEC_H
#define OCTARC_DEVICE_CPU_ISA_VEC_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#if !defined(__AVX2__)
#define UNROLL /* sixteen lanes in memory: unrolling buys nothing */
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE float fma1(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}

/* 1.5 * 2^23: added to a float below 2^22 it leaves the nearest integer, ties to even, in the low
 * bits of the sum. */
#define ROUNDING      12582912.0f
#define ROUNDING_BITS 0x4b400000
#define TWO_TO_BIAS   (127 - ROUNDING_BITS)

#if defined(__AVX2__)
/* What both sets of registers end in. */
INLINE float fold8(__m256 x) {
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
INLINE float top8(__m256 x) {
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
INLINE int32_t most8(__m256i x) {
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    t = _mm_max_epi32(t, _mm_unpackhi_epi64(t, t));
    return _mm_cvtsi128_si32(_mm_max_epi32(t, _mm_shuffle_epi32(t, 1)));
}
/* Of 32 signed bytes. */
INLINE int32_t sum_bytes(__m256i x) {
    const __m256i four =
        _mm256_sad_epu8(_mm256_xor_si256(x, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two))) - 32 * 128;
}
#endif

#if defined(__AVX512VNNI__)
#include "daemon/device/cpu/isa/vec_avx512.h"
#elif defined(__AVX2__)
#include "daemon/device/cpu/isa/vec_avx2.h"
#else
#include "daemon/device/cpu/isa/vec_portable.h"
#endif

#endif
