/* SPDX-License-Identifier: Apache-2.0 */
#include "models/rope.h"

#include <errno.h>
#include <math.h>

#include "tests/check.h"

static const uint32_t positions[] = {0, 1, 2, 3, 31, 255, 2047, 8191, 131071, 1u << 20, 1u << 28};
#define POSITIONS (sizeof positions / sizeof *positions)

static struct rope_params plain(uint32_t dims, float base) {
    return (struct rope_params){.dims = dims,
                                .freq_base = base,
                                .factor = 1,
                                .attn_factor = 1,
                                .beta_fast = 32,
                                .beta_slow = 1,
                                .original_context = 128};
}

/* Compare a table with the C library's sine and cosine of the angles frequency[i] * position. */
static void check_table(const struct rope_params *p, const float *freqs, const double *frequency,
                        double magnitude, uint32_t position, double tolerance) {
    float table[512];
    CHECK_EQ(rope_table(p, freqs, position, table), 0);
    for (uint32_t i = 0; i < p->dims / 2; i++) {
        const double angle = frequency[i] * position;
        CHECK(fabs(table[2 * i] - magnitude * cos(angle)) < tolerance);
        CHECK(fabs(table[2 * i + 1] - magnitude * sin(angle)) < tolerance);
    }
}

static void plain_angles_agree_with_the_c_library(void) {
    static const float bases[] = {10000, 100000, 500000, 1e6f, 1};
    double frequency[128];
    for (uint32_t dims = 2; dims <= 256; dims *= 2) {
        for (size_t b = 0; b < sizeof bases / sizeof *bases; b++) {
            const struct rope_params p = plain(dims, bases[b]);
            for (uint32_t i = 0; i < dims / 2; i++)
                frequency[i] = pow(bases[b], -2.0 * i / dims);
            for (size_t k = 0; k < POSITIONS; k++)
                check_table(&p, NULL, frequency, 1, positions[k],
                            positions[k] <= 1u << 20 ? 1e-7 : 1e-6);
        }
    }
}

/* The factor that yarn multiplies sine and cosine by may be taken back, all of it by 1. */
static void yarn_may_take_its_factor_back(void) {
    struct rope_params p = plain(64, 10000), back = p;
    float with[64], without[64];
    p.scaling = back.scaling = ROPE_YARN;
    p.factor = back.factor = 4;
    p.ext_factor = back.ext_factor = 1;
    for (int i = 0; i < 3; i++) {
        back.log_multiplier = 0.5f * (float)i;
        const double taken = 1 + 0.1 * (double)back.log_multiplier * log(4);
        CHECK_EQ(rope_table(&p, NULL, 77, with), 0);
        CHECK_EQ(rope_table(&back, NULL, 77, without), 0);
        for (int k = 0; k < 64; k++)
            CHECK(fabs((double)without[k] * taken - (double)with[k]) < 2e-7);
    }
    back.log_multiplier = NAN;
    CHECK_EQ(rope_table(&back, NULL, 77, without), -EINVAL);
}

static void a_temperature_grows_with_the_logarithm_of_the_position(void) {
    for (uint32_t position = 0; position < 5000; position += 7) {
        const double want = 1 + 0.1 * log(1 + floor(position / 128.0));
        CHECK(fabs((double)rope_temperature(128, 0.1f, position) - want) < 1e-7);
    }
    CHECK(rope_temperature(128, 0.1f, 127) == 1.0f && rope_temperature(128, 0.1f, 128) > 1.0f);
}

static void linear_scaling_divides_the_position(void) {
    struct rope_params p = plain(64, 10000), quarter = p;
    p.scaling = ROPE_LINEAR;
    p.factor = 4;
    for (uint32_t position = 0; position < 4096; position += 4) {
        float scaled[64], unscaled[64];
        CHECK_EQ(rope_table(&p, NULL, position, scaled), 0);
        CHECK_EQ(rope_table(&quarter, NULL, position / 4, unscaled), 0);
        CHECK(!memcmp(scaled, unscaled, sizeof scaled));
    }
}

