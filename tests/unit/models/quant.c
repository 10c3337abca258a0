/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "octarc/model.h"
#include "tests/check.h"
#include "tests/shared.h"
#include "tests/unit/models/quant_blocks.h"

/* Exact up to one rounding. */
static bool near(float got, float want) {
    return got == want || fabsf(got - want) <= 1e-6f * fabsf(want) || (isnan(got) && isnan(want));
}

static void committed_blocks_expand_to_their_values(void) {
    for (size_t b = 0; b < sizeof quant_blocks / sizeof *quant_blocks; b++) {
        const struct quant_block *q = &quant_blocks[b];
        const struct tensor_type_info *info = tensor_type_info(q->type);
        CHECK(info);
        CHECK_EQ(strlen(q->hex), 2 * info->block_bytes);
        uint8_t bytes[512];
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            unsigned byte;
            CHECK_EQ(sscanf(q->hex + 2 * i, "%2x", &byte), 1);
            bytes[i] = (uint8_t)byte;
        }
        float values[256];
        CHECK_EQ(tensor_dequantise(q->type, bytes, 1, values), 0);
        for (uint32_t i = 0; i < q->n; i++) {
            if (!near(values[q->at[i]], q->value[i]))
                printf("# %s value %u is %a, want %a\n", info->name, q->at[i],
                       (double)values[q->at[i]], (double)q->value[i]);
            CHECK(near(values[q->at[i]], q->value[i]));
        }
    }
}

static void every_half_converts_exactly(void) {
    for (uint32_t half = 0; half < 0x10000; half++) {
        const uint16_t bits = (uint16_t)half;
        const int exponent = half >> 10 & 31, fraction = half & 1023;
        double want = exponent == 31  ? (fraction ? NAN : INFINITY)
                      : exponent == 0 ? ldexp(fraction, -24)
                                      : ldexp(1024 + fraction, exponent - 25);
        want = half & 0x8000 ? -want : want;
        float got;
        tensor_dequantise(TENSOR_F16, &bits, 1, &got);
        CHECK(isnan(want) ? isnan(got) : (double)got == want && !signbit(got) == !signbit(want));
    }
}

static void f32_passes_through_at_any_address(void) {
    uint8_t bytes[9];
    const float want[2] = {1.5f, -0x1p-149f};
    memcpy(bytes + 1, want, sizeof want);
    float got[2];
    tensor_dequantise(TENSOR_F32, bytes + 1, 2, got);
    CHECK(!memcmp(got, want, sizeof want));
}

static void a_type_without_a_definition_is_an_error(void) {
    static const uint8_t block[512];
    float values[256] = {7};
    for (uint32_t type = 0; type < 64; type++) {
        const struct tensor_type_info *info = tensor_type_info(type);
        const int rc = tensor_dequantise(type, block, 1, values);
        CHECK(rc == 0 || rc == -ENOTSUP);
        CHECK(rc == 0 || !info || !info->readable);
    }
    values[0] = 7;
    CHECK_EQ(tensor_dequantise(16, block, 1, values), -ENOTSUP);
    CHECK_EQ(tensor_dequantise(UINT32_MAX, block, 1, values), -ENOTSUP);
    CHECK(values[0] == 7);
}

static void sizes_are_known_for_every_type_of_the_format(void) {
    CHECK(!strcmp(tensor_type_info(TENSOR_Q6_K)->name, "Q6_K"));
    CHECK_EQ(tensor_type_info(TENSOR_Q6_K)->block_bytes, 210);
    CHECK(!tensor_type_info(16)->readable); /* IQ2_XXS: known, not run */
    CHECK(!tensor_type_info(4));            /* removed from the format */
    CHECK(!tensor_type_info(40));
    CHECK(!tensor_type_info(UINT32_MAX));
    static const uint32_t run[] = {TENSOR_F32,  TENSOR_F16,    TENSOR_BF16,   TENSOR_Q8_0,
                                   TENSOR_Q4_0, TENSOR_Q4_1,   TENSOR_Q5_0,   TENSOR_Q5_1,
                                   TENSOR_Q2_K, TENSOR_Q3_K,   TENSOR_Q4_K,   TENSOR_Q5_K,
                                   TENSOR_Q6_K, TENSOR_IQ4_NL, TENSOR_IQ4_XS, TENSOR_MXFP4};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++)
        CHECK(tensor_type_info(run[i])->readable);
}

static void *load(const char *name, const char *suffix, size_t *n) {
    char path[64];
    snprintf(path, sizeof path, "goldens/dequant/%s.%s", name, suffix);
    FILE *f = fopen(shared(path), "rb");
    struct stat st;
    CHECK(f && fstat(fileno(f), &st) == 0);
    *n = (size_t)st.st_size;
    void *bytes = malloc(*n);
    CHECK(bytes && fread(bytes, 1, *n, f) == *n);
    fclose(f);
    return bytes;
}

static void every_golden_block_expands_to_its_values(void) {
    for (size_t b = 0; b < sizeof quant_blocks / sizeof *quant_blocks; b++) {
        const struct tensor_type_info *info = tensor_type_info(quant_blocks[b].type);
        size_t n_bytes, n_want;
        uint8_t *blocks = load(info->name, "blocks", &n_bytes);
        float *want = load(info->name, "f32", &n_want);
        const size_t n = n_bytes / info->block_bytes;
        CHECK_EQ(n_want, n * info->block_values * sizeof *want);
        float *got = malloc(n_want);
        CHECK(got);
        tensor_dequantise(quant_blocks[b].type, blocks, n, got);
        size_t differing = 0;
        for (size_t i = 0; i < n * info->block_values; i++) {
            CHECK(near(got[i], want[i]));
            differing += got[i] != want[i];
        }
        printf("# %s: %zu values, %zu not bit-equal\n", info->name, n * info->block_values,
               differing);
        free(blocks);
        free(want);
        free(got);
    }
}

CHECK_MAIN(T(committed_blocks_expand_to_their_values), T(every_half_converts_exactly),
           T(f32_passes_through_at_any_address), T(a_type_without_a_definition_is_an_error),
           T(sizes_are_known_for_every_type_of_the_format),
           T(every_golden_block_expands_to_its_values))
