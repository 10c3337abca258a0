/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of the simulated driver: what SPIR-V may use, and whose memory it may touch. */
#include <math.h>
#include <signal.h>
#include <stdbool.h>

#include "tests/sim_level_zero/box.h"

#define N 1000

static const char probe[] = "tests/sim_level_zero/kernels/probe.spv";

static void set(ze_kernel_handle_t kernel, uint32_t index, const void *value, size_t size) {
    ZE(zeKernelSetArgumentValue(kernel, index, size, value));
}

static void sub_groups_reduce_through_local_memory(void) {
    const struct box box = box_open("cards=1");
    BOX_NEEDS_GROUPS();
    float values[N], sums[4], want = 0.0f, got = 0.0f;
    for (uint32_t i = 0; i < N; i++)
        want += values[i] = (float)(i % 7);
    float *in = box_memory(&box, 0, sizeof values), *out = box_memory(&box, 0, sizeof sums);
    ZE(box_copy(&box, 0, in, values, sizeof values));
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "sum");
    ze_kernel_properties_t properties = {.stype = ZE_STRUCTURE_TYPE_KERNEL_PROPERTIES};
    ZE(zeKernelGetProperties(kernel, &properties));
    CHECK_EQ(properties.requiredSubgroupSize, 16);
    CHECK_EQ(properties.numKernelArgs, 4);
    const uint32_t n = N;
    ZE(zeKernelSetGroupSize(kernel, 64, 1, 1));
    box_set(kernel, 0, in);
    box_set(kernel, 1, out);
    set(kernel, 2, &n, sizeof n);
    set(kernel, 3, NULL, 4 * sizeof(float));
    ZE(box_launch(&box, 0, kernel, 4));
    ZE(box_copy(&box, 0, sums, out, sizeof sums));
    for (uint32_t i = 0; i < 4; i++)
        got += sums[i];
    CHECK(got == want);
}

static void sub_groups_read_and_write_blocks(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    uint32_t in[128], out[128];
    for (uint32_t i = 0; i < 128; i++)
        in[i] = 3 * i;
    uint32_t *a = box_memory(&box, 0, sizeof in), *b = box_memory(&box, 0, sizeof in);
    ZE(box_copy(&box, 0, a, in, sizeof in));
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "blocks");
    CHECK_EQ(zeKernelSetGroupSize(kernel, 32, 1, 1), ZE_RESULT_ERROR_INVALID_GROUP_SIZE_DIMENSION);
    ZE(zeKernelSetGroupSize(kernel, 16, 1, 1));
    box_set(kernel, 0, a);
    box_set(kernel, 1, b);
    ZE(box_launch(&box, 0, kernel, 2));
    ZE(box_copy(&box, 0, out, b, sizeof out));
    for (uint32_t i = 0; i < 128; i++)
        CHECK_EQ(out[i], 3 * i + 1);
}

static void halves_and_structures_are_arguments(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    const uint16_t two_and_half = 0x4100, one = 0x3c00;
    uint16_t *a = box_memory(&box, 0, 2), *b = box_memory(&box, 0, 2), half = 0;
    ZE(box_copy(&box, 0, a, &two_and_half, 2));
    ze_module_handle_t module = box_module(&box, 0, probe);
    ze_kernel_handle_t kernel = box_kernel(module, "halves");
    ZE(zeKernelSetGroupSize(kernel, 1, 1, 1));
    box_set(kernel, 0, a);
    box_set(kernel, 1, b);
    set(kernel, 2, &one, 2);
    ZE(box_launch(&box, 0, kernel, 1));
    ZE(box_copy(&box, 0, &half, b, 2));
    CHECK_EQ(half, 0x4740); /* 7.25 */

    const struct {
        uint64_t n;
        float scale;
    } shape = {3, 1.5f};
    const int8_t four[4] = {1, 2, 3, 4};
    float *to = box_memory(&box, 0, 4), seen = 0.0f;
    kernel = box_kernel(module, "by_value");
    ZE(zeKernelSetGroupSize(kernel, 1, 1, 1));
    CHECK_EQ(zeKernelSetArgumentValue(kernel, 0, 12, &shape),
             ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_SIZE);
    CHECK_EQ(zeKernelSetArgumentValue(kernel, 3, 8, &to),
             ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_INDEX);
    set(kernel, 0, &shape, sizeof shape);
    set(kernel, 1, four, sizeof four);
    box_set(kernel, 2, to);
    ZE(box_launch(&box, 0, kernel, 1));
    ZE(box_copy(&box, 0, &seen, to, 4));
    CHECK(seen == 6.5f);
}

