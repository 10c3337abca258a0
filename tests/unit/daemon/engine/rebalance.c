/* SPDX-License-Identifier: Apache-2.0 */
/* The promise "a rebalance changes no token": sequences run on one plan, go on under another, and
 * end as if nothing had been.  On the generated tiny models (make tiny). */
#include "tests/unit/daemon/engine/moving.h"

/* Steps go on until the new runner is there; then it alone is left. */
static int try_rebalance(struct world *w, bool keep, struct rebalance_result *result,
                         struct err *err) {
    struct rebalance *r;
    struct runner_options o = options_for(w, &w->plans[1]);
    o.before = w->runner;
    int rc = rebalance_start(&r, &o, w->engine, keep, REBALANCE_SLICE_BYTES, err);
    if (rc)
        return rc;
    while (!(rc = rebalance_advance(r, w->engine, result, err)))
        if (w->n[0] + 4 < GENERATED)
            run_steps(w, 1);
    rebalance_drop(r);
    if (rc < 0)
        return rc;
    runner_close(w->runner);
    w->runner = result->runner;
    CHECK_EQ(runner_trim(w->runner), 0);
    if (result->kept)
        engine_continue(w->engine);
    else
        CHECK_EQ(engine_start_over(w->engine), 0);
    return 0;
}

static struct rebalance_result rebalance(struct world *w, const struct layout *to, bool keep) {
    struct rebalance_result result;
    struct err err = {{0}};
    make_next(w, to);
    must(try_rebalance(w, keep, &result, &err), &err);
    return result;
}

static const char *const files[2] = {"tiny-f32.gguf", "tiny-mixed.gguf"};

/* K and V that are where they have to be are not copied. */
static bool some_move(const struct plan *now, const struct plan *then) {
    for (uint32_t c = 0; c < then->n_cards; c++)
        if (layout_kv_bytes(now, then, c) > now->cards[c].kv_bytes)
            return true;
    return false;
}

/* Steps until `before` tokens are there, then from one layout to another. */
static void go_over(const struct world *calm, const char *file, const struct layout *from,
                    const struct layout *to, uint32_t before) {
    struct world moved;
    open_world(&moved, file, from);
    run_steps(&moved, before);
    const struct rebalance_result result = rebalance(&moved, to, true);
    CHECK(result.kept);
    CHECK_EQ(result.kv_bytes > 0, some_move(&moved.plans[0], &moved.plans[1]));
    run_steps(&moved, 1000);
    CHECK_EQ(moved.preempted, 0);
    same_tokens(calm, &moved);
    close_world(&moved);
}

static void every_sequence_goes_on_under_any_other_plan(void) {
    static struct world calm[2];
    for (size_t f = 0; f < 2; f++) {
        open_world(&calm[f], files[f], &one);
        run_steps(&calm[f], 1000);
    }
    for (size_t i = 0; i < LAYOUTS; i++)
        for (size_t j = 0; j < LAYOUTS; j++)
            go_over(&calm[i % 2], files[i % 2], &layouts[i], &layouts[j],
                    2 + (uint32_t)(i + j) % 9);
    close_world(&calm[0]);
    close_world(&calm[1]);
}

/* Experts, vectors of theirs, sinks, windows. */
static void so_it_does_where_layers_have_experts(void) {
    static const char file[] = "tiny-gpt-oss-mxfp4.gguf";
    static struct world calm;
    open_world(&calm, file, &one);
    run_steps(&calm, 1000);
    for (uint32_t i = 0; i < LAYOUTS; i++)
        go_over(&calm, file, &layouts[i], &layouts[(i + 1) % LAYOUTS], 3 + i);
    close_world(&calm);
}

static uint64_t range_bytes(const struct plan *plan) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->n_ranges; i++)
        bytes += plan->ranges[i].bytes;
    return bytes;
}

/* Of the ranges on all cards, without headers. */
static void count_weights(const struct world *w, uint64_t *copied, uint64_t *kept) {
    const struct plan *plan = runner_options(w->runner)->plan;
    *copied = *kept = 0;
    for (uint32_t c = 0; c < plan->n_cards; c++)
        if (plan->cards[c].online) {
            struct runner_card card;
            runner_card(w->runner, c, &card);
            *copied += card.copied_bytes;
            *kept += card.kept_bytes;
            if (card.kept_bytes && card.kept_bytes == card.weights_bytes)
                *kept -= PLAN_WEIGHTS_HEADER;
        }
}

static void what_a_card_holds_is_copied_and_not_read(void) {
    struct world w;
    open_world(&w, "tiny-f32.gguf", &three);
    run_steps(&w, 3);
    rebalance(&w, &layouts[4], true);
    uint64_t copied, kept;
    count_weights(&w, &copied, &kept);
    uint64_t same = 0;
    for (uint32_t c = 0; c < 3; c++)
        same += layout_kept_bytes(&w.plans[0], &w.plans[1], c);
    CHECK_EQ(kept, same);
    CHECK(kept > 0);
    CHECK_EQ(copied + kept, range_bytes(&w.plans[1])); /* a layer split moves whole tensors */
    close_world(&w);
}