static void divisors_of_the_file_divide_the_frequencies(void) {
    const struct rope_params p = plain(8, 500000);
    const float divisors[4] = {1, 2, 4.5f, 8};
    double frequency[4];
    for (int i = 0; i < 4; i++)
        frequency[i] = pow(500000, -2.0 * i / 8) / divisors[i];
    for (size_t k = 0; k < POSITIONS - 1; k++)
        check_table(&p, divisors, frequency, 1, positions[k], 1e-7);
}

/* dims 16, base 10000, context 128, factor 4.  Turns within 128 positions: pair 0 makes 20.4, so
 * beta_fast 32 lies before it (low 0); 16 ln(128 / 2 pi) / (2 ln 10000) = 2.618, so high is 3. */
static void yarn_mixes_both_frequencies_along_its_ramp(void) {
    static const double weight[8] = {1, 2 / 3.0, 1 / 3.0, 0, 0, 0, 0, 0};
    struct rope_params p = plain(16, 10000);
    p.scaling = ROPE_YARN;
    p.factor = 4;
    p.ext_factor = 1;
    double frequency[8];
    for (int i = 0; i < 8; i++) {
        const double e = pow(10000, -2.0 * i / 16);
        frequency[i] = e * weight[i] + e / 4 * (1 - weight[i]);
    }
    const double magnitude = 1 + 0.1 * log(4);
    for (size_t k = 0; k < POSITIONS - 1; k++)
        check_table(&p, NULL, frequency, magnitude, positions[k], 2e-7);

    p.attn_factor = 0.5f;
    check_table(&p, NULL, frequency, magnitude * 0.5, 77, 1e-7);
    p.factor = 1; /* nothing to scale */
    for (int i = 0; i < 8; i++)
        frequency[i] = pow(10000, -2.0 * i / 16);
    check_table(&p, NULL, frequency, 0.5, 77, 1e-7);
}

/* The bits themselves: a compiler or library that changes them breaks a promise. */
static void the_table_of_one_position_has_these_bits(void) {
    struct rope_params p = plain(64, 100000);
    float table[64];
    uint64_t hash = UINT64_C(14695981039346656037);
    for (uint32_t position = 0; position < 8192; position += 7) {
        CHECK_EQ(rope_table(&p, NULL, position, table), 0);
        for (size_t i = 0; i < sizeof table; i++)
            hash = (hash ^ ((const uint8_t *)table)[i]) * UINT64_C(1099511628211);
    }
    printf("# hash 0x%016" PRIx64 "\n", hash);
    CHECK(hash == UINT64_C(0xd12dfb549ca90ff7));
}

static void bad_parameters_are_refused(void) {
    float table[64];
    struct rope_params p = plain(64, 10000);
    p.dims = 3;
    CHECK_EQ(rope_table(&p, NULL, 1, table), -EINVAL);
    p.dims = 0;
    CHECK_EQ(rope_table(&p, NULL, 1, table), -EINVAL);
    p = plain(64, NAN);
    CHECK_EQ(rope_table(&p, NULL, 1, table), -EINVAL);
    p = plain(64, 0.5f);
    CHECK_EQ(rope_table(&p, NULL, 1, table), -EINVAL);
    p = plain(2, 10000);
    CHECK_EQ(rope_table(&p, (const float[]){0}, 1, table), -EINVAL);
    CHECK_EQ(rope_table(&p, (const float[]){-1}, 1, table), -EINVAL);
    CHECK_EQ(rope_table(&p, (const float[]){1e-30f}, 1, table), -ERANGE);
}

CHECK_MAIN(T(plain_angles_agree_with_the_c_library), T(yarn_may_take_its_factor_back),
           T(a_temperature_grows_with_the_logarithm_of_the_position),
           T(linear_scaling_divides_the_position), T(divisors_of_the_file_divide_the_frequencies),
           T(yarn_mixes_both_frequencies_along_its_ramp),
           T(the_table_of_one_position_has_these_bits), T(bad_parameters_are_refused))
