/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the arithmetic of one instruction set.
 *
 * kernels.c is compiled once for each set; every build computes the same bits (docs/numerics.md).
 * A kernel works on plain pointers, knows no card and no thread. */
#ifndef OCTARC_DEVICE_CPU_ISA_KERNELS_H
#define OCTARC_DEVICE_CPU_ISA_KERNELS_H

#include "daemon/device/pack.h"
#include "daemon/device/program.h"

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
    const uint32_t *picked; /* the rows of act that are its input; NULL: all, in order */
    const uint8_t *end;     /* where its reader leaves the tiles … */
    const uint8_t *next;    /* … and what it reads then; NULL: straight on */
};

/* Rows of the input rearranged for the kernels of one type: groups of rows, atom by atom.  Memory
 * of a thread. */
struct panel {
    uint8_t *x;   /* panel_bytes() */
    void *opened; /* opened_bytes(): a tile's atoms, while many rows pass over it */
    uint32_t n;   /* rows */
};

#define PANEL_BYTES    (192u << 10) /* half of a small second-level cache */
#define PANEL_STEP     12           /* rows of a full group */
#define PANEL_ROWS_MAX 96
#define OPENED_BYTES   640  /* of an atom */
#define WIDE_BYTES     1088 /* of an atom whose values have eight bits, at most */

/* Bytes of an atom of one row: f32 values; or int8 values, a scale and two words. */
static inline uint32_t panel_atom_bytes(uint32_t type) {
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16 ? ATOM * 4 : ATOM + 12;
}

/* Rows of one panel of inputs of `cols` columns for a matrix of `type`. */
static inline uint32_t panel_rows(uint32_t type, uint32_t cols) {
    const uint32_t row_bytes = (cols + ATOM - 1) / ATOM * panel_atom_bytes(type);
    const uint32_t n = PANEL_BYTES / (row_bytes + 1) / PANEL_STEP * PANEL_STEP;
    return n < PANEL_STEP ? PANEL_STEP : n > PANEL_ROWS_MAX ? PANEL_ROWS_MAX : n;
}

static inline bool eight_bits(uint32_t type) {
    return type == TENSOR_Q8_0 || type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS;
}

/* What every panel of such inputs fits into: its values may be words where the weights have eight
 * bits. */
static inline uint64_t panel_bytes(uint32_t type, uint32_t cols) {
    return (uint64_t)panel_rows(type, cols) * ((cols + ATOM - 1) / ATOM) *
           (panel_atom_bytes(type) + (eight_bits(type) ? ATOM : 0));
}

/* What every opened tile of such a matrix fits into. */
static inline uint64_t opened_bytes(uint32_t type, uint32_t cols) {
    return (uint64_t)((cols + ATOM - 1) / ATOM) * (eight_bits(type) ? WIDE_BYTES : OPENED_BYTES);
}

#define ATTENTION_DIM_MAX 544 /* values of a head, and room for a last partial vector */

/* One KV head of one sequence, as the card holds it. */
struct attention_job {
    uint32_t head_dim;
    const uint32_t *pages;
    const char *kv;                  /* base of page 0's K of the layer and slot */
    uint64_t page_bytes, half_bytes; /* from page to page; from K to V */
    enum kv_type type;
    float scale;
    float soft_cap; /* of a scaled score; 0: none */
};

/* A query head of a row that reads it. */
struct attention_query {
    const float *q; /* [head_dim], rotated */
    uint32_t n_positions;
    float *out;        /* [head_dim] */
    uint32_t first;    /* position that it sees; what is before lies outside of its window */
    const float *sink; /* a score that brings no value, as it is; NULL: none */
};

