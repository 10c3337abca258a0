/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c - compiled once per instruction set with -DKERNELS=kernels_<set>.
 *
 * The order of every float operation is written out; loops over a tile's 16 rows (or over the
 * values of a head) carry no dependency between lanes, so the compiler may use any vector width
 * without changing a bit.  Integer sums are exact and may be taken in any order. */
#include "daemon/device/cpu/isa/kernels.h"

#include <math.h>
#include <string.h>
#if defined(__F16C__) || defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

#define ROWS_MAX 8   /* rows of the input that share one pass over a tile */
#define SEGMENT  256 /* positions whose softmax is taken at once */

static inline float fma1(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}

/* ---- half floats ---------------------------------------------------------------------------- */

#ifdef __F16C__
static inline void halves_to_floats(const uint16_t *h, float *f, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 8)
        _mm256_storeu_ps(f + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + i))));
}
static inline uint16_t half_of(float x) {
    return (uint16_t)_mm_extract_epi16(
        _mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), 0);
}
#else
static inline float float_of_half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, frac = h & 0x3ff;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* zero or subnormal: frac * 2^-24 is exact */
        value = (float)frac * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | frac << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline void halves_to_floats(const uint16_t *h, float *f, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        f[i] = float_of_half(h[i]);
}
/* Round to nearest even, as the hardware does. */
static inline uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x477ff000) /* rounds to 2^16 or beyond */
        return sign | 0x7c00;
    if (bits < 0x38800000) { /* subnormal: adding 0.5 aligns the last bit to 2^-24 */
        float y;
        memcpy(&y, &bits, sizeof y);
        y += 0.5f;
        memcpy(&bits, &y, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000) >> 13);
}
#endif

/* ---- exp ------------------------------------------------------------------------------------ */

/* e^x for n values: 2^k * p(r), p of degree 6 on |r| <= ln2/2; error below 2 ulp
 * (docs/numerics.md). Below -87 the result is 0, above 88 it is e^88. */
static inline void exp_n(const float *x, float *y, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const float c = x[i] < -87.0f ? -87.0f : x[i] > 88.0f ? 88.0f : x[i];
        const float t = fma1(c, 1.44269504f, 12582912.0f), k = t - 12582912.0f;
        float r = fma1(k, -0.693359375f, c);
        r = fma1(k, 2.12194440e-4f, r);
        float p = 1.9875691500e-4f;
        p = fma1(p, r, 1.3981999507e-3f);
        p = fma1(p, r, 8.3334519073e-3f);
        p = fma1(p, r, 4.1665795894e-2f);
        p = fma1(p, r, 1.6666665459e-1f);
        p = fma1(p, r, 5.0000001201e-1f);
        p = fma1(p, r * r, r) + 1.0f;
        union {
            float f;
            int32_t i;
        } two = {.i = ((int32_t)k + 127) << 23};
        y[i] = x[i] < -87.0f ? 0.0f : p * two.f;
    }
}

