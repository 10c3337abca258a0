/* SPDX-License-Identifier: Apache-2.0 */
/* atoms.h - the tile-atoms that pack.c wrote, made ready in registers.
 *
 * `type` is a constant wherever these are inlined, so every branch on it disappears. */
#ifndef OCTARC_DEVICE_CPU_ISA_ATOMS_H
#define OCTARC_DEVICE_CPU_ISA_ATOMS_H

#include "daemon/device/cpu/isa/kernels.h"
#include "daemon/device/cpu/isa/vec.h"
#include "daemon/device/pack.h"

/* How an atom enters the sum.  docs/numerics.md has the formulas. */
enum sum_kind {
    SUM_OFFSET, /* weight = d * (w - offset), w < 64 */
    SUM_WIDE,   /* the same with eight bits and an offset of 128 */
    SUM_MIN,    /* weight = d * w + m */
    SUM_SPLIT,  /* weight = d * factor[half] * (w - offset) */
    SUM_LEAST,  /* weight = d * factor[half] * w + m * least[half] */
    SUM_FLOAT,
};

INLINE enum sum_kind sum_kind_of(uint32_t type) {
    switch (type) {
    case TENSOR_Q4_0:
    case TENSOR_Q5_0:
    case TENSOR_MXFP4:
        return SUM_OFFSET;
    case TENSOR_Q8_0:
    case TENSOR_IQ4_NL:
    case TENSOR_IQ4_XS:
        return SUM_WIDE;
    case TENSOR_Q3_K:
    case TENSOR_Q6_K:
        return SUM_SPLIT;
    case TENSOR_Q2_K:
        return SUM_LEAST;
    case TENSOR_F32:
    case TENSOR_F16:
    case TENSOR_BF16:
        return SUM_FLOAT;
    default:
        return SUM_MIN;
    }
}

INLINE int32_t offset_of(uint32_t type) {
    switch (type) {
    case TENSOR_Q4_0:
        return 8;
    case TENSOR_Q5_0:
        return 16;
    case TENSOR_MXFP4:
        return 12;
    case TENSOR_Q8_0:
    case TENSOR_IQ4_NL:
    case TENSOR_IQ4_XS:
        return 128;
    case TENSOR_Q3_K:
        return 4;
    case TENSOR_Q6_K:
        return 32;
    default:
        return 0;
    }
}

/* An atom opened once for many rows of the input. */
struct atom {
    float d[TILE];
    union {
        float m[TILE];
        int8_t factor[2][TILE];
    };
    uint8_t w[ATOM / 4][TILE][4];
};
_Static_assert(sizeof(struct atom) == OPENED_BYTES, "a thread's memory for an opened tile");

/* Columns [4g, 4g + 4) of the 16 rows, unsigned. */
INLINE vb atom_group(uint32_t type, const uint8_t *p, int g) {
    const uint8_t *high = p + pack_high_at(type);
    if (type == TENSOR_Q8_0)
        return vb_load(p + 64 * g);
    if (type == TENSOR_Q2_K || type == TENSOR_Q3_K) {
        const vb w = vb_bits(vb_load(p + 64 * (g / 4)), -2 * (g % 4), 3);
        return type == TENSOR_Q2_K ? w : vb_or(w, vb_bits(vb_load(high), 2 - g, 4));
    }
    const vb pair = vb_load(p + 64 * (g / 2)), w = g & 1 ? vb_high(pair) : vb_low(pair);
    if (type == TENSOR_Q5_0 || type == TENSOR_Q5_1 || type == TENSOR_Q5_K)
        return vb_or(w, vb_bits(vb_load(high), 4 - g, 0x10));
    if (type == TENSOR_Q6_K)
        return vb_or(w, vb_bits(vb_load(high + 64 * (g / 4)), 4 - 2 * (g % 4), 0x30));
    if (type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS || type == TENSOR_MXFP4)
        return vb_add(vb_lookup(type == TENSOR_MXFP4 ? mxfp4_levels : iq4_levels, w),
                      vb_set(offset_of(type)));
    return w;
}

INLINE vf atom_scale(uint32_t type, const uint8_t *p) {
    const uint8_t *s = p + pack_scale_at(type);
    if (type == TENSOR_MXFP4)
        return vf_brains(s);
    const vf d = vf_halves(s);
    if (type == TENSOR_IQ4_XS)
        return vf_mul(d, vf_bytes(s + 32));
    return type == TENSOR_Q4_K || type == TENSOR_Q5_K ? vf_mul(d, vf_bytes(s + 64)) : d;
}

INLINE vf atom_min(uint32_t type, const uint8_t *p) {
    const uint8_t *s = p + pack_scale_at(type) + 32;
    const vf m = vf_halves(s);
    return type == TENSOR_Q4_K || type == TENSOR_Q5_K ? vf_mul(m, vf_bytes(s + 48)) : m;
}

/* Factors of the halves where they lie in an atom, [2][TILE]; behind those of Q2_K the minimums. */
INLINE const uint8_t *atom_factors(uint32_t type, const uint8_t *p) {
    return p + pack_scale_at(type) + (type == TENSOR_Q2_K ? 64 : 32);
}

INLINE void open_one(uint32_t type, const uint8_t *p, struct atom *a) {
    UNROLL for (int g = 0; g < ATOM / 4; g++) vb_store(a->w[g], atom_group(type, p, g));
    vf_store(a->d, atom_scale(type, p));
    if (sum_kind_of(type) == SUM_MIN)
        vf_store(a->m, atom_min(type, p));
    if (sum_kind_of(type) == SUM_SPLIT)
        memcpy(a->factor, atom_factors(type, p), sizeof a->factor);
}

/* Open n atoms that follow each other. */
static void open_atoms(uint32_t type, const uint8_t *p, uint32_t n, struct atom *a) {
#define OPEN(t)                                                                                    \
    case t:                                                                                        \
        for (uint32_t k = 0; k < n; k++)                                                           \
            open_one(t, p + (uint64_t)k * pack_atom_bytes(t), &a[k]);                              \
        break
    switch (type) {
        OPEN(TENSOR_Q4_0);
        OPEN(TENSOR_Q4_1);
        OPEN(TENSOR_Q5_0);
        OPEN(TENSOR_Q5_1);
        OPEN(TENSOR_Q8_0);
        OPEN(TENSOR_Q2_K);
        OPEN(TENSOR_Q3_K);
        OPEN(TENSOR_Q4_K);
        OPEN(TENSOR_Q5_K);
        OPEN(TENSOR_Q6_K);
        OPEN(TENSOR_IQ4_NL);
        OPEN(TENSOR_IQ4_XS);
        OPEN(TENSOR_MXFP4);
    default:
        break;
    }
#undef OPEN
}

/* Columns of a float atom: c of the 16 rows. */
INLINE vf float_column(uint32_t type, const uint8_t *p, int c) {
    if (type == TENSOR_F32)
        return vf_load((const float *)(const void *)p + c * TILE);
    return type == TENSOR_F16 ? vf_halves(p + c * TILE * 2) : vf_brains(p + c * TILE * 2);
}

#endif
