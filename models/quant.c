/* SPDX-License-Identifier: Apache-2.0 */
/* quant.c - the tensor types of the GGUF format: sizes, and exact expansion to f32.
 *
 * This is the definition the kernels are tested against, so it is plain: one function a type, one
 * block a call, two roundings at most a value (scale product, then value).  Blocks are packed
 * little-endian records without alignment; they are read by byte or memcpy.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "octarc/model.h"

#define TYPES 40

static const struct tensor_type_info types[TYPES] = {
    [TENSOR_F32] = {"F32", 1, 4, true},
    [TENSOR_F16] = {"F16", 1, 2, true},
    [TENSOR_Q4_0] = {"Q4_0", 32, 18, true},
    [TENSOR_Q4_1] = {"Q4_1", 32, 20, true},
    [TENSOR_Q5_0] = {"Q5_0", 32, 22, true},
    [TENSOR_Q5_1] = {"Q5_1", 32, 24, true},
    [TENSOR_Q8_0] = {"Q8_0", 32, 34, true},
    [9] = {"Q8_1", 32, 36, false},
    [TENSOR_Q2_K] = {"Q2_K", 256, 84, true},
    [TENSOR_Q3_K] = {"Q3_K", 256, 110, true},
    [TENSOR_Q4_K] = {"Q4_K", 256, 144, true},
    [TENSOR_Q5_K] = {"Q5_K", 256, 176, true},
    [TENSOR_Q6_K] = {"Q6_K", 256, 210, true},
    [15] = {"Q8_K", 256, 292, false},
    [16] = {"IQ2_XXS", 256, 66, false},
    [17] = {"IQ2_XS", 256, 74, false},
    [18] = {"IQ3_XXS", 256, 98, false},
    [19] = {"IQ1_S", 256, 50, false},
    [TENSOR_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [21] = {"IQ3_S", 256, 110, false},
    [22] = {"IQ2_S", 256, 82, false},
    [TENSOR_IQ4_XS] = {"IQ4_XS", 256, 136, true},
    [24] = {"I8", 1, 1, false},
    [25] = {"I16", 1, 2, false},
    [26] = {"I32", 1, 4, false},
    [27] = {"I64", 1, 8, false},
    [28] = {"F64", 1, 8, false},
    [29] = {"IQ1_M", 256, 56, false},
    [TENSOR_BF16] = {"BF16", 1, 2, true},
    [34] = {"TQ1_0", 256, 54, false},
    [35] = {"TQ2_0", 256, 66, false},
    [TENSOR_MXFP4] = {"MXFP4", 32, 17, true},
};

const struct tensor_type_info *tensor_type_info(uint32_t type) {
    return type < TYPES && types[type].name ? &types[type] : NULL;
}

static float bits_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t load_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float load_f16(const uint8_t *p) {
    const uint32_t half = load_u16(p);
    const uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 0) {
        /* Zero and subnormals: fraction * 2^-24 is exact. */
        const float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    if (exponent == 31)
        return bits_f32(sign | 0x7f800000 | fraction << 13);
    return bits_f32(sign | (exponent + 112) << 23 | fraction << 13);
}

static void expand_f32(const uint8_t *b, float *y) {
    *y = bits_f32(load_u32(b));
}

static void expand_f16(const uint8_t *b, float *y) {
    *y = load_f16(b);
}

static void expand_bf16(const uint8_t *b, float *y) {
    *y = bits_f32((uint32_t)load_u16(b) << 16);
}

