/* SPDX-License-Identifier: Apache-2.0 */
/* The way from plan to plan in random boxes that are about as small as they may be: no card
 * overflows in any wave, the last plan is the wanted one, and where there has to be a way it is
 * found. */
#include "daemon/placement/waves.h"

#include "daemon/placement/layout.h"
#include "tests/boxes.h"

#define BOXES 1500u

#define NO_STAGE  0
#define ANY_STAGE UINT64_MAX

struct seen {
    uint32_t at_once, in_waves, staged, none, most;
};

/* What a card holds at most: of a staged one what it has before, and then what it has after. */
static uint64_t most_on(const struct plan *from, const struct plan *to, uint32_t c) {
    const struct plan_card *a = &from->cards[c], *b = &to->cards[c];
    const uint64_t x = a->weights_bytes + a->kv_bytes + a->scratch_bytes;
    const uint64_t y = b->weights_bytes + b->kv_bytes + b->scratch_bytes;
    return !layout_is_staged(from, to, c) ? layout_peak_bytes(from, to, c) : x > y ? x : y;
}

static void check_wave(const struct boxed *b, const struct plan *from, struct plan *to,
                       uint64_t staged) {
    CHECK_EQ(layout_staged_bytes(from, to), staged);
    for (uint32_t c = 0; c < to->n_cards; c++) {
        size_t n;
        const struct plan_range *held = plan_card_ranges(from, c, &n);
        CHECK_EQ(layout_card(to, c, held, n, true, UINT64_MAX / 2), 0);
        CHECK(layout_is_beside(from, to, c));
        CHECK(most_on(from, to, c) <= b->in.capacity_bytes[c]);
    }
    check_coverage(&b->model, to);
}

static struct plan copy_of(const struct plan *plan) {
    struct plan copy = *plan;
    copy.ranges = malloc((plan->n_ranges + 1) * sizeof *copy.ranges);
    memcpy(copy.ranges, plan->ranges, plan->n_ranges * sizeof *copy.ranges);
    return copy;
}

/* Bytes that are not yet where the last plan has them. */
static uint64_t bytes_left(const struct plan *at, const struct plan *then) {
    uint64_t bytes = 0;
    for (uint32_t c = 0; c < then->n_cards; c++)
        if (then->cards[c].weights_bytes)
            bytes +=
                then->cards[c].weights_bytes - PLAN_WEIGHTS_HEADER - layout_kept_bytes(at, then, c);
    return bytes;
}

/* Wave after wave, each asked for anew, as one does who was interrupted; returns how many.  staged:
 * how many of them use the stage. */
static uint32_t walk(const struct boxed *b, const struct plan *now, const struct plan *then,
                     uint64_t stage, uint32_t *staged) {
    struct waves waves = {.n = 77};
    struct plan at = copy_of(now);
    uint32_t n = 0, said = 0;
    uint64_t wanted = 77;
    *staged = 0;
    for (bool last = false; !last; n++) {
        const int rc = waves_find(&waves, &at, then, &b->in, stage, &wanted);
        if (rc && n == 0) {
            CHECK_EQ(rc, -ENOSPC);
            CHECK_EQ(waves.n, 77);
            CHECK(wanted > stage);
            plan_finish(&at);
            return 0;
        }
        CHECK_EQ(rc, 0); /* a way that was begun goes on */
        if (rc)
            break;
        if (n == 0)
            said = waves.n;
        CHECK_EQ(waves.n, said - n);
        CHECK(waves.staged_bytes <= stage);
        *staged += waves.staged_bytes > 0;
        last = waves.n == 1;
        struct plan next = last ? copy_of(then) : waves.first;
        check_wave(b, &at, &next, waves.staged_bytes);
        CHECK(last || next.n_pages == then->n_pages);
        CHECK(bytes_left(&next, then) <= bytes_left(&at, then));
        plan_finish(&at);
        at = next;
    }
    CHECK_EQ(n, said);
    CHECK_EQ(bytes_left(&at, then), 0);
    plan_finish(&at);
    return n;
}

static bool fits_at_once(const struct boxed *b, const struct plan *now, const struct plan *then) {
    for (uint32_t c = 0; c < now->n_cards; c++)
        if (layout_peak_bytes(now, then, c) > b->in.capacity_bytes[c])
            return false;
    return true;
}