struct kernels {
    const char *name;
    /* Rows [row, row + n) of m's input into a panel for m's type; n <= panel_rows(m->type,
     * m->cols).  Two matrices with the same input share a panel when `same_panel` says so of their
     * types. */
    void (*gather)(const struct matmul *m, uint32_t row, uint32_t n, struct panel *panel);
    bool (*same_panel)(uint32_t type_a, uint32_t type_b);
    /* The panel's rows times tile `tile`: out[i][t], i < panel->n, t < TILE, out_stride apart.
     * Rows of the tile beyond the matrix are not written. */
    void (*tile)(const struct matmul *m, uint32_t tile, const struct panel *panel, float *out,
                 uint32_t out_stride);
    /* The same for lanes, of n_tiles tiles: planes as in struct op.lanes, plane_stride values
     * apart; `planes` is the panel's first row of the first tile in plane 0, and the next row
     * follows TILE values later, all of which are written, the next tile tile_stride values later.
     * No node with a slot stands above another. */
    void (*lanes)(const struct matmul *m, uint32_t tile, uint32_t n_tiles,
                  const struct panel *panel, const uint32_t col[LANES + 1],
                  const int8_t slot[TREE_NODES], float *planes, uint64_t plane_stride,
                  uint64_t tile_stride);
    /* The forms of n values of one row, from column `col` on (a multiple of ATOM); the last atom is
     * padded with zeros. */
    void (*store)(const struct act_view *act, uint32_t row, uint32_t col, const float *x,
                  uint32_t n);
    /* 1 / rms(x), and y = x * inverse * weight. */
    float (*rms_inverse)(const float *x, uint32_t n, float eps);
    void (*scale)(const float *x, const float *weight, float inverse, uint32_t n, float *y);
    /* hidden += tree over planes, for n_rows rows of n values: hidden's are row_stride apart, and
     * tile t of a plane's begins at node[i] + t * tile_stride. */
    void (*combine)(float *hidden, uint32_t row_stride, uint32_t n_rows,
                    const float *const node[TREE_NODES], uint64_t tile_stride, uint32_t n);
    /* gate = silu(gate) * up, or gelu(gate) * up with tanh in it, or as GATE_LIMITED says: rows of
     * n values, n <= TILE; gate's are `stride` values apart, up's TILE. */
    void (*silu_mul)(float *gate, uint32_t stride, const float *up, uint32_t rows, uint32_t n);
    void (*gelu_mul)(float *gate, uint32_t stride, const float *up, uint32_t rows, uint32_t n);
    void (*limited_mul)(float *gate, uint32_t stride, const float *up, uint32_t rows, uint32_t n);
    /* x = cap * tanh(x / cap) */
    void (*soft_cap)(float *x, float cap, uint32_t n);
    /* x = e^(x - the largest); returns their sum. */
    float (*soften)(float *x, uint32_t n);
    /* The sigmoid of the sum of x * weight. */
    float (*sigmoid)(const float *x, const float *weight, uint32_t n);
    /* sums[rows[i]] += weights[i] * from[i], all of TILE values. */
    void (*add_weighted)(float *sums, const uint32_t *rows, const float *weights, const float *from,
                         uint32_t n);
    void (*rotate)(float *x, const float *cos_sin, uint32_t dims, bool neox);
    /* Store one position's K or V of one head. */
    void (*store_k)(char *page, enum kv_type type, uint32_t head_dim, uint32_t at, const float *x);
    void (*store_v)(char *page, enum kv_type type, uint32_t head_dim, uint32_t at, const float *x);
    /* n queries of one KV head; they may be of any rows. */
    void (*attention)(const struct attention_job *job, const struct attention_query *queries,
                      uint32_t n);
    /* One row of a packed matrix as f32. */
    void (*unpack_row)(const struct matmul *m, uint32_t row, float *out);
    /* Yardsticks of measure (limits.h): read n bytes at an address that is a multiple of 64; run
     * `loops` loops of multiply_ops operations on bytes.  What comes out is of no use. */
    uint64_t (*sweep)(const void *bytes, uint64_t n);
    uint64_t (*multiply)(uint32_t loops);
    uint32_t multiply_ops;
};

extern const struct kernels kernels_portable, kernels_avx2, kernels_avx512;

#endif
