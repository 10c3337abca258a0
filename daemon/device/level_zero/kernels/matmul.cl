/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.cl - rows of input times a tile of sixteen weight rows, one sub-group a tile, one weight
 * row a lane; compiled once for each tensor type (-DTYPE=, as the file numbers them).
 *
 * The sum of one output is the same chain for any number of rows: atom after atom, each an exact
 * integer sum and one or two fused multiply-adds; of float weights column after column. */
#include "daemon/device/level_zero/kernels/numbers.clh"

enum {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    IQ4_XS = 23,
    BF16 = 30,
    MXFP4 = 39
};

#pragma clang diagnostic ignored "-Wconstant-logical-operand"
#define IS_FLOAT  (TYPE == F32 || TYPE == F16 || TYPE == BF16)
#define HAS_MIN   (TYPE == Q4_1 || TYPE == Q5_1 || TYPE == Q4_K || TYPE == Q5_K)
#define HAS_LEAST (TYPE == Q2_K)
#define IN_HALVES (TYPE == Q2_K || TYPE == Q3_K || TYPE == Q6_K)
#define ROWS      8 /* of input that pass over a tile at once */

/* Where the parts of an atom lie, and its bytes: daemon/device/pack.h. */
#define HIGH_AT (TYPE == Q3_K ? 128 : 256)
#define SCALE_AT                                                                                   \
    (TYPE == Q2_K                                   ? 128                                          \
     : TYPE == Q8_0                                 ? 512                                          \
     : TYPE == Q5_0 || TYPE == Q5_1 || TYPE == Q5_K ? 320                                          \
     : TYPE == Q3_K                                 ? 192                                          \
     : TYPE == Q6_K                                 ? 384                                          \
                                                    : 256)
#define ATOM_BYTES                                                                                 \
    (TYPE == F32                                                    ? 2048                         \
     : TYPE == F16 || TYPE == BF16                                  ? 1024                         \
     : TYPE == IQ4_XS                                               ? SCALE_AT + 48                \
     : TYPE == Q4_1 || TYPE == Q5_1 || TYPE == Q3_K || TYPE == Q6_K ? SCALE_AT + 64                \
     : TYPE == Q4_K || TYPE == Q5_K                                 ? SCALE_AT + 96                \
     : TYPE == Q2_K                                                 ? SCALE_AT + 128               \
                                                                    : SCALE_AT + 32)

constant char iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};
constant char mxfp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static inline uint word_at(global const uchar *p, uint i) {
    return ((global const uint *)p)[i * SUB_GROUP + get_sub_group_local_id()];
}

static inline uint shifted(uint w, int by, uint mask) {
    return (by < 0 ? w >> -by : w << by) & mask * 0x01010101u;
}

static inline uint looked_up(constant const char *levels, uint codes) {
    const uchar4 c = as_uchar4(codes);
    return as_uint((char4)(levels[c.x], levels[c.y], levels[c.z], levels[c.w]));
}

/* Columns [4g, 4g + 4) of the lane's row, their offset taken away. */
static inline char4 codes_at(global const uchar *p, uint g) {
    if (TYPE == Q8_0)
        return as_char4(word_at(p, g) ^ 0x80808080u);
    if (TYPE == Q2_K || TYPE == Q3_K) {
        uint w = shifted(word_at(p, g / 4), -2 * (int)(g % 4), 3);
        if (TYPE == Q2_K)
            return as_char4(w);
        w |= shifted(word_at(p + HIGH_AT, 0), 2 - (int)g, 4);
        return as_char4(w) - (char4)4;
    }
    const uint pair = word_at(p, g / 2);
    uint w = (g & 1 ? pair >> 4 : pair) & 0x0f0f0f0fu;
    if (TYPE == Q5_0 || TYPE == Q5_1 || TYPE == Q5_K)
        w |= shifted(word_at(p + HIGH_AT, 0), 4 - (int)g, 0x10);
    if (TYPE == Q6_K)
        w |= shifted(word_at(p + HIGH_AT, g / 4), 4 - 2 * (int)(g % 4), 0x30);
    if (TYPE == IQ4_NL || TYPE == IQ4_XS)
        return as_char4(looked_up(iq4_levels, w));
    if (TYPE == MXFP4)
        return as_char4(looked_up(mxfp4_levels, w));
    return as_char4(w) - (char4)(TYPE == Q4_0 ? 8 : TYPE == Q5_0 ? 16 : TYPE == Q6_K ? 32 : 0);
}

