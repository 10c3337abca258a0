/* SPDX-License-Identifier: Apache-2.0 */
/* The passes over a vocabulary against the same in double precision, at every length near a vector
 * and a chunk, where the last values stand alone. */
#include "daemon/engine/logits.h"

#include <math.h>

#include "tests/check.h"

#define LONGEST 2100u

static float x[LONGEST], w[LONGEST];
static double sums[4];

static void fill(void) {
    for (uint32_t i = 0; i < LONGEST; i++)
        x[i] = (float)((i * 2654435761u >> 8) % 20000) / 1000.0f - 12.0f;
}

static const uint32_t lengths[] = {1, 2, 3, 4, 5, 15, 16, 17, 31, 1023, 1024, 1025, 2048, 2099};
#define N_LENGTHS (sizeof lengths / sizeof *lengths)

static void the_largest_is_found_wherever_it_is(void) {
    fill();
    for (size_t k = 0; k < N_LENGTHS; k++)
        for (uint32_t at = 0; at<lengths[k]; at += lengths[k]> 64 ? 37 : 1) {
            const float was = x[at];
            x[at] = 99;
            CHECK_EQ(logits_largest(x, lengths[k]), at);
            if (at + 1 < lengths[k]) { /* the first of two */
                const float last = x[lengths[k] - 1];
                x[lengths[k] - 1] = 99;
                CHECK_EQ(logits_largest(x, lengths[k]), at);
                x[lengths[k] - 1] = last;
            }
            x[at] = was;
        }
}

static void nothing_is_largest_where_no_token_is_possible(void) {
    for (size_t k = 0; k < N_LENGTHS; k++)
        for (uint32_t at = 0; at<lengths[k]; at += lengths[k]> 64 ? 37 : 1) {
            fill();
            x[at] = NAN;
            CHECK_EQ(logits_largest(x, lengths[k]), -1);
            x[at] = INFINITY;
            CHECK_EQ(logits_largest(x, lengths[k]), -1);
        }
    for (uint32_t i = 0; i < LONGEST; i++)
        x[i] = -INFINITY;
    CHECK_EQ(logits_largest(x, LONGEST), -1);
    x[LONGEST - 1] = -3;
    CHECK_EQ(logits_largest(x, LONGEST), LONGEST - 1);
}

static void weights_are_the_exponential(void) {
    double worst = 0;
    for (uint32_t i = 0; i < LONGEST; i++)
        x[i] = -(float)i * 0.0413f;
    logits_weights(x, LONGEST, 0, 1, w);
    for (uint32_t i = 0; i < LONGEST && x[i] >= -87; i++)
        worst = fmax(worst, fabs((double)w[i] / exp((double)x[i]) - 1));
    printf("# largest relative error %.2g\n", worst);
    CHECK(worst < 3e-7);
    x[0] = -INFINITY, x[1] = -87.5f, x[2] = -1e30f;
    logits_weights(x, 3, 0, 1, w);
    CHECK(w[0] == 0 && w[1] == 0 && w[2] == 0);
    x[0] = 5, x[1] = 4;
    logits_weights(x, 2, 5, 1e6f, w); /* a temperature near 0 */
    CHECK(w[0] == 1 && w[1] == 0);
}

static void sums_hold_every_value_once(void) {
    fill();
    for (size_t k = 0; k < N_LENGTHS; k++) {
        const uint32_t n = lengths[k];
        double want = 0, parts = 0;
        for (uint32_t i = 0; i < n; i++)
            want += exp(((double)x[i] - 9) * 0.5);
        const double got = logits_sums(x, n, 9, 0.5f, sums);
        for (uint32_t c = 0; c < logits_chunks(n); c++)
            parts += sums[c];
        CHECK(fabs(got / want - 1) < 1e-6);
        CHECK(parts == got);
    }
}

static void the_next_above_is_never_passed_over(void) {
    fill();
    for (size_t k = 0; k < N_LENGTHS; k++) {
        uint32_t at = 0;
        for (uint32_t i = 0; i < lengths[k]; i++) {
            if (!(x[i] > 2.5f))
                continue;
            at = logits_next_above(x, at, lengths[k], 2.5f);
            CHECK_EQ(at, i);
            at++;
        }
        CHECK_EQ(logits_next_above(x, at, lengths[k], 2.5f), lengths[k]);
    }
}

CHECK_MAIN(T(the_largest_is_found_wherever_it_is), T(nothing_is_largest_where_no_token_is_possible),
           T(weights_are_the_exponential), T(sums_hold_every_value_once),
           T(the_next_above_is_never_passed_over))
