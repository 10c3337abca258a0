/* SPDX-License-Identifier: Apache-2.0 */
/* vec_avx512.h - sixteen lanes in one register of 512 bits; included by vec.h. */
#ifndef OCTARC_DEVICE_CPU_ISA_VEC_AVX512_H
#define OCTARC_DEVICE_CPU_ISA_VEC_AVX512_H

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
/* Sum of the lanes, a fixed tree; the largest, where none is a NaN. */
INLINE float vf_fold(vf a) {
    return fold8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
}
INLINE float vf_top(vf a) {
    return top8(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
}
/* The largest magnitude of two vectors; a NaN's is above all. */
INLINE float vf_magnitude(vf a, vf b) {
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    const __m512i x = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), mask),
                                       _mm512_and_si512(_mm512_castps_si512(b), mask));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(
        most8(_mm256_max_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1))))));
}
/* What ROUNDING left in the low byte of each lane of a, then of b, to q; returns the sum. */
INLINE int32_t vf_put_low(int8_t *q, vf a, vf b) {
    const __m256i bytes = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm512_cvtepi32_epi8(_mm512_castps_si512(a))),
        _mm512_cvtepi32_epi8(_mm512_castps_si512(b)), 1);
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
    return sum_bytes(bytes);
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
/* A sum of products below 2^22 that begins with SUM_START is, as the bits of a float, itself plus
 * ROUNDING: vf_scaled() takes it times d with one fma, and rounds once, where to convert it first
 * would be one instruction more.  `less`: vf_less(d), which is exact: d has 22 bits at most and is
 * below 2^104. */
#define SUM_START ROUNDING_BITS
INLINE vf vf_less(vf d) {
    return _mm512_mul_ps(d, _mm512_set1_ps(-ROUNDING));
}
INLINE vf vf_scaled(vi sum, vf d, vf less) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(sum), d, less);
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

#endif
