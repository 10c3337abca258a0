/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels that work on rows, and attention, against double precision; and the same bits from
 * every instruction set. */
#include <math.h>

#include "daemon/device/cpu/isa/kernels.h"
#include "tests/check.h"

#define SETS_MAX 3

static uint64_t noise_state = 88172645463325252u;
static float noise_float(void) {
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 7;
    noise_state ^= noise_state << 17;
    return (float)(int32_t)(noise_state >> 16) * 0x1p-31f;
}

static int usable_sets(const struct kernels *sets[SETS_MAX]) {
    int n = 0;
    sets[n++] = &kernels_portable;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sets[n++] = &kernels_avx2;
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        sets[n++] = &kernels_avx512;
    return n;
}

/* silu(x) * (1 + e^-x) / x = 1, so silu shows the error of exp: the committed bound is of
 * docs/numerics.md. */
static void exp_is_near_and_the_same_everywhere(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    double worst = 0;
    for (int i = -8600; i < 8600; i++) {
        float x[16], want[16], one[16];
        for (int t = 0; t < 16; t++) {
            x[t] = want[t] = (float)i * 0.01f + (float)t * 0.0006f;
            one[t] = 1.0f;
        }
        kernels_portable.silu_mul(want, one, 16);
        for (int t = 0; t < 16; t++) {
            const double exact = (double)x[t] / (1 + exp(-(double)x[t]));
            const double e = exact == 0 ? 0 : fabs(((double)want[t] - exact) / exact);
            worst = e > worst ? e : worst;
        }
        for (int set = 1; set < n_sets; set++) {
            float got[16];
            memcpy(got, x, sizeof got);
            sets[set]->silu_mul(got, one, 16);
            CHECK(!memcmp(got, want, sizeof got));
        }
    }
    printf("# silu: largest relative error %.3g\n", worst);
    CHECK(worst < 3e-7);
}

static void a_norm_is_near_and_the_same_everywhere(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    static const uint32_t sizes[] = {16, 32, 37, 576, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        float x[4096];
        double sum = 0;
        for (uint32_t k = 0; k < sizes[i]; k++) {
            x[k] = noise_float() * 3;
            sum += (double)x[k] * (double)x[k];
        }
        const float want = kernels_portable.rms_inverse(x, sizes[i], 1e-5f);
        CHECK(fabs((double)want * sqrt(sum / sizes[i] + 1e-5) - 1) < 1e-6);
        for (int set = 1; set < n_sets; set++) {
            const float got = sets[set]->rms_inverse(x, sizes[i], 1e-5f);
            CHECK(!memcmp(&got, &want, 4));
        }
    }
}

/* What an atom of the input becomes: 8-bit values, scale, sum. */
static void check_atom(const struct kernels *k, const float x[ATOM], int8_t q[ATOM], float *scale,
                       int32_t *sum) {
    float f[ATOM];
    const struct act_view act = {q, scale, sum, f, ATOM, FORM_Q8 | FORM_F32};
    k->store(&act, 0, 0, x, ATOM);
    CHECK(!memcmp(f, x, sizeof f));
}

static void inputs_are_rounded_to_the_nearest(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (int round = 0; round < 2000; round++) {
        float x[ATOM], largest = 0, scale, first_scale = 0;
        int8_t q[ATOM], first[ATOM];
        int32_t sum, total = 0;
        for (int i = 0; i < ATOM; i++) {
            x[i] = ldexpf(noise_float(), round % 60 - 30);
            largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        }
        for (int set = 0; set < n_sets; set++) {
            check_atom(sets[set], x, q, &scale, &sum);
            if (set == 0) {
                memcpy(first, q, sizeof q);
                first_scale = scale;
            }
            CHECK(!memcmp(first, q, sizeof q) && scale == first_scale);
        }
        CHECK(scale == largest / 127.0f);
        for (int i = 0; i < ATOM; i++) {
            CHECK(fabs((double)q[i] - (double)x[i] / (double)largest * 127) < 0.50002);
            total += q[i];
        }
        CHECK_EQ(sum, total);
    }
}

