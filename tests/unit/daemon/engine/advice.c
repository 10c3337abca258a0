/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of the cards' memory, when, and what is found of it then. */
#include "daemon/engine/advice.h"

#include "tests/check.h"
#include "tests/loaded_model.h"

#define CALLS_MAX 4096u

/* The cpu backend, with what is called noted. */
enum call { ADVISE, PACK, PREFETCH, RESIDENCY, LOAD, CALLS };
static struct device_ops noting;
static enum call calls[CALLS_MAX];
static _Atomic uint32_t n_calls; /* packing has threads */
static int advise_result, residency_result;

static void note(enum call call) {
    const uint32_t at = atomic_fetch_add(&n_calls, 1);
    CHECK(at < CALLS_MAX);
    calls[at] = call;
}

static int advise(struct device *device, const struct device_advice *advice) {
    note(ADVISE);
    return advise_result && advice->home == 1 ? advise_result
                                              : device_backend("cpu")->advise(device, advice);
}

static int pack(struct device *device, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    note(PACK);
    return device_backend("cpu")->pack(device, card, offset, type, vector, range_rows, row_begin,
                                       rows, cols, col_skip, blocks, row_bytes);
}

static int prefetch(struct device *device, uint32_t card, enum area area, uint64_t offset,
                    uint64_t bytes) {
    note(PREFETCH);
    return device_backend("cpu")->prefetch(device, card, area, offset, bytes);
}

static int skip_scratch(struct device *device, uint32_t card, enum area area, uint64_t offset,
                        uint64_t bytes) {
    return area == AREA_SCRATCH ? 0 : prefetch(device, card, area, offset, bytes);
}

static int residency(struct device *device, uint32_t card, enum area area, uint64_t offset,
                     uint64_t bytes, uint64_t *resident) {
    note(RESIDENCY);
    return residency_result && card == 1 && area == AREA_SCRATCH
               ? residency_result
               : device_backend("cpu")->residency(device, card, area, offset, bytes, resident);
}

static int load_programs(struct device *device, const struct program *programs, struct err *err) {
    note(LOAD);
    return device_backend("cpu")->load(device, programs, err);
}

static struct setup two_cards(void) {
    noting = *device_backend("cpu");
    noting.advise = advise;
    noting.pack = pack;
    noting.prefetch = prefetch;
    noting.residency = residency;
    noting.load = load_programs;
    n_calls = 0;
    return (struct setup){.n_cards = 2, .split = SPLIT_TENSOR, .backend = &noting};
}

static void advice_comes_before_a_byte_is_written_and_prefetch_when_all_are(void) {
    const struct setup s = two_cards();
    uint32_t first[CALLS], last[CALLS], n[CALLS] = {0};
    struct loaded l;
    load(&l, "tiny-mixed.gguf", &s);
    for (uint32_t i = 0; i < n_calls; i++) {
        if (n[calls[i]]++ == 0)
            first[calls[i]] = i;
        last[calls[i]] = i;
    }
    for (int c = 0; c < CALLS; c++)
        CHECK(n[c] > 0);
    for (int c = 1; c < CALLS; c++)
        CHECK(last[c - 1] < first[c]);
    CHECK_EQ(n[PREFETCH], n[RESIDENCY]);
    unload(&l);
}

static void all_of_a_card_is_advised_and_what_was_prefetched_lies_there(void) {
    const struct setup s = two_cards();
    struct loaded l;
    load(&l, "tiny-mixed.gguf", &s);
    for (uint32_t c = 0; c < 2; c++) {
        const struct plan_card *p = &l.plan.cards[c];
        const uint64_t ranges = p->weights_bytes - PLAN_WEIGHTS_HEADER;
        struct runner_card card;
        runner_card(l.runner, c, &card);
        CHECK_EQ(card.advised_bytes, ranges + p->kv_bytes + p->scratch_bytes);
        CHECK_EQ(card.prefetched_bytes, ranges + p->scratch_bytes);
        CHECK_EQ(card.resident_bytes, (int64_t)card.prefetched_bytes);
    }
    unload(&l);
}

static void what_does_not_lie_there_is_not_counted(void) {
    const struct setup s = two_cards();
    struct loaded l;
    struct runner_card card;
    noting.prefetch = skip_scratch;
    load(&l, "tiny-mixed.gguf", &s);
    runner_card(l.runner, 0, &card);
    CHECK(card.resident_bytes < (int64_t)card.prefetched_bytes);
    CHECK(card.resident_bytes >= (int64_t)(l.plan.cards[0].weights_bytes - PLAN_WEIGHTS_HEADER));
    unload(&l);
}

static void what_cannot_be_told_is_unverified(void) {
    const struct setup s = two_cards();
    struct loaded l;
    struct runner_card card;
    residency_result = -ENOTSUP;
    load(&l, "tiny-mixed.gguf", &s);
    runner_card(l.runner, 0, &card);
    CHECK_EQ(card.resident_bytes, (int64_t)card.prefetched_bytes);
    runner_card(l.runner, 1, &card);
    CHECK_EQ(card.resident_bytes, -1);
    CHECK(card.prefetched_bytes > 0);
    unload(&l);
}

static void refused_advice_ends_the_load_before_anything_is_read(void) {
    const struct setup s = two_cards();
    struct loaded l;
    struct err err = {{0}};
    advise_result = -ENODEV;
    CHECK_EQ(plan_model(&l, "tiny-mixed.gguf", &s), 0);
    CHECK_EQ(try_runner(&l, &s, &err), -ENODEV);
    CHECK(strstr(err.text, "card 1: advice"));
    for (uint32_t i = 0; i < n_calls; i++)
        CHECK_EQ(calls[i], ADVISE);
    unload(&l);
}

CHECK_MAIN(T(advice_comes_before_a_byte_is_written_and_prefetch_when_all_are),
           T(all_of_a_card_is_advised_and_what_was_prefetched_lies_there),
           T(what_does_not_lie_there_is_not_counted), T(what_cannot_be_told_is_unverified),
           T(refused_advice_ends_the_load_before_anything_is_read))
