/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the arithmetic of one instruction set.
 *
 * kernels.c is compiled once for each set; every build computes the same bits (docs/numerics.md).
 * A kernel works on plain pointers, knows no card and no thread. */
#ifndef OCTARC_DEVICE_CPU_ISA_KERNELS_H
#define OCTARC_DEVICE_CPU_ISA_KERNELS_H

#include "daemon/device/program.h"

#define TILE 16 /* rows of a packed tile */

/* Activations resolved to pointers; row r begins r strides further. */
struct act_view {
    int8_t *q8;
    float *scale;
    int32_t *sum;
    float *f32;
    uint32_t cols, forms;
};

/* One packed matrix and its input. */
struct matmul {
    const uint8_t *tiles; /* of the whole matrix */
    uint32_t type, rows, cols;
    struct act_view act;
};

struct attention_job {
    const float *q; /* [head_dim] of one head and row, rotated */
    uint32_t head_dim, n_positions;
    const uint32_t *pages;
    const char *kv;                  /* base of page 0's K of the layer and slot */
    uint64_t page_bytes, half_bytes; /* from page to page; from K to V */
    enum kv_type type;
    float scale;
    float *out; /* [head_dim] */
};

struct kernels {
    const char *name;
    /* Rows [row, row + n) of the input times tile `tile`: out[i][t], i < n, t < TILE, out_stride
     * apart; n is any number.  Rows of the tile beyond the matrix are not written. */
    void (*tile)(const struct matmul *m, uint32_t tile, uint32_t row, uint32_t n, float *out,
                 uint32_t out_stride);
    /* The same for lanes: slot planes as in struct op.lanes; `planes` is row 0 of slot 0. */
    void (*lanes)(const struct matmul *m, uint32_t tile, uint32_t row, uint32_t n,
                  const uint32_t col[LANES + 1], const int8_t slot[TREE_NODES], float *planes,
                  uint64_t plane_stride, uint32_t row_stride);
    /* The forms of n values of one row, from column `col` on (a multiple of ATOM); the last atom is
     * padded with zeros. */
    void (*store)(const struct act_view *act, uint32_t row, uint32_t col, const float *x,
                  uint32_t n);
    /* 1 / rms(x), and y = x * inverse * weight. */
    float (*rms_inverse)(const float *x, uint32_t n, float eps);
    void (*scale)(const float *x, const float *weight, float inverse, uint32_t n, float *y);
    /* hidden += tree over slots. */
    void (*combine)(float *hidden, const float *const node[TREE_NODES], uint32_t n);
    /* gate = silu(gate) * up */
    void (*silu_mul)(float *gate, const float *up, uint32_t n);
    void (*rotate)(float *x, const float *cos_sin, uint32_t dims, bool neox);
    /* Store one position's K or V of one head. */
    void (*store_k)(char *page, enum kv_type type, uint32_t head_dim, uint32_t at, const float *x);
    void (*store_v)(char *page, enum kv_type type, uint32_t head_dim, uint32_t at, const float *x);
    void (*attention)(const struct attention_job *job);
    /* One row of a packed matrix as f32. */
    void (*unpack_row)(const struct matmul *m, uint32_t row, float *out);
};

extern const struct kernels kernels_portable, kernels_avx2, kernels_avx512;

#endif
