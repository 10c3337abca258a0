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
        kernels_portable.silu_mul(want, TILE, one, 1, 16);
        for (int t = 0; t < 16; t++) {
            const double exact = (double)x[t] / (1 + exp(-(double)x[t]));
            const double e = exact == 0 ? 0 : fabs(((double)want[t] - exact) / exact);
            worst = e > worst ? e : worst;
        }
        for (int set = 1; set < n_sets; set++) {
            float got[16];
            memcpy(got, x, sizeof got);
            sets[set]->silu_mul(got, TILE, one, 1, 16);
            CHECK(!memcmp(got, want, sizeof got));
        }
    }
    printf("# silu: largest relative error %.3g\n", worst);
    CHECK(worst < 3e-7);
}

/* Rows of any width, apart as far as is said, are each what it is alone; between them nothing is
 * written. */
static void gates_of_many_rows_are_those_of_one(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    enum { ROWS = 5, STRIDE = 40 };
    for (int set = 0; set < n_sets; set++)
        for (uint32_t n = 3; n <= TILE; n += 13) {
            float gate[ROWS][STRIDE], want[ROWS][STRIDE], up[ROWS][TILE];
            for (int i = 0; i < ROWS * STRIDE; i++)
                (&gate[0][0])[i] = (&want[0][0])[i] = 4 * noise_float();
            for (int i = 0; i < ROWS * TILE; i++)
                (&up[0][0])[i] = noise_float();
            for (int r = 0; r < ROWS; r++)
                kernels_portable.gelu_mul(want[r], TILE, up[r], 1, n);
            sets[set]->gelu_mul(&gate[0][0], STRIDE, &up[0][0], ROWS, n);
            CHECK(!memcmp(gate, want, sizeof gate));
        }
}

/* The bounds are of docs/numerics.md.  A gelu of large negative gates is tiny, and so is its error,
 * which is compared with the gate. */
static void gelu_is_near_and_the_same_everywhere(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    double worst = 0;
    for (int i = -8600; i < 8600; i++) {
        float x[16], want[16], one[16];
        for (int t = 0; t < 16; t++) {
            x[t] = want[t] = (float)i * 0.002f + (float)t * 0.00012f;
            one[t] = 1.0f;
        }
        kernels_portable.gelu_mul(want, TILE, one, 1, 16);
        for (int t = 0; t < 16; t++) {
            const double v = (double)x[t];
            const double u = sqrt(2 / acos(-1)) * (v + 0.044715 * v * v * v);
            const double e = v == 0 ? 0 : fabs(((double)want[t] - v / (1 + exp(-2 * u))) / v);
            worst = e > worst ? e : worst;
        }
        for (int set = 1; set < n_sets; set++) {
            float got[16];
            memcpy(got, x, sizeof got);
            sets[set]->gelu_mul(got, TILE, one, 1, 16);
            CHECK(!memcmp(got, want, sizeof got));
        }
    }
    printf("# gelu: largest error, of the gate, %.3g\n", worst);
    CHECK(worst < 3e-7);
}

/* Gate and other half beyond their limits too; the bound is of docs/numerics.md. */
static void a_limited_gate_is_near_and_the_same_everywhere(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    double worst = 0;
    for (int i = -6000; i < 2000; i++) {
        float x[16], up[16], want[16];
        for (int t = 0; t < 16; t++) {
            x[t] = want[t] = (float)i * 0.007f + (float)t * 0.00041f;
            up[t] = noise_float() * 9;
        }
        kernels_portable.limited_mul(want, TILE, up, 1, 16);
        for (int t = 0; t < 16; t++) {
            const double g = fmin((double)x[t], 7), u = fmin(fmax((double)up[t], -7), 7) + 1;
            const double exact = g / (1 + exp(-1.702 * g)) * u;
            const double e =
                exact == 0 ? 0 : fabs((double)want[t] - exact) / fabs(g * (1 + fabs(u)));
            worst = e > worst ? e : worst;
        }
        for (int set = 0; set < n_sets; set++) {
            float got[16];
            memcpy(got, x, sizeof got);
            sets[set]->limited_mul(got, TILE, up, 1, 5);
            sets[set]->limited_mul(got + 5, TILE, up + 5, 1, 11);
            CHECK(!memcmp(got, want, sizeof got));
        }
    }
    printf("# limited gate: largest error, of the gate times the other half and one, %.3g\n",
           worst);
    CHECK(worst < 3e-7);
    for (int set = 0; set < n_sets; set++) {
        float gate[4] = {NAN, 2, INFINITY, -INFINITY}, up[4] = {1, NAN, -INFINITY, 3};
        sets[set]->limited_mul(gate, TILE, up, 1, 4);
        CHECK(isnan(gate[0]) && isnan(gate[1]) && fabsf(gate[2] + 42) < 0.001f);
    }
}