static void harm(struct world *w, const struct plan_range *range) {
    const struct device_ops *ops = runner_options(w->runner)->backend;
    uint8_t byte;
    CHECK_EQ(ops->peek(runner_device(w->runner), range->card, range->offset, &byte, 1), 0);
    byte ^= 1;
    CHECK_EQ(ops->poke(runner_device(w->runner), range->card, range->offset, &byte, 1), 0);
}

/* Range i of the plan in use is the next one's, too. */
static bool stays(const struct world *w, size_t i) {
    CHECK(i < w->plans[0].n_ranges);
    for (size_t k = 0; k < w->plans[1].n_ranges; k++)
        if (w->plans[1].ranges[k].card == w->plans[0].ranges[i].card &&
            plan_same_range(&w->plans[1].ranges[k], &w->plans[0].ranges[i]))
            return true;
    return false;
}

static void a_harmed_range_is_read_again(void) {
    struct world calm, w;
    uint64_t copied, kept;
    open_world(&calm, "tiny-f32.gguf", &one);
    run_steps(&calm, 1000);
    open_world(&w, "tiny-f32.gguf", &three);
    make_next(&w, &layouts[4]);
    size_t moved = 0;
    while (stays(&w, moved))
        moved++;
    /* Harmed after its digest was taken; no step runs before it is left behind. */
    const struct plan_range harmed = w.plans[0].ranges[moved];
    harm(&w, &harmed);
    struct rebalance *r;
    struct rebalance_result result;
    struct err err = {{0}};
    struct runner_options o = options_for(&w, &w.plans[1]);
    o.before = w.runner;
    must(rebalance_start(&r, &o, w.engine, true, REBALANCE_SLICE_BYTES, &err), &err);
    while (!rebalance_advance(r, w.engine, &result, &err))
        ;
    rebalance_drop(r);
    runner_close(w.runner);
    w.runner = result.runner;
    count_weights(&w, &copied, &kept);
    CHECK_EQ(copied + kept, range_bytes(&w.plans[1]) - harmed.bytes);
    run_steps(&w, 1000);
    same_tokens(&calm, &w);
    close_world(&calm);
    close_world(&w);
}

/* Nothing may write what steps read: whoever asked has to see to it. */
static void a_harmed_range_that_would_stay_ends_it(void) {
    struct world w;
    struct rebalance *r;
    struct rebalance_result result;
    struct err err = {{0}};
    int rc;
    open_world(&w, "tiny-f32.gguf", &three);
    make_next(&w, &layouts[4]);
    size_t kept = 0;
    while (!stays(&w, kept))
        kept++;
    harm(&w, &w.plans[0].ranges[kept]);
    struct runner_options o = options_for(&w, &w.plans[1]);
    o.before = w.runner;
    must(rebalance_start(&r, &o, w.engine, true, REBALANCE_SLICE_BYTES, &err), &err);
    while (!(rc = rebalance_advance(r, w.engine, &result, &err)))
        ;
    CHECK_EQ(rc, -EBADMSG);
    CHECK(strstr(err.text, "harmed"));
    rebalance_drop(r);
    close_world(&w);
}

/* K and V that harmed weights may have made are not carried over, whether or not the next plan has
 * the range just as it was. */
static void after_harm_in_any_range_nothing_goes_on(void) {
    uint32_t ended = 0, over = 0;
    for (size_t to = 2; to < LAYOUTS; to += 2)
        for (uint32_t i = 0;; i += 7) {
            struct world w;
            struct rebalance_result result;
            struct err err = {{0}};
            open_world(&w, "tiny-f32.gguf", &layouts[0]);
            if (i >= w.plans[0].n_ranges) {
                close_world(&w);
                break;
            }
            run_steps(&w, 3);
            make_next(&w, &layouts[to]);
            const bool would_stay = stays(&w, i);
            harm(&w, &w.plans[0].ranges[i]);
            const int rc = try_rebalance(&w, true, &result, &err);
            if (rc != (would_stay ? -EBADMSG : 0) || (rc == 0 && result.kept)) {
                printf("# range %u, to layout %zu: %s\n", i, to, rc ? err.text : "carried over");
                CHECK(false);
            }
            ended += would_stay;
            over += !would_stay;
            close_world(&w);
        }
    printf("# %u ended the order, after %u all start over\n", ended, over);
    CHECK(ended && over);
}