/* Sum of 16 partial sums as a fixed tree. */
static inline float fold16(const float *s) {
    float t[8];
    for (int i = 0; i < 8; i++)
        t[i] = s[i] + s[i + 8];
    for (int i = 0; i < 4; i++)
        t[i] = t[i] + t[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* ---- packed tiles --------------------------------------------------------------------------- */

static inline uint32_t atom_bytes(uint32_t type) {
    switch (type) {
    case TENSOR_F32:
        return ATOM * TILE * 4;
    case TENSOR_F16:
    case TENSOR_BF16:
        return ATOM * TILE * 2;
    case TENSOR_Q8_0:
        return ATOM * TILE + TILE * 2;
    case TENSOR_Q4_0:
        return ATOM * TILE / 2 + TILE * 2;
    case TENSOR_Q4_1:
        return ATOM * TILE / 2 + TILE * 4;
    case TENSOR_Q6_K:
        return ATOM * TILE + TILE * 4;
    default:
        return 0;
    }
}

/* An atom of a quantised tile made ready: unsigned weights in groups of four columns, what was
 * added to make them unsigned, and the scales.  Q6_K has a second set of 16-wide factors. */
struct atom {
    uint8_t w[ATOM / 4][TILE][4];
    int32_t offset;          /* weight = w - offset */
    float d[TILE], m[TILE];  /* scale, minimum */
    int32_t factor[2][TILE]; /* Q6_K */
};

static inline void open_nibbles(const uint8_t *p, struct atom *a) {
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 64; i++) {
            (&a->w[2 * j][0][0])[i] = p[64 * j + i] & 15;
            (&a->w[2 * j + 1][0][0])[i] = p[64 * j + i] >> 4;
        }
}

static inline void open_atom(const uint8_t *p, uint32_t type, struct atom *a) {
    switch (type) {
    case TENSOR_Q8_0:
        memcpy(a->w, p, sizeof a->w);
        a->offset = 128;
        halves_to_floats((const uint16_t *)(const void *)(p + 512), a->d, TILE);
        break;
    case TENSOR_Q4_0:
        open_nibbles(p, a);
        a->offset = 8;
        halves_to_floats((const uint16_t *)(const void *)(p + 256), a->d, TILE);
        break;
    case TENSOR_Q4_1:
        open_nibbles(p, a);
        a->offset = 0;
        halves_to_floats((const uint16_t *)(const void *)(p + 256), a->d, TILE);
        halves_to_floats((const uint16_t *)(const void *)(p + 288), a->m, TILE);
        break;
    case TENSOR_Q6_K:
        memcpy(a->w, p, sizeof a->w);
        a->offset = 32;
        halves_to_floats((const uint16_t *)(const void *)(p + 512), a->d, TILE);
        for (int h = 0; h < 2; h++)
            for (int t = 0; t < TILE; t++)
                a->factor[h][t] = (int8_t)p[544 + h * TILE + t];
        break;
    default:
        break;
    }
}

/* sum[t] = sum over columns [4 * from, 4 * to) of w * x: exact. */
static inline void dot_groups(const struct atom *a, const int8_t *x, int from, int to,
                              int32_t sum[TILE]) {
#ifdef __AVX512VNNI__
    __m512i s = _mm512_setzero_si512();
    for (int j = from; j < to; j++) {
        int32_t four;
        memcpy(&four, x + 4 * j, sizeof four);
        s = _mm512_dpbusd_epi32(s, _mm512_loadu_si512(a->w[j]), _mm512_set1_epi32(four));
    }
    _mm512_storeu_si512(sum, s);
#else
    for (int t = 0; t < TILE; t++)
        sum[t] = 0;
    for (int j = from; j < to; j++)
        for (int b = 0; b < 4; b++)
            for (int t = 0; t < TILE; t++)
                sum[t] += a->w[j][t][b] * x[4 * j + b];
#endif
}

/* acc += one atom of a quantised tile times one atom of the input. */
static inline void add_atom(const struct atom *a, uint32_t type, const int8_t *x, float dx,
                            int32_t sx, float acc[TILE]) {
    int32_t sum[TILE];
    if (type == TENSOR_Q6_K) {
        int32_t half[TILE], low = 0;
        for (int i = 0; i < 16; i++)
            low += x[i];
        dot_groups(a, x, 0, 4, sum);
        dot_groups(a, x, 4, 8, half);
        for (int t = 0; t < TILE; t++)
            sum[t] = a->factor[0][t] * (sum[t] - a->offset * low) +
                     a->factor[1][t] * (half[t] - a->offset * (sx - low));
    } else {
        dot_groups(a, x, 0, 8, sum);
        for (int t = 0; t < TILE; t++)
            sum[t] -= a->offset * sx;
    }
    for (int t = 0; t < TILE; t++)
        acc[t] = fma1((float)sum[t] * a->d[t], dx, acc[t]);
    if (type == TENSOR_Q4_1) {
        const float s = dx * (float)sx;
        for (int t = 0; t < TILE; t++)
            acc[t] = fma1(a->m[t], s, acc[t]);
    }
}

static inline void open_floats(const uint8_t *p, uint32_t type, float w[ATOM][TILE]) {
    if (type == TENSOR_F32)
        memcpy(w, p, sizeof(float) * ATOM * TILE);
    else if (type == TENSOR_F16)
        halves_to_floats((const uint16_t *)(const void *)p, &w[0][0], ATOM * TILE);
    else
        for (int i = 0; i < ATOM * TILE; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            const uint32_t bits = (uint32_t)h << 16;
            memcpy(&w[i / TILE][i % TILE], &bits, sizeof bits);
        }
}

static inline uint32_t atoms_of(uint32_t cols) {
    return (cols + ATOM - 1) / ATOM;
}

/* acc[i] = rows [row, row + n) of the input times atoms [begin, end) of a tile; n <= ROWS_MAX. */
static void dot_atoms(const struct matmul *m, uint32_t tile, uint32_t begin, uint32_t end,
                      uint32_t row, uint32_t n, float acc[ROWS_MAX][TILE]) {
    const uint32_t bytes = atom_bytes(m->type), stride = m->act.cols / ATOM;
    const uint8_t *p = m->tiles + ((uint64_t)tile * atoms_of(m->cols) + begin) * bytes;
    const bool floats = m->type == TENSOR_F32 || m->type == TENSOR_F16 || m->type == TENSOR_BF16;
    memset(acc, 0, n * sizeof *acc);
    for (uint32_t k = begin; k < end; k++, p += bytes) {
        if (floats) {
            float w[ATOM][TILE];
            open_floats(p, m->type, w);
            for (uint32_t i = 0; i < n; i++) {
                const float *x = m->act.f32 + (uint64_t)(row + i) * m->act.cols + k * ATOM;
                for (int c = 0; c < ATOM; c++)
                    for (int t = 0; t < TILE; t++)
                        acc[i][t] = fma1(w[c][t], x[c], acc[i][t]);
            }
            continue;
        }
        struct atom a;
        open_atom(p, m->type, &a);
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t at = (uint64_t)(row + i) * stride + k;
            add_atom(&a, m->type, m->act.q8 + at * ATOM, m->act.scale[at], m->act.sum[at], acc[i]);
        }
    }
}