static void a_soft_cap_is_near_and_the_same_everywhere(void) {
    static const float caps[] = {1.0f, 30.0f, 50.0f};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    double worst = 0;
    for (size_t c = 0; c < 3; c++)
        for (int i = -4000; i < 4000; i++) {
            float x[16], want[16];
            for (int t = 0; t < 16; t++)
                x[t] = want[t] =
                    caps[c] * ((float)i * 0.003f + (float)t * 0.00019f) * (i % 7 ? 1.0f : 1e-4f);
            kernels_portable.soft_cap(want, caps[c], 16);
            for (int t = 0; t < 16; t++) {
                const double exact = (double)caps[c] * tanh((double)x[t] / (double)caps[c]);
                const double e = exact == 0 ? 0 : fabs(((double)want[t] - exact) / exact);
                worst = e > worst ? e : worst;
                CHECK(fabsf(want[t]) <= caps[c]);
            }
            for (int set = 0; set < n_sets; set++) {
                float got[16];
                memcpy(got, x, sizeof got);
                sets[set]->soft_cap(got, caps[c], 5);
                sets[set]->soft_cap(got + 5, caps[c], 11);
                CHECK(!memcmp(got, want, sizeof got));
            }
        }
    printf("# soft cap: largest relative error %.3g\n", worst);
    CHECK(worst < 4e-7);
    for (int set = 0; set < n_sets; set++) {
        float odd[3] = {INFINITY, -INFINITY, NAN};
        sets[set]->soft_cap(odd, 30.0f, 3);
        CHECK(odd[0] == 30.0f && odd[1] == -30.0f && isnan(odd[2]));
    }
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

/* The first of n positions that a window (0: none) lets see. */
static uint32_t first_seen(uint32_t n, uint32_t window) {
    return window && n > window ? n - window : 0;
}

/* Softmax attention in double precision; the largest difference from `got`. */
static double attention_error(const struct cache *c, const float *q, uint32_t first, uint32_t n,
                              const float *sink, const float *got) {
    const uint32_t dim = c->job.head_dim;
    const double cap = (double)c->job.soft_cap;
    double p[POSITIONS], top = sink ? (double)*sink : -1e30, sum = 0, worst = 0;
    for (uint32_t at = first; at < n; at++) {
        p[at] = 0;
        for (uint32_t d = 0; d < dim; d++)
            p[at] += (double)q[d] * (double)c->k[at * dim + d];
        p[at] *= (double)c->job.scale;
        p[at] = cap > 0 ? cap * tanh(p[at] / cap) : p[at];
        top = p[at] > top ? p[at] : top;
    }
    for (uint32_t at = first; at < n; at++)
        sum += p[at] = exp(p[at] - top);
    sum += sink ? exp((double)*sink - top) : 0;
    for (uint32_t d = 0; d < dim; d++) {
        double x = 0;
        for (uint32_t at = first; at < n; at++)
            x += p[at] / sum * (double)c->v[at * dim + d];
        const double e = fabs(x - (double)got[d]);
        worst = e > worst || isnan(e) ? e : worst;
    }
    return worst;
}

#define QUERIES 17u

/* Seventeen queries, `some` at a time; query i sees n[i] positions, or the last of them.  Sinks, of
 * each query one, or NULL. */
static void attend(const struct kernels *k, const struct cache *c, const float *q,
                   const uint32_t *n, uint32_t window, const float *sinks, uint32_t some,
                   float *out) {
    struct attention_query queries[QUERIES];
    for (uint32_t i = 0; i < QUERIES; i++)
        queries[i] =
            (struct attention_query){q + i * c->job.head_dim, n[i], out + i * c->job.head_dim,
                                     first_seen(n[i], window), sinks ? sinks + i : NULL};
    for (uint32_t i = 0; i < QUERIES; i += some)
        k->attention(&c->job, queries + i, QUERIES - i < some ? QUERIES - i : some);
}

static void attention_is_near_and_the_same_however_it_is_cut(void) {
    static const struct {
        enum kv_type type;
        uint32_t head_dim;
        double bound;
        uint32_t window;
        float soft_cap;
        float sink; /* of the first query; the others' are about as large; 0: none */
    } cases[] = {{KV_F32, 64, 2e-6, 0, 0, 0},        {KV_F16, 64, 2e-3, 0, 0, 0},
                 {KV_Q8_0, 64, 3e-2, 0, 0, 0},       {KV_F32, 8, 2e-6, 0, 0, 0},
                 {KV_F16, 40, 2e-3, 0, 0, 0},        {KV_F32, 128, 2e-6, 0, 0, 0},
                 {KV_Q8_0, 96, 3e-2, 0, 0, 0},       {KV_F32, 64, 2e-6, 1, 0, 0},
                 {KV_F32, 64, 2e-6, 4, 0, 0},        {KV_F32, 64, 2e-6, 16, 2.0f, 0},
                 {KV_F16, 64, 2e-3, 300, 0, 0},      {KV_F32, 32, 2e-6, 256, 1.0f, 0},
                 {KV_Q8_0, 64, 3e-2, 33, 5.0f, 0},   {KV_F32, 64, 2e-6, 0, 0, 0.5f},
                 {KV_F32, 64, 2e-6, 128, 0, 9.0f},   {KV_F16, 40, 2e-3, 1, 0, -2.0f},
                 {KV_F32, 32, 2e-6, 300, 0, -300.0f}};
    static const uint32_t counts[] = {1, 2, 3, 5, 12, QUERIES};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float q[QUERIES * 128], want[QUERIES * 128], got[QUERIES * 128];
        const uint32_t dim = cases[i].head_dim;
        float sinks[QUERIES];
        uint32_t n[QUERIES];
        struct cache c;
        double worst = 0;
        for (uint32_t k = 0; k < QUERIES; k++)
            n[k] = k < 8 ? 1 + k * 5 : k < 12 ? 251 + k : POSITIONS - QUERIES + k + 1;
        cache_init(&c, sets[0], cases[i].type, dim, 1);
        c.job.soft_cap = cases[i].soft_cap;
        for (uint32_t k = 0; k < QUERIES * dim; k++)
            q[k] = 2 * noise_float();
        for (uint32_t k = 0; k < QUERIES; k++)
            sinks[k] = cases[i].sink * (1 + 0.1f * (float)k);
        const float *given = cases[i].sink != 0 ? sinks : NULL;
        attend(sets[0], &c, q, n, cases[i].window, given, 1, want);
        for (uint32_t k = 0; k < QUERIES; k++) {
            const double e = attention_error(&c, q + k * dim, first_seen(n[k], cases[i].window),
                                             n[k], given ? given + k : NULL, want + k * dim);
            worst = e > worst || isnan(e) ? e : worst;
        }
        printf("# kv type %d, head of %u, window %u: largest error %.2g\n", cases[i].type, dim,
               cases[i].window, worst);
        CHECK(worst < cases[i].bound);
        cache_finish(&c);
        for (int set = 0; set < n_sets; set++)
            for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
                cache_init(&c, sets[set], cases[i].type, dim, 7);
                c.job.soft_cap = cases[i].soft_cap;
                memset(got, 0, sizeof got);
                attend(sets[set], &c, q, n, cases[i].window, given, counts[k], got);
                CHECK(!memcmp(got, want, QUERIES * dim * sizeof *got));
                cache_finish(&c);
            }
    }
}