static inline float scale_at(global const uchar *p) {
    const uint lane = get_sub_group_local_id();
    global const uchar *s = p + SCALE_AT;
    if (TYPE == MXFP4)
        return brain_at(s + 2 * lane);
    const float d = half_at(s + 2 * lane);
    if (TYPE == IQ4_XS)
        return d * (float)((global const char *)s)[32 + lane];
    return TYPE == Q4_K || TYPE == Q5_K ? d * (float)((global const char *)s)[64 + lane] : d;
}

static inline float min_at(global const uchar *p) {
    const uint lane = get_sub_group_local_id();
    global const uchar *s = p + SCALE_AT + 32;
    const float m = half_at(s + 2 * lane);
    return TYPE == Q4_K || TYPE == Q5_K ? m * (float)((global const char *)s)[48 + lane] : m;
}

/* Of half h (0, 1) of an atom; 2 and 3: the minimums of Q2_K's. */
static inline int factor_at(global const uchar *p, uint h) {
    global const char *f = (global const char *)p + SCALE_AT + (TYPE == Q2_K ? 64 : 32);
    return f[h * SUB_GROUP + get_sub_group_local_id()];
}

static inline int dot4(char4 a, char4 b) {
    const int4 x = convert_int4(a), y = convert_int4(b);
    return x.s0 * y.s0 + x.s1 * y.s1 + x.s2 * y.s2 + x.s3 * y.s3;
}

static inline float float_column(global const uchar *p, uint c) {
    const uint i = c * SUB_GROUP + get_sub_group_local_id();
    return TYPE == F32   ? ((global const float *)p)[i]
           : TYPE == F16 ? half_at(p + 2 * i)
                         : brain_at(p + 2 * i);
}

/* acc[r] += one atom of `n` rows of the input from `row` on. */
static inline void add_float_atom(global const uchar *p, global const struct ze_act *act, uint row,
                                  uint n, uint atom, float *acc) {
    for (uint c = 0; c < ATOM; c++) {
        const float w = float_column(p, c);
        for (uint r = 0; r < n; r++)
            acc[r] = fma(
                w, ((global const float *)act->f32)[(ulong)(row + r) * act->cols + atom * ATOM + c],
                acc[r]);
    }
}

static inline void add_atom(global const uchar *p, global const struct ze_act *act, uint row,
                            uint n, uint atom, float *acc) {
    char4 w[ATOM / 4];
    for (uint g = 0; g < ATOM / 4; g++)
        w[g] = codes_at(p, g);
    const float d = scale_at(p), m = HAS_MIN || HAS_LEAST ? min_at(p) : 0.0f;
    for (uint r = 0; r < n; r++) {
        const ulong at = (ulong)(row + r) * (act->cols / ATOM) + atom;
        global const char4 *q = (global const char4 *)(act->q8 + at * ATOM);
        const float dx = ((global const float *)act->scale)[at];
        const int sx = ((global const int *)act->sum)[at];
        int low = 0, high = 0, sum = 0;
        for (uint g = 0; g < ATOM / 8; g++) {
            low += dot4(w[g], q[g]);
            high += dot4(w[g + ATOM / 8], q[g + ATOM / 8]);
            sum += HAS_LEAST ? q[g].s0 + q[g].s1 + q[g].s2 + q[g].s3 : 0;
        }
        const int i = IN_HALVES ? factor_at(p, 0) * low + factor_at(p, 1) * high : low + high;
        acc[r] = fma((float)i * d, dx, acc[r]);
        if (HAS_MIN)
            acc[r] = fma(m, dx * (float)sx, acc[r]);
        if (HAS_LEAST)
            acc[r] =
                fma((float)(factor_at(p, 2) * sum + factor_at(p, 3) * (sx - sum)) * m, dx, acc[r]);
    }
}

