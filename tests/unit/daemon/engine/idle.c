/* SPDX-License-Identifier: Apache-2.0 */
/* Memory under pages that no request uses is given back, and no token changes for it. */
#include "daemon/engine/engine.h"

#include "tests/check.h"
#include "tests/loaded_model.h"

#define SEQUENCES 4u
#define PROMPT    70u /* two full pages, and an open one */
#define GENERATED 60u

struct world {
    struct loaded l;
    struct engine *engine;
    int32_t tokens[SEQUENCES][GENERATED];
    uint32_t n[SEQUENCES], cached;
};

static int on_send(void *user, enum message_type type, const void *msg) {
    struct world *w = user;
    const struct msg_token *token = msg;
    if (type == MSG_TOKEN)
        w->tokens[token->sequence][w->n[token->sequence]++] = token->token;
    if (type == MSG_END)
        w->cached = ((const struct msg_end *)msg)->n_cached;
    return 0;
}

static uint64_t clock_of_test(void *user) {
    (void)user;
    return 1;
}

static int step_model(void *user, struct step_params *params, uint32_t *card) {
    return runner_step(((struct world *)user)->l.runner, params, card);
}

static void open_world(struct world *w) {
    *w = (struct world){.n = {0}};
    /* Heads of many values, so that pages of the model hold whole ones of the host. */
    load(&w->l, "tiny-mixed.gguf",
         &(struct setup){.n_cards = 2, .split = SPLIT_LAYER, .kv_type = KV_F32});
    const struct engine_options e = {.generation = 1,
                                     .n_vocab = w->l.model.params.n_vocab,
                                     .context = w->l.plan.context,
                                     .max_rows = w->l.plan.max_rows,
                                     .max_outputs = w->l.plan.max_outputs,
                                     .max_sequences = SEQUENCES,
                                     .n_pages = w->l.plan.n_pages};
    CHECK_EQ(engine_create(&w->engine, &e, &(struct engine_model){.user = w, .step = step_model},
                           &(struct engine_output){w, on_send, clock_of_test}),
             0);
}

static void close_world(struct world *w) {
    engine_destroy(w->engine);
    unload(&w->l);
}

/* All of them begin with the same page. */
static void admit(struct world *w, uint32_t s) {
    struct msg_admit a = {.sequence = s,
                          .n_prompt = PROMPT,
                          .n_tokens = PROMPT,
                          .max_tokens = s % 2 ? GENERATED : 20,
                          .cache_prompt = true,
                          .sampling = {.temperature = s < 2 ? 0 : 1.0f,
                                       .top_p = 1,
                                       .repeat_penalty = 1,
                                       .seed = 7 + s,
                                       .ignore_eos = true}};
    a.tokens = calloc(a.n_tokens, sizeof *a.tokens);
    for (uint32_t i = 0; i < PROMPT; i++)
        a.tokens[i] = (int32_t)((i * 37 + (i < 40 ? 0 : s * 101) + 11) % w->l.model.params.n_vocab);
    w->n[s] = 0;
    CHECK_EQ(engine_admit(w->engine, &a), 0);
}

static uint64_t kv_resident(struct world *w) {
    const struct device_ops *ops = device_backend("cpu");
    uint64_t sum = 0, bytes;
    for (uint32_t c = 0; c < 2; c++) {
        const uint64_t all = w->l.plan.cards[c].kv_bytes;
        if (all == 0)
            continue;
        CHECK_EQ(ops->residency(runner_device(w->l.runner), c, AREA_KV, 0, all, &bytes), 0);
        sum += bytes;
    }
    return sum;
}

static void give_back(struct world *w) {
    bool idle[1024];
    CHECK(w->l.plan.n_pages <= 1024);
    engine_forget_idle(w->engine, idle);
    CHECK_EQ(runner_discard(w->l.runner, idle), 0);
}

static void run(struct world *w, int steps) {
    while (steps-- && engine_step(w->engine) > 0)
        ;
}

static void what_runs_goes_on_as_if_nothing_had_been(void) {
    struct world calm, w;
    open_world(&calm);
    open_world(&w);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        admit(&calm, s);
        admit(&w, s);
    }
    run(&calm, 1000);
    for (int i = 0; i < 1000 && w.n[1] + w.n[3] < 2 * GENERATED; i++) { /* some end before others */
        run(&w, 1);
        give_back(&w);
    }
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        CHECK_EQ(w.n[s], calm.n[s]);
        CHECK(!memcmp(w.tokens[s], calm.tokens[s], w.n[s] * sizeof **w.tokens));
    }
    close_world(&calm);
    close_world(&w);
}

static void pages_of_a_prompt_that_ended_are_given_back_and_computed_again(void) {
    struct world w;
    int32_t before[20];
    open_world(&w);
    admit(&w, 0);
    run(&w, 1000);
    memcpy(before, w.tokens[0], sizeof before);
    admit(&w, 0);
    run(&w, 1000);
    CHECK(w.cached >= PAGE_TOKENS); /* they were kept */
    const uint64_t held = kv_resident(&w);
    CHECK(held > 0);
    give_back(&w);
    CHECK_EQ(kv_resident(&w), 0);
    admit(&w, 0);
    run(&w, 1000);
    CHECK_EQ(w.cached, 0);
    CHECK(!memcmp(before, w.tokens[0], sizeof before));
    close_world(&w);
}

static void a_lost_card_keeps_none_from_giving_back(void) {
    struct world w;
    bool idle[1024];
    open_world(&w);
    admit(&w, 0);
    run(&w, 1000);
    const uint64_t held = kv_resident(&w);
    CHECK_EQ(runner_lose(w.l.runner, 0), 0);
    engine_forget_idle(w.engine, idle);
    CHECK_EQ(runner_discard(w.l.runner, idle), -ENODEV);
    uint64_t left;
    CHECK_EQ(device_backend("cpu")->residency(runner_device(w.l.runner), 1, AREA_KV, 0,
                                              w.l.plan.cards[1].kv_bytes, &left),
             0);
    CHECK(held > 0 && left == 0);
    close_world(&w);
}

CHECK_MAIN(T(what_runs_goes_on_as_if_nothing_had_been),
           T(pages_of_a_prompt_that_ended_are_given_back_and_computed_again),
           T(a_lost_card_keeps_none_from_giving_back))
