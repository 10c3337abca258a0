/* SPDX-License-Identifier: Apache-2.0 */
/* wide.h - weights of eight bits for many rows, on a set without an instruction for four products
 * of bytes.
 *
 * Two such products fill 16 bits, so every pair of them would have to be widened, and their signs
 * moved from the weight to the input.  A tile that many rows pass over holds words instead: one
 * instruction makes two products and adds them in 32 bits. */
#ifndef OCTARC_DEVICE_CPU_ISA_WIDE_H
#define OCTARC_DEVICE_CPU_ISA_WIDE_H

#include "daemon/device/cpu/isa/atoms.h"

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#define WIDE_WORDS 1

/* As struct atom, d first.  Of the columns [4g, 4g + 4) the first and the third, then the second
 * and the fourth: so words are made of bytes without moving any. */
struct wide_atom {
    float d[TILE];
    int16_t w[ATOM / 4][2][TILE][2];
};
_Static_assert(sizeof(struct wide_atom) == WIDE_BYTES, "a thread's memory for an opened tile");

INLINE __m256i even_bytes(__m256i x) {
    return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
}
INLINE __m256i odd_bytes(__m256i x) {
    return _mm256_srai_epi16(x, 8);
}
INLINE vi vi_dot_words(vi w, const uint8_t *x) {
    int32_t two;
    memcpy(&two, x, sizeof two);
    const __m256i v = _mm256_set1_epi32(two);
    return (vi){_mm256_madd_epi16(w.a, v), _mm256_madd_epi16(w.b, v)};
}

INLINE void open_wide_atoms(uint32_t type, const uint8_t *p, uint32_t n, struct wide_atom *a) {
    const __m256i offset = _mm256_set1_epi8(-128);
    for (uint32_t k = 0; k < n; k++, p += pack_atom_bytes(type), a++) {
        UNROLL for (int g = 0; g < ATOM / 4; g++) {
            const vb w = atom_group(type, p, g);
            const vi value = {_mm256_xor_si256(w.a, offset), _mm256_xor_si256(w.b, offset)};
            vb_store(a->w[g][0], (vi){even_bytes(value.a), even_bytes(value.b)});
            vb_store(a->w[g][1], (vi){odd_bytes(value.a), odd_bytes(value.b)});
        }
        vf_store(a->d, atom_scale(type, p));
    }
}

/* Open n atoms that follow each other. */
static void open_wide(uint32_t type, const uint8_t *p, uint32_t n, struct wide_atom *a) {
    if (type == TENSOR_Q8_0)
        open_wide_atoms(TENSOR_Q8_0, p, n, a);
    else if (type == TENSOR_IQ4_NL)
        open_wide_atoms(TENSOR_IQ4_NL, p, n, a);
    else
        open_wide_atoms(TENSOR_IQ4_XS, p, n, a);
}

/* An atom of one row of a panel. */
INLINE void put_words(uint8_t *to, const int8_t *q) {
    const __m256i row = _mm256_loadu_si256((const __m256i *)(const void *)q);
    _mm256_storeu_si256((__m256i *)(void *)to, even_bytes(row));
    _mm256_storeu_si256((__m256i *)(void *)to + 1, odd_bytes(row));
}

/* The exact sums of an atom, of the `width` rows of a group at x. */
INLINE void sum_wide(const struct wide_atom *a, const uint8_t *x, uint32_t width, vi *s) {
    UNROLL for (int g = 0; g < ATOM / 4; g++) UNROLL for (int odd = 0; odd < 2; odd++) {
        const vi w = vb_load(a->w[g][odd]);
        UNROLL for (uint32_t r = 0; r < width; r++) {
            const vi two = vi_dot_words(w, x + (2 * r + (uint32_t)odd) * ATOM + 4 * g);
            s[r] = g || odd ? vi_add(s[r], two) : two;
        }
    }
}
#else
#define WIDE_WORDS 0
INLINE void put_words(uint8_t *to, const int8_t *q) {
    (void)to, (void)q; /* no panel is of words */
}
#endif
#endif