static void put_rows(const struct matmul *m, uint32_t tile, uint32_t n, float acc[ROWS_MAX][TILE],
                     float *out, uint32_t stride) {
    const uint32_t left = m->rows - tile * TILE, width = left < TILE ? left : TILE;
    for (uint32_t i = 0; i < n; i++)
        memcpy(out + (uint64_t)i * stride, acc[i], width * sizeof(float));
}

static void tile_kernel(const struct matmul *m, uint32_t tile, uint32_t row, uint32_t n, float *out,
                        uint32_t out_stride) {
    float acc[ROWS_MAX][TILE];
    for (uint32_t i = 0; i < n; i += ROWS_MAX) {
        const uint32_t some = n - i < ROWS_MAX ? n - i : ROWS_MAX;
        dot_atoms(m, tile, 0, atoms_of(m->cols), row + i, some, acc);
        put_rows(m, tile, some, acc, out + (uint64_t)i * out_stride, out_stride);
    }
}

struct lane_walk {
    const struct matmul *m;
    uint32_t tile, row, n;
    const uint32_t *col;
};

/* acc = the sum of a node of the lane tree; false: none of its lanes holds a value. */
static bool sum_node(const struct lane_walk *w, uint32_t node, float acc[ROWS_MAX][TILE]) {
    float right[ROWS_MAX][TILE];
    if (node >= LANES) {
        const uint32_t lane = node - LANES;
        if (w->col[lane] == w->col[lane + 1])
            return false;
        dot_atoms(w->m, w->tile, w->col[lane] / ATOM, atoms_of(w->col[lane + 1]), w->row, w->n,
                  acc);
        return true;
    }
    if (!sum_node(w, 2 * node, acc))
        return sum_node(w, 2 * node + 1, acc);
    if (!sum_node(w, 2 * node + 1, right))
        return true;
    for (uint32_t i = 0; i < w->n; i++)
        for (int t = 0; t < TILE; t++)
            acc[i][t] += right[i][t];
    return true;
}

