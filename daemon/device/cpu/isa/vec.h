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

typedef __m512 vf;  /* 16 floats */
typedef __m512i vi; /* 16 int32 */
typedef __m512i vb; /* 64 bytes: four of each lane */

INLINE vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
INLINE void vf_store(float *p, vf a) {
    _mm512_storeu_ps(p, a);
}
INLINE vf vf_set(float a) {
    return _mm512_set1_ps(a);
}
INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
/* a > b ? a : b, and a < b ? a : b: of a NaN, b. */
INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
/* x < limit ? 0 : y */
INLINE vf vf_zero_below(vf x, vf limit, vf y) {
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), _mm512_setzero_ps());
}
/* 2^k for the k that ROUNDING left in the low bits. */
INLINE vf vf_two_to(vf rounded) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_add_epi32(_mm512_castps_si512(rounded), _mm512_set1_epi32(TWO_TO_BIAS)), 23));
}
INLINE vf vf_halves(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf vf_brains(const void *p) {
    const __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
/* In the order that costs least while many are added, and back in their own. */
INLINE vf vf_brains_apart(const void *p) {
    return vf_brains(p);
}
INLINE vf vf_together(vf a) {
    return a;
}
INLINE vf vf_bytes(const void *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE vf vf_of_ints(vi a) {
    return _mm512_cvtepi32_ps(a);
}
INLINE vi vi_set(int32_t a) {
    return _mm512_set1_epi32(a);
}
INLINE vi vi_sub(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}
INLINE vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
INLINE vi vi_mul(vi a, vi b) {
    return _mm512_mullo_epi32(a, b);
}
INLINE vi vi_bytes(const void *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE vb vb_load(const void *p) {
    return _mm512_loadu_si512(p);
}
INLINE void vb_store(void *p, vb a) {
    _mm512_storeu_si512(p, a);
}
INLINE vb vb_low(vb a) {
    return _mm512_and_si512(a, _mm512_set1_epi8(15));
}
INLINE vb vb_high(vb a) {
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15));
}
/* Bits of every byte, moved left (or right, where negative) and masked. */
INLINE vb vb_bits(vb a, int left, int mask) {
    a = left >= 0 ? _mm512_slli_epi16(a, (unsigned)left) : _mm512_srli_epi16(a, (unsigned)-left);
    return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}
/* table[code] of every byte, a code below 16. */
INLINE vb vb_lookup(const int8_t table[16], vb codes) {
    const __m128i t = _mm_loadu_si128((const __m128i *)(const void *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), codes);
}
INLINE vb vb_add(vb a, vb b) {
    return _mm512_add_epi8(a, b);
}
INLINE vb vb_set(int value) {
    return _mm512_set1_epi8((char)value);
}
INLINE vb vb_or(vb a, vb b) {
    return _mm512_or_si512(a, b);
}
/* s + the products of four unsigned bytes of each lane with the four signed bytes at x.  The
 * assembly reads x as the broadcast operand, which the compiler does not fold by itself. */
INLINE vi vi_dot(vi s, vb w, const int8_t *x) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(w), "m"(*(const int8_t(*)[4])x));
    return s;
}
/* The same for all eight bits of a byte; the bytes stand for value + WIDE_OFFSET. */
#define WIDE_OFFSET 128
INLINE vi vi_dot_wide(vi s, vb w, const int8_t *x) {
    return vi_dot(s, w, x);
}

#elif defined(__AVX2__)

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vi;
typedef vi vb;

INLINE vf vf_load(const float *p) {
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
INLINE vf vf_set(float x) {
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INLINE vf vf_add(vf x, vf y) {
    return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
INLINE vf vf_mul(vf x, vf y) {
    return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
INLINE vf vf_fma(vf x, vf y, vf z) {
    return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
INLINE vf vf_sub(vf x, vf y) {
    return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
INLINE vf vf_div(vf x, vf y) {
    return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
INLINE vf vf_max(vf x, vf y) {
    return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
INLINE vf vf_min(vf x, vf y) {
    return (vf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
INLINE vf vf_zero_below(vf x, vf limit, vf y) {
    return (vf){_mm256_andnot_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ), y.a),
                _mm256_andnot_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ), y.b)};
}
INLINE __m256 two_to_half(__m256 rounded) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_add_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(TWO_TO_BIAS)), 23));
}
INLINE vf vf_two_to(vf rounded) {
    return (vf){two_to_half(rounded.a), two_to_half(rounded.b)};
}
INLINE vf vf_halves(const void *p) {
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))};
}
/* The even values in a, the odd ones in b: of a pair one is shifted and one masked, where widening
 * all of them would take the port of the multiplications. */