/* 8 x K by K x 16 of small whole numbers, whose sums are exact in every type. */
static void matrix(const char *name, unsigned k_all, size_t size_in, void (*store)(void *, int)) {
    const struct box box = box_open("cards=1");
    BOX_NEEDS_MATRIX();
    uint8_t a[8 * 32 * 2], b[32 * 16 * 2];
    union {
        int32_t i;
        float f;
    } c[8 * 16] = {{0}};
    for (unsigned i = 0; i < 8 * k_all; i++)
        store(a + i * size_in, (int)(i * 7 % 11) - 5);
    for (unsigned i = 0; i < 16 * k_all; i++)
        store(b + i * size_in, (int)(i * 5 % 13) - 6);
    void *on_a = box_memory(&box, 0, sizeof a), *on_b = box_memory(&box, 0, sizeof b);
    void *on_c = box_memory(&box, 0, sizeof c);
    ZE(box_copy(&box, 0, on_a, a, sizeof a));
    ZE(box_copy(&box, 0, on_b, b, sizeof b));
    ZE(box_copy(&box, 0, on_c, c, sizeof c));
    ze_kernel_handle_t kernel =
        box_kernel(box_module(&box, 0, "tests/sim_level_zero/kernels/matrix.spv"), name);
    box_set(kernel, 0, on_a);
    box_set(kernel, 1, on_b);
    box_set(kernel, 2, on_c);
    ZE(box_launch(&box, 0, kernel, 1));
    ZE(box_copy(&box, 0, c, on_c, sizeof c));
    for (unsigned m = 0; m < 8; m++)
        for (unsigned n = 0; n < 16; n++) {
            int want = 0;
            for (unsigned k = 0; k < k_all; k++)
                want += ((int)((m * k_all + k) * 7 % 11) - 5) * ((int)((k * 16 + n) * 5 % 13) - 6);
            CHECK_EQ(size_in == 1 ? c[m * 16 + n].i : (int)c[m * 16 + n].f, want);
        }
}

static void store_i8(void *at, int value) {
    *(int8_t *)at = (int8_t)value;
}

static void store_f16(void *at, int value) {
    const float f = (float)value;
    uint32_t bits = 0;
    memcpy(&bits, &f, sizeof bits);
    /* Small whole numbers lose nothing; the exponent's bias is 15 instead of 127. */
    const uint32_t magnitude = value ? ((bits & 0x7fffffff) >> 13) - (112 << 10) : 0;
    const uint16_t half = (uint16_t)(bits >> 31 << 15 | magnitude);
    memcpy(at, &half, sizeof half);
}

static void matrices_of_bytes_are_multiplied(void) {
    matrix("i8", 32, 1, store_i8);
}

static void matrices_of_halves_are_multiplied(void) {
    matrix("f16", 16, 2, store_f16);
}

/* Card 0 copies with a kernel from memory of `from`. */
static ze_result_t copy_words(const struct box *box, const void *from, void *to, uint32_t n) {
    ze_kernel_handle_t kernel = box_kernel(box_module(box, 0, probe), "copy_words");
    ZE(zeKernelSetGroupSize(kernel, n, 1, 1));
    box_set(kernel, 0, from);
    box_set(kernel, 1, to);
    return box_launch(box, 0, kernel, 1);
}

static void a_peers_memory_is_read_where_the_box_allows_it(void) {
    const struct box box = box_open("cards=2 p2p=0>1");
    box_needs_kernels();
    uint32_t in[16] = {1, 2, 3}, out[16] = {0};
    uint32_t *mine = box_memory(&box, 0, sizeof in), *others = box_memory(&box, 1, sizeof in);
    ze_bool_t forth = 0, back = 0;
    ZE(zeDeviceCanAccessPeer(box.cards[0], box.cards[1], &forth));
    ZE(zeDeviceCanAccessPeer(box.cards[1], box.cards[0], &back));
    CHECK(forth && !back);
    ZE(box_copy(&box, 1, others, in, sizeof in));
    ZE(copy_words(&box, others, mine, 16));
    ZE(box_copy(&box, 0, out, mine, sizeof out));
    CHECK(!memcmp(in, out, sizeof in));
    CHECK_EQ(box_copy(&box, 1, others, mine, sizeof in), ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY);
}

