/* SPDX-License-Identifier: Apache-2.0 */
/* vec_portable.h - sixteen lanes in memory, in plain C: the reference of the others; included by
 * vec.h. */
#ifndef OCTARC_DEVICE_CPU_ISA_VEC_PORTABLE_H
#define OCTARC_DEVICE_CPU_ISA_VEC_PORTABLE_H

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

#define EACH for (int t = 0; t < 16; t++)
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
INLINE float vf_fold(vf a) {
    for (int n = 8; n > 2; n /= 2)
        for (int i = 0; i < n; i++)
            a.v[i] += a.v[i + n];
    return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}
INLINE float vf_top(vf a) {
    float top = a.v[0];
    EACH top = a.v[t] > top ? a.v[t] : top;
    return top;
}
/* Magnitudes order like their bits. */
INLINE float vf_magnitude(vf a, vf b) {
    uint32_t bits[32], most = 0;
    float value;
    memcpy(bits, &a, sizeof a);
    memcpy(bits + 16, &b, sizeof b);
    for (int i = 0; i < 32; i++)
        most = (bits[i] & 0x7fffffff) > most ? bits[i] & 0x7fffffff : most;
    memcpy(&value, &most, sizeof value);
    return value;
}
INLINE int32_t vf_put_low(int8_t *q, vf a, vf b) {
    uint32_t bits[32];
    int32_t sum = 0;
    memcpy(bits, &a, sizeof a);
    memcpy(bits + 16, &b, sizeof b);
    for (int i = 0; i < 32; i++) {
        q[i] = (int8_t)(uint8_t)bits[i];
        sum += q[i];
    }
    return sum;
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
#define SUM_START 0
INLINE vf vf_less(vf d) {
    return d; /* not looked at */
}
INLINE vf vf_scaled(vi sum, vf d, vf less) {
    (void)less;
    return vf_mul(vf_of_ints(sum), d);
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
