/* SPDX-License-Identifier: Apache-2.0 */
/* backend.c - the level_zero backend on Intel's own driver, which is told by its debug keys to
 * play eight Arc Pro B60: it takes every call and builds every kernel, and executes nothing
 * (tests/intel/README.md).  So what is judged is that no call is refused. */
#include "daemon/device/level_zero/images.h"
#include "daemon/device/level_zero/modules.h"
#include "tests/counted_modules.h"
#include "tests/loaded_model.h"

#define CARDS  8u
#define LOGITS 4096u

static const struct device_ops *backend(void) {
    const struct device_ops *ops = device_backend("level_zero");
    if (!ops)
        SKIP("the level_zero backend is not built in");
    return ops;
}

/* Nothing is in memory that nothing was written to. */
static int open_untried(struct device **device, const struct device_options *options,
                        struct err *err) {
    struct device_options o = *options;
    o.untried = true;
    return backend()->open(device, &o, err);
}

static struct device *open_cards(uint32_t n) {
    struct device_options o = {.n_cards = n, .max_rows = MAX_ROWS};
    struct device *device = NULL;
    struct err err = {{0}};
    for (uint32_t i = 0; i < n; i++)
        o.present[i] = true;
    must(open_untried(&device, &o, &err), &err);
    return device;
}

/* All calls by which it is tried are taken. */
static void a_card_that_keeps_nothing_is_refused(void) {
    const struct device_options o = {.n_cards = 1, .present = {true}, .max_rows = MAX_ROWS};
    struct device *device = NULL;
    struct err err = {{0}};
    CHECK_EQ(backend()->open(&device, &o, &err), -ENODEV);
    CHECK(!strcmp(err.text, "card 0 cannot be opened: what is written to its memory is not what is "
                            "read from it"));
}

static void eight_cards_are_found(void) {
    struct device_found found;
    struct err err = {{0}};
    must(backend()->probe(&found, &err), &err);
    CHECK_EQ(found.n_cards, CARDS);
    for (uint32_t i = 0; i < CARDS; i++) {
        CHECK(strstr(found.cards[i].name, "e211"));
        CHECK(found.cards[i].memory_bytes > 0);
    }
}

static void build_all(struct device *device) {
    static const struct {
        enum kernel_name from, to;
        bool by_type;
    } kinds[] = {{KERNEL_NORM, KERNEL_MATMUL - 1, false}, {KERNEL_MATMUL, KERNEL_EXPERT_SUM, true}};
    static const uint32_t types[] = {TENSOR_F32,  TENSOR_F16,   TENSOR_Q4_0,   TENSOR_Q4_1,
                                     TENSOR_Q5_0, TENSOR_Q5_1,  TENSOR_Q8_0,   TENSOR_Q2_K,
                                     TENSOR_Q3_K, TENSOR_Q4_K,  TENSOR_Q5_K,   TENSOR_Q6_K,
                                     TENSOR_BF16, TENSOR_MXFP4, TENSOR_IQ4_NL, TENSOR_IQ4_XS};
    struct err err = {{0}};
    struct ze_kernel *kernel;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t t = 0; t < (kinds[k].by_type ? sizeof types / sizeof *types : 1); t++)
            for (uint32_t name = kinds[k].from; name <= (uint32_t)kinds[k].to; name++)
                must(modules_kernel(device, 0, (enum kernel_name)name, types[t], &kernel, &err),
                     &err);
}

/* Images that octarc was built with, where the driver takes them; else SPIR-V by its compiler, with
 * the flags that the backend gives it. */
static void every_kernel_is_built(void) {
    const uint32_t native = ZE_MODULE_FORMAT_NATIVE, spirv = ZE_MODULE_FORMAT_IL_SPIRV;
    const struct image image = images_native(IMAGE_ROWS);
    struct device *device = open_cards(1);
    struct device_properties p;
    const struct ze_api counting = count_modules(device->api);
    device->api = &counting;
    build_all(device);
    CHECK_EQ(backend()->properties(device, 0, &p), 0);
    const uint32_t modules = taken[native] + taken[spirv];
    printf("# of %u modules %u are images%s%s\n", modules, taken[native],
           p.native_why[0] ? ": " : "", p.native_why);
    CHECK(modules > IMAGE_EXPERTS + images_types());
    CHECK_EQ(p.native, taken[native] == modules);
    CHECK_EQ(taken[spirv], given[spirv]);
    CHECK_EQ(p.native, !p.native_why[0]);
    if (image.begin == image.end)
        CHECK_EQ(given[native], 0);
    backend()->close(device);
}

