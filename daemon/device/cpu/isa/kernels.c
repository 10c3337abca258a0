/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c - compiled once per instruction set with -DKERNELS=kernels_<set>.
 *
 * The order of every float operation is written out, and only vec.h knows the registers, so the
 * sets give equal bits.  Loops over sixteen values carry no dependency between them: the compiler
 * may use any width.  Integer sums are exact and may be taken in any order. */
#include "daemon/device/cpu/isa/kernels.h"

#include <math.h>
#include <string.h>

#include "daemon/device/cpu/isa/atoms.h"
#include "daemon/device/cpu/isa/attention.h"
#include "daemon/device/cpu/isa/experts.h"
#include "daemon/device/cpu/isa/lanes.h"
#include "daemon/device/cpu/isa/limits.h"
#include "daemon/device/cpu/isa/matmul.h"
#include "daemon/device/cpu/isa/scalar.h"

/* ---- rows ----------------------------------------------------------------------------------- */

/* An atom whose largest magnitude is below this is zero: the inverse of its scale would be
 * infinite. */
#define SMALLEST 0x1p-120f

/* A whole atom, from x: of a fixed length, so that the loops become vectors. */
INLINE void store_whole(const struct act_view *act, uint64_t at, const float *x) {
    if (act->forms & FORM_F32)
        memcpy(act->f32 + at * ATOM, x, ATOM * sizeof *x);
    if (!(act->forms & FORM_Q8))
        return;
    const vf a = vf_load(x), b = vf_load(x + TILE);
    const float most = vf_magnitude(a, b); /* a NaN ends in the scale */
    const float largest = most < SMALLEST ? 0.0f : most;
    const vf inverse = vf_set(largest > 0 ? 127.0f / largest : 0.0f), rounding = vf_set(ROUNDING);
    act->scale[at] = largest / 127.0f;
    act->sum[at] =
        vf_put_low(act->q8 + at * ATOM, vf_fma(a, inverse, rounding), vf_fma(b, inverse, rounding));
}

static void store_kernel(const struct act_view *act, uint32_t row, uint32_t col, const float *x,
                         uint32_t n) {
    uint64_t at = (uint64_t)row * (act->cols / ATOM) + col / ATOM;
    uint32_t i = 0;
    for (; i + ATOM <= n; i += ATOM)
        store_whole(act, at++, x + i);
    if (i < n) {
        float atom[ATOM] = {0};
        memcpy(atom, x + i, (n - i) * sizeof *x);
        store_whole(act, at, atom);
    }
}

static float rms_inverse_kernel(const float *x, uint32_t n, float eps) {
    vf sum = vf_set(0.0f);
    uint32_t i = 0;
    for (; i + TILE <= n; i += TILE)
        sum = vf_fma(vf_load(x + i), vf_load(x + i), sum);
    if (i < n) {
        float last[TILE] = {0};
        memcpy(last, x + i, (n - i) * sizeof *x);
        sum = vf_fma(vf_load(last), vf_load(last), sum);
    }
    return 1.0f / sqrtf(vf_fold(sum) / (float)n + eps);
}

static void scale_kernel(const float *x, const float *weight, float inverse, uint32_t n, float *y) {
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * weight[i];
}

/* The tree over present slots as a list: a slot to push, or (NULL) the two latest to add. */
struct tree_list {
    const float *step[TREE_NODES];
    uint32_t n;
};

/* False: the node is absent. */
static bool list_node(const float *const node[TREE_NODES], uint32_t i, struct tree_list *list) {
    if (node[i]) {
        list->step[list->n++] = node[i];
        return true;
    }
    if (i >= LANES)
        return false;
    const bool left = list_node(node, 2 * i, list), right = list_node(node, 2 * i + 1, list);
    if (left && right)
        list->step[list->n++] = NULL;
    return left || right;
}

/* hidden += the root, for the 16 values of a row that begin `at` values into each plane. */
INLINE void add_tree(float *hidden, const struct tree_list *list, uint64_t at) {
    vf stack[4]; /* a tree of eight lanes is no deeper */
    uint32_t top = 0;
    stack[0] = vf_load(list->step[0] + at);
    for (uint32_t i = 1; i < list->n; i++)
        if (list->step[i]) {
            stack[++top] = vf_load(list->step[i] + at);
        } else {
            stack[top - 1] = vf_add(stack[top - 1], stack[top]);
            top--;
        }
    vf_store(hidden, vf_add(vf_load(hidden), stack[0]));
}