static void odd_inputs_are_defined(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (int set = 0; set < n_sets; set++) {
        float x[ATOM] = {0}, scale = 1;
        int8_t q[ATOM];
        int32_t sum = 1;
        check_atom(sets[set], x, q, &scale, &sum);
        CHECK(scale == 0.0f && sum == 0 && q[0] == 0);
        x[3] = 1e-40f; /* too small for a scale whose inverse is finite */
        check_atom(sets[set], x, q, &scale, &sum);
        CHECK(scale == 0.0f && sum == 0 && q[3] == 0);
        x[4] = INFINITY;
        check_atom(sets[set], x, q, &scale, &sum);
        CHECK(isinf(scale));
        x[5] = NAN;
        check_atom(sets[set], x, q, &scale, &sum);
        CHECK(isnan(scale)); /* and so is every sum it enters */
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

#define POSITIONS 600u /* two segments and a part */
#define N_PAGES   19u

struct cache {
    struct attention_job job;
    char *memory;
    uint32_t pages[N_PAGES];
    float *k, *v; /* [POSITIONS][head_dim] as given */
};

static void cache_init(struct cache *c, const struct kernels *set, enum kv_type type,
                       uint32_t head_dim, uint32_t shuffle) {
    const uint64_t half = ((uint64_t)PAGE_TOKENS * head_dim * 4 + 63 + 64) / 64 * 64;
    *c = (struct cache){.memory = aligned_alloc(64, N_PAGES * 2 * half + 64),
                        .k = malloc(POSITIONS * head_dim * 4),
                        .v = malloc(POSITIONS * head_dim * 4)};
    /* What was never written reads as NaN, so a masked position that is read shows. */
    memset(c->memory, 0xff, N_PAGES * 2 * half + 64);
    for (uint32_t p = 0; p < N_PAGES; p++)
        c->pages[p] = (p * shuffle + 5) % N_PAGES;
    c->job = (struct attention_job){.head_dim = head_dim,
                                    .pages = c->pages,
                                    .kv = c->memory,
                                    .page_bytes = 2 * half,
                                    .half_bytes = half,
                                    .type = type,
                                    .scale = 1.0f / sqrtf((float)head_dim)};
    noise_state = 4711;
    for (uint32_t at = 0; at < POSITIONS; at++) {
        char *page = c->memory + c->pages[at / PAGE_TOKENS] * 2 * half;
        for (uint32_t d = 0; d < head_dim; d++) {
            c->k[at * head_dim + d] = 3 * noise_float();
            c->v[at * head_dim + d] = noise_float();
        }
        set->store_k(page, type, head_dim, at % PAGE_TOKENS, c->k + at * head_dim);
        set->store_v(page + half, type, head_dim, at % PAGE_TOKENS, c->v + at * head_dim);
    }
}

static void cache_finish(struct cache *c) {
    free(c->memory);
    free(c->k);
    free(c->v);
}

/* Softmax attention in double precision; the largest difference from `got`. */
static double attention_error(const struct cache *c, const float *q, uint32_t n, const float *got) {
    const uint32_t dim = c->job.head_dim;
    double p[POSITIONS], top = -1e30, sum = 0, worst = 0;
    for (uint32_t at = 0; at < n; at++) {
        p[at] = 0;
        for (uint32_t d = 0; d < dim; d++)
            p[at] += (double)q[d] * (double)c->k[at * dim + d];
        p[at] *= (double)c->job.scale;
        top = p[at] > top ? p[at] : top;
    }
    for (uint32_t at = 0; at < n; at++)
        sum += p[at] = exp(p[at] - top);
    for (uint32_t d = 0; d < dim; d++) {
        double x = 0;
        for (uint32_t at = 0; at < n; at++)
            x += p[at] / sum * (double)c->v[at * dim + d];
        const double e = fabs(x - (double)got[d]);
        worst = e > worst || isnan(e) ? e : worst;
    }
    return worst;
}

#define QUERIES 17u

/* Seventeen queries, `some` at a time; query i sees n[i] positions. */
static void attend(const struct kernels *k, const struct cache *c, const float *q,
                   const uint32_t *n, uint32_t some, float *out) {
    struct attention_query queries[QUERIES];
    for (uint32_t i = 0; i < QUERIES; i++)
        queries[i] =
            (struct attention_query){q + i * c->job.head_dim, n[i], out + i * c->job.head_dim};
    for (uint32_t i = 0; i < QUERIES; i += some)
        k->attention(&c->job, queries + i, QUERIES - i < some ? QUERIES - i : some);
}

static void attention_is_near_and_the_same_however_it_is_cut(void) {
    static const struct {
        enum kv_type type;
        uint32_t head_dim;
        double bound;
    } cases[] = {{KV_F32, 64, 2e-6}, {KV_F16, 64, 2e-3},  {KV_Q8_0, 64, 3e-2}, {KV_F32, 8, 2e-6},
                 {KV_F16, 40, 2e-3}, {KV_F32, 128, 2e-6}, {KV_Q8_0, 96, 3e-2}};
    static const uint32_t counts[] = {1, 2, 3, 5, 12, QUERIES};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float q[QUERIES * 128], want[QUERIES * 128], got[QUERIES * 128];
        const uint32_t dim = cases[i].head_dim;
        uint32_t n[QUERIES];
        struct cache c;
        double worst = 0;
        for (uint32_t k = 0; k < QUERIES; k++)
            n[k] = k < 8 ? 1 + k * 5 : k < 12 ? 251 + k : POSITIONS - QUERIES + k + 1;
        cache_init(&c, sets[0], cases[i].type, dim, 1);
        for (uint32_t k = 0; k < QUERIES * dim; k++)
            q[k] = 2 * noise_float();
        attend(sets[0], &c, q, n, 1, want);
        for (uint32_t k = 0; k < QUERIES; k++) {
            const double e = attention_error(&c, q + k * dim, n[k], want + k * dim);
            worst = e > worst || isnan(e) ? e : worst;
        }
        printf("# kv type %d, head of %u: largest error %.2g\n", cases[i].type, dim, worst);
        CHECK(worst < cases[i].bound);
        cache_finish(&c);
        for (int set = 0; set < n_sets; set++)
            for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
                cache_init(&c, sets[set], cases[i].type, dim, 7);
                memset(got, 0, sizeof got);
                attend(sets[set], &c, q, n, counts[k], got);
                CHECK(!memcmp(got, want, QUERIES * dim * sizeof *got));
                cache_finish(&c);
            }
    }
}

CHECK_MAIN(T(exp_is_near_and_the_same_everywhere), T(a_norm_is_near_and_the_same_everywhere),
           T(inputs_are_rounded_to_the_nearest), T(odd_inputs_are_defined),
           T(attention_is_near_and_the_same_however_it_is_cut))
