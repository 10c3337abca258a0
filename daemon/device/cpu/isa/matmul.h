/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.h - a panel of input rows times a tile of 16 weight rows.
 *
 * One row or many, the sum of one output is the same chain: atom after atom, each an exact integer
 * sum and one or two fused multiply-adds (docs/numerics.md), so decode and prefill have equal bits.
 * Rows are taken in groups, whose sums stay in registers; a tile that more than a few rows pass
 * over is opened once. */
#ifndef OCTARC_DEVICE_CPU_ISA_MATMUL_H
#define OCTARC_DEVICE_CPU_ISA_MATMUL_H

#include "daemon/device/cpu/isa/atoms.h"
#include "daemon/device/cpu/isa/wide.h"

#if defined(__AVX512VNNI__)
/* FUSED_MAX: rows up to which a tile is opened on the fly, by each group of them anew. */
#define GROUP_MAX 12
#define CHAINS    4 /* rows whose products take turns */
#define FUSED_MAX 24
#elif defined(__AVX2__)
#define GROUP_MAX 4
#define CHAINS    4
/* Measured on Zen 3 with 16 rows: opening a tile for them takes 6 (Q6_K) to 12 % (Q4_1) longer. */
#define FUSED_MAX 16
#else
#define GROUP_MAX 1
#define CHAINS    1
#define FUSED_MAX 2
#endif

/* How far ahead of its reads a stream of weights is fetched.  Measured on Zen 5: without, 78 % of a
 * plain read sweep with one row and half the speed with 16; from 8 KiB on, 97 %. */
#define PREFETCH_BYTES 8192
/* A first-level cache waits for few lines at a time, a second-level one for more: what comes from
 * memory itself is asked for twice, first into that.  A matrix below FAR_MATRIX_BYTES ends too
 * soon. Measured on Emerald Rapids with one row, a file of a gigabyte: a step of 42.7 ms
 * became 39.2. */
#define FAR_BYTES        (32u << 10)
#define FAR_MATRIX_BYTES (1u << 20)

/* In place of a type: the weights are struct atom; with codes of four bits; struct wide_atom. */
#define OPENED      UINT32_MAX
#define OPENED4     (UINT32_MAX - 1)
#define OPENED_WIDE (WIDE_WORDS ? UINT32_MAX - 2 : OPENED)

INLINE bool is_opened(uint32_t type) {
    return type == OPENED || type == OPENED4 || type == OPENED_WIDE;
}

INLINE bool is_wide(uint32_t type) {
    return WIDE_WORDS && type == OPENED_WIDE;
}

/* From atom to atom. */
INLINE uint32_t atom_step(uint32_t type) {
    if (!is_opened(type))
        return pack_atom_bytes(type);
    return is_wide(type) ? WIDE_BYTES : sizeof(struct atom);
}