/* Neither K nor V of a position that no query sees any more is used, whatever it holds by then. */
static void what_left_every_window_is_not_used(void) {
    static const uint32_t windows[] = {1, 16, 70, 256, 401};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    enum { DIM = 64 };
    for (int set = 0; set < n_sets; set++)
        for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
            float q[QUERIES * DIM], want[QUERIES * DIM] = {0}, got[QUERIES * DIM] = {0};
            float gone[DIM];
            uint32_t n[QUERIES];
            struct cache c;
            cache_init(&c, sets[set], KV_F32, DIM, 7);
            for (uint32_t k = 0; k < QUERIES * DIM; k++)
                q[k] = 2 * noise_float();
            for (uint32_t k = 0; k < QUERIES; k++)
                n[k] = POSITIONS - QUERIES + k + 1;
            for (uint32_t d = 0; d < DIM; d++)
                gone[d] = d % 2 ? NAN : INFINITY;
            attend(sets[set], &c, q, n, windows[i], NULL, 12, want);
            for (uint32_t at = 0; at < first_seen(n[0], windows[i]); at++) {
                char *page = c.memory + c.pages[at / PAGE_TOKENS] * c.job.page_bytes;
                sets[set]->store_k(page, KV_F32, DIM, at % PAGE_TOKENS, gone);
                sets[set]->store_v(page + c.job.half_bytes, KV_F32, DIM, at % PAGE_TOKENS, gone);
            }
            attend(sets[set], &c, q, n, windows[i], NULL, 12, got);
            CHECK(!memcmp(got, want, sizeof got));
            cache_finish(&c);
        }
}

CHECK_MAIN(T(exp_is_near_and_the_same_everywhere), T(gates_of_many_rows_are_those_of_one),
           T(gelu_is_near_and_the_same_everywhere),
           T(a_limited_gate_is_near_and_the_same_everywhere),
           T(a_soft_cap_is_near_and_the_same_everywhere), T(a_norm_is_near_and_the_same_everywhere),
           T(inputs_are_rounded_to_the_nearest), T(odd_inputs_are_defined),
           T(attention_is_near_and_the_same_however_it_is_cut),
           T(what_left_every_window_is_not_used))
