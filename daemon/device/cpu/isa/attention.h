/* SPDX-License-Identifier: Apache-2.0 */
/* attention.h - KV pages, and queries against them.
 *
 * K of a page is [head_dim][PAGE_TOKENS], V is [PAGE_TOKENS][head_dim], so that neither needs a sum
 * across a register; q8_0 keeps the 8-bit values so and, behind them, f16 scales of 32 values along
 * the head: K [head_dim / 32][PAGE_TOKENS], V [PAGE_TOKENS][head_dim / 32].
 *
 * A query's result is made of segments of absolute positions, each a softmax of its own, merged
 * left to right; of the first one a query with a window may see the end only; a sink comes last, as
 * a segment of one position that has no value.  Every value is one
 * chain over d (scores) or over positions (sums), so it does not matter how many queries share a
 * pass over a page. */
#ifndef OCTARC_DEVICE_CPU_ISA_ATTENTION_H
#define OCTARC_DEVICE_CPU_ISA_ATTENTION_H

#include <math.h>

#include "daemon/device/cpu/isa/matmul.h"
#include "daemon/device/cpu/isa/scalar.h"

#define SEGMENT       256 /* positions whose softmax is taken at once */
#define SEGMENT_PAGES (SEGMENT / PAGE_TOKENS)
#define PAGE_VECS     (PAGE_TOKENS / TILE)

/* Sums that stay in registers: of how many pages for a query alone, so that they need not wait for
 * each other; of how many vectors of a page, or of V, for a group of queries. */
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#define PAGES_AT_ONCE  2
#define SCORE_VECS(w)  ((w) > 2 ? 1 : 2)
#define WEIGH_TILES(w) ((w) > 2 ? 1 : (w) > 1 ? 2 : 4)
#define QUERIES_MAX    6 /* twelve sums: four would have to wait for their own last product */
#else
#define PAGES_AT_ONCE  4
#define SCORE_VECS(w)  2
#define WEIGH_TILES(w) ((w) <= 4 ? 4 : 2)
#define QUERIES_MAX    GROUP_MAX
#endif
#define SCORES_MAX ((QUERIES_MAX > PAGES_AT_ONCE ? QUERIES_MAX : PAGES_AT_ONCE) * PAGE_VECS)