/* Rows of the next group when n are left. */
INLINE uint32_t group_of(uint32_t n) {
    n = n < GROUP_MAX ? n : GROUP_MAX;
    return n == 12 ? 12 : n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

/* Fill a table of functions name_1, name_2 ... by groups of rows: 1, 2, 4, 8, 12. */
INLINE uint32_t group_index(uint32_t rows) {
    return rows == 12 ? 4 : rows == 8 ? 3 : rows / 2;
}
#if GROUP_MAX == 12
#define BY_GROUP(name)                                                                             \
    { name##_1, name##_2, name##_4, name##_8, name##_12 }
#define EACH_GROUP(make, ...)                                                                      \
    make(__VA_ARGS__, 1) make(__VA_ARGS__, 2) make(__VA_ARGS__, 4) make(__VA_ARGS__, 8)            \
        make(__VA_ARGS__, 12)
#elif GROUP_MAX == 4
#define BY_GROUP(name)                                                                             \
    { name##_1, name##_2, name##_4 }
#define EACH_GROUP(make, ...) make(__VA_ARGS__, 1) make(__VA_ARGS__, 2) make(__VA_ARGS__, 4)
#else
#define BY_GROUP(name)                                                                             \
    { name##_1 }
#define EACH_GROUP(make, ...) make(__VA_ARGS__, 1)
#endif

static inline uint32_t atoms_of(uint32_t cols) {
    return (cols + ATOM - 1) / ATOM;
}

/* ---- panels ---------------------------------------------------------------------------------
 * A group of w rows, for each atom: f32 [w][32] for float types, else int8 [w][32] (or what
 * put_words() makes of them), f32 scale[w], then two integers a row, a[w] and b[w], that the kind
 * defines. */

INLINE uint32_t value_bytes(enum sum_kind kind, bool words) {
    return kind == SUM_FLOAT ? ATOM * 4 : words ? ATOM * 2 : ATOM;
}

INLINE uint32_t panel_row_bytes(enum sum_kind kind, bool words) {
    return value_bytes(kind, words) + (kind == SUM_FLOAT ? 0 : 12);
}

/* The halves of an atom have sums of their own. */
INLINE bool in_halves(enum sum_kind kind) {
    return kind == SUM_SPLIT || kind == SUM_LEAST;
}

/* Rows that pass over a tile of words are words themselves. */
INLINE bool is_words(enum sum_kind kind, uint32_t n) {
    return WIDE_WORDS && kind == SUM_WIDE && n > FUSED_MAX;
}

/* The sum of an atom begins with SUM_START: not where it can be 2^22 or more, and not for MXFP4,
 * whose scales go up to 2^127 (nor for what may be opened as that is). */
INLINE bool starts_high(uint32_t type, enum sum_kind kind) {
    if (kind == SUM_OFFSET)
        return type == TENSOR_Q4_0 || type == OPENED4;
    return kind == SUM_MIN || (kind == SUM_WIDE && !is_wide(type));
}

INLINE int32_t panel_offset(uint32_t type) {
    return sum_kind_of(type) == SUM_WIDE ? WIDE_OFFSET : offset_of(type);
}

static bool same_panel_kernel(uint32_t a, uint32_t b) {
    return sum_kind_of(a) == sum_kind_of(b) && panel_offset(a) == panel_offset(b);
}

/* One atom of row r of a group of w rows; of its values q the sum begins at start - offset * q. */
INLINE void gather_atom(enum sum_kind kind, bool words, int32_t start, int32_t offset,
                        const struct act_view *act, uint64_t at, uint8_t *to, uint32_t w,
                        uint32_t r) {
    const int8_t *q = act->q8 + at * ATOM;
    const int32_t sum = act->sum[at];
    if (kind == SUM_FLOAT) {
        memcpy(to + r * ATOM * 4, act->f32 + at * ATOM, ATOM * 4);
        return;
    }
    if (words)
        put_words(to + r * ATOM * 2, q);
    else
        memcpy(to + r * ATOM, q, ATOM);
    to += w * value_bytes(kind, words);
    memcpy(to + 4 * r, &act->scale[at], 4);
    int32_t a = start - offset * sum, b = 0;
    if (kind == SUM_MIN) {
        const float weighted = act->scale[at] * (float)sum;
        memcpy(&a, &weighted, 4);
    }
    if (in_halves(kind)) {
        int32_t low = 0;
        for (int i = 0; i < 16; i++)
            low += q[i];
        a = kind == SUM_LEAST ? low : -offset * low;
        b = kind == SUM_LEAST ? sum - low : -offset * (sum - low);
        memcpy(to + 4 * (2 * w + r), &b, 4);
    }
    memcpy(to + 4 * (w + r), &a, 4);
}

INLINE void gather_rows(enum sum_kind kind, bool words, int32_t start, const struct matmul *m,
                        uint32_t row, struct panel *panel) {
    const int32_t offset = kind == SUM_MIN || kind == SUM_LEAST ? 0 : panel_offset(m->type);
    const uint32_t atoms = atoms_of(m->cols), bytes = panel_row_bytes(kind, words);
    const uint32_t stride = m->act.cols / ATOM;
    for (uint32_t i = 0, w; i < panel->n; i += w) {
        w = group_of(panel->n - i);
        for (uint32_t r = 0; r < w; r++) {
            const uint32_t of = m->picked ? m->picked[row + i + r] : row + i + r;
            const uint64_t at = (uint64_t)of * stride;
            uint8_t *to = panel->x + (uint64_t)i * atoms * bytes;
            for (uint32_t k = 0; k < atoms; k++, to += w * bytes)
                gather_atom(kind, words, start, offset, &m->act, at + k, to, w, r);
        }
    }
}

static void gather_kernel(const struct matmul *m, uint32_t row, uint32_t n, struct panel *panel) {
    const enum sum_kind kind = sum_kind_of(m->type);
    panel->n = n;
    switch (kind) {
    case SUM_WIDE:
        if (is_words(SUM_WIDE, n)) {
            gather_rows(SUM_WIDE, true, 0, m, row, panel);
            break;
        }
        /* fall through */
    case SUM_OFFSET:
        gather_rows(SUM_OFFSET, false, starts_high(m->type, kind) ? SUM_START : 0, m, row, panel);
        break;
    case SUM_MIN:
        gather_rows(SUM_MIN, false, 0, m, row, panel);
        break;
    case SUM_SPLIT:
        gather_rows(SUM_SPLIT, false, 0, m, row, panel);
        break;
    case SUM_LEAST:
        gather_rows(SUM_LEAST, false, 0, m, row, panel);
        break;
    case SUM_FLOAT:
        gather_rows(SUM_FLOAT, false, 0, m, row, panel);
        break;
    }
}

/* ---- sums ----------------------------------------------------------------------------------- */

INLINE float float_at(const uint8_t *p) {
    float value;
    memcpy(&value, p, sizeof value);
    return value;
}

INLINE int32_t int_at(const uint8_t *p) {
    int32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* acc[r] += one float atom, column after column; the rows of a BF16 tile in vf_brains_apart()'s
 * order. */
INLINE void add_floats(uint32_t type, uint32_t width, const uint8_t *w, const uint8_t *x, vf *acc) {
    for (int c = 0; c < ATOM; c++) {
        const vf column =
            type == TENSOR_BF16 ? vf_brains_apart(w + c * TILE * 2) : float_column(type, w, c);
        UNROLL for (uint32_t r = 0; r < width; r++) acc[r] =
            vf_fma(column, vf_set(float_at(x + (r * ATOM + c) * 4)), acc[r]);
    }
}

INLINE vb weights_of(uint32_t type, const uint8_t *p, int g) {
    return is_opened(type) ? vb_load(((const struct atom *)(const void *)p)->w[g])
                           : atom_group(type, p, g);
}

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
INLINE int largest_code(uint32_t type, enum sum_kind kind) {
    if (type == OPENED4 || type == TENSOR_Q4_0 || type == TENSOR_Q4_1 || type == TENSOR_Q4_K)
        return 15;
    if (type == TENSOR_Q2_K || type == TENSOR_Q3_K)
        return 16; /* a half atom at a time, at most */
    return kind == SUM_SPLIT ? 63 : 31;
}

/* The exact sums of an atom, offset included, of a group's rows.  Each weight is read once for all
 * of them; sums of 16 bits are widened as rarely as they allow. */
INLINE void sum_atoms(uint32_t type, enum sum_kind kind, const uint8_t *p, const vi *factor,
                      const uint8_t *x, uint32_t width, vi *s) {
    const int8_t *q = (const int8_t *)x;
    const uint8_t *a = x + width * (ATOM + 4), *b = a + width * 4;
    const int steps = vi_dot16_steps(largest_code(type, kind));
    vi high[GROUP_MAX];
    vb sums[GROUP_MAX];
    if (type == OPENED_WIDE) {
        sum_wide((const struct wide_atom *)(const void *)p, x, width, s);
        return;
    }
    UNROLL for (int g = 0; g < ATOM / 4; g++) {
        const vb w = weights_of(type, p, g);
        const bool split = in_halves(kind) && g >= 4;
        /* A sum begins when its first part is there: until then it would hold a register. */
        const bool first = kind == SUM_WIDE ? g == 0 : split ? g - 4 < steps : g < steps;
        UNROLL for (uint32_t r = 0; r < width; r++) {
            const int8_t *four = q + r * ATOM + 4 * g;
            vi *to = split ? &high[r] : &s[r];
            if (kind != SUM_WIDE)
                sums[r] = vi_dot16(g % steps ? sums[r] : (vb)vi_set(0), w, four);
            if (kind != SUM_WIDE && g % steps != steps - 1)
                continue;
            const vi base = !first ? *to
                            : kind == SUM_OFFSET || kind == SUM_SPLIT
                                ? vi_set(int_at((split ? b : a) + 4 * r))
                                : vi_set(starts_high(type, kind) ? SUM_START : 0);
            *to = kind == SUM_WIDE ? vi_dot_wide(base, w, four) : vi_widen16(base, sums[r]);
        }
    }
    if (in_halves(kind))
        UNROLL for (uint32_t r = 0; r < width; r++) s[r] =
            vi_add(vi_mul(factor[0], s[r]), vi_mul(factor[1], high[r]));
}
#else
/* The exact sums of an atom, offset included, of rows [from, from + n).  The rows take turns, so
 * that none waits for its own last product. */
INLINE void sum_atoms(enum sum_kind kind, const vb *w, const vi *factor, const uint8_t *x,
                      uint32_t width, uint32_t from, uint32_t n, vi *s) {
    const int8_t *q = (const int8_t *)x + from * ATOM;
    const uint8_t *a = x + width * (ATOM + 4) + 4 * from, *b = a + width * 4;
    vi high[CHAINS];
    UNROLL for (uint32_t r = 0; r < n; r++) {
        s[r] = vi_set(kind == SUM_LEAST ? 0 : kind == SUM_MIN ? SUM_START : int_at(a + 4 * r));
        high[r] = vi_set(kind == SUM_SPLIT ? int_at(b + 4 * r) : 0);
    }
    /* The upper columns have a chain of their own where it is wanted: where halves have factors, or
     * when one row alone would wait. */
    UNROLL for (int g = 0; g < 4; g++) UNROLL for (uint32_t r = 0; r < n; r++) {
        const int8_t *low_q = q + r * ATOM + 4 * g, *high_q = low_q + 16;
        vi *up = in_halves(kind) || n <= CHAINS / 2 ? &high[r] : &s[r];
        if (kind == SUM_WIDE) {
            s[r] = vi_dot_wide(s[r], w[g], low_q);
            *up = vi_dot_wide(*up, w[g + 4], high_q);
        } else {
            s[r] = vi_dot(s[r], w[g], low_q);
            *up = vi_dot(*up, w[g + 4], high_q);
        }
    }
    UNROLL for (uint32_t r = 0; r < n; r++) if (in_halves(kind)) s[r] =
        vi_add(vi_mul(factor[0], s[r]), vi_mul(factor[1], high[r]));
    else if (n <= CHAINS / 2) s[r] = vi_add(s[r], high[r]);
}
#endif

/* acc[r] += one quantised atom. */
INLINE void add_atom(uint32_t type, enum sum_kind kind, uint32_t width, const uint8_t *p,
                     const uint8_t *x, vf *acc) {
    const struct atom *a = (const struct atom *)(const void *)p;
    const uint8_t *scales = x + width * value_bytes(kind, is_wide(type)), *sx = scales + 4 * width;
    const uint8_t *factors = is_opened(type) ? (const uint8_t *)a->factor : atom_factors(type, p);
    const vf d = is_opened(type) ? vf_load(a->d) : atom_scale(type, p);
    const vf less = vf_less(d);
    vf m = d;
    vi factor[2] = {vi_set(0), vi_set(0)}, least[2] = {vi_set(0), vi_set(0)};
    if (kind == SUM_MIN || kind == SUM_LEAST)
        m = is_opened(type) ? vf_load(a->m) : atom_min(type, p);
    UNROLL for (int half = 0; half < 2; half++) {
        if (in_halves(kind))
            factor[half] = vi_bytes(factors + half * TILE);
        if (kind == SUM_LEAST)
            least[half] = vi_bytes(factors + (2 + half) * TILE);
    }
#if !defined(__AVX2__) || defined(__AVX512VNNI__)
    vb w[ATOM / 4];
    UNROLL for (int g = 0; g < ATOM / 4; g++) w[g] = weights_of(type, p, g);
#endif
    UNROLL for (uint32_t from = 0; from < width; from += CHAINS) {
        const uint32_t n = width - from < CHAINS ? width - from : CHAINS;
        vi sums[CHAINS];
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
        sum_atoms(type, kind, p, factor, x, width, sums);
#else
        sum_atoms(kind, w, factor, x, width, from, n, sums);
#endif
        UNROLL for (uint32_t i = 0; i < n; i++) {
            const uint32_t r = from + i;
            const vf s = starts_high(type, kind) ? vf_scaled(sums[i], d, less)
                                                 : vf_mul(vf_of_ints(sums[i]), d);
            acc[r] = vf_fma(s, vf_set(float_at(scales + 4 * r)), acc[r]);
            if (kind == SUM_MIN)
                acc[r] = vf_fma(m, vf_set(float_at(sx + 4 * r)), acc[r]);
            if (kind == SUM_LEAST) {
                const vi low = vi_mul(least[0], vi_set(int_at(sx + 4 * r)));
                const vi high = vi_mul(least[1], vi_set(int_at(sx + 4 * (width + r))));
                acc[r] = vf_fma(vf_mul(vf_of_ints(vi_add(low, high)), m),
                                vf_set(float_at(scales + 4 * r)), acc[r]);
            }
        }
    }
}

#define LANE_LEVELS 3 /* of the lane tree, the root's left out */

/* Where the sums of a group go, row r at out + r * stride, when its left siblings in the lane tree
 * (rows of TILE values) have been added, the first of them first. */
struct target {
    float *out;
    uint64_t stride;
    const float *left[LANE_LEVELS];
    uint32_t n_left;
    uint64_t end, jump; /* what is asked for at `end` or behind lies `jump` bytes further */
    bool far;           /* weights are asked for twice */
};

INLINE const uint8_t *ahead(const struct target *to, const uint8_t *w, uint32_t bytes) {
    const uint64_t at = (uint64_t)(uintptr_t)w + bytes;
    return (const uint8_t *)(uintptr_t)(at < to->end ? at : at + to->jump);
}

/* `atoms` atoms from w on times those from x on, for a group of `width` rows. */
INLINE void walk(uint32_t type, enum sum_kind kind, uint32_t width, const uint8_t *w,
                 const uint8_t *x, uint32_t atoms, const struct target *to) {
    const uint32_t w_step = atom_step(type);
    const uint32_t x_step = width * panel_row_bytes(kind, is_wide(type));
    vf acc[GROUP_MAX];
    UNROLL for (uint32_t r = 0; r < width; r++) acc[r] = vf_set(0.0f);
    for (uint32_t k = 0; k < atoms; k++, w += w_step, x += x_step) {
        const uint8_t *const soon = ahead(to, w, PREFETCH_BYTES), *const late =
                                                                      ahead(to, w, FAR_BYTES);
        if (!is_opened(type))
            UNROLL for (uint32_t line = 0; line < w_step; line += 64)
                __builtin_prefetch(soon + line);
        if (!is_opened(type) && to->far)
            UNROLL for (uint32_t line = 0; line < w_step; line += 64)
                __builtin_prefetch(late + line, 0, 2);
        if (kind == SUM_FLOAT)
            add_floats(type, width, w, x, acc);
        else
            add_atom(type, kind, width, w, x, acc);
    }
    UNROLL for (uint32_t r = 0; r < width && type == TENSOR_BF16; r++) acc[r] = vf_together(acc[r]);
    for (uint32_t i = 0; i < to->n_left; i++)
        UNROLL for (uint32_t r = 0; r < width; r++) acc[r] =
            vf_add(vf_load(to->left[i] + r * TILE), acc[r]);
    UNROLL for (uint32_t r = 0; r < width; r++) vf_store(to->out + r * to->stride, acc[r]);
}

typedef void walk_fn(const uint8_t *w, const uint8_t *x, uint32_t atoms, const struct target *to);

#define WALK(name, type, kind, width)                                                              \
    static void name##_##width(const uint8_t *w, const uint8_t *x, uint32_t atoms,                 \
                               const struct target *to) {                                          \
        walk(type, kind, width, w, x, atoms, to);                                                  \
    }
EACH_GROUP(WALK, walk_q4_0, TENSOR_Q4_0, SUM_OFFSET)
EACH_GROUP(WALK, walk_q4_1, TENSOR_Q4_1, SUM_MIN)
EACH_GROUP(WALK, walk_q5_0, TENSOR_Q5_0, SUM_OFFSET)
EACH_GROUP(WALK, walk_q5_1, TENSOR_Q5_1, SUM_MIN)
EACH_GROUP(WALK, walk_q8_0, TENSOR_Q8_0, SUM_WIDE)
EACH_GROUP(WALK, walk_q2_k, TENSOR_Q2_K, SUM_LEAST)
EACH_GROUP(WALK, walk_q3_k, TENSOR_Q3_K, SUM_SPLIT)
EACH_GROUP(WALK, walk_q4_k, TENSOR_Q4_K, SUM_MIN)
EACH_GROUP(WALK, walk_q5_k, TENSOR_Q5_K, SUM_MIN)
EACH_GROUP(WALK, walk_q6_k, TENSOR_Q6_K, SUM_SPLIT)
EACH_GROUP(WALK, walk_iq4_nl, TENSOR_IQ4_NL, SUM_WIDE)
EACH_GROUP(WALK, walk_iq4_xs, TENSOR_IQ4_XS, SUM_WIDE)
EACH_GROUP(WALK, walk_mxfp4, TENSOR_MXFP4, SUM_OFFSET)
EACH_GROUP(WALK, walk_f32, TENSOR_F32, SUM_FLOAT)
EACH_GROUP(WALK, walk_f16, TENSOR_F16, SUM_FLOAT)
EACH_GROUP(WALK, walk_bf16, TENSOR_BF16, SUM_FLOAT)
EACH_GROUP(WALK, walk_offset, OPENED, SUM_OFFSET)
EACH_GROUP(WALK, walk_wide, OPENED_WIDE, SUM_WIDE)
EACH_GROUP(WALK, walk_min, OPENED, SUM_MIN)
EACH_GROUP(WALK, walk_split, OPENED, SUM_SPLIT)
EACH_GROUP(WALK, walk_offset4, OPENED4, SUM_OFFSET)
EACH_GROUP(WALK, walk_min4, OPENED4, SUM_MIN)

#define TYPES_MAX (TENSOR_MXFP4 + 1)

/* By the group's rows: 1, 2, 4, 8, 12. */
static walk_fn *const fused[TYPES_MAX][5] = {
    [TENSOR_F32] = BY_GROUP(walk_f32),       [TENSOR_F16] = BY_GROUP(walk_f16),
    [TENSOR_BF16] = BY_GROUP(walk_bf16),     [TENSOR_Q4_0] = BY_GROUP(walk_q4_0),
    [TENSOR_Q4_1] = BY_GROUP(walk_q4_1),     [TENSOR_Q5_0] = BY_GROUP(walk_q5_0),
    [TENSOR_Q5_1] = BY_GROUP(walk_q5_1),     [TENSOR_Q8_0] = BY_GROUP(walk_q8_0),
    [TENSOR_Q4_K] = BY_GROUP(walk_q4_k),     [TENSOR_Q5_K] = BY_GROUP(walk_q5_k),
    [TENSOR_Q6_K] = BY_GROUP(walk_q6_k),     [TENSOR_Q2_K] = BY_GROUP(walk_q2_k),
    [TENSOR_Q3_K] = BY_GROUP(walk_q3_k),     [TENSOR_IQ4_NL] = BY_GROUP(walk_iq4_nl),
    [TENSOR_IQ4_XS] = BY_GROUP(walk_iq4_xs), [TENSOR_MXFP4] = BY_GROUP(walk_mxfp4),
};
static walk_fn *const opened[SUM_FLOAT][5] = {
    [SUM_OFFSET] = BY_GROUP(walk_offset),
    [SUM_WIDE] = BY_GROUP(walk_wide),
    [SUM_MIN] = BY_GROUP(walk_min),
    [SUM_SPLIT] = BY_GROUP(walk_split),
};
static walk_fn *const opened4[SUM_FLOAT][5] = {
    [SUM_OFFSET] = BY_GROUP(walk_offset4),
    [SUM_MIN] = BY_GROUP(walk_min4),
};

/* Where a tile's weights are read, as the panel is long or short. */
struct tile_source {
    walk_fn *const *walk;
    const uint8_t *w;
    uint32_t w_step, x_step; /* from atom to atom; of one row */
};

static bool is_far(const struct matmul *m) {
    return packed_tile_bytes(m->type, m->cols) * m->rows / TILE >= FAR_MATRIX_BYTES;
}

/* Of a matrix, how its stream of weights goes on. */
static struct target stream_of(const struct matmul *m) {
    return (struct target){.end = m->next ? (uintptr_t)m->end : UINT64_MAX,
                           .jump = m->next ? (uint64_t)(uintptr_t)m->next - (uintptr_t)m->end : 0,
                           .far = is_far(m)};
}

static struct tile_source open_tile(const struct matmul *m, uint32_t tile,
                                    const struct panel *panel) {
    const uint32_t atoms = atoms_of(m->cols), bytes = pack_atom_bytes(m->type);
    const enum sum_kind kind = sum_kind_of(m->type);
    const uint8_t *w = m->tiles + (uint64_t)tile * atoms * bytes;
    /* An opened atom has no room for the minimums of Q2_K; its two bits are opened quickly. */
    if (kind == SUM_FLOAT || kind == SUM_LEAST || panel->n <= FUSED_MAX)
        return (struct tile_source){fused[m->type], w, bytes, panel_row_bytes(kind, false)};
#if WIDE_WORDS
    if (kind == SUM_WIDE) {
        open_wide(m->type, w, atoms, panel->opened);
        return (struct tile_source){opened[kind], panel->opened, WIDE_BYTES,
                                    panel_row_bytes(kind, true)};
    }
#endif
    open_atoms(m->type, w, atoms, panel->opened);
    const bool four = m->type == TENSOR_Q4_0 || m->type == TENSOR_Q4_1 || m->type == TENSOR_Q4_K;
    return (struct tile_source){four ? opened4[kind] : opened[kind], panel->opened,
                                sizeof(struct atom), panel_row_bytes(kind, false)};
}

static void put_rows(const struct matmul *m, uint32_t tile, uint32_t n, float (*acc)[TILE],
                     float *out, uint32_t stride) {
    const uint32_t left = m->rows - tile * TILE;
    for (uint32_t i = 0; i < n; i++)
        if (left >= TILE)
            memcpy(out + (uint64_t)i * stride, acc[i], TILE * sizeof(float));
        else
            memcpy(out + (uint64_t)i * stride, acc[i], left * sizeof(float));
}

static void tile_kernel(const struct matmul *m, uint32_t tile, const struct panel *panel,
                        float *out, uint32_t out_stride) {
    const struct tile_source s = open_tile(m, tile, panel);
    const uint32_t atoms = atoms_of(m->cols);
    const bool whole = m->rows - tile * TILE >= TILE;
    float acc[GROUP_MAX][TILE];
    struct target to = stream_of(m);
    to.out = acc[0];
    to.stride = TILE;
    for (uint32_t i = 0, w; i < panel->n; i += w) {
        w = group_of(panel->n - i);
        if (whole)
            to.out = out + (uint64_t)i * out_stride, to.stride = out_stride;
        s.walk[group_index(w)](s.w, panel->x + (uint64_t)i * atoms * s.x_step, atoms, &to);
        if (!whole)
            put_rows(m, tile, w, acc, out + (uint64_t)i * out_stride, out_stride);
    }
}

#endif
