/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h - a tensor's rows as the file holds them -> tiles as the kernels read them.
 *
 * A tile is 16 rows; its atoms of 32 columns follow each other, tile after tile, so that a thread
 * reads one linear stream.  Inside an atom, for a quantised type:
 *   low bits     [4][16 rows][4 columns] bytes: low nibble columns 8j .. 8j+3, high 8j+4 .. 8j+7
 *                (Q8_0: [8][16 rows][4 columns], value + 128)
 *                Q2_K, Q3_K: two [16 rows][4 columns], two bits a column, the first for columns
 *                0 .. 15
 *   high bits    Q3_K, Q5: one [16 rows][4 columns], bit g for columns 4g ..; Q6_K: two of them, as
 *                the low ones of Q2_K
 *   scales       f16 d[16] (MXFP4: bf16); with a minimum f16 m[16]; Q4_K, Q5_K: i8 scale[16],
 *                i8 -minimum[16], which multiply d and m; IQ4_XS: i8 scale[16]; Q2_K, Q3_K, Q6_K:
 *                i8 factor[2][16], of each half of the atom; Q2_K: i8 minimum[2][16], which
 *                multiply m
 * F32, F16 and BF16 are [32 columns][16 rows], as in the file.
 * A vector (a norm) is plain f32; those of several experts follow each other.
 *
 * Packed weights may outlive the program that packed them: a change of any of this is a new
 * LAYOUT_VERSION (device.h). */
#ifndef OCTARC_DEVICE_PACK_H
#define OCTARC_DEVICE_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "octarc/model.h"

#define TILE 16 /* rows of a packed tile */

static inline uint32_t tiles_of(uint32_t rows) {
    return (rows + TILE - 1) / TILE;
}

/* Where the parts of an atom begin, and its bytes; inline, because the kernels want constants. */
static inline uint32_t pack_high_at(uint32_t type) {
    return type == TENSOR_Q3_K ? 128 : 256;
}

static inline uint32_t pack_scale_at(uint32_t type) {
    switch (type) {
    case TENSOR_Q2_K:
        return 128;
    case TENSOR_Q8_0:
        return 512;
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
        return 256 + 64;
    case TENSOR_Q3_K:
        return 128 + 64;
    case TENSOR_Q6_K:
        return 256 + 128;
    default:
        return 256;
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
    case TENSOR_IQ4_NL:
    case TENSOR_MXFP4:
        return pack_scale_at(type) + 32;
    case TENSOR_IQ4_XS:
        return pack_scale_at(type) + 48;
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q3_K:
    case TENSOR_Q6_K:
        return pack_scale_at(type) + 64;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        return pack_scale_at(type) + 96;
    case TENSOR_Q2_K:
        return pack_scale_at(type) + 128;
    default:
        return 0;
    }
}

/* Bytes of a tile. */
static inline uint64_t packed_tile_bytes(uint32_t type, uint32_t cols) {
    return (cols + ATOM - 1) / ATOM * (uint64_t)pack_atom_bytes(type);
}

uint64_t pack_bytes(uint32_t type, bool vector, uint64_t rows, uint64_t cols);

/* As device_ops.pack, into `to`, the first byte of the range.  -ENOTSUP: not a type of pack_bytes.
 */
int pack_rows(uint8_t *to, uint32_t type, bool vector, uint64_t row_begin, uint64_t rows,
              uint64_t cols, uint32_t col_skip, const void *blocks, uint64_t row_bytes);

#endif