/* A plan for some of the cards, and one for others of them. */
static bool two_plans(struct boxed *b, struct plan *now, struct plan *then) {
    if (plan_build(now, &b->in, NULL) < 0)
        return false;
    for (uint32_t i = 0; i < b->in.n_cards; i++)
        b->in.online[i] = draw(4) != 0;
    if (plan_build(then, &b->in, NULL) == 0)
        return true;
    plan_finish(now);
    return false;
}

static void open_box(struct boxed *b, uint32_t seed) {
    boxed_small(b, seed);
    b->model.params.n_ctx_train = 64;
    b->in.context = 32;
    b->in.max_sequences = 1; /* as many pages in every plan */
    b->in.max_rows = 4;
    for (uint32_t i = 0; i < b->in.n_cards; i++)
        b->in.capacity_bytes[i] += b->in.capacity_bytes[i] * draw(100) / 100;
}

/* stage: the percent of what is wanted that there is. */
static void try_box(uint32_t seed, uint64_t stage, struct seen *seen) {
    struct boxed b;
    struct plan now, then;
    open_box(&b, seed);
    if (two_plans(&b, &now, &then)) {
        const bool at_once = fits_at_once(&b, &now, &then);
        struct waves waves = {.n = 0};
        uint64_t wanted = 0;
        uint32_t staged;
        if (stage != ANY_STAGE && waves_find(&waves, &now, &then, &b.in, 0, &wanted) == 0)
            waves_finish(&waves);
        const uint64_t most = stage == ANY_STAGE ? stage : wanted * stage / 100;
        const uint32_t n = walk(&b, &now, &then, most, &staged);
        CHECK_EQ(n == 1 && !staged, at_once);
        seen->at_once += n == 1;
        seen->in_waves += n > 1;
        seen->staged += staged > 0;
        seen->none += n == 0;
        seen->most = n > seen->most ? n : seen->most;
        plan_finish(&now);
        plan_finish(&then);
    }
    boxed_finish(&b);
}

static struct seen try_boxes(uint64_t stage) {
    struct seen seen = {0};
    for (uint32_t seed = 1; seed <= BOXES; seed++)
        try_box(seed, stage, &seen);
    printf("# at once %u, in waves %u (at most %u), staged %u, none %u\n", seen.at_once,
           seen.in_waves, seen.most, seen.staged, seen.none);
    return seen;
}

static void no_card_overflows_on_any_way(void) {
    const struct seen seen = try_boxes(NO_STAGE);
    CHECK(seen.at_once > 50 && seen.in_waves > 50 && seen.none > 10);
    CHECK(seen.most > 2);
    CHECK_EQ(seen.staged, 0);
}

/* Also where full cards exchange what they have, or cut it in another way. */
static void with_a_stage_there_is_a_way_from_any_plan_to_any_other(void) {
    const struct seen without = try_boxes(NO_STAGE), with = try_boxes(ANY_STAGE);
    CHECK_EQ(with.none, 0);
    CHECK_EQ(with.staged, without.none);
    CHECK_EQ(with.in_waves + with.at_once, without.in_waves + without.at_once + without.none);
    CHECK_EQ(try_boxes(100).none, 0); /* what is said to be enough is */
}

static void a_stage_that_is_too_small_for_all_is_used_several_times(void) {
    const struct seen all = try_boxes(ANY_STAGE), some = try_boxes(60);
    CHECK(some.none < all.staged);
    CHECK(some.staged > 0 && some.most > 1);
}

/* --- a chain of cards, of which the first is drained --- */

#define CHAIN 5u

static void make_chain_model(struct boxed *b, uint32_t n_layers) {
    b->model = (struct model){.params = {.n_layers = n_layers,
                                         .n_embd = 256,
                                         .n_heads = 4,
                                         .n_kv_heads = 2,
                                         .head_dim = 64,
                                         .n_ff = 512,
                                         .n_vocab = 256,
                                         .n_ctx_train = 64,
                                         .norm_eps = 1e-5f,
                                         .tied = true,
                                         .rope = {.dims = 64}}};
    toy_model(&b->model, TENSOR_Q8_0);
    b->in = input_for(&b->model, CHAIN, UINT64_C(1) << 40, SPLIT_LAYER);
    b->in.context = 32;
    b->in.max_sequences = 1;
    b->in.max_rows = 4;
}

