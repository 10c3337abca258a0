/* SPDX-License-Identifier: Apache-2.0 */
/* scalar.h - small functions whose every rounding is fixed: half floats, exp, folds. */
#ifndef OCTARC_DEVICE_CPU_ISA_SCALAR_H
#define OCTARC_DEVICE_CPU_ISA_SCALAR_H

#include "daemon/device/cpu/isa/vec.h"

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE int32_t round_to_int(float x) {
    return (int32_t)(bits_of(x + ROUNDING) - (uint32_t)ROUNDING_BITS);
}

#ifdef __F16C__
INLINE uint16_t half_of(float x) {
    return (uint16_t)_mm_extract_epi16(
        _mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), 0);
}
INLINE float float_of_half(uint16_t h) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}
#else
/* Round to nearest even, as the hardware does. */
static inline uint16_t half_of(float x) {
    uint32_t bits = bits_of(x);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x477ff000) /* rounds to 2^16 or beyond */
        return sign | 0x7c00;
    if (bits < 0x38800000) /* subnormal: adding 0.5 aligns the last bit to 2^-24 */
        return (uint16_t)(sign | (bits_of(float_of_bits(bits) + 0.5f) - 0x3f000000));
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000) >> 13);
}
#endif

/* r = x - k ln 2, for the k that t = x * log2(e) has rounded to. */
INLINE vf vf_exp_reduce(vf x, vf t) {
    const vf k = vf_sub(t, vf_set(ROUNDING));
    const vf r = vf_fma(k, vf_set(-0.693359375f), x);
    return vf_fma(k, vf_set(2.12194440e-4f), r);
}

/* e^r - 1 for |r| <= ln2/2 */
INLINE vf vf_exp_rest(vf r) {
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    return vf_fma(p, vf_mul(r, r), r);
}

/* e^x for 16 values: 2^k * p(r), p of degree 7 on |r| <= ln2/2 (docs/numerics.md has the error).
 * Below -87 the result is 0, above 88 it is e^88, of a NaN it is a NaN. */
INLINE vf vf_exp(vf x) {
    const vf c = vf_min(vf_set(88.0f), vf_max(vf_set(-87.0f), x));
    const vf t = vf_fma(c, vf_set(1.44269504f), vf_set(ROUNDING));
    const vf p = vf_add(vf_exp_rest(vf_exp_reduce(c, t)), vf_set(1.0f));
    return vf_zero_below(x, vf_set(-87.0f), vf_mul(p, vf_two_to(t)));
}

/* tanh(x) for 16 values: e / (e + 2) with e = e^(2x) - 1, whose small values keep their bits: of
 * 2^k and e^r - 1 each is exact or rounded once before they meet.  Beyond 10 the result is 1. */
INLINE vf vf_tanh(vf x) {
    const vf twice = vf_add(x, x);
    const vf c = vf_min(vf_set(20.0f), vf_max(vf_set(-20.0f), twice));
    const vf t = vf_fma(c, vf_set(1.44269504f), vf_set(ROUNDING));
    const vf less_one = vf_exp_rest(vf_exp_reduce(c, t)), power = vf_two_to(t);
    const vf e = vf_fma(power, less_one, vf_sub(power, vf_set(1.0f)));
    return vf_div(e, vf_add(e, vf_set(2.0f)));
}

/* cap * tanh(x / cap) */
INLINE vf vf_soft_cap(vf x, float cap) {
    return vf_mul(vf_set(cap), vf_tanh(vf_mul(x, vf_set(1.0f / cap))));
}

#endif
