/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that stay in host memory: fetched as planned they cost no fault, and no bit. */
#include "daemon/engine/runner.h"

#include <errno.h>

#include "daemon/engine/program.h"
#include "tests/check.h"
#include "tests/loaded_model.h"

#define MODEL    "tiny-deep.gguf"
#define EXPERTS  "tiny-qwen3moe.gguf" /* two layers */
#define N_TOKENS 40u

/* The logits of a prefill in pieces and of some single steps. */
static float *transcript(struct loaded *l) {
    const uint32_t n_vocab = l->model.params.n_vocab;
    float *logits = calloc(6ull * n_vocab, sizeof *logits);
    const uint32_t pages[2] = {1, 0};
    const struct step_sequence sequence = {.pages = pages, .n_pages = 2};
    for (uint32_t at = 0, n, i = 0; at < N_TOKENS; at += n) {
        struct step_row rows[16];
        uint32_t card;
        n = at < 32 ? 16 : at < 35 ? 3 : 1;
        for (uint32_t r = 0; r < n; r++)
            rows[r] = (struct step_row){(int32_t)((at + r) * 37 % n_vocab), at + r, 0};
        const uint32_t output = n - 1;
        struct step_params params = {.rows = rows,
                                     .n_rows = n,
                                     .sequences = &sequence,
                                     .n_sequences = 1,
                                     .outputs = &output,
                                     .n_outputs = n < 16,
                                     .logits = logits + i * n_vocab};
        CHECK_EQ(runner_step(l->runner, &params, &card), 0);
        i += n < 16;
    }
    return logits;
}

static float *reference(const char *file) {
    struct loaded l;
    load(&l, file, &(struct setup){.n_cards = 1, .split = SPLIT_LAYER});
    float *logits = transcript(&l);
    CHECK(logits[0] != 0);
    unload(&l);
    return logits;
}

static void expect(struct loaded *l, const float *want) {
    float *got = transcript(l);
    CHECK(memcmp(got, want, 6 * l->model.params.n_vocab * sizeof *got) == 0);
    free(got);
}

/* Of all cards: what was fetched, less `times` of all that is spilled, which is at most what is
 * fetched ahead; and no fault. */
static void expect_fetched(const struct loaded *l, uint64_t times) {
    for (uint32_t i = 0; i < l->plan.n_cards; i++) {
        const struct plan_card *c = &l->plan.cards[i];
        struct runner_card card;
        runner_card(l->runner, i, &card);
        CHECK_EQ(card.faults, 0);
        CHECK(card.fetched_bytes >= times * c->spilled_bytes);
        CHECK(card.fetched_bytes - times * c->spilled_bytes <= c->landing_bytes);
        CHECK_EQ(card.landing_bytes, c->landing_bytes);
    }
}

static void what_is_spilled_is_fetched_before_it_is_needed(void) {
    float *want = reference(MODEL);
    for (uint32_t n_cards = 1; n_cards <= 3; n_cards++)
        for (uint32_t n = 1; n <= 11; n++) {
            const struct setup s = {
                .n_cards = n_cards, .split = SPLIT_LAYER, .n_threads = 1 + n % 3};
            struct loaded l;
            plan_spilled_layers(&l, MODEL, &s, n);
            open_runner(&l, &s);
            expect(&l, want);
            expect_fetched(&l, 8); /* steps */
            unload(&l);
        }
    free(want);
}

/* In isolation host memory is open to the fetches alone, and the other cards are closed to all. */
static void nothing_but_a_fetch_reads_host_memory(void) {
    float *want = reference(MODEL);
    for (uint32_t n_cards = 1; n_cards <= 2; n_cards++)
        for (uint32_t n = 3; n <= 11; n += 4) {
            const struct setup s = {.n_cards = n_cards, .split = SPLIT_LAYER, .isolate = true};
            struct loaded l;
            plan_spilled_layers(&l, MODEL, &s, n);
            open_runner(&l, &s);
            expect(&l, want);
            expect_fetched(&l, 8);
            unload(&l);
        }
    free(want);
}

/* The programs of the plan; all fetches taken out of them, or those of the next step alone. */
static void compile_without(struct program programs[CARDS_MAX], const struct loaded *l,
                            bool ahead_only) {
    CHECK_EQ(programs_compile(programs, &l->model, &l->plan, NULL), 0);
    for (uint32_t c = 0; c < CARDS_MAX; c++) {
        size_t n = 0;
        for (size_t i = 0; i < programs[c].n_ops; i++) {
            const struct op *op = &programs[c].ops[i];
            if (op->kind != OP_FETCH || (ahead_only && !op->fetch.ahead))
                programs[c].ops[n++] = *op;
        }
        programs[c].n_ops = n;
    }
}