/* Atoms [begin, end) of a tile: one chain, begun at zero. */
static inline void chain(global const struct ze_matrix *w, global const struct ze_act *act,
                         uint tile, uint row, uint n, uint begin, uint end, float *acc) {
    const uint atoms = (w->cols + ATOM - 1) / ATOM;
    global const uchar *p = (address)w->at + ((ulong)tile * atoms + begin) * ATOM_BYTES;
    for (uint r = 0; r < ROWS; r++)
        acc[r] = 0.0f;
    for (uint k = begin; k < end; k++, p += ATOM_BYTES)
        if (IS_FLOAT)
            add_float_atom(p, act, row, n, k, acc);
        else
            add_atom(p, act, row, n, k, acc);
}

static inline uint rows_left(uint row, uint n_rows) {
    return row >= n_rows ? 0 : n_rows - row < ROWS ? n_rows - row : ROWS;
}

static inline uint atoms_of(uint cols) {
    return (cols + ATOM - 1) / ATOM;
}

WHOLE_GROUPS kernel void matmul(global const struct ze_matmul *op,
                                global const struct ze_step *step) {
    const uint tile = get_group_id(0), row = get_group_id(1) * ROWS;
    const uint n = rows_left(row, op->outputs ? step->n_outputs : step->n_rows);
    const uint col = tile * SUB_GROUP + get_sub_group_local_id();
    float acc[ROWS];
    if (n == 0)
        return;
    chain(&op->w, &op->act, tile, row, n, 0, atoms_of(op->w.cols), acc);
    for (uint r = 0; r < n && col < op->w.rows; r++) {
        global float *out = (global float *)op->out.at + (row + r) * op->out.stride;
        out[col] = op->soft_cap > 0 ? soft_capped(acc[r], op->soft_cap) : acc[r];
    }
}

/* Where the sums of a tile and some rows go that have a slot. */
static inline void put_slot(global const struct ze_lanes *op, global const struct ze_step *step,
                            uint node, uint tile, uint row, uint n, const float *sum) {
    if (op->slot[node] == NO_SLOT)
        return;
    global float *plane = (global float *)(op->slots.at + op->slot[node] * op->slots.plane_bytes);
    for (uint k = 0; k < n; k++)
        plane[((ulong)tile * step->n_rows + row + k) * SUB_GROUP + get_sub_group_local_id()] =
            sum[k];
}

#define LEAF(lane, sum)                                                                            \
    (op->col[lane] < op->col[lane + 1] &&                                                          \
     (chain(&op->w, &op->act, tile, row, n, op->col[lane] / ATOM, atoms_of(op->col[lane + 1]),     \
            sum),                                                                                  \
      put_slot(op, step, LANES + lane, tile, row, n, sum), true))

/* left = the node over left and right; false: neither is present. */
#define JOIN(node, left, has_left, right, has_right)                                               \
    has_left = join(op, step, node, tile, row, n, left, has_left, right, has_right)
static inline bool join(global const struct ze_lanes *op, global const struct ze_step *step,
                        uint node, uint tile, uint row, uint n, float *left, bool has_left,
                        const float *right, bool has_right) {
    for (uint k = 0; has_right && k < n; k++)
        left[k] = has_left ? left[k] + right[k] : right[k];
    if (has_left || has_right)
        put_slot(op, step, node, tile, row, n, left);
    return has_left || has_right;
}

/* The sums of the card's lanes, then up the tree; what has a slot goes to its plane. */
WHOLE_GROUPS kernel void lanes(global const struct ze_lanes *op,
                               global const struct ze_step *step) {
    const uint tile = get_group_id(0), row = get_group_id(1) * ROWS;
    const uint n = rows_left(row, step->n_rows);
    float a[ROWS], b[ROWS], c[ROWS], d[ROWS];
    if (n == 0)
        return;
    bool has_a = LEAF(0, a), has_b = LEAF(1, b);
    JOIN(4, a, has_a, b, has_b);
    has_b = LEAF(2, b);
    bool has_c = LEAF(3, c);
    JOIN(5, b, has_b, c, has_c);
    JOIN(2, a, has_a, b, has_b);
    has_b = LEAF(4, b);
    has_c = LEAF(5, c);
    JOIN(6, b, has_b, c, has_c);
    has_c = LEAF(6, c);
    const bool has_d = LEAF(7, d);
    JOIN(7, c, has_c, d, has_d);
    JOIN(3, b, has_b, c, has_c);
    JOIN(1, a, has_a, b, has_b);
}