INLINE vf vf_brains_apart(const void *p) {
    const __m256i pairs = _mm256_loadu_si256((const __m256i *)p);
    return (vf){
        _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
        _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int32_t)0xffff0000)))};
}
INLINE vf vf_together(vf x) {
    const __m256 low = _mm256_unpacklo_ps(x.a, x.b), high = _mm256_unpackhi_ps(x.a, x.b);
    return (vf){_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}
INLINE vf vf_brains(const void *p) {
    return vf_together(vf_brains_apart(p));
}
INLINE vi vi_bytes(const void *p) {
    return (vi){_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)((const char *)p + 8)))};
}
INLINE vf vf_of_ints(vi x) {
    return (vf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}
INLINE vf vf_bytes(const void *p) {
    return vf_of_ints(vi_bytes(p));
}
INLINE vi vi_set(int32_t x) {
    return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
INLINE vi vi_sub(vi x, vi y) {
    return (vi){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
INLINE vi vi_add(vi x, vi y) {
    return (vi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
INLINE vi vi_mul(vi x, vi y) {
    return (vi){_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
INLINE vb vb_load(const void *p) {
    return (vb){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
INLINE void vb_store(void *p, vb x) {
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)p + 1, x.b);
}
INLINE vb vb_low(vb x) {
    const __m256i m = _mm256_set1_epi8(15);
    return (vb){_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
INLINE vb vb_high(vb x) {
    return vb_low((vb){_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
INLINE vb vb_bits(vb x, int left, int mask) {
    const __m256i m = _mm256_set1_epi8((char)mask);
    if (left >= 0)
        x = (vb){_mm256_slli_epi16(x.a, left), _mm256_slli_epi16(x.b, left)};
    else
        x = (vb){_mm256_srli_epi16(x.a, -left), _mm256_srli_epi16(x.b, -left)};
    return (vb){_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
INLINE vb vb_lookup(const int8_t table[16], vb codes) {
    const __m256i t =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return (vb){_mm256_shuffle_epi8(t, codes.a), _mm256_shuffle_epi8(t, codes.b)};
}
INLINE vb vb_add(vb x, vb y) {
    return (vb){_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)};
}
INLINE vb vb_set(int value) {
    return (vb){_mm256_set1_epi8((char)value), _mm256_set1_epi8((char)value)};
}
INLINE vb vb_or(vb x, vb y) {
    return (vb){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
/* Sums of two products each, in 16 bits: as many steps as vi_dot16_steps() says may be added before
 * they are widened. */
INLINE vb vi_dot16(vb s, vb w, const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    const __m256i v = _mm256_set1_epi32(four);
    return (vb){_mm256_add_epi16(s.a, _mm256_maddubs_epi16(w.a, v)),
                _mm256_add_epi16(s.b, _mm256_maddubs_epi16(w.b, v))};
}
INLINE vi vi_widen16(vi s, vb sums) {
    const __m256i one = _mm256_set1_epi16(1);
    return vi_add(s, (vi){_mm256_madd_epi16(sums.a, one), _mm256_madd_epi16(sums.b, one)});
}
/* Codes up to `largest`, values up to 127: 2 * 15 * 127 * 8 and 2 * 31 * 127 * 4 fit 16 bits. */
INLINE int vi_dot16_steps(int largest) {
    return largest <= 15 ? 8 : largest <= 31 ? 4 : largest <= 63 ? 2 : 1;
}
/* Bytes that stand for value + 128: |value| times x with the value's sign; 2 * 128 * 127 fits 16
 * bits.  The offset is gone then. */
#define WIDE_OFFSET 0
INLINE __m256i dot_wide_half(__m256i w, __m256i v) {
    const __m256i value = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return _mm256_madd_epi16(
        _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(v, value)),
        _mm256_set1_epi16(1));
}
INLINE vi vi_dot_wide(vi s, vb w, const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    const __m256i v = _mm256_set1_epi32(four);
    return vi_add(s, (vi){dot_wide_half(w.a, v), dot_wide_half(w.b, v)});
}

#else

typedef struct {
    float v[16];
} vf;
typedef struct {
    int32_t v[16];
} vi;
typedef struct {
    uint8_t v[64];
} vb;

/* The value of a half float: exact. */
INLINE float float_of_half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, frac = h & 0x3ff;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* zero or subnormal: frac * 2^-24 is exact */
        value = (float)frac * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | frac << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define EACH        for (int t = 0; t < 16; t++)
INLINE vf vf_load(const float *p) {
    vf r;
    memcpy(&r, p, sizeof r);
    return r;
}
INLINE void vf_store(float *p, vf a) {
    memcpy(p, &a, sizeof a);
}
INLINE vf vf_set(float a) {
    vf r;
    EACH r.v[t] = a;
    return r;
}
INLINE vf vf_add(vf a, vf b) {
    EACH a.v[t] += b.v[t];
    return a;
}
INLINE vf vf_mul(vf a, vf b) {
    EACH a.v[t] *= b.v[t];
    return a;
}
INLINE vf vf_fma(vf a, vf b, vf c) {
    EACH c.v[t] = fma1(a.v[t], b.v[t], c.v[t]);
    return c;
}
INLINE vf vf_sub(vf a, vf b) {
    EACH a.v[t] -= b.v[t];
    return a;
}
INLINE vf vf_div(vf a, vf b) {
    EACH a.v[t] /= b.v[t];
    return a;
}
INLINE vf vf_min(vf a, vf b) {
    EACH a.v[t] = a.v[t] < b.v[t] ? a.v[t] : b.v[t];
    return a;
}
INLINE vf vf_zero_below(vf x, vf limit, vf y) {
    EACH y.v[t] = x.v[t] < limit.v[t] ? 0.0f : y.v[t];
    return y;
}
INLINE vf vf_two_to(vf rounded) {
    uint32_t bits[16];
    vf r;
    memcpy(bits, &rounded, sizeof bits);
    EACH bits[t] = (bits[t] + (uint32_t)TWO_TO_BIAS) << 23;
    memcpy(&r, bits, sizeof r);
    return r;
}
INLINE vf vf_max(vf a, vf b) {
    EACH a.v[t] = a.v[t] > b.v[t] ? a.v[t] : b.v[t];
    return a;
}
INLINE vf vf_halves(const void *p) {
    uint16_t h[16];
    vf r;
    memcpy(h, p, sizeof h);
    EACH r.v[t] = float_of_half(h[t]);
    return r;
}
INLINE vf vf_brains(const void *p) {
    uint16_t h[16];
    uint32_t bits[16];
    vf r;
    memcpy(h, p, sizeof h);
    EACH bits[t] = (uint32_t)h[t] << 16;
    memcpy(&r, bits, sizeof r);
    return r;
}
INLINE vf vf_brains_apart(const void *p) {
    return vf_brains(p);
}
INLINE vf vf_together(vf a) {
    return a;
}
INLINE vi vi_bytes(const void *p) {
    vi r;
    EACH r.v[t] = ((const int8_t *)p)[t];
    return r;
}
INLINE vf vf_of_ints(vi a) {
    vf r;
    EACH r.v[t] = (float)a.v[t];
    return r;
}
INLINE vf vf_bytes(const void *p) {
    return vf_of_ints(vi_bytes(p));
}
INLINE vi vi_set(int32_t a) {
    vi r;
    EACH r.v[t] = a;
    return r;
}
INLINE vi vi_sub(vi a, vi b) {
    EACH a.v[t] -= b.v[t];
    return a;
}
INLINE vi vi_add(vi a, vi b) {
    EACH a.v[t] += b.v[t];
    return a;
}
INLINE vi vi_mul(vi a, vi b) {
    EACH a.v[t] *= b.v[t];
    return a;
}
INLINE vb vb_load(const void *p) {
    vb r;
    memcpy(&r, p, sizeof r);
    return r;
}
INLINE void vb_store(void *p, vb a) {
    memcpy(p, &a, sizeof a);
}
INLINE vb vb_low(vb a) {
    for (int i = 0; i < 64; i++)
        a.v[i] &= 15;
    return a;
}
INLINE vb vb_high(vb a) {
    for (int i = 0; i < 64; i++)
        a.v[i] >>= 4;
    return a;
}
INLINE vb vb_bits(vb a, int left, int mask) {
    for (int i = 0; i < 64; i++)
        a.v[i] = (uint8_t)((left >= 0 ? a.v[i] << left : a.v[i] >> -left) & mask);
    return a;
}
INLINE vb vb_lookup(const int8_t table[16], vb codes) {
    for (int i = 0; i < 64; i++)
        codes.v[i] = (uint8_t)table[codes.v[i]];
    return codes;
}
INLINE vb vb_add(vb a, vb b) {
    for (int i = 0; i < 64; i++)
        a.v[i] = (uint8_t)(a.v[i] + b.v[i]);
    return a;
}
INLINE vb vb_set(int value) {
    vb r;
    memset(&r, value, sizeof r);
    return r;
}
INLINE vb vb_or(vb a, vb b) {
    for (int i = 0; i < 64; i++)
        a.v[i] |= b.v[i];
    return a;
}
INLINE vi vi_dot(vi s, vb w, const int8_t *x) {
    EACH s.v[t] +=
        w.v[4 * t] * x[0] + w.v[4 * t + 1] * x[1] + w.v[4 * t + 2] * x[2] + w.v[4 * t + 3] * x[3];
    return s;
}
#define WIDE_OFFSET 128
INLINE vi vi_dot_wide(vi s, vb w, const int8_t *x) {
    return vi_dot(s, w, x);
}
#undef EACH

#endif
#endif