static void expand_q4_0(const uint8_t *b, float *y) {
    const float d = load_f16(b);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)((b[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

static void expand_q4_1(const uint8_t *b, float *y) {
    const float d = load_f16(b), m = load_f16(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)(b[4 + i] & 15) * d + m;
        y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

static void expand_q5_0(const uint8_t *b, float *y) {
    const float d = load_f16(b);
    const uint32_t high = load_u32(b + 2);
    for (int i = 0; i < 16; i++) {
        const int lo = (int)(b[6 + i] & 15) | (int)(high >> i & 1) << 4;
        const int hi = b[6 + i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)(lo - 16) * d;
        y[i + 16] = (float)(hi - 16) * d;
    }
}

static void expand_q5_1(const uint8_t *b, float *y) {
    const float d = load_f16(b), m = load_f16(b + 2);
    const uint32_t high = load_u32(b + 4);
    for (int i = 0; i < 16; i++) {
        const int lo = (int)(b[8 + i] & 15) | (int)(high >> i & 1) << 4;
        const int hi = b[8 + i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)lo * d + m;
        y[i + 16] = (float)hi * d + m;
    }
}

static void expand_q8_0(const uint8_t *b, float *y) {
    const float d = load_f16(b);
    for (int i = 0; i < 32; i++)
        y[i] = (float)(int8_t)b[2 + i] * d;
}

/* Sixteen runs of 16 values; a byte of `scales` holds scale (low) and minimum (high) of a run. */
static void expand_q2_k(const uint8_t *b, float *y) {
    const uint8_t *scales = b, *quants = b + 16;
    const float d = load_f16(b + 80), dmin = load_f16(b + 82);
    for (int run = 0; run < 16; run++) {
        const float scale = d * (float)(scales[run] & 15), min = dmin * (float)(scales[run] >> 4);
        const uint8_t *q = quants + run / 8 * 32 + run % 2 * 16;
        const int shift = run % 8 / 2 * 2;
        for (int i = 0; i < 16; i++)
            y[run * 16 + i] = scale * (float)(q[i] >> shift & 3) - min;
    }
}

static void expand_q3_k(const uint8_t *b, float *y) {
    const uint8_t *mask = b, *quants = b + 32, *packed = b + 96;
    const float d = load_f16(b + 108);
    for (int run = 0; run < 16; run++) {
        const int low = run < 8 ? packed[run] & 15 : packed[run - 8] >> 4;
        const int high = packed[8 + run % 4] >> (run / 4 * 2) & 3;
        const float scale = d * (float)((low | high << 4) - 32);
        const uint8_t *q = quants + run / 8 * 32 + run % 2 * 16, *m = mask + run % 2 * 16;
        const int shift = run % 8 / 2 * 2, bit = run / 2;
        for (int i = 0; i < 16; i++)
            y[run * 16 + i] = scale * (float)((q[i] >> shift & 3) - (m[i] >> bit & 1 ? 0 : 4));
    }
}

/* The 6-bit scale and minimum of run j of Q4_K and Q5_K, out of 12 bytes. */
static void scale_min_k4(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *min = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

/* Eight runs of 32 values; runs 2c and 2c+1 are the low and high nibbles of 32 bytes. */
static void expand_q4_k(const uint8_t *b, float *y) {
    const float d = load_f16(b), dmin = load_f16(b + 2);
    for (int run = 0; run < 8; run++) {
        int s, m;
        scale_min_k4(b + 4, run, &s, &m);
        const float scale = d * (float)s, min = dmin * (float)m;
        const uint8_t *q = b + 16 + run / 2 * 32;
        const int shift = run % 2 * 4;
        for (int i = 0; i < 32; i++)
            y[run * 32 + i] = scale * (float)(q[i] >> shift & 15) - min;
    }
}

static void expand_q5_k(const uint8_t *b, float *y) {
    const float d = load_f16(b), dmin = load_f16(b + 2);
    const uint8_t *high = b + 16;
    for (int run = 0; run < 8; run++) {
        int s, m;
        scale_min_k4(b + 4, run, &s, &m);
        const float scale = d * (float)s, min = dmin * (float)m;
        const uint8_t *q = b + 48 + run / 2 * 32;
        const int shift = run % 2 * 4;
        for (int i = 0; i < 32; i++)
            y[run * 32 + i] =
                scale * (float)((q[i] >> shift & 15) | (high[i] >> run & 1) << 4) - min;
    }
}

/* Sixteen runs of 16 values.  In each half of 128: runs 0-3 take low nibbles of 64 bytes, 4-7 the
 * high ones; the two upper bits of four values share a byte of `high`. */
static void expand_q6_k(const uint8_t *b, float *y) {
    const uint8_t *low = b, *high = b + 128, *scales = b + 192;
    const float d = load_f16(b + 208);
    for (int run = 0; run < 16; run++) {
        const float scale = d * (float)(int8_t)scales[run];
        const int half = run / 8, in_half = run % 8;
        const uint8_t *l = low + half * 64 + in_half % 4 * 16;
        const uint8_t *h = high + half * 32 + in_half % 2 * 16;
        const int l_shift = in_half / 4 * 4, h_shift = in_half / 2 * 2;
        for (int i = 0; i < 16; i++) {
            const int q = (l[i] >> l_shift & 15) | (h[i] >> h_shift & 3) << 4;
            y[run * 16 + i] = scale * (float)(q - 32);
        }
    }
}

/* The sixteen levels of the non-linear four-bit types, from the format's definition. */
const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};

static void expand_iq4_nl(const uint8_t *b, float *y) {
    const float d = load_f16(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)iq4_levels[b[2 + i] & 15];
        y[i + 16] = d * (float)iq4_levels[b[2 + i] >> 4];
    }
}

static void expand_iq4_xs(const uint8_t *b, float *y) {
    const float d = load_f16(b);
    const uint32_t high = load_u16(b + 2);
    for (int run = 0; run < 8; run++) {
        const int low = b[4 + run / 2] >> (run % 2 * 4) & 15;
        const float scale = d * (float)((low | (int)(high >> (2 * run) & 3) << 4) - 32);
        const uint8_t *q = b + 8 + run * 16;
        for (int i = 0; i < 16; i++) {
            y[run * 32 + i] = scale * (float)iq4_levels[q[i] & 15];
            y[run * 32 + i + 16] = scale * (float)iq4_levels[q[i] >> 4];
        }
    }
}

/* A sign, two bits of exponent, one of fraction: 0, 0.5, 1, 1.5, 2, 3, 4, 6. */
const int8_t mxfp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void expand_mxfp4(const uint8_t *b, float *y) {
    const int exponent = (int)b[0] - 128;
    for (int i = 0; i < 32; i++) {
        const int q = b[1 + i % 16] >> (i / 16 * 4) & 15;
        y[i] = ldexpf(mxfp4_levels[q], exponent);
    }
}

static void (*const expanders[TYPES])(const uint8_t *, float *) = {
    [TENSOR_F32] = expand_f32,     [TENSOR_F16] = expand_f16,       [TENSOR_BF16] = expand_bf16,
    [TENSOR_Q4_0] = expand_q4_0,   [TENSOR_Q4_1] = expand_q4_1,     [TENSOR_Q5_0] = expand_q5_0,
    [TENSOR_Q5_1] = expand_q5_1,   [TENSOR_Q8_0] = expand_q8_0,     [TENSOR_Q2_K] = expand_q2_k,
    [TENSOR_Q3_K] = expand_q3_k,   [TENSOR_Q4_K] = expand_q4_k,     [TENSOR_Q5_K] = expand_q5_k,
    [TENSOR_Q6_K] = expand_q6_k,   [TENSOR_IQ4_NL] = expand_iq4_nl, [TENSOR_IQ4_XS] = expand_iq4_xs,
    [TENSOR_MXFP4] = expand_mxfp4,
};

int tensor_dequantise(uint32_t type, const void *blocks, size_t n_blocks, float *values) {
    if (type >= TYPES || !expanders[type])
        return -ENOTSUP;
    const struct tensor_type_info *info = &types[type];
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++)
        expanders[type](b + i * info->block_bytes, values + i * info->block_values);
    return 0;
}
