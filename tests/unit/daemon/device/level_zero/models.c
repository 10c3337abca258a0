/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models on simulated cards, against the cpu backend: the same bits, on any number of cards,
 * with either split, over direct and staged links. */
#include "tests/loaded_model.h"
#include "tests/sim_level_zero/box.h"

#define VOCAB_MAX 4096u

static float logits[MAX_ROWS * VOCAB_MAX];

/* A prompt of 40 tokens in steps of at most `chunk`, then four tokens more, one by one; returns what
 * all logits come to. */
static uint64_t run_model(const char *file, const struct setup *s, uint32_t chunk) {
    struct loaded l;
    struct step_row rows[MAX_ROWS];
    uint32_t pages[4] = {3, 1, 2, 0}, outputs[MAX_ROWS], card = 0;
    const struct step_sequence sequence = {pages, 4};
    uint64_t digest = 0;
    load(&l, file, s);
    const uint32_t n_vocab = l.model.params.n_vocab;
    CHECK(n_vocab <= VOCAB_MAX);
    for (uint32_t at = 0, n; at < 44; at += n) {
        n = at < 40 ? (40 - at < chunk ? 40 - at : chunk) : 1;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct step_row){(int32_t)((at + i) * 37 % n_vocab), at + i, 0};
            outputs[i] = i;
        }
        struct step_params p = {.rows = rows,
                                .n_rows = n,
                                .sequences = &sequence,
                                .n_sequences = 1,
                                .outputs = outputs,
                                .n_outputs = n,
                                .logits = logits};
        CHECK_EQ(runner_step(l.runner, &p, &card), 0);
        for (uint32_t i = 0; i < n; i++)
            digest = digest * 31 + device_digest(logits + (size_t)i * n_vocab, n_vocab * 4);
    }
    unload(&l);
    return digest;
}

static uint64_t on_cards(const char *file, uint32_t n_cards, enum split split, uint32_t chunk) {
    return run_model(file,
                     &(struct setup){.n_cards = n_cards,
                                     .split = split,
                                     .backend = device_backend("level_zero")},
                     chunk);
}

static void begin(const char *options) {
    box_environment(options);
    box_needs_kernels();
    if (!device_backend("level_zero"))
        SKIP("the level_zero backend is not built in");
}

static void same_as_cpu(const char *options, const char *file, uint32_t n_cards, enum split split,
                        uint32_t chunk) {
    begin(options);
    const uint64_t cpu = run_model(file, &(struct setup){.n_cards = 1}, 16);
    CHECK_EQ(on_cards(file, n_cards, split, chunk), cpu);
}

static void one_card_has_the_bits_of_the_cpu(void) {
    same_as_cpu("cards=1", "tiny-f32.gguf", 1, SPLIT_LAYER, 16);
}

static void a_pipeline_of_cards_has(void) {
    same_as_cpu("cards=3", "tiny-f32.gguf", 3, SPLIT_LAYER, 40);
}

static void eight_cards_that_share_layers_have(void) {
    same_as_cpu("cards=8", "tiny-f32.gguf", 8, SPLIT_TENSOR, 7);
}

static void so_have_cards_that_do_not_reach_each_other(void) {
    same_as_cpu("cards=3 p2p=none", "tiny-f32.gguf", 3, SPLIT_TENSOR, 40);
}

static void all_types_of_tensors_do(void) {
    same_as_cpu("cards=2", "tiny-mixed.gguf", 2, SPLIT_TENSOR, 40);
}

CHECK_MAIN(T(one_card_has_the_bits_of_the_cpu), T(a_pipeline_of_cards_has),
           T(eight_cards_that_share_layers_have), T(so_have_cards_that_do_not_reach_each_other),
           T(all_types_of_tensors_do))