/* A page a slice: sequences end meanwhile, and others take their pages. */
static void pages_that_change_hands_meanwhile_are_copied_again(void) {
    struct world calm, w;
    struct err err = {{0}};
    open_world_of(&calm, "tiny-f32.gguf", &one, PROMPT_LONG);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        CHECK_EQ(engine_cancel(calm.engine, s), 0);
    for (uint32_t s = 0; s < REQUESTS; s++)
        calm.most[s] = 12;
    for (uint32_t s = 0; s < SEQUENCES; s++)
        admit(&calm, s);
    for (uint32_t s = SEQUENCES; s < REQUESTS; s++) {
        run_steps(&calm, 1000);
        admit(&calm, s);
    }
    run_steps(&calm, 1000);
    for (uint32_t before = 1; before < 12; before++) {
        struct rebalance *r;
        struct rebalance_result result;
        uint32_t admitted = SEQUENCES;
        open_world_of(&w, "tiny-f32.gguf", &layouts[before % LAYOUTS], PROMPT_LONG);
        for (uint32_t s = 0; s < SEQUENCES; s++)
            CHECK_EQ(engine_cancel(w.engine, s), 0);
        w.ended = 0;
        for (uint32_t s = 0; s < REQUESTS; s++)
            w.most[s] = 3 + (s * 5 + before) % 9;
        for (uint32_t s = 0; s < SEQUENCES; s++)
            admit(&w, s);
        run_steps(&w, before);
        make_next(&w, &layouts[(before + 1) % LAYOUTS]);
        struct runner_options o = options_for(&w, &w.plans[1]);
        o.before = w.runner;
        must(rebalance_start(&r, &o, w.engine, true, 1, &err), &err);
        while (rebalance_loading(r))
            usleep(1000);
        while (!rebalance_advance(r, w.engine, &result, &err)) {
            while (admitted < REQUESTS && admitted < SEQUENCES + w.ended)
                admit(&w, admitted++);
            run_steps(&w, 1);
        }
        rebalance_drop(r);
        runner_close(w.runner);
        w.runner = result.runner;
        do
            while (admitted < REQUESTS && admitted < SEQUENCES + w.ended)
                admit(&w, admitted++);
        while (engine_step(w.engine) > 0 || admitted < REQUESTS);
        for (uint32_t s = 0; s < REQUESTS; s++) {
            CHECK_EQ(w.n[s], w.most[s]);
            for (uint32_t i = 0; i < w.most[s]; i++)
                CHECK_EQ(w.tokens[s][i], calm.tokens[s][i]);
        }
        close_world(&w);
    }
    close_world(&calm);
}

static uint32_t one_with_layers(const struct plan *plan) {
    uint32_t card = plan->n_cards - 1;
    while (plan->cards[card].kv_bytes == 0)
        card--;
    return card;
}

static void what_a_lost_card_alone_held_is_computed_again(void) {
    struct world calm, w;
    open_world(&calm, "tiny-mixed.gguf", &one);
    run_steps(&calm, 1000);
    for (int split = 0; split < 2; split++) {
        open_world(&w, "tiny-mixed.gguf", &layouts[2 * split]);
        run_steps(&w, 9);
        const uint32_t card = one_with_layers(&w.plans[0]);
        CHECK_EQ(runner_lose(w.runner, card), 0);
        CHECK_EQ(engine_step(w.engine), -ENODEV);
        const struct layout rest = {8, layouts[2 * split].split, 1u << card};
        const struct rebalance_result result = rebalance(&w, &rest, true);
        CHECK_EQ(result.kept, split != 0); /* of a cut head others have a copy, of a layer none */
        CHECK_EQ(w.preempted, result.kept ? 0 : SEQUENCES);
        for (uint32_t s = 0; s < w.preempted; s++)
            admit(&w, s);
        run_steps(&w, 1000);
        same_tokens(&calm, &w);
        close_world(&w);
    }
    close_world(&calm);
}

static void one_that_is_dropped_leaves_no_trace(void) {
    struct world calm, w;
    struct err err = {{0}};
    open_world(&calm, "tiny-f32.gguf", &one);
    run_steps(&calm, 1000);
    open_world(&w, "tiny-f32.gguf", &layouts[0]);
    make_next(&w, &layouts[3]);
    for (uint32_t i = 0; i < 12; i++) { /* dropped sooner and later */
        struct rebalance *r;
        struct rebalance_result result;
        struct runner_options o = options_for(&w, &w.plans[1]);
        o.before = w.runner;
        must(rebalance_start(&r, &o, w.engine, true, REBALANCE_SLICE_BYTES, &err), &err);
        for (uint32_t k = 0; k < i; k++) {
            run_steps(&w, 1);
            if (rebalance_advance(r, w.engine, &result, &err)) {
                runner_close(result.runner);
                CHECK_EQ(runner_trim(w.runner), 0);
                break;
            }
        }
        rebalance_drop(r);
    }
    run_steps(&w, 1000);
    same_tokens(&calm, &w);
    close_world(&calm);
    close_world(&w);
}

CHECK_MAIN(T(every_sequence_goes_on_under_any_other_plan), T(so_it_does_where_layers_have_experts),
           T(what_a_card_holds_is_copied_and_not_read), T(a_harmed_range_is_read_again),
           T(after_harm_in_any_range_nothing_goes_on), T(a_harmed_range_that_would_stay_ends_it),
           T(pages_that_change_hands_meanwhile_are_copied_again),
           T(what_a_lost_card_alone_held_is_computed_again), T(one_that_is_dropped_leaves_no_trace))
