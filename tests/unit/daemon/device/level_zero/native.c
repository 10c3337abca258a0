/* SPDX-License-Identifier: Apache-2.0 */
/* Images of the kernels for a card's processor, here those of the simulated driver: they are taken
 * where the card is one that there are images for and its driver takes them, else SPIR-V is built,
 * with the reason. */
#include "daemon/device/level_zero/cards.h"
#include "daemon/device/level_zero/images.h"
#include "daemon/device/level_zero/modules.h"
#include "tests/counted_modules.h"
#include "tests/on_cards.h"

static const uint32_t built_types[] = {TENSOR_F16, TENSOR_Q4_K, TENSOR_MXFP4};

/* Kernels of two modules for all types, and of two of each of three types. */
#define BUILT 8u

static struct device_properties built(const char *options) {
    struct device_options o = {.n_cards = 1, .present = {true}, .max_rows = MAX_ROWS};
    struct device_properties properties;
    struct ze_kernel *kernel;
    struct device *d = NULL;
    struct err err = {{0}};
    struct ze_api counting;
    begin(options);
    if (!strstr(options, "xmx=no"))
        BOX_NEEDS_MATRIX();
    must(device_backend("level_zero")->open(&d, &o, &err), &err);
    counting = count_modules(d->api);
    d->api = &counting;
    must(modules_kernel(d, 0, KERNEL_NORM, 0, &kernel, &err), &err);
    must(modules_kernel(d, 0, KERNEL_ATTENTION, 0, &kernel, &err), &err);
    for (size_t t = 0; t < sizeof built_types / sizeof *built_types; t++) {
        must(modules_kernel(d, 0, KERNEL_MATMUL, built_types[t], &kernel, &err), &err);
        must(modules_kernel(d, 0, KERNEL_EXPERT_SUM, built_types[t], &kernel, &err), &err);
    }
    CHECK_EQ(d->ops->properties(d, 0, &properties), 0);
    printf("# %s\n", properties.native_why);
    d->ops->close(d);
    return properties;
}

/* Who only looks is told what whoever opens the card finds. */
static void probed(const char *options, bool xmx, bool native) {
    struct device_options o = {.n_cards = 1, .present = {true}, .max_rows = MAX_ROWS};
    struct device_properties p;
    struct device_found found;
    struct device *d = NULL;
    struct err err = {{0}};
    box_environment(options);
    must(device_backend("level_zero")->probe(&found, &err), &err);
    must(device_backend("level_zero")->open(&d, &o, &err), &err);
    CHECK_EQ(d->ops->properties(d, 0, &p), 0);
    CHECK_EQ(found.n_cards, 1);
    CHECK_EQ(found.cards[0].xmx, xmx);
    CHECK_EQ(found.cards[0].native, native);
    CHECK_EQ(p.xmx, xmx);
    CHECK_EQ(p.native, native);
    CHECK(!strcmp(found.cards[0].xmx_why, p.xmx_why) && !p.xmx_why[0] == xmx);
    CHECK(!strcmp(found.cards[0].native_why, p.native_why) && !p.native_why[0] == native);
    d->ops->close(d);
}

static void a_probe_tells_what_an_engine_finds(void) {
    probed("cards=1 memory=64M version=1.5", true, true);
}

static void also_that_it_finds_less(void) {
    probed("cards=1 memory=64M version=1.5 xmx=no ip=20.4.4", false, false);
}

static void there_is_one_of_each_module(void) {
    for (uint32_t i = 0; i < images_count(); i++) {
        CHECK(images_spirv(i).end > images_spirv(i).begin);
        CHECK(images_native(i).end > images_native(i).begin);
    }
}

static void a_card_that_they_are_for_has_them(void) {
    const struct device_properties p = built("cards=1 memory=64M version=1.5");
    CHECK(p.native && p.xmx && !p.native_why[0]);
    CHECK_EQ(given[ZE_MODULE_FORMAT_NATIVE], BUILT);
    CHECK_EQ(given[ZE_MODULE_FORMAT_IL_SPIRV], 0);
}

static void so_has_one_of_the_larger_dies(void) {
    CHECK(built("cards=1 memory=64M version=1.5 ip=20.2.0").native);
    CHECK_EQ(given[ZE_MODULE_FORMAT_NATIVE], BUILT);
}

static void and_one_without_a_matrix_engine(void) {
    const struct device_properties p = built("cards=1 memory=64M version=1.5 xmx=no");
    CHECK(p.native && !p.xmx);
    CHECK_EQ(given[ZE_MODULE_FORMAT_NATIVE], BUILT);
}

static void one_that_its_driver_refuses_is_built_and_the_others_not_tried(void) {
    const struct device_properties p = built("cards=1 memory=64M version=1.5 images=refused");
    CHECK(!p.native && p.xmx && strstr(p.native_why, "not one for this card"));
    CHECK_EQ(given[ZE_MODULE_FORMAT_NATIVE], 1);
    CHECK_EQ(taken[ZE_MODULE_FORMAT_NATIVE], 0);
    CHECK_EQ(given[ZE_MODULE_FORMAT_IL_SPIRV], BUILT);
}

static void built_for_another(const char *options, const char *why) {
    const struct device_properties p = built(options);
    CHECK(!p.native && p.xmx && strstr(p.native_why, why));
    CHECK_EQ(given[ZE_MODULE_FORMAT_NATIVE], 0);
    CHECK_EQ(given[ZE_MODULE_FORMAT_IL_SPIRV], BUILT);
}

static void others_are_not_offered_any(void) {
    built_for_another("cards=1 memory=64M version=1.5 ip=20.4.4", "for Battlemage cards");
    built_for_another("cards=1 memory=64M version=1.5 ip=12.60.7", "for Battlemage cards");
}

static void nor_is_one_of_which_the_driver_says_nothing(void) {
    built_for_another("cards=1 memory=64M version=1.4", "does not say");
}

static void they_compute_the_bits_of_the_cpu(void) {
    same_as_cpu("cards=2 version=1.5", "tiny-mixed.gguf", 2, SPLIT_TENSOR, 40);
    same_as_cpu("cards=2 version=1.5 images=refused", "tiny-gpt-oss.gguf", 2, SPLIT_LAYER, 7);
}

CHECK_MAIN(T(a_probe_tells_what_an_engine_finds), T(also_that_it_finds_less),
           T(there_is_one_of_each_module), T(a_card_that_they_are_for_has_them),
           T(so_has_one_of_the_larger_dies), T(and_one_without_a_matrix_engine),
           T(one_that_its_driver_refuses_is_built_and_the_others_not_tried),
           T(others_are_not_offered_any), T(nor_is_one_of_which_the_driver_says_nothing),
           T(they_compute_the_bits_of_the_cpu))