/* An atom of the output: two tiles of gate and of up, which are of one type. */
WHOLE_GROUPS kernel void gate_up(global const struct ze_gate_up *op,
                                 global const struct ze_step *step) {
    const uint atom = get_group_id(0), row = get_group_id(1) * ROWS;
    const uint n = rows_left(row, step->n_rows), lane = get_sub_group_local_id();
    const uint atoms = atoms_of(op->gate.cols);
    float x[2][ROWS], up[ROWS];
    if (n == 0)
        return;
    for (uint h = 0; h < 2; h++) {
        const uint tile = 2 * atom + h;
        const bool inside = tile * SUB_GROUP + lane < op->gate.rows;
        if (tile * SUB_GROUP >= op->gate.rows) {
            for (uint r = 0; r < ROWS; r++)
                x[h][r] = 0.0f;
            continue;
        }
        chain(&op->gate, &op->act, tile, row, n, 0, atoms, x[h]);
        chain(&op->up, &op->act, tile, row, n, 0, atoms, up);
        for (uint r = 0; r < n; r++)
            x[h][r] = !inside             ? 0.0f
                      : op->function == 1 ? gelu_mul(x[h][r], up[r])
                                          : silu_mul(x[h][r], up[r]);
    }
    for (uint r = 0; r < n; r++)
        store_atom(&op->out, row + r, atom, x[0][r], x[1][r]);
}

/* A token's row of the table. */
WHOLE_GROUPS kernel void embed(global const struct ze_embed *op,
                               global const struct ze_step *step) {
    const uint row = get_group_id(0), lane = get_sub_group_local_id();
    if (row >= step->n_rows)
        return;
    const int token = ((global const struct ze_row *)step->rows)[row].token;
    if (token < (int)op->vocab_begin || token >= (int)op->vocab_end)
        return;
    const uint of = token - op->vocab_begin, t = of % SUB_GROUP, atoms = atoms_of(op->w.cols);
    global const uchar *p = (address)op->w.at + (ulong)(of / SUB_GROUP) * atoms * ATOM_BYTES;
    global float *hidden = (global float *)op->hidden.at + row * op->hidden.stride;
    for (uint k = 0; k < atoms; k++, p += ATOM_BYTES) {
        const float d = IS_FLOAT ? 1.0f : sub_group_broadcast(scale_at(p), t);
        const float m = HAS_MIN || HAS_LEAST ? sub_group_broadcast(min_at(p), t) : 0.0f;
        for (uint g = 0; g < ATOM / 4; g++) {
            const int mine = IS_FLOAT ? 0 : as_int(codes_at(p, g));
            const char4 q = as_char4(sub_group_broadcast(mine, t));
            const char code[4] = {q.s0, q.s1, q.s2, q.s3};
            const uint h = g / 4;
            const int f = IN_HALVES ? sub_group_broadcast(factor_at(p, h), t) : 1;
            const int least = HAS_LEAST ? sub_group_broadcast(factor_at(p, 2 + h), t) : 0;
            for (uint c = 0; c < 4; c++) {
                const uint col = k * ATOM + 4 * g + c;
                const float w = IS_FLOAT ? sub_group_broadcast(float_column(p, 4 * g + c), t) : 0;
                const float v = (float)code[c];
                const float df = d * (float)f, low = m * (float)least;
                const float y = IS_FLOAT    ? w
                                : HAS_MIN   ? fma(v, d, m)
                                : HAS_LEAST ? fma(v, df, low)
                                            : df * v;
                if (lane == 0 && col < op->w.cols)
                    hidden[col] = op->scale > 0 ? y * op->scale : y;
            }
        }
    }
}
