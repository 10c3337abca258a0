/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that stay in host memory, on simulated cards: the same bits, fetched as planned. */
#include "daemon/engine/program.h"
#include "tests/on_cards.h"

#define MODEL   "tiny-deep.gguf"
#define EXPERTS "tiny-typed.gguf"
#define STEPS   8 /* of run_loaded() in chunks of ten: four, and four of a single row */

static struct setup setup_of(uint32_t n_cards, enum split split) {
    return (struct setup){
        .n_cards = n_cards, .split = split, .backend = device_backend("level_zero")};
}

/* Every step fetched all that is spilled, and before the first one what is fetched ahead; and the
 * card has what the plan says, in host memory what is spilled. */
static void expect_planned(const struct loaded *l) {
    const struct device_ops *ops = device_backend("level_zero");
    for (uint32_t i = 0; i < l->plan.n_cards; i++) {
        const struct plan_card *c = &l->plan.cards[i];
        struct device_properties p;
        CHECK_EQ(ops->properties(runner_device(l->runner), i, &p), 0);
        CHECK_EQ(p.faults, 0);
        CHECK(p.fetched_bytes >= STEPS * c->spilled_bytes);
        CHECK(p.fetched_bytes - STEPS * c->spilled_bytes <= c->landing_bytes);
        CHECK_EQ(p.used_bytes[AREA_LANDING], c->landing_bytes);
        CHECK_EQ(p.used_bytes[AREA_WEIGHTS], c->weights_bytes);
    }
}

static void spilled_has_the_bits(const char *file, const struct setup *s, uint32_t n_spilled,
                                 uint64_t want) {
    struct loaded l;
    plan_spilled_layers(&l, file, s, n_spilled);
    open_runner(&l, s);
    CHECK_EQ(run_loaded(&l, 10), want);
    expect_planned(&l);
    unload(&l);
}

static void of_any_number_of_layers(const char *options, uint32_t n_cards, enum split split) {
    begin(options);
    const struct setup s = setup_of(n_cards, split);
    const uint64_t want = run_model(MODEL, &(struct setup){.n_cards = 1}, 16);
    for (uint32_t n = 1; n <= 11; n += 2)
        spilled_has_the_bits(MODEL, &s, n, want);
}

static void layers_in_host_memory_change_no_bit(void) {
    of_any_number_of_layers("cards=1", 1, SPLIT_LAYER);
}

static void nor_do_those_of_a_pipeline(void) {
    of_any_number_of_layers("cards=3 seed=8", 3, SPLIT_LAYER);
}

static void nor_those_of_cards_that_share_layers(void) {
    of_any_number_of_layers("cards=2 p2p=none seed=9", 2, SPLIT_TENSOR);
}

static void nor_do_experts(void) {
    begin("cards=2 seed=10");
    const struct setup s = setup_of(2, SPLIT_TENSOR);
    spilled_has_the_bits(EXPERTS, &s, 5, run_model(EXPERTS, &(struct setup){.n_cards = 1}, 16));
}

/* The card itself has no byte more than what is not spilled. */
static void what_is_spilled_takes_nothing_of_the_card(void) {
    begin("cards=1");
    const struct setup s = setup_of(1, SPLIT_LAYER);
    struct loaded l;
    struct err err = {{0}};
    plan_spilled_layers(&l, MODEL, &s, 6);
    l.plan.cards[0].capacity_bytes--;
    CHECK_EQ(try_runner(&l, &s, &err), -ENOSPC);
    l.runner = NULL;
    unload(&l);
}

/* A range of a layer that is fetched ahead, whose old content lies in the landing. */
static void weights_that_are_written_are_fetched_again(void) {
    uint8_t was[64], other[64];
    struct loaded l;
    begin("cards=1");
    const struct device_ops *ops = device_backend("level_zero");
    const struct setup s = setup_of(1, SPLIT_LAYER);
    plan_spilled_layers(&l, MODEL, &s, 4);
    open_runner(&l, &s);
    const uint64_t want = run_loaded(&l, 10);
    struct device *d = runner_device(l.runner);
    const uint64_t at = l.plan.cards[0].weights_bytes - l.plan.cards[0].spilled_bytes;
    CHECK_EQ(ops->peek(d, 0, at, was, sizeof was), 0);
    for (size_t i = 0; i < sizeof was; i++)
        other[i] = was[i] ^ 0x15;
    CHECK_EQ(ops->poke(d, 0, at, other, sizeof other), 0);
    CHECK(run_loaded(&l, 10) != want);
    CHECK_EQ(ops->poke(d, 0, at, was, sizeof was), 0);
    CHECK_EQ(run_loaded(&l, 10), want);
    unload(&l);
}

/* Takes out one fetch after another: each is needed by something. */
static void a_program_that_fetches_too_little_is_refused(void) {
    struct program programs[CARDS_MAX] = {{0}};
    struct loaded l;
    begin("cards=1");
    const struct device_ops *ops = device_backend("level_zero");
    const struct setup s = setup_of(1, SPLIT_LAYER);
    plan_spilled_layers(&l, MODEL, &s, 5);
    open_runner(&l, &s);
    const uint64_t want = run_loaded(&l, 10);
    CHECK_EQ(programs_compile(programs, &l.model, &l.plan, NULL), 0);
    uint32_t n = 0;
    for (size_t i = 0; i < programs[0].n_ops; i++) {
        struct op *op = &programs[0].ops[i];
        const uint64_t bytes = op->fetch.bytes;
        struct err err = {{0}};
        if (op->kind != OP_FETCH)
            continue;
        op->fetch.bytes = 0;
        CHECK_EQ(ops->load(runner_device(l.runner), programs, &err), -EINVAL);
        CHECK(strstr(err.text, "not fetched in time"));
        op->fetch.bytes = bytes;
        n++;
    }
    CHECK(n > 5);
    CHECK_EQ(run_loaded(&l, 10), want); /* what was loaded before is still there */
    unload(&l);
    programs_finish(programs);
}

CHECK_MAIN(T(layers_in_host_memory_change_no_bit), T(nor_do_those_of_a_pipeline),
           T(nor_those_of_cards_that_share_layers), T(nor_do_experts),
           T(what_is_spilled_takes_nothing_of_the_card),
           T(weights_that_are_written_are_fetched_again),
           T(a_program_that_fetches_too_little_is_refused))
