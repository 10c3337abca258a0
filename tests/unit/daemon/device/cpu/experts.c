/* SPDX-License-Identifier: Apache-2.0 */
/* Which experts a row uses and how much each counts, against a plain sort in double precision, and
 * the same from every instruction set. */
#include "daemon/device/cpu/experts.h"

#include <math.h>
#include <stdlib.h>

#include "tests/check.h"

#define SETS_MAX 3

static uint64_t noise_state = 88172645463325252u;
static uint32_t draw(uint32_t below) {
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 7;
    noise_state ^= noise_state << 17;
    return (uint32_t)((noise_state >> 32) * below >> 32);
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

struct scored {
    double logit;
    uint32_t id;
};

static int by_logit(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The ids and weights that a sort gives. */
static void sort_out(const float *logits, uint32_t n, uint32_t n_used, bool normed, uint32_t *ids,
                     double *weights) {
    static struct scored all[EXPERTS_MAX];
    double total = 0, top = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        all[i] = (struct scored){(double)logits[i], i};
        top = fmax(top, (double)logits[i]);
    }
    qsort(all, n, sizeof *all, by_logit);
    for (uint32_t i = 0; i < (normed ? n_used : n); i++)
        total += exp(all[i].logit - top);
    qsort(all, n_used, sizeof *all, by_id);
    for (uint32_t i = 0; i < n_used; i++) {
        ids[i] = all[i].id;
        weights[i] = exp(all[i].logit - top) / total;
    }
}

/* Of few different values, so that many are equal; or of many. */
static void fill(float *logits, uint32_t n, uint32_t values) {
    for (uint32_t i = 0; i < n; i++)
        logits[i] = ((float)draw(values) / (float)values - 0.5f) * 12.0f;
}

static void the_largest_are_used_and_count_by_their_softmax(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    double worst = 0;
    for (int round = 0; round < 2000; round++) {
        const uint32_t n = 2 + draw(round % 8 ? 70 : EXPERTS_MAX - 1);
        const uint32_t n_used = 1 + draw(n < USED_MAX ? n : USED_MAX);
        const bool normed = draw(2);
        float logits[EXPERTS_MAX], left[EXPERTS_MAX], weights[USED_MAX], first[USED_MAX];
        uint32_t ids[USED_MAX], want[USED_MAX];
        double exact[USED_MAX];
        fill(logits, n, draw(2) ? 5 : 1u << 30);
        sort_out(logits, n, n_used, normed, want, exact);
        for (int s = 0; s < n_sets; s++) {
            memcpy(left, logits, sizeof left);
            experts_choose(sets[s], left, n, n_used, normed, ids, weights);
            CHECK(!memcmp(ids, want, n_used * sizeof *ids));
            if (s == 0)
                memcpy(first, weights, sizeof first);
            CHECK(!memcmp(weights, first, n_used * sizeof *weights));
        }
        for (uint32_t i = 0; i < n_used; i++)
            worst = fmax(worst, fabs((double)first[i] / exact[i] - 1));
    }
    printf("# largest relative error of a weight %.3g\n", worst);
    CHECK(worst < 2e-6);
}

static void of_equal_ones_the_lower_ids_are_used(void) {
    float logits[20], weights[4];
    uint32_t ids[4];
    for (uint32_t i = 0; i < 20; i++)
        logits[i] = i == 17 ? 2.0f : 1.0f;
    experts_choose(&kernels_portable, logits, 20, 4, true, ids, weights);
    CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 2 && ids[3] == 17);
    CHECK(weights[0] == weights[1] && weights[1] == weights[2] && weights[3] > weights[0]);
}

/* Whatever comes in, no expert is used twice and none that there is not. */
static void odd_logits_choose_experts_that_there_are(void) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, -3e38f, 1e-40f};
    for (int round = 0; round < 500; round++) {
        const uint32_t n = 2 + draw(40), n_used = 1 + draw(n < USED_MAX ? n : USED_MAX);
        float logits[64], weights[USED_MAX];
        uint32_t ids[USED_MAX];
        for (uint32_t i = 0; i < n; i++)
            logits[i] = odd[draw(sizeof odd / sizeof *odd)];
        experts_choose(&kernels_portable, logits, n, n_used, draw(2), ids, weights);
        for (uint32_t i = 0; i < n_used; i++)
            CHECK(ids[i] < n && (i == 0 || ids[i - 1] < ids[i]));
    }
}

/* --- kernels --- */

static void a_sigmoid_is_near_and_the_same_everywhere(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    double worst = 0;
    for (int round = 0; round < 500; round++) {
        const uint32_t n = 1 + draw(200);
        float x[200], w[200];
        double sum = 0, size = 0;
        fill(x, n, 1u << 30);
        fill(w, n, 1u << 30);
        for (uint32_t i = 0; i < n; i++) {
            w[i] *= 0.05f;
            sum += (double)x[i] * (double)w[i];
            size += fabs((double)x[i] * (double)w[i]);
        }
        const float want = kernels_portable.sigmoid(x, w, n);
        worst = fmax(worst, fabs((double)want * (1 + exp(-sum)) - 1) / (1 + size));
        for (int s = 1; s < n_sets; s++) {
            const float got = sets[s]->sigmoid(x, w, n);
            CHECK(!memcmp(&got, &want, sizeof got));
        }
    }
    printf("# sigmoid: largest error %.3g of 1 and the terms' size\n", worst);
    CHECK(worst < 1e-6);
}

static void weighted_sums_are_one_fma_each(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (int round = 0; round < 200; round++) {
        enum { ROWS = 9 };
        float sums[ROWS * TILE], want[ROWS * TILE], from[ROWS * TILE], weights[ROWS];
        uint32_t rows[ROWS], n = 0;
        fill(sums, ROWS * TILE, 1u << 30);
        fill(from, ROWS * TILE, 1u << 30);
        fill(weights, ROWS, 1u << 30);
        for (uint32_t r = 0; r < ROWS; r++)
            if (draw(2))
                rows[n++] = r;
        memcpy(want, sums, sizeof want);
        for (uint32_t i = 0; i < n; i++)
            for (int t = 0; t < TILE; t++)
                want[rows[i] * TILE + t] =
                    fmaf(weights[i], from[i * TILE + t], want[rows[i] * TILE + t]);
        for (int s = 0; s < n_sets; s++) {
            float got[ROWS * TILE];
            memcpy(got, sums, sizeof got);
            sets[s]->add_weighted(got, rows, weights, from, n);
            CHECK(!memcmp(got, want, sizeof got));
        }
    }
}

CHECK_MAIN(T(the_largest_are_used_and_count_by_their_softmax),
           T(of_equal_ones_the_lower_ids_are_used), T(odd_logits_choose_experts_that_there_are),
           T(a_sigmoid_is_near_and_the_same_everywhere), T(weighted_sums_are_one_fma_each))