static void what_is_not_fetched_is_a_fault_and_right_all_the_same(void) {
    float *want = reference(MODEL);
    for (int isolate = 0; isolate <= 1; isolate++)
        for (int ahead_only = 0; ahead_only <= 1; ahead_only++) {
            const struct setup s = {.n_cards = 1, .split = SPLIT_LAYER, .isolate = isolate != 0};
            struct program programs[CARDS_MAX] = {{0}};
            struct runner_card card;
            struct loaded l;
            plan_spilled_layers(&l, MODEL, &s, 7);
            open_runner(&l, &s);
            compile_without(programs, &l, ahead_only != 0);
            CHECK_EQ(device_backend("cpu")->load(runner_device(l.runner), programs, NULL), 0);
            expect(&l, want);
            runner_card(l.runner, 0, &card);
            CHECK(card.faults > 0);
            CHECK_EQ(card.fetched_bytes > 0, ahead_only);
            unload(&l);
            programs_finish(programs);
        }
    free(want);
}

/* A range of a layer that is fetched ahead, whose old content lies in the landing. */
static void weights_that_are_written_are_fetched_again(void) {
    const struct setup s = {.n_cards = 1, .split = SPLIT_LAYER};
    struct loaded l;
    float *want = reference(MODEL);
    uint8_t was[64], flipped[64];
    plan_spilled_layers(&l, MODEL, &s, 4);
    open_runner(&l, &s);
    expect(&l, want);
    const struct device_ops *ops = device_backend("cpu");
    struct device *d = runner_device(l.runner);
    const struct plan_card *c = &l.plan.cards[0];
    const uint64_t at = c->weights_bytes - c->spilled_bytes;
    CHECK_EQ(ops->peek(d, 0, at, was, sizeof was), 0);
    for (size_t i = 0; i < sizeof was; i++)
        flipped[i] = was[i] ^ 0x15;
    CHECK_EQ(ops->poke(d, 0, at, flipped, sizeof flipped), 0);
    float *harmed = transcript(&l);
    CHECK(memcmp(harmed, want, 6 * l.model.params.n_vocab * sizeof *want) != 0);
    CHECK_EQ(ops->poke(d, 0, at, was, sizeof was), 0);
    expect(&l, want);
    struct runner_card card;
    runner_card(l.runner, 0, &card);
    CHECK_EQ(card.faults, 0);
    unload(&l);
    free(harmed);
    free(want);
}

static void a_byte_less_is_refused(void) {
    const struct setup s = {.n_cards = 1, .split = SPLIT_LAYER};
    struct loaded l;
    struct err err = {{0}};
    plan_spilled_layers(&l, MODEL, &s, 6);
    CHECK(l.plan.cards[0].landing_bytes < l.plan.cards[0].spilled_bytes);
    l.plan.cards[0].capacity_bytes--;
    CHECK_EQ(try_runner(&l, &s, &err), -ENOSPC);
    unload(&l);
}

static void memory_with_a_spilled_end_is_found_whole_again(void) {
    const struct setup s = {.n_cards = 2, .split = SPLIT_LAYER, .memfds = true};
    struct loaded l;
    float *want = reference(MODEL);
    plan_spilled_layers(&l, MODEL, &s, 4);
    open_runner(&l, &s);
    runner_close(l.runner);
    open_runner(&l, &s);
    for (uint32_t i = 0; i < 2; i++) {
        struct runner_card card;
        runner_card(l.runner, i, &card);
        CHECK_EQ(card.kept_bytes, card.weights_bytes);
    }
    expect(&l, want);
    expect_fetched(&l, 8);
    unload(&l);
    free(want);
}

/* Whole layers are fetched, whichever experts will be used. */
static void experts_in_host_memory_change_nothing(void) {
    float *want = reference(EXPERTS);
    for (uint32_t n_cards = 1; n_cards <= 2; n_cards++)
        for (uint32_t n = 1; n <= 2; n++)
            for (int isolate = 0; isolate < 2; isolate++) {
                const struct setup s = {
                    .n_cards = n_cards, .split = SPLIT_LAYER, .isolate = isolate};
                struct loaded l;
                plan_spilled_layers(&l, EXPERTS, &s, n);
                CHECK(l.plan.cards[0].spilled_bytes > 0);
                open_runner(&l, &s);
                expect(&l, want);
                expect_fetched(&l, 8); /* steps */
                unload(&l);
            }
    free(want);
}

CHECK_MAIN(T(experts_in_host_memory_change_nothing),
           T(what_is_spilled_is_fetched_before_it_is_needed),
           T(nothing_but_a_fetch_reads_host_memory),
           T(what_is_not_fetched_is_a_fault_and_right_all_the_same),
           T(weights_that_are_written_are_fetched_again), T(a_byte_less_is_refused),
           T(memory_with_a_spilled_end_is_found_whole_again))
