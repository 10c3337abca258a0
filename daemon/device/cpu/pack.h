/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h - a tensor's rows as the file holds them -> tiles as the kernels read them.
 *
 * A tile is 16 rows; its atoms of 32 columns follow each other, tile after tile, so that a thread
 * reads one linear stream.  Inside an atom:
 *   F32, F16, BF16  [32 columns][16 rows], as in the file
 *   Q8_0            [8][16 rows][4 columns] u8 = value + 128; f16 scale[16]
 *   Q4_0, Q4_1      [4][16 rows][4 columns], low nibble: columns 8j .. 8j+3, high: 8j+4 .. 8j+7;
 *                   f16 scale[16]; Q4_1: f16 minimum[16]
 *   Q6_K            [8][16 rows][4 columns] u8 = value + 32; f16 scale[16]; i8 factor[2][16]
 * A range of one row (a norm) is a plain f32 vector. */
#ifndef OCTARC_DEVICE_CPU_PACK_H
#define OCTARC_DEVICE_CPU_PACK_H

#include <stdint.h>

/* Bytes of a tile-atom; 0: the type has no kernels. */
uint32_t pack_atom_bytes(uint32_t type);
uint64_t pack_bytes(uint32_t type, uint64_t rows, uint64_t cols);

/* As device_ops.pack, into `to`, the first byte of the range. */
void pack_rows(uint8_t *to, uint32_t type, uint64_t range_rows, uint64_t row_begin, uint64_t rows,
               uint64_t cols, uint32_t col_skip, const void *blocks, uint64_t row_bytes);

#endif