/* Layers of 64 KiB and more shift along the cards, each of which has room for one or two besides
 * what it holds in the end: there is a way, for a card that only takes has room for all it takes,
 * and then the one before it may give. */
static void what_fits_in_the_end_gets_there_along_the_chain(void) {
    uint32_t longest = 0;
    for (uint32_t drained = 0; drained < CHAIN; drained++)
        for (uint32_t seed = 0; seed < 8; seed++) {
            struct boxed b;
            struct plan now, then;
            random_state = 7 + seed * 31 + drained;
            make_chain_model(&b, 20 + draw(20));
            b.in.online[drained] = false;
            for (uint32_t i = 0; i < CHAIN; i++)
                b.in.capacity_bytes[i] = UINT64_C(1) << 30;
            CHECK_EQ(plan_build(&then, &b.in, NULL), 0);
            b.in.online[drained] = true;
            CHECK_EQ(plan_build(&now, &b.in, NULL), 0);
            for (uint32_t i = 0; i < CHAIN; i++) {
                const struct plan_card *x = &now.cards[i], *y = &then.cards[i];
                const uint64_t a = x->weights_bytes + x->kv_bytes,
                               c = y->weights_bytes + y->kv_bytes;
                b.in.capacity_bytes[i] =
                    (a > c ? a : c) + x->scratch_bytes + y->scratch_bytes + (64u << 10);
            }
            uint32_t staged;
            const uint32_t n = walk(&b, &now, &then, NO_STAGE, &staged);
            CHECK(n > 0);
            longest = n > longest ? n : longest;
            plan_finish(&now);
            plan_finish(&then);
            boxed_finish(&b);
        }
    printf("# at most %u waves\n", longest);
    CHECK(longest > 1);
}

static void the_same_question_has_the_same_answer(void) {
    struct seen seen = {0};
    for (uint32_t seed = 1; seed <= BOXES; seed++) {
        struct boxed b;
        struct plan now, then;
        struct waves one = {.n = 0}, two = {.n = 0};
        open_box(&b, seed);
        if (two_plans(&b, &now, &then)) {
            uint64_t wanted;
            CHECK_EQ(waves_find(&one, &now, &then, &b.in, 1u << 20, &wanted),
                     waves_find(&two, &now, &then, &b.in, 1u << 20, &wanted));
            CHECK_EQ(one.n, two.n);
            CHECK_EQ(one.first.n_ranges, two.first.n_ranges);
            for (size_t i = 0; i < one.first.n_ranges; i++)
                CHECK(plan_same_range(&one.first.ranges[i], &two.first.ranges[i]));
            seen.in_waves += one.n > 1;
            waves_finish(&one);
            waves_finish(&two);
            plan_finish(&now);
            plan_finish(&then);
        }
        boxed_finish(&b);
    }
    CHECK(seen.in_waves > 0);
}

static void other_pages_are_no_way(void) {
    struct boxed b;
    struct plan now, then;
    struct waves waves;
    uint64_t wanted = 1;
    make_chain_model(&b, 8);
    CHECK_EQ(plan_build(&now, &b.in, NULL), 0);
    b.in.max_sequences = 2;
    CHECK_EQ(plan_build(&then, &b.in, NULL), 0);
    CHECK_EQ(waves_find(&waves, &now, &then, &b.in, ANY_STAGE, &wanted), -ENOSPC);
    CHECK_EQ(wanted, 0); /* no stage would help */
    plan_finish(&now);
    plan_finish(&then);
    boxed_finish(&b);
}

CHECK_MAIN(T(no_card_overflows_on_any_way),
           T(with_a_stage_there_is_a_way_from_any_plan_to_any_other),
           T(a_stage_that_is_too_small_for_all_is_used_several_times),
           T(what_fits_in_the_end_gets_there_along_the_chain),
           T(the_same_question_has_the_same_answer), T(other_pages_are_no_way))