static void lanes_kernel(const struct matmul *m, uint32_t tile, uint32_t row, uint32_t n,
                         const uint32_t col[LANES + 1], const int8_t slot[TREE_NODES],
                         float *planes, uint64_t plane_stride, uint32_t row_stride) {
    float acc[ROWS_MAX][TILE];
    for (uint32_t i = 0; i < n; i += ROWS_MAX) {
        const struct lane_walk w = {m, tile, row + i, n - i < ROWS_MAX ? n - i : ROWS_MAX, col};
        for (uint32_t node = 1; node < TREE_NODES; node++)
            if (slot[node] != NO_SLOT && sum_node(&w, node, acc))
                put_rows(m, tile, w.n, acc,
                         planes + (uint64_t)slot[node] * plane_stride +
                             (uint64_t)(row + i) * row_stride + tile * TILE,
                         row_stride);
    }
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void store_atom(const struct act_view *act, uint32_t row, uint32_t k, const float *x,
                       uint32_t n) {
    const uint64_t stride = act->cols / ATOM, at = (uint64_t)row * stride + k;
    float atom[ATOM] = {0}, largest = 0;
    memcpy(atom, x, n * sizeof *x);
    if (act->forms & FORM_F32)
        memcpy(act->f32 + at * ATOM, atom, sizeof atom);
    if (!(act->forms & FORM_Q8))
        return;
    for (int i = 0; i < ATOM; i++) {
        const float a = fabsf(atom[i]);
        largest = a > largest ? a : largest;
    }
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int8_t *q = act->q8 + at * ATOM;
    int32_t sum = 0;
    for (int i = 0; i < ATOM; i++) {
        /* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even. */
        const int32_t v = (int32_t)(fma1(atom[i], inverse, 12582912.0f) - 12582912.0f);
        q[i] = (int8_t)v;
        sum += v;
    }
    act->scale[at] = largest / 127.0f;
    act->sum[at] = sum;
}

static void store_kernel(const struct act_view *act, uint32_t row, uint32_t col, const float *x,
                         uint32_t n) {
    for (uint32_t i = 0; i < n; i += ATOM)
        store_atom(act, row, (col + i) / ATOM, x + i, n - i < ATOM ? n - i : ATOM);
}

static float rms_inverse_kernel(const float *x, uint32_t n, float eps) {
    float part[TILE] = {0};
    uint32_t i = 0;
    for (; i + TILE <= n; i += TILE)
        for (int t = 0; t < TILE; t++)
            part[t] = fma1(x[i + t], x[i + t], part[t]);
    for (uint32_t t = 0; i + t < n; t++)
        part[t] = fma1(x[i + t], x[i + t], part[t]);
    return 1.0f / sqrtf(fold16(part) / (float)n + eps);
}

static void scale_kernel(const float *x, const float *weight, float inverse, uint32_t n, float *y) {
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * weight[i];
}

/* The root of the tree over present slots, for 16 values at `at`; false: all absent. */
static bool tree_sum(const float *const node[TREE_NODES], uint32_t i, uint32_t at, uint32_t width,
                     float *sum) {
    float right[TILE];
    if (node[i]) {
        memcpy(sum, node[i] + at, width * sizeof *sum);
        return true;
    }
    if (i >= LANES)
        return false;
    if (!tree_sum(node, 2 * i, at, width, sum))
        return tree_sum(node, 2 * i + 1, at, width, sum);
    if (!tree_sum(node, 2 * i + 1, at, width, right))
        return true;
    for (uint32_t t = 0; t < width; t++)
        sum[t] += right[t];
    return true;
}

static void combine_kernel(float *hidden, const float *const node[TREE_NODES], uint32_t n) {
    for (uint32_t at = 0; at < n; at += TILE) {
        const uint32_t width = n - at < TILE ? n - at : TILE;
        float sum[TILE];
        if (tree_sum(node, 1, at, width, sum))
            for (uint32_t t = 0; t < width; t++)
                hidden[at + t] += sum[t];
    }
}

static void silu_mul_kernel(float *gate, const float *up, uint32_t n) {
    float minus[TILE], e[TILE];
    for (uint32_t at = 0; at < n; at += TILE) {
        const uint32_t width = n - at < TILE ? n - at : TILE;
        for (uint32_t t = 0; t < TILE; t++)
            minus[t] = t < width ? -gate[at + t] : 0.0f;
        exp_n(minus, e, TILE);
        for (uint32_t t = 0; t < width; t++)
            gate[at + t] = gate[at + t] / (1.0f + e[t]) * up[at + t];
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

/* ---- KV pages and attention ------------------------------------------------------------------
 * K of a page is [head_dim][PAGE_TOKENS], V is [PAGE_TOKENS][head_dim]; q8_0 keeps the 8-bit values
 * so and, behind them, f16 scales of 32 values along the head: K [head_dim / 32][PAGE_TOKENS],
 * V [PAGE_TOKENS][head_dim / 32]. */

static void quantise_kv(const float *x, int8_t *q, uint16_t *scale) {
    float largest = 0, d;
    for (int i = 0; i < ATOM; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    *scale = half_of(largest / 127.0f);
#ifdef __F16C__
    d = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*scale)));
#else
    d = float_of_half(*scale);
#endif
    const float inverse = d > 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < ATOM; i++) {
        float v = x[i] * inverse;
        v = v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v;
        q[i] = (int8_t)(int32_t)((v + 12582912.0f) - 12582912.0f);
    }
}