static void memory_is_taken_and_used(void) {
    const struct device_ops *ops = backend();
    struct device *device = open_cards(2);
    struct device_properties properties;
    struct err err = {{0}};
    uint64_t digest;
    char bytes[100] = "some bytes";
    for (uint32_t i = 0; i < 2; i++) {
        must(ops->reserve(device, i, AREA_WEIGHTS, 8 * MIB, 8 * MIB, -1, &err), &err);
        CHECK_EQ(ops->poke(device, i, 12345, bytes, sizeof bytes), 0);
        CHECK_EQ(ops->peek(device, i, 12345, bytes, sizeof bytes), 0);
        CHECK_EQ(ops->clear(device, i, AREA_WEIGHTS, 4096, MIB), 0);
        CHECK_EQ(ops->properties(device, i, &properties), 0);
        CHECK_EQ(properties.used_bytes[AREA_WEIGHTS], 8 * MIB);
    }
    CHECK_EQ(ops->copy(device, 0, AREA_WEIGHTS, 0, device, 1, 5 * MIB, 3 * MIB), 0);
    /* Its calls are taken; then its kernel has not said that it ran, and it has not. */
    CHECK_EQ(ops->digest(device, 1, AREA_WEIGHTS, 0, 8 * MIB, &digest), -ENODEV);
    CHECK_EQ(ops->properties(device, 1, &properties), -ENODEV);
    CHECK_EQ(ops->properties(device, 0, &properties), 0);
    ops->release(device, 0, AREA_WEIGHTS);
    ops->close(device);
}

/* Of memory in which nothing is, for a load; without the kernel, which does not run. */
static int digest_of_nothing(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes,
                             uint64_t first_leaf, uint64_t *sum) {
    (void)device, (void)card, (void)offset, (void)bytes, (void)first_leaf;
    *sum = 0;
    return 0;
}

/* All calls of a step are taken; then no launch has said that it ran, and none has. */
static void run(const char *file, uint32_t n_cards, enum split split) {
    static float logits[MAX_ROWS * LOGITS];
    static const uint32_t shapes[] = {40, 1};
    struct step_row rows[MAX_ROWS];
    uint32_t pages[4] = {3, 1, 2, 0}, outputs[MAX_ROWS];
    const struct step_sequence sequence = {pages, 4};
    struct device_ops undigested = *backend();
    undigested.open = open_untried;
    undigested.digest_part = digest_of_nothing;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const uint32_t n = shapes[k];
        uint32_t card = CARDS;
        struct loaded l;
        load(&l, file, &(struct setup){.n_cards = n_cards, .split = split, .backend = &undigested});
        CHECK(l.model.params.n_vocab <= LOGITS);
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct step_row){(int32_t)(i % l.model.params.n_vocab), i, 0};
            outputs[i] = i;
        }
        struct step_params p = {.rows = rows,
                                .n_rows = n,
                                .sequences = &sequence,
                                .n_sequences = 1,
                                .outputs = outputs,
                                .n_outputs = n,
                                .logits = logits};
        CHECK_EQ(runner_step(l.runner, &p, &card), -ENODEV);
        CHECK(card < n_cards);
        unload(&l);
    }
}

static void a_model_is_loaded_and_stepped(void) {
    backend();
    run("tiny-f32.gguf", 1, SPLIT_LAYER);
}

static void eight_cards_share_one(void) {
    backend();
    run("tiny-mixed.gguf", CARDS, SPLIT_TENSOR);
}

static void or_pass_it_on(void) {
    backend();
    run("tiny-deep.gguf", CARDS, SPLIT_LAYER);
}

static void so_do_architectures(void) {
    static const char *const files[] = {"tiny-qwen2.gguf",    "tiny-qwen3.gguf",
                                        "tiny-gemma2.gguf",   "tiny-gemma3.gguf",
                                        "tiny-mistral3.gguf", "tiny-fused.gguf"};
    backend();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        run(files[i], 3, i % 2 ? SPLIT_LAYER : SPLIT_TENSOR);
}

CHECK_MAIN(T(eight_cards_are_found), T(a_card_that_keeps_nothing_is_refused),
           T(every_kernel_is_built), T(memory_is_taken_and_used), T(a_model_is_loaded_and_stepped),
           T(eight_cards_share_one), T(or_pass_it_on), T(so_do_architectures))
