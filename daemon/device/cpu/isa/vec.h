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

#if defined(__AVX512VNNI__)
#include "daemon/device/cpu/isa/vec_avx512.h"
#elif defined(__AVX2__)
#include "daemon/device/cpu/isa/vec_avx2.h"
#else
#include "daemon/device/cpu/isa/vec_portable.h"
#endif

#endif
