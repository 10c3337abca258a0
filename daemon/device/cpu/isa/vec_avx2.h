/* SPDX-License-Identifier: Apache-2.0 */
/* vec_avx2.h - sixteen lanes in two registers of 256 bits; included by vec.h. */
#ifndef OCTARC_DEVICE_CPU_ISA_VEC_AVX2_H
#define OCTARC_DEVICE_CPU_ISA_VEC_AVX2_H

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
INLINE float vf_fold(vf x) {
    return fold8(_mm256_add_ps(x.a, x.b));
}
INLINE float vf_top(vf x) {
    return top8(_mm256_max_ps(x.a, x.b));
}
INLINE __m256i magnitude_half(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}
INLINE float vf_magnitude(vf x, vf y) {
    const __m256i most =
        _mm256_max_epi32(_mm256_max_epi32(magnitude_half(x.a), magnitude_half(x.b)),
                         _mm256_max_epi32(magnitude_half(y.a), magnitude_half(y.b)));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(most8(most))));
}
INLINE __m256i low_bytes(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(255));
}
/* Packing takes halves of 128 bits for themselves: the fours of the result are put in order. */
INLINE int32_t vf_put_low(int8_t *q, vf x, vf y) {
    const __m256i mixed = _mm256_packus_epi16(_mm256_packus_epi32(low_bytes(x.a), low_bytes(x.b)),
                                              _mm256_packus_epi32(low_bytes(y.a), low_bytes(y.b)));
    const __m256i bytes =
        _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
    return sum_bytes(bytes);
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
/* With sixteen registers the trick of the wider set costs what it saves: measured on Emerald
 * Rapids, 2 % faster with 16 rows, 1.5 % slower with 512. */
#define SUM_START 0
INLINE vf vf_less(vf d) {
    return d; /* not looked at */
}
INLINE vf vf_scaled(vi sum, vf d, vf less) {
    (void)less;
    return vf_mul(vf_of_ints(sum), d);
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

#endif
