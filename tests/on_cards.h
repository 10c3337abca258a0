/* SPDX-License-Identifier: Apache-2.0 */
/* on_cards.h - a tiny model on simulated cards of the level_zero backend, and what it computes
 * there as a number that is the same where all bits are. */
#ifndef OCTARC_TESTS_ON_CARDS_H
#define OCTARC_TESTS_ON_CARDS_H

#include <math.h>

#include "tests/loaded_model.h"
#include "tests/sim_level_zero/box.h"

#define VOCAB_MAX 4096u

static float logits[MAX_ROWS * VOCAB_MAX];

/* A prompt of 40 tokens in steps of at most `chunk`, then four tokens more, one by one; returns
 * what all logits come to. */
static inline uint64_t run_loaded(struct loaded *l, uint32_t chunk) {
    struct step_row rows[MAX_ROWS];
    uint32_t pages[4] = {3, 1, 2, 0}, outputs[MAX_ROWS], card = 0;
    const struct step_sequence sequence = {pages, 4};
    uint64_t digest = 0;
    const uint32_t n_vocab = l->model.params.n_vocab;
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
        CHECK_EQ(runner_step(l->runner, &p, &card), 0);
        for (uint32_t i = 0; i < n * n_vocab; i++)
            CHECK(isfinite(logits[i]));
        for (uint32_t i = 0; i < n; i++)
            digest = digest * 31 + device_digest(logits + (size_t)i * n_vocab, n_vocab * 4);
    }
    return digest;
}

static inline uint64_t run_model(const char *file, const struct setup *s, uint32_t chunk) {
    struct loaded l;
    load(&l, file, s);
    const uint64_t digest = run_loaded(&l, chunk);
    unload(&l);
    return digest;
}

static inline uint64_t on_cards(const char *file, uint32_t n_cards, enum split split,
                                uint32_t chunk) {
    return run_model(file,
                     &(struct setup){.n_cards = n_cards,
                                     .split = split,
                                     .backend = device_backend("level_zero")},
                     chunk);
}

static inline void begin(const char *options) {
    box_environment(options);
    box_needs_kernels();
    if (!device_backend("level_zero"))
        SKIP("the level_zero backend is not built in");
}

static inline void same_as_cpu(const char *options, const char *file, uint32_t n_cards,
                               enum split split, uint32_t chunk) {
    begin(options);
    const uint64_t cpu = run_model(file, &(struct setup){.n_cards = 1}, 16);
    CHECK_EQ(on_cards(file, n_cards, split, chunk), cpu);
}

#endif
