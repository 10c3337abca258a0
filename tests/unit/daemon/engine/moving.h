/* SPDX-License-Identifier: Apache-2.0 */
/* moving.h - sequences that run on one plan of a tiny model (make tiny) and go on under another. */
#ifndef OCTARC_TESTS_UNIT_DAEMON_ENGINE_MOVING_H
#define OCTARC_TESTS_UNIT_DAEMON_ENGINE_MOVING_H

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

/* Of worlds that are opened; NULL: the cpu's. */
static const struct device_ops *backend_of_worlds;

static inline int on_send(void *user, enum message_type type, const void *msg) {
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

static inline uint64_t clock_of_test(void *user) {
    (void)user;
    return 1;
}

static inline int step_model(void *user, struct step_params *params, uint32_t *card) {
    struct world *w = user;
    return runner_step(w->runner, params, card);
}

static inline void make_plan(struct world *w, struct plan *plan, const struct layout *at) {
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

static inline struct runner_options options_for(struct world *w, const struct plan *plan) {
    struct runner_options o = {.backend =
                                   backend_of_worlds ? backend_of_worlds : device_backend("cpu"),
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
static inline void admit(struct world *w, uint32_t s) {
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

static inline void open_world_of(struct world *w, const char *file, const struct layout *at,
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

static inline void open_world(struct world *w, const char *file, const struct layout *at) {
    open_world_of(w, file, at, PROMPT);
}

static inline void close_world(struct world *w) {
    engine_destroy(w->engine);
    runner_close(w->runner);
    plan_finish(&w->plans[0]);
    if (w->plans[1].ranges)
        plan_finish(&w->plans[1]);
    unload(&w->l);
}

static inline void run_steps(struct world *w, uint32_t n) {
    while (n-- && engine_step(w->engine) > 0)
        ;
}

/* The second plan, beside the one in use. */
static inline void make_next(struct world *w, const struct layout *to) {
    make_plan(w, &w->plans[1], to);
    for (uint32_t c = 0; c < to->n_cards; c++) {
        size_t n = 0;
        const struct plan_range *held =
            c < w->plans[0].n_cards ? plan_card_ranges(&w->plans[0], c, &n) : NULL;
        CHECK_EQ(layout_card(&w->plans[1], c, held, n, true, layout_room(&w->plans[1], c)), 0);
    }
}

static inline void same_tokens(const struct world *a, const struct world *b) {
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

#endif