/* The same where the nodes are `n` neighbours of one height, at node[0 .. n). */
INLINE void add_level(float *hidden, const float *const *node, uint32_t n, uint64_t at) {
    vf sum[LANES];
    UNROLL for (uint32_t i = 0; i < n; i++) sum[i] = vf_load(node[i] + at);
    UNROLL for (uint32_t k = n / 2; k; k /= 2) UNROLL for (uint32_t i = 0; i < k; i++) sum[i] =
        vf_add(sum[2 * i], sum[2 * i + 1]);
    vf_store(hidden, vf_add(vf_load(hidden), sum[0]));
}

/* How many nodes there are if they are all of one height, else 0. */
static uint32_t level_width(const float *const node[TREE_NODES]) {
    for (uint32_t width = 1; width <= LANES; width *= 2) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < width; i++)
            n += node[width + i] != NULL;
        if (n)
            return n == width ? width : 0;
    }
    return 0;
}

struct combine {
    const float *const *node;
    struct tree_list list;
    uint32_t width; /* of the only level, or 0 */
};

INLINE void add_sums(float *hidden, const struct combine *c, uint64_t at) {
    if (c->width == 1)
        add_level(hidden, c->node + 1, 1, at);
    else if (c->width == 2)
        add_level(hidden, c->node + 2, 2, at);
    else if (c->width == 4)
        add_level(hidden, c->node + 4, 4, at);
    else if (c->width == 8)
        add_level(hidden, c->node + 8, 8, at);
    else
        add_tree(hidden, &c->list, at);
}

static void combine_kernel(float *hidden, uint32_t row_stride, uint32_t n_rows,
                           const float *const node[TREE_NODES], uint64_t tile_stride, uint32_t n) {
    struct combine c = {.node = node, .width = level_width(node)};
    if (!list_node(node, 1, &c.list))
        return;
    for (uint32_t col = 0; col < n; col += TILE)
        for (uint32_t r = 0; r < n_rows; r++) {
            float *to = hidden + (uint64_t)r * row_stride + col, last[TILE] = {0};
            const uint64_t at = col / TILE * tile_stride + (uint64_t)r * TILE;
            const uint32_t left = n - col;
            if (left >= TILE) {
                add_sums(to, &c, at);
                continue;
            }
            memcpy(last, to, left * sizeof *last);
            add_sums(last, &c, at);
            memcpy(to, last, left * sizeof *last);
        }
}

/* gate / (1 + e^-gate) * up */
static inline vf silu_mul(vf gate, vf up) {
    const vf e = vf_exp(vf_sub(vf_set(0.0f), gate));
    return vf_mul(vf_div(gate, vf_add(vf_set(1.0f), e)), up);
}

/* gate * (1 + tanh(u)) / 2 * up, u = sqrt(2/pi) * (gate + 0.044715 gate^3).  Half of 1 + tanh(u) is
 * 1 / (1 + e^-2u), which is near for large negative gates too. */
static inline vf gelu_mul(vf gate, vf up) {
    const vf square = vf_mul(gate, gate);
    const vf u = vf_mul(gate, vf_fma(square, vf_set(-0.0713548162726f), vf_set(-1.59576912161f)));
    return vf_mul(vf_div(gate, vf_add(vf_set(1.0f), vf_exp(u))), up);
}

#define GATE_LIMIT 7.0f
#define GATE_STEEP 1.702f

/* g / (1 + e^(-1.702 g)) * (up + 1), both within their limits; a NaN stays one. */
static inline vf limited_mul(vf gate, vf up) {
    const vf g = vf_min(vf_set(GATE_LIMIT), gate);
    const vf u = vf_min(vf_set(GATE_LIMIT), vf_max(vf_set(-GATE_LIMIT), up));
    const vf e = vf_exp(vf_mul(g, vf_set(-GATE_STEEP)));
    return vf_mul(vf_div(g, vf_add(vf_set(1.0f), e)), vf_add(u, vf_set(1.0f)));
}

/* A row of a tile; one that is narrower is padded with zeros. */
#define GATE_KERNEL(name)                                                                          \
    static void name##_kernel(float *gate, uint32_t stride, const float *up, uint32_t rows,        \
                              uint32_t n) {                                                        \
        for (uint32_t i = 0; i < rows; i++, gate += stride, up += TILE) {                          \
            if (n == TILE) {                                                                       \
                vf_store(gate, name(vf_load(gate), vf_load(up)));                                  \
                continue;                                                                          \
            }                                                                                      \
            float g[TILE] = {0}, u[TILE] = {0};                                                    \
            memcpy(g, gate, n * sizeof *g);                                                        \
            memcpy(u, up, n * sizeof *u);                                                          \
            vf_store(g, name(vf_load(g), vf_load(u)));                                             \
            memcpy(gate, g, n * sizeof *g);                                                        \
        }                                                                                          \
    }