static void store_k_kernel(char *page, enum kv_type type, uint32_t head_dim, uint32_t at,
                           const float *x) {
    int8_t q[ATOM];
    if (type == KV_F32)
        for (uint32_t d = 0; d < head_dim; d++)
            ((float *)(void *)page)[d * PAGE_TOKENS + at] = x[d];
    else if (type == KV_F16)
        for (uint32_t d = 0; d < head_dim; d++)
            ((uint16_t *)(void *)page)[d * PAGE_TOKENS + at] = half_of(x[d]);
    else
        for (uint32_t k = 0; k < head_dim / ATOM; k++) {
            uint16_t *scales = (uint16_t *)(void *)(page + head_dim * PAGE_TOKENS);
            quantise_kv(x + k * ATOM, q, &scales[k * PAGE_TOKENS + at]);
            for (int i = 0; i < ATOM; i++)
                ((int8_t *)page)[(k * ATOM + i) * PAGE_TOKENS + at] = q[i];
        }
}

static void store_v_kernel(char *page, enum kv_type type, uint32_t head_dim, uint32_t at,
                           const float *x) {
    if (type == KV_F32)
        memcpy(page + (uint64_t)at * head_dim * 4, x, head_dim * 4);
    else if (type == KV_F16)
        for (uint32_t d = 0; d < head_dim; d++)
            ((uint16_t *)(void *)page)[at * head_dim + d] = half_of(x[d]);
    else
        for (uint32_t k = 0; k < head_dim / ATOM; k++) {
            uint16_t *scales = (uint16_t *)(void *)(page + head_dim * PAGE_TOKENS);
            quantise_kv(x + k * ATOM, (int8_t *)page + at * head_dim + k * ATOM,
                        &scales[at * (head_dim / ATOM) + k]);
        }
}

