/* SPDX-License-Identifier: Apache-2.0 */
/* The promise "a rebalance changes no token": sequences run on one plan, go on under another, and
 * end as if nothing had been.  On the generated tiny models (make tiny). */
#include "daemon/engine/rebalance.h"

#include "daemon/placement/layout.h"
#include "tests/check.h"
#include "tests/loaded_model.h"

#define SEQUENCES   4u /* at once */
#define REQUESTS    12u
#define PROMPT      37u  /* a full page and an open one */
#define PROMPT_LONG 100u /* three full ones */
#define GENERATED   40u

struct layout {
    uint32_t n_cards;
    enum split split;
    uint32_t offline; /* bit per card */
};

struct world {
    struct loaded l;
    struct plan plans[2];
    struct runner *runner;
    struct engine *engine;
    int32_t tokens[REQUESTS][GENERATED];
    uint32_t n[REQUESTS], most[REQUESTS], prompt, preempted, ended;
};

static int on_send(void *user, enum message_type type, const void *msg) {
    struct world *w = user;
    if (type == MSG_TOKEN) {
        const struct msg_token *m = msg;
        CHECK_EQ(m->position, w->prompt + w->n[m->sequence]); /* none twice, none missing */
        w->tokens[m->sequence][w->n[m->sequence]++] = m->token;
    }
    w->preempted += type == MSG_PREEMPTED;
    w->ended += type == MSG_END;
    return 0;
}

static uint64_t clock_of_test(void *user) {
    (void)user;
    return 1;
}

static int step_model(void *user, struct step_params *params, uint32_t *card) {
    struct world *w = user;
    return runner_step(w->runner, params, card);
}

static void make_plan(struct world *w, struct plan *plan, const struct layout *at) {
    struct err err = {{0}};
    struct plan_input in = {.model = &w->l.model,
                            .backend = device_backend("cpu"),
                            .n_cards = at->n_cards,
                            .split = at->split,
                            .context = 128,
                            .max_sequences = SEQUENCES,
                            .max_rows = MAX_ROWS};
    for (uint32_t i = 0; i < at->n_cards; i++) {
        in.online[i] = !(at->offline >> i & 1);
        in.capacity_bytes[i] = 256 * MIB;
    }
    must(plan_build(plan, &in, &err), &err);
}

static struct runner_options options_for(struct world *w, const struct plan *plan) {
    struct runner_options o = {.backend = device_backend("cpu"),
                               .model = &w->l.model,
                               .plan = plan,
                               .part_fds = &w->l.fd,
                               .file_name = "the model",
                               .file = w->l.file,
                               .head_fds = &w->l.fd,
                               .n_parts = 1,
                               .sums_fd = -1};
    o.device.n_threads = 2;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        o.weight_fds[i] = -1;
    return o;
}

/* Sequence s, with what it has generated so far. */
static void admit(struct world *w, uint32_t s) {
    struct msg_admit a = {.sequence = s,
                          .n_prompt = w->prompt,
                          .n_tokens = w->prompt + w->n[s],
                          .max_tokens = w->most[s],
                          .cache_prompt = s % 2 != 0};
    a.sampling = (struct sampling){
        .temperature = s < 2 ? 0 : 1.0f, .top_p = 1, .repeat_penalty = 1, .seed = 7 + s};
    a.sampling.ignore_eos = true;
    a.tokens = calloc(a.n_tokens, sizeof *a.tokens);
    for (uint32_t i = 0; i < w->prompt; i++) /* the shared ones begin alike */
        a.tokens[i] =
            (int32_t)((i * 37 + (i < 32 ? s % 2 : s) * 101 + 11) % w->l.model.params.n_vocab);
    memcpy(a.tokens + w->prompt, w->tokens[s], w->n[s] * sizeof *a.tokens);
    CHECK_EQ(engine_admit(w->engine, &a), 0);
}

static void open_world_of(struct world *w, const char *file, const struct layout *at,
                          uint32_t prompt) {
    struct err err = {{0}};
    *w = (struct world){.prompt = prompt};
    for (uint32_t s = 0; s < REQUESTS; s++)
        w->most[s] = GENERATED;
    CHECK_EQ(plan_model(&w->l, file, &(struct setup){.n_cards = 1, .split = SPLIT_LAYER}), 0);
    make_plan(w, &w->plans[0], at);
    const struct runner_options o = options_for(w, &w->plans[0]);
    must(runner_open(&w->runner, &o, &err), &err);
    const struct engine_options e = {.generation = 1,
                                     .n_vocab = w->l.model.params.n_vocab,
                                     .context = w->plans[0].context,
                                     .max_rows = w->plans[0].max_rows,
                                     .max_outputs = w->plans[0].max_outputs,
                                     .max_sequences = SEQUENCES,
                                     .n_pages = w->plans[0].n_pages};
    CHECK_EQ(engine_create(&w->engine, &e, &(struct engine_model){.user = w, .step = step_model},
                           &(struct engine_output){w, on_send, clock_of_test}),
             0);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        admit(w, s);
}

static void open_world(struct world *w, const char *file, const struct layout *at) {
    open_world_of(w, file, at, PROMPT);
}

static void close_world(struct world *w) {
    engine_destroy(w->engine);
    runner_close(w->runner);
    plan_finish(&w->plans[0]);
    if (w->plans[1].ranges)
        plan_finish(&w->plans[1]);
    unload(&w->l);
}

static void run_steps(struct world *w, uint32_t n) {
    while (n-- && engine_step(w->engine) > 0)
        ;
}

/* The second plan, beside the one in use. */
static void make_next(struct world *w, const struct layout *to) {
    make_plan(w, &w->plans[1], to);
    for (uint32_t c = 0; c < to->n_cards; c++) {
        size_t n = 0;
        const struct plan_range *held =
            c < w->plans[0].n_cards ? plan_card_ranges(&w->plans[0], c, &n) : NULL;
        CHECK_EQ(layout_card(&w->plans[1], c, held, n, true, layout_room(&w->plans[1], c)), 0);
    }
}

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

static void same_tokens(const struct world *a, const struct world *b) {
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        CHECK_EQ(b->n[s], GENERATED);
        for (uint32_t i = 0; i < GENERATED; i++)
            CHECK_EQ(a->tokens[s][i], b->tokens[s][i]);
    }
}

static const struct layout one = {1, SPLIT_LAYER, 0}, three = {3, SPLIT_LAYER, 0};
static const struct layout layouts[] = {
    {8, SPLIT_LAYER, 0},    {8, SPLIT_LAYER, 1u << 3}, {8, SPLIT_TENSOR, 0},
    {8, SPLIT_TENSOR, 0x6}, {3, SPLIT_LAYER, 1u << 0}, {2, SPLIT_TENSOR, 0},
};
#define LAYOUTS (sizeof layouts / sizeof *layouts)

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