static void a_peers_memory_is_never_touched_where_it_is_not_allowed(void) {
    const struct box box = box_open("cards=2 p2p=none");
    box_needs_kernels();
    uint32_t in[16] = {1, 2, 3}, out[16] = {0};
    uint32_t *mine = box_memory(&box, 0, sizeof in), *others = box_memory(&box, 1, sizeof in);
    ZE(box_copy(&box, 1, others, in, sizeof in));
    CHECK_EQ(copy_words(&box, mine, others, 16), ZE_RESULT_ERROR_DEVICE_LOST);
    CHECK_EQ(zeDeviceGetStatus(box.cards[0]), ZE_RESULT_ERROR_DEVICE_LOST);
    ZE(box_copy(&box, 1, out, others, sizeof out)); /* the other card has what it had */
    CHECK(!memcmp(in, out, sizeof in));
}

static void memory_that_was_freed_or_ends_is_not_touched(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    uint32_t *from = box_memory(&box, 0, 65536), *to = box_memory(&box, 0, 4096);
    ZE(copy_words(&box, from, to, 16));
    CHECK_EQ(copy_words(&box, from + 65536 / 4 - 8, to, 16), ZE_RESULT_ERROR_DEVICE_LOST);
}

static void addresses_in_memory_need_their_flag(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    uint32_t in[16] = {9, 8, 7}, out[16] = {0};
    uint32_t *from = box_memory(&box, 0, sizeof in), *to = box_memory(&box, 0, sizeof in);
    uint64_t *where = box_memory(&box, 0, 8);
    ZE(box_copy(&box, 0, from, in, sizeof in));
    ZE(box_copy(&box, 0, where, &from, sizeof from));
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "follow");
    ZE(zeKernelSetGroupSize(kernel, 16, 1, 1));
    box_set(kernel, 0, where);
    box_set(kernel, 1, to);
    ZE(zeKernelSetIndirectAccess(kernel, ZE_KERNEL_INDIRECT_ACCESS_FLAG_DEVICE));
    ZE(box_launch(&box, 0, kernel, 1));
    ZE(box_copy(&box, 0, out, to, sizeof out));
    CHECK(!memcmp(in, out, sizeof in));
    ZE(zeKernelSetIndirectAccess(kernel, 0));
    CHECK_EQ(box_launch(&box, 0, kernel, 1), ZE_RESULT_ERROR_DEVICE_LOST);
}

static void the_hosts_own_memory_needs_the_capability(void) {
    const struct box box = box_open("cards=1 system=0xf");
    box_needs_kernels();
    uint32_t in[16] = {4, 5, 6}, out[16] = {0};
    ze_device_memory_access_properties_t access = {
        .stype = ZE_STRUCTURE_TYPE_DEVICE_MEMORY_ACCESS_PROPERTIES};
    ZE(zeDeviceGetMemoryAccessProperties(box.cards[0], &access));
    CHECK_EQ(access.sharedSystemAllocCapabilities, 0xf);
    ZE(copy_words(&box, in, out, 16));
    CHECK(!memcmp(in, out, sizeof in));
}

static void without_it_the_card_is_lost(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    uint32_t in[16] = {4, 5, 6}, *to = box_memory(&box, 0, sizeof in);
    CHECK_EQ(copy_words(&box, in, to, 16), ZE_RESULT_ERROR_DEVICE_LOST);
}

static void damaged_modules_are_refused_with_a_log(void) {
    const struct box box = box_open("cards=1");
    const uint32_t junk[] = {0x07230203, 0x00010400, 0, 9, 0, 0xffff000f};
    const ze_module_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_MODULE_DESC,
                                   .format = ZE_MODULE_FORMAT_IL_SPIRV,
                                   .inputSize = sizeof junk,
                                   .pInputModule = (const uint8_t *)junk};
    ze_module_handle_t module = NULL;
    ze_module_build_log_handle_t log = NULL;
    char text[200] = "";
    size_t size = sizeof text;
    CHECK_EQ(zeModuleCreate(box.context, box.cards[0], &desc, &module, &log),
             ZE_RESULT_ERROR_MODULE_BUILD_FAILURE);
    ZE(zeModuleBuildLogGetString(log, &size, text));
    CHECK(strstr(text, "end of the module"));
    ZE(zeModuleBuildLogDestroy(log));
}

CHECK_MAIN(T(sub_groups_reduce_through_local_memory), T(sub_groups_read_and_write_blocks),
           T(halves_and_structures_are_arguments), T(matrices_of_bytes_are_multiplied),
           T(matrices_of_halves_are_multiplied), T(a_peers_memory_is_read_where_the_box_allows_it),
           T(a_peers_memory_is_never_touched_where_it_is_not_allowed),
           T(memory_that_was_freed_or_ends_is_not_touched), T(addresses_in_memory_need_their_flag),
           T(the_hosts_own_memory_needs_the_capability), T(without_it_the_card_is_lost),
           T(damaged_modules_are_refused_with_a_log))