/* Row d of K, for all positions of a page. */
static inline void read_k(const char *page, enum kv_type type, uint32_t head_dim, uint32_t d,
                          float out[PAGE_TOKENS]) {
    if (type == KV_F32) {
        memcpy(out, page + (uint64_t)d * PAGE_TOKENS * 4, PAGE_TOKENS * 4);
    } else if (type == KV_F16) {
        halves_to_floats((const uint16_t *)(const void *)page + d * PAGE_TOKENS, out, PAGE_TOKENS);
    } else {
        halves_to_floats((const uint16_t *)(const void *)(page + head_dim * PAGE_TOKENS) +
                             d / ATOM * PAGE_TOKENS,
                         out, PAGE_TOKENS);
        for (int j = 0; j < PAGE_TOKENS; j++)
            out[j] *= (float)((const int8_t *)page)[d * PAGE_TOKENS + j];
    }
}

static inline void read_v(const char *page, enum kv_type type, uint32_t head_dim, uint32_t at,
                          uint32_t d, float out[TILE]) {
    if (type == KV_F32) {
        memcpy(out, page + ((uint64_t)at * head_dim + d) * 4, TILE * 4);
    } else if (type == KV_F16) {
        halves_to_floats((const uint16_t *)(const void *)page + at * head_dim + d, out, TILE);
    } else {
        float scale[8];
        uint16_t h[8] = {0};
        memcpy(h, page + head_dim * PAGE_TOKENS + 2 * (at * (head_dim / ATOM) + d / ATOM), 2);
        halves_to_floats(h, scale, 8);
        for (int t = 0; t < TILE; t++)
            out[t] = scale[0] * (float)((const int8_t *)page)[at * head_dim + d + t];
    }
}

/* Scores of one page's positions; those beyond n are left as they come and masked by the caller. */
static void score_page(const struct attention_job *job, const char *page, float s[PAGE_TOKENS]) {
    float k[PAGE_TOKENS];
    for (int j = 0; j < PAGE_TOKENS; j++)
        s[j] = 0.0f;
    for (uint32_t d = 0; d < job->head_dim; d++) {
        read_k(page, job->type, job->head_dim, d, k);
        for (int j = 0; j < PAGE_TOKENS; j++)
            s[j] = fma1(job->q[d], k[j], s[j]);
    }
    for (int j = 0; j < PAGE_TOKENS; j++)
        s[j] *= job->scale;
}

/* out[d .. d + TILE) = sum over the segment's positions of p * v, one after another. */
static void weigh_values(const struct attention_job *job, uint32_t begin, uint32_t n,
                         const float *p, uint32_t d, float *out) {
    const uint32_t width = job->head_dim - d < TILE ? job->head_dim - d : TILE;
    float acc[TILE] = {0}, v[TILE];
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t position = begin + i;
        const char *page =
            job->kv + job->pages[position / PAGE_TOKENS] * job->page_bytes + job->half_bytes;
        if (width == TILE) {
            read_v(page, job->type, job->head_dim, position % PAGE_TOKENS, d, v);
        } else {
            for (uint32_t t = 0; t < width; t++)
                v[t] = 0.0f;
            for (uint32_t t = 0; t < width; t++) {
                const uint64_t at = (uint64_t)(position % PAGE_TOKENS) * job->head_dim + d + t;
                float eight[8];
                uint16_t h[8] = {0};
                if (job->type == KV_F32) {
                    memcpy(&v[t], page + at * 4, 4);
                } else {
                    memcpy(h, page + at * 2, 2);
                    halves_to_floats(h, eight, 8);
                    v[t] = eight[0];
                }
            }
        }
        for (int t = 0; t < TILE; t++)
            acc[t] = fma1(p[i], v[t], acc[t]);
    }
    memcpy(out, acc, width * sizeof *out);
}

