/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h - a tensor's rows as the file holds them -> tiles as the kernels read them.
 *
 * A tile is 16 rows; its atoms of 32 columns follow each other, tile after tile, so that a thread
 * reads one linear stream.  Inside an atom, for a quantised type:
 *   low bits     [4][16 rows][4 columns] bytes: low nibble columns 8j .. 8j+3, high 8j+4 .. 8j+7
 *                (Q8_0: [8][16 rows][4 columns], value + 128)
 *   high bits    Q5: one [16 rows][4 columns], bit g for columns 4g ..; Q6_K: two of them, two bits
 *                a column, the first for columns 0 .. 15
 *   scales       f16 d[16]; with a minimum f16 m[16]; Q4_K, Q5_K: i8 scale[16], i8 -minimum[16],
 *                which multiply d and m; Q6_K: i8 factor[2][16], of each half of the atom
 * F32, F16 and BF16 are [32 columns][16 rows], as in the file.
 * A vector (a norm) is plain f32. */
#ifndef OCTARC_DEVICE_CPU_PACK_H
#define OCTARC_DEVICE_CPU_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "octarc/model.h"

#define TILE 16 /* rows of a packed tile */

/* Where the parts of an atom begin, and its bytes; inline, because the kernels want constants. */
#define PACK_HIGH_AT 256

static inline uint32_t pack_scale_at(uint32_t type) {
    switch (type) {
    case TENSOR_Q8_0:
        return 512;
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
        return PACK_HIGH_AT + 64;
    case TENSOR_Q6_K:
        return PACK_HIGH_AT + 128;
    default:
        return PACK_HIGH_AT;
    }
}

/* Bytes of a tile-atom; 0: the type has no kernels. */
static inline uint32_t pack_atom_bytes(uint32_t type) {
    switch (type) {
    case TENSOR_F32:
        return ATOM * TILE * 4;
    case TENSOR_F16:
    case TENSOR_BF16:
        return ATOM * TILE * 2;
    case TENSOR_Q4_0:
    case TENSOR_Q5_0:
    case TENSOR_Q8_0:
        return pack_scale_at(type) + 32;
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q6_K:
        return pack_scale_at(type) + 64;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        return pack_scale_at(type) + 96;
    default:
        return 0;
    }
}

uint64_t pack_bytes(uint32_t type, bool vector, uint64_t rows, uint64_t cols);

/* As device_ops.pack, into `to`, the first byte of the range.  -ENOTSUP: not a type of pack_bytes.
 */
int pack_rows(uint8_t *to, uint32_t type, bool vector, uint64_t row_begin, uint64_t rows,
              uint64_t cols, uint32_t col_skip, const void *blocks, uint64_t row_bytes);

#endif