GATE_KERNEL(silu_mul)
GATE_KERNEL(gelu_mul)
GATE_KERNEL(limited_mul)

static void soft_cap_kernel(float *x, float cap, uint32_t n) {
    uint32_t at = 0;
    for (; at + TILE <= n; at += TILE)
        vf_store(x + at, vf_soft_cap(vf_load(x + at), cap));
    if (at < n) {
        float last[TILE] = {0};
        memcpy(last, x + at, (n - at) * sizeof *last);
        vf_store(last, vf_soft_cap(vf_load(last), cap));
        memcpy(x + at, last, (n - at) * sizeof *last);
    }
}

static void rotate_kernel(float *x, const float *cos_sin, uint32_t dims, bool neox) {
    const uint32_t half = dims / 2;
    for (uint32_t i = 0; i < half; i++) {
        float *a = neox ? &x[i] : &x[2 * i], *b = neox ? &x[i + half] : &x[2 * i + 1];
        const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], u = *a, v = *b;
        *a = fma1(u, c, -(v * s));
        *b = fma1(u, s, v * c);
    }
}

/* ---- embedding ------------------------------------------------------------------------------ */

static void unpack_row_kernel(const struct matmul *m, uint32_t row, float *out) {
    const uint32_t bytes = pack_atom_bytes(m->type), t = row % TILE;
    const uint8_t *p = m->tiles + (uint64_t)(row / TILE) * atoms_of(m->cols) * bytes;
    const enum sum_kind kind = sum_kind_of(m->type);
    for (uint32_t k = 0; k < atoms_of(m->cols); k++, p += bytes) {
        const uint32_t left = m->cols - k * ATOM, width = left < ATOM ? left : ATOM;
        float column[TILE];
        struct atom a = {.d = {0}};
        const int8_t *factors = (const int8_t *)atom_factors(m->type, p);
        float least[TILE] = {0};
        if (kind != SUM_FLOAT)
            open_atoms(m->type, p, 1, &a);
        if (kind == SUM_LEAST)
            vf_store(least, atom_min(m->type, p));
        for (uint32_t c = 0; c < width; c++) {
            float *to = &out[k * ATOM + c];
            if (kind == SUM_FLOAT) {
                vf_store(column, float_column(m->type, p, (int)c));
                *to = column[t];
                continue;
            }
            const float q = (float)(a.w[c / 4][t][c % 4] - offset_of(m->type));
            const int half = (int)c / 16 * TILE + (int)t;
            const float factor = in_halves(kind) ? (float)factors[half] : 1.0f;
            if (kind == SUM_MIN)
                *to = fma1(q, a.d[t], a.m[t]);
            else if (kind == SUM_LEAST)
                *to = fma1(q, a.d[t] * factor, least[t] * (float)factors[2 * TILE + half]);
            else
                *to = a.d[t] * factor * q;
        }
    }
}

/* ---- yardsticks ----------------------------------------------------------------------------- */

static uint64_t sweep_kernel(const void *bytes, uint64_t n) {
    return sweep_bytes(bytes, n);
}

static uint64_t multiply_kernel(uint32_t loops) {
    return int8_loops(loops);
}

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .gather = gather_kernel,
    .same_panel = same_panel_kernel,
    .tile = tile_kernel,
    .lanes = lanes_kernel,
    .store = store_kernel,
    .rms_inverse = rms_inverse_kernel,
    .scale = scale_kernel,
    .combine = combine_kernel,
    .silu_mul = silu_mul_kernel,
    .gelu_mul = gelu_mul_kernel,
    .limited_mul = limited_mul_kernel,
    .soft_cap = soft_cap_kernel,
    .soften = soften_kernel,
    .sigmoid = sigmoid_kernel,
    .add_weighted = add_weighted_kernel,
    .rotate = rotate_kernel,
    .store_k = store_k_kernel,
    .store_v = store_v_kernel,
    .attention = attention_kernel,
    .unpack_row = unpack_row_kernel,
    .sweep = sweep_kernel,
    .multiply = multiply_kernel,
    .multiply_ops = INT8_OPS,
};