/* Softmax of one segment: p, its largest score and the sum of p. */
static void soften_segment(const struct attention_job *job, uint32_t begin, uint32_t n, float *p,
                           float *largest, float *sum) {
    float part[TILE] = {0}, top = -INFINITY;
    const uint32_t n_pages = (n + PAGE_TOKENS - 1) / PAGE_TOKENS;
    for (uint32_t k = 0; k < n_pages; k++)
        score_page(job, job->kv + job->pages[begin / PAGE_TOKENS + k] * job->page_bytes,
                   p + k * PAGE_TOKENS);
    for (uint32_t i = n; i < n_pages * PAGE_TOKENS; i++)
        p[i] = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        top = p[i] > top ? p[i] : top;
    for (uint32_t i = 0; i < n_pages * PAGE_TOKENS; i++)
        p[i] -= top;
    exp_n(p, p, n_pages * PAGE_TOKENS);
    for (uint32_t i = 0; i < n_pages * PAGE_TOKENS; i++)
        part[i % TILE] += p[i];
    *largest = top;
    *sum = fold16(part);
}

static void attention_kernel(const struct attention_job *job) {
    float p[SEGMENT], out[TILE], top = 0, sum = 0;
    for (uint32_t begin = 0; begin < job->n_positions; begin += SEGMENT) {
        const uint32_t left = job->n_positions - begin, n = left < SEGMENT ? left : SEGMENT;
        float largest, part, scale[2] = {1.0f, 1.0f};
        soften_segment(job, begin, n, p, &largest, &part);
        if (begin) {
            const float high = largest > top ? largest : top;
            const float gap[2] = {top - high, largest - high};
            exp_n(gap, scale, 2);
            sum = fma1(part, scale[1], sum * scale[0]);
            top = high;
        } else {
            sum = part;
            top = largest;
        }
        for (uint32_t d = 0; d < job->head_dim; d += TILE) {
            const uint32_t width = job->head_dim - d < TILE ? job->head_dim - d : TILE;
            weigh_values(job, begin, n, p, d, out);
            for (uint32_t t = 0; t < width; t++)
                job->out[d + t] =
                    begin ? fma1(out[t], scale[1], job->out[d + t] * scale[0]) : out[t];
        }
    }
    const float inverse = 1.0f / sum;
    for (uint32_t d = 0; d < job->head_dim; d++)
        job->out[d] *= inverse;
}

/* ---- embedding ------------------------------------------------------------------------------ */

static void unpack_row_kernel(const struct matmul *m, uint32_t row, float *out) {
    const uint32_t bytes = atom_bytes(m->type), t = row % TILE;
    const uint8_t *p = m->tiles + (uint64_t)(row / TILE) * atoms_of(m->cols) * bytes;
    for (uint32_t k = 0; k < atoms_of(m->cols); k++, p += bytes) {
        const uint32_t left = m->cols - k * ATOM, width = left < ATOM ? left : ATOM;
        if (m->type == TENSOR_F32 || m->type == TENSOR_F16 || m->type == TENSOR_BF16) {
            float w[ATOM][TILE];
            open_floats(p, m->type, w);
            for (uint32_t c = 0; c < width; c++)
                out[k * ATOM + c] = w[c][t];
            continue;
        }
        struct atom a = {.m = {0}};
        open_atom(p, m->type, &a);
        for (uint32_t c = 0; c < width; c++) {
            const float q = (float)(a.w[c / 4][t][c % 4] - a.offset);
            const float factor = m->type == TENSOR_Q6_K ? (float)a.factor[c / 16][t] : 1.0f;
            out[k * ATOM + c] =
                m->type == TENSOR_Q4_1 ? fma1(q, a.d[t], a.m[t]) : a.d[t] * factor * q;
        }
    }
}

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .tile = tile_kernel,
    .lanes = lanes_kernel,
    .store = store_kernel,
    .rms_inverse = rms_inverse_kernel,
    .scale = scale_kernel,
    .combine = combine_kernel,
    .silu_mul = silu_mul_kernel,
    .rotate = rotate_kernel,
    .store_k = store_k_kernel,
    .store_v = store_v_kernel,
    .attention = attention_kernel,
    .unpack_row = unpack_row_kernel,
};