/* Groups of queries are those of rows, or of six. */
INLINE uint32_t queries_of(uint32_t n) {
    return QUERIES_MAX == 6 && n >= 6 ? 6 : group_of(n);
}
INLINE uint32_t queries_index(uint32_t n) {
    return QUERIES_MAX == 6 && n == 6 ? 3 : group_index(n);
}
#if QUERIES_MAX == 6
#define BY_QUERIES(name)                                                                           \
    { name##_1, name##_2, name##_4, name##_6 }
#define EACH_QUERIES(make, ...) EACH_GROUP(make, __VA_ARGS__) make(__VA_ARGS__, 6)
#else
#define BY_QUERIES   BY_GROUP
#define EACH_QUERIES EACH_GROUP
#endif

static void quantise_kv(const float *x, int8_t *q, uint16_t *scale) {
    float largest = 0;
    for (int i = 0; i < ATOM; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    *scale = half_of(largest / 127.0f);
    const float d = float_of_half(*scale), inverse = d > 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < ATOM; i++) {
        float v = x[i] * inverse;
        v = v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v;
        q[i] = (int8_t)round_to_int(v);
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

/* Positions [16j, 16j + 16) of row d of a page's K. */
INLINE vf read_k(enum kv_type type, const char *page, uint32_t head_dim, uint32_t d, int j) {
    const uint32_t at = d * PAGE_TOKENS + (uint32_t)j * TILE;
    if (type == KV_F32)
        return vf_load((const float *)(const void *)page + at);
    if (type == KV_F16)
        return vf_halves(page + at * 2);
    const char *scales = page + head_dim * PAGE_TOKENS;
    return vf_mul(vf_halves(scales + 2 * (d / ATOM * PAGE_TOKENS + (uint32_t)j * TILE)),
                  vf_bytes(page + at));
}

/* Values [d, d + 16) of V at position `at` of a page; fewer, then zeros, where the head ends
 * (`last`). */
INLINE vf read_v(enum kv_type type, const char *page, uint32_t head_dim, uint32_t at, uint32_t d,
                 bool last) {
    const uint32_t from = at * head_dim + d, width = head_dim - d;
    if (last && type != KV_Q8_0) {
        union {
            float f[TILE];
            uint16_t h[TILE];
        } part = {.f = {0}};
        const uint32_t size = type == KV_F32 ? 4 : 2;
        memcpy(&part, page + from * size, width * size);
        return type == KV_F32 ? vf_load(part.f) : vf_halves(part.h);
    }
    if (type == KV_F32)
        return vf_load((const float *)(const void *)page + from);
    if (type == KV_F16)
        return vf_halves(page + from * 2);
    uint16_t scale;
    memcpy(&scale, page + head_dim * PAGE_TOKENS + 2 * (at * (head_dim / ATOM) + d / ATOM), 2);
    return vf_mul(vf_set(float_of_half(scale)), vf_bytes(page + from));
}

/* Scores of `width` queries against vectors [first, first + vecs) of `pages` pages, into the
 * queries' rows of p. */
INLINE void score(enum kv_type type, uint32_t width, uint32_t pages, uint32_t first, uint32_t vecs,
                  const struct attention_job *job, const struct attention_query *q,
                  const char *const *page, float (*p)[SEGMENT]) {
    vf s[SCORES_MAX];
    UNROLL for (uint32_t i = 0; i < width * pages * vecs; i++) s[i] = vf_set(0.0f);
    for (uint32_t d = 0; d < job->head_dim; d++)
        UNROLL for (uint32_t g = 0; g < pages; g++) {
            vf k[PAGE_VECS];
            UNROLL for (uint32_t j = 0; j < vecs; j++) k[j] =
                read_k(type, page[g], job->head_dim, d, (int)(first + j));
            UNROLL for (uint32_t i = 0; i < width; i++) {
                const vf x = vf_set(q[i].q[d]);
                UNROLL for (uint32_t j = 0; j < vecs; j++) s[(i * pages + g) * vecs + j] =
                    vf_fma(x, k[j], s[(i * pages + g) * vecs + j]);
            }
        }
    UNROLL for (uint32_t i = 0; i < width; i++) UNROLL for (uint32_t g = 0; g < pages; g++)
        UNROLL for (uint32_t j = 0; j < vecs; j++)
            vf_store(&p[i][g * PAGE_TOKENS + (first + j) * TILE],
                     vf_mul(s[(i * pages + g) * vecs + j], vf_set(job->scale)));
}

/* sum[i][d .. d + 16 * tiles) += positions [from, to) of a segment, one after another, each times
 * its weight.  `last`: the head ends inside of the only tile. */
INLINE void weigh(enum kv_type type, uint32_t width, uint32_t tiles, bool last,
                  const struct attention_job *job, const char *const *page, uint32_t from,
                  uint32_t to, float (*p)[SEGMENT], uint32_t d, float *sum) {
    vf acc[QUERIES_MAX * 4];
    UNROLL for (uint32_t i = 0; i < width; i++) UNROLL for (uint32_t t = 0; t < tiles; t++)
        acc[i * tiles + t] = vf_load(sum + i * ATTENTION_DIM_MAX + d + t * TILE);
    for (uint32_t at = from, end; at < to; at = end) {
        const char *v = page[at / PAGE_TOKENS] + job->half_bytes;
        end = (at / PAGE_TOKENS + 1) * PAGE_TOKENS < to ? (at / PAGE_TOKENS + 1) * PAGE_TOKENS : to;
        for (uint32_t k = at; k < end; k++)
            UNROLL for (uint32_t t = 0; t < tiles; t++) {
                const vf x = read_v(type, v, job->head_dim, k % PAGE_TOKENS, d + t * TILE, last);
                UNROLL for (uint32_t i = 0; i < width; i++) acc[i * tiles + t] =
                    vf_fma(vf_set(p[i][k]), x, acc[i * tiles + t]);
            }
    }
    UNROLL for (uint32_t i = 0; i < width; i++) UNROLL for (uint32_t t = 0; t < tiles; t++)
        vf_store(sum + i * ATTENTION_DIM_MAX + d + t * TILE, acc[i * tiles + t]);
}

/* All pages of a segment for a group of queries. */
INLINE void score_all(enum kv_type type, uint32_t width, const struct attention_job *job,
                      const struct attention_query *q, const char *const *page, uint32_t n_pages,
                      float (*p)[SEGMENT]) {
    uint32_t g = 0;
    if (width == 1)
        for (; g + PAGES_AT_ONCE <= n_pages; g += PAGES_AT_ONCE)
            score(type, 1, PAGES_AT_ONCE, 0, PAGE_VECS, job, q, page + g,
                  (float(*)[SEGMENT]) & p[0][g * PAGE_TOKENS]);
    for (; g < n_pages; g++)
        UNROLL for (uint32_t j = 0; j < PAGE_VECS; j += SCORE_VECS(width))
            score(type, width, 1, j, SCORE_VECS(width), job, q, page + g,
                  (float(*)[SEGMENT]) & p[0][g * PAGE_TOKENS]);
}

INLINE void weigh_all(enum kv_type type, uint32_t width, const struct attention_job *job,
                      const char *const *page, uint32_t from, uint32_t to, float (*p)[SEGMENT],
                      float *sum) {
    const uint32_t tiles = WEIGH_TILES(width), dim = job->head_dim;
    uint32_t d = 0;
    for (; d + tiles * TILE <= dim; d += tiles * TILE)
        weigh(type, width, tiles, false, job, page, from, to, p, d, sum);
    for (; tiles > 1 && d + TILE <= dim; d += TILE)
        weigh(type, width, 1, false, job, page, from, to, p, d, sum);
    if (d < dim)
        weigh(type, width, 1, true, job, page, from, to, p, d, sum);
}

#define ATTEND(name, type, width)                                                                  \
    static void score_##name##_##width(const struct attention_job *job,                            \
                                       const struct attention_query *q, const char *const *page,   \
                                       uint32_t n_pages, float(*p)[SEGMENT]) {                     \
        score_all(type, width, job, q, page, n_pages, p);                                          \
    }                                                                                              \
    static void weigh_##name##_##width(const struct attention_job *job, const char *const *page,   \
                                       uint32_t from, uint32_t to, float(*p)[SEGMENT],             \
                                       float *sum) {                                               \
        weigh_all(type, width, job, page, from, to, p, sum);                                       \
    }
EACH_QUERIES(ATTEND, f16, KV_F16)
EACH_QUERIES(ATTEND, f32, KV_F32)
EACH_QUERIES(ATTEND, q8, KV_Q8_0)

typedef void score_fn(const struct attention_job *job, const struct attention_query *q,
                      const char *const *page, uint32_t n_pages, float (*p)[SEGMENT]);
typedef void weigh_fn(const struct attention_job *job, const char *const *page, uint32_t from,
                      uint32_t to, float (*p)[SEGMENT], float *sum);

static score_fn *const score_fns[][5] = {
    [KV_F16] = BY_QUERIES(score_f16),
    [KV_F32] = BY_QUERIES(score_f32),
    [KV_Q8_0] = BY_QUERIES(score_q8),
};
static weigh_fn *const weigh_fns[][5] = {
    [KV_F16] = BY_QUERIES(weigh_f16),
    [KV_F32] = BY_QUERIES(weigh_f32),
    [KV_Q8_0] = BY_QUERIES(weigh_q8),
};

/* What a query carries from segment to segment. */
struct attention_state {
    float top, sum;
};

/* Softmax of positions [first, n) of one segment: p, its largest score and the sum of p. */
static struct attention_state soften(float *p, uint32_t first, uint32_t n, float soft_cap) {
    const uint32_t begin = first / TILE * TILE;
    const uint32_t padded = (n + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS;
    vf most = vf_set(-INFINITY), more = most, sum = vf_set(0.0f);
    for (uint32_t i = begin; soft_cap > 0 && i < padded; i += TILE)
        vf_store(p + i, vf_soft_cap(vf_load(p + i), soft_cap));
    for (uint32_t i = begin; i < first; i++)
        p[i] = -INFINITY;
    for (uint32_t i = n; i < padded; i++)
        p[i] = -INFINITY;
    uint32_t at = begin;
    for (; at + 2 * TILE <= padded; at += 2 * TILE) { /* neither waits for the other */
        most = vf_max(vf_load(p + at), most);
        more = vf_max(vf_load(p + at + TILE), more);
    }
    for (; at < padded; at += TILE)
        most = vf_max(vf_load(p + at), most);
    const float top = vf_top(vf_max(most, more));
    for (uint32_t i = begin; i < padded; i += TILE) {
        const vf weight = vf_exp(vf_sub(vf_load(p + i), vf_set(top)));
        vf_store(p + i, weight);
        sum = vf_add(sum, weight);
    }
    return (struct attention_state){top, vf_fold(sum)};
}

/* out = the first segment's sum, or the result so far and it, each scaled to the higher top. */
static void merge(struct attention_state *state, struct attention_state segment, bool first,
                  const float *sum, float *out, uint32_t head_dim) {
    if (first) {
        *state = segment;
        memcpy(out, sum, head_dim * sizeof *out);
        return;
    }
    const float high = segment.top > state->top ? segment.top : state->top;
    float scale[TILE] = {state->top - high, segment.top - high};
    vf_store(scale, vf_exp(vf_load(scale)));
    state->sum = fma1(segment.sum, scale[1], state->sum * scale[0]);
    state->top = high;
    for (uint32_t d = 0; d < head_dim; d++)
        out[d] = fma1(sum[d], scale[1], out[d] * scale[0]);
}

/* The softmax has one score more, whose share is nobody's. */
static void merge_sink(struct attention_state *state, float sink, float *out, uint32_t head_dim) {
    const float high = sink > state->top ? sink : state->top;
    float scale[TILE] = {state->top - high, sink - high};
    vf_store(scale, vf_exp(vf_load(scale)));
    state->sum = fma1(state->sum, scale[0], scale[1]);
    for (uint32_t d = 0; d < head_dim; d++)
        out[d] *= scale[0];
}

/* One segment for `width` queries that all reach into it; width is a group's. */
static void attend_segment(const struct attention_job *job, const struct attention_query *q,
                           struct attention_state *state, uint32_t width, uint32_t begin) {
    float p[QUERIES_MAX][SEGMENT], sum[QUERIES_MAX * ATTENTION_DIM_MAX];
    const char *page[SEGMENT_PAGES] = {NULL};
    struct attention_state segment[QUERIES_MAX];
    uint32_t first[QUERIES_MAX], n[QUERIES_MAX], least = SEGMENT, most = 0;
    uint32_t earliest = SEGMENT, latest = 0; /* of the first positions */
    for (uint32_t i = 0; i < width; i++) {
        first[i] = q[i].first > begin ? q[i].first - begin : 0;
        earliest = first[i] < earliest ? first[i] : earliest;
        latest = first[i] > latest ? first[i] : latest;
        n[i] = q[i].n_positions - begin < SEGMENT ? q[i].n_positions - begin : SEGMENT;
        least = n[i] < least ? n[i] : least;
        most = n[i] > most ? n[i] : most;
    }
    const uint32_t n_pages = (most + PAGE_TOKENS - 1) / PAGE_TOKENS;
    const uint32_t first_page = earliest / PAGE_TOKENS;
    least = least > latest ? least : latest;
    for (uint32_t g = first_page; g < n_pages; g++)
        page[g] = job->kv + job->pages[begin / PAGE_TOKENS + g] * job->page_bytes;
    score_fns[job->type][queries_index(width)](job, q, page + first_page, n_pages - first_page,
                                               (float(*)[SEGMENT]) &
                                                   p[0][first_page * PAGE_TOKENS]);
    for (uint32_t i = 0; i < width; i++) {
        segment[i] = soften(p[i], first[i], n[i], job->soft_cap);
        for (uint32_t d = 0; d < job->head_dim + TILE - 1; d++)
            sum[i * ATTENTION_DIM_MAX + d] = 0.0f;
    }
    for (uint32_t i = 0; i < width; i++)
        if (first[i] < latest) /* positions that the group's latest query must not see */
            weigh_fns[job->type][0](job, page, first[i], n[i] < latest ? n[i] : latest, &p[i],
                                    sum + i * ATTENTION_DIM_MAX);
    weigh_fns[job->type][queries_index(width)](job, page, latest, least, p, sum);
    for (uint32_t i = 0; i < width; i++) {
        float *own = sum + i * ATTENTION_DIM_MAX;
        if (n[i] > least) /* and its earliest one */
            weigh_fns[job->type][0](job, page, least, n[i], &p[i], own);
        merge(&state[i], segment[i], q[i].first >= begin, own, q[i].out, job->head_dim);
    }
}

/* It sees some of the segment. */
INLINE bool reaches(const struct attention_query *q, uint32_t begin) {
    return q->n_positions > begin && q->first < begin + SEGMENT;
}

static void attention_kernel(const struct attention_job *job, const struct attention_query *q,
                             uint32_t n) {
    struct attention_state state[QUERIES_MAX];
    for (uint32_t i = 0, w; i < n; i += w) {
        uint32_t first = UINT32_MAX, end = 0;
        w = queries_of(n - i);
        for (uint32_t j = i; j < i + w; j++) {
            first = q[j].first < first ? q[j].first : first;
            end = q[j].n_positions > end ? q[j].n_positions : end;
        }
        for (uint32_t begin = first / SEGMENT * SEGMENT; begin < end; begin += SEGMENT) {
            bool all = true;
            for (uint32_t j = 0; j < w; j++)
                all &= reaches(&q[i + j], begin);
            for (uint32_t j = 0; !all && j < w; j++)
                if (reaches(&q[i + j], begin))
                    attend_segment(job, q + i + j, state + j, 1, begin);
            if (all)
                attend_segment(job, q + i, state, w, begin);
        }
        for (uint32_t j = 0; j < w; j++) {
            if (q[i + j].sink)
                merge_sink(&state[j], *q[i + j].sink, q[i + j].out, job->head_dim);
            const float inverse = 1.0f / state[j].sum;
            for (uint32_t d = 0; d < job->head_dim; d++)
                q[i + j].out[d] *= inverse;
        }
    }
}

#endif
