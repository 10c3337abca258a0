/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduling of steps, with a model of the test's own: the logits of a row are a hash of all
 * tokens up to it, read back from "KV pages" that the test keeps, so a page that was shared, moved
 * or recomputed wrongly changes the transcript. */
#include "daemon/engine/engine.h"

#include <errno.h>

#include "tests/check.h"

#define VOCAB     97u
#define CONTEXT   512u
#define SEQUENCES 6u
#define EOG       96

struct world {
    struct engine *engine;
    struct engine_options options;
    uint64_t pages[4096][PAGE_TOKENS]; /* hash of the tokens up to each position */
    int32_t transcript[64][CONTEXT];
    uint32_t length[64], n_prompt[64], cached[64];
    int ended[64]; /* enum end_reason + 1 */
    uint32_t preempted[64];
    uint32_t rows_of_step, widest, rows;
    uint64_t clock, ns_per_row;
    struct msg_credit credit;
    uint32_t n_credits;
    uint64_t carried; /* over a link */
    uint32_t n_prompt_msgs;
    float prompt_logprob[CONTEXT];
};

static struct world w;

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static int toy_step(void *user, struct step_params *p, uint32_t *card) {
    uint32_t at = 0;
    (void)user, (void)card;
    CHECK(p->n_rows <= w.options.max_rows && p->n_outputs <= w.options.max_outputs);
    w.rows_of_step = p->n_rows;
    w.rows += p->n_rows;
    w.widest = p->n_rows > w.widest ? p->n_rows : w.widest;
    w.clock += 1000000 + p->n_rows * w.ns_per_row;
    for (uint32_t i = 0; i < p->n_rows; i++) {
        const struct step_row *r = &p->rows[i];
        const struct step_sequence *s = &p->sequences[r->sequence];
        CHECK(r->position / PAGE_TOKENS < s->n_pages);
        uint64_t h = 7;
        if (r->position) {
            const uint32_t b = r->position - 1;
            h = w.pages[s->pages[b / PAGE_TOKENS]][b % PAGE_TOKENS];
        }
        h = mix(h, (uint32_t)r->token);
        w.pages[s->pages[r->position / PAGE_TOKENS]][r->position % PAGE_TOKENS] = h;
        if (at < p->n_outputs && p->outputs[at] == i) {
            for (uint32_t v = 0; v < VOCAB; v++)
                p->logits[at * VOCAB + v] = (float)(mix(h, v) % 1000) / 100.0f;
            p->logits[at * VOCAB + EOG] = -5; /* seldom */
            at++;
        }
    }
    CHECK_EQ(at, p->n_outputs);
    return 0;
}

static int collect(void *user, enum message_type type, const void *msg) {
    (void)user;
    if (type == MSG_TOKEN) {
        const struct msg_token *t = msg;
        CHECK_EQ(t->position, w.n_prompt[t->sequence] + w.length[t->sequence]);
        w.transcript[t->sequence][w.length[t->sequence]++] = t->token;
    } else if (type == MSG_END) {
        const struct msg_end *e = msg;
        CHECK_EQ(w.ended[e->sequence], 0);
        w.ended[e->sequence] = (int)e->reason + 1;
        w.cached[e->sequence] = e->n_cached;
    } else if (type == MSG_PREEMPTED) {
        w.preempted[((const struct msg_preempted *)msg)->sequence]++;
    } else if (type == MSG_CREDIT) {
        w.credit = *(const struct msg_credit *)msg;
        w.n_credits++;
    } else if (type == MSG_PROMPT) {
        const struct msg_prompt *p = msg;
        CHECK_EQ(p->n, 1);
        w.prompt_logprob[p->first] = p->logprobs[0];
        w.n_prompt_msgs++;
    }
    return 0;
}

static uint64_t clock_now(void *user) {
    (void)user;
    return w.clock;
}

static void toy_carried(void *user, struct link_bytes *bytes) {
    (void)user;
    *bytes = (struct link_bytes){{[1] = {[2] = w.carried}}};
}

static void open_world(uint32_t n_pages, uint32_t max_rows) {
    memset(&w, 0, sizeof w);
    w.ns_per_row = 100000;
    w.options = (struct engine_options){.generation = 1,
                                        .n_vocab = VOCAB,
                                        .context = CONTEXT,
                                        .max_rows = max_rows,
                                        .max_outputs = SEQUENCES,
                                        .max_sequences = SEQUENCES,
                                        .n_pages = n_pages,
                                        .eog = {EOG},
                                        .n_eog = 1};
    const struct engine_model model = {.step = toy_step, .carried = toy_carried};
    const struct engine_output output = {NULL, collect, clock_now};
    CHECK_EQ(engine_create(&w.engine, &w.options, &model, &output), 0);
}

/* Prompt token i of sequence s; sequences of one family share their first 100 tokens. */
static int32_t prompt_token(uint32_t family, uint32_t s, uint32_t i) {
    return (int32_t)((i * 31 + family * 7 + (i >= 100 ? s * 13 : 0)) % 90);
}

static void admit(uint32_t s, uint32_t family, uint32_t n, uint32_t max_tokens, float temperature) {
    struct msg_admit a = {.sequence = s,
                          .uid = family,
                          .n_prompt = n,
                          .n_tokens = n + w.length[s],
                          .max_tokens = max_tokens,
                          .cache_prompt = true,
                          .sampling = {.temperature = temperature,
                                       .top_p = 1,
                                       .repeat_penalty = 1.1f,
                                       .penalty_last_n = 64,
                                       .seed = 5 + family}};
    a.tokens = malloc(a.n_tokens * sizeof *a.tokens);
    for (uint32_t i = 0; i < n; i++)
        a.tokens[i] = prompt_token(family, s, i);
    memcpy(a.tokens + n, w.transcript[s], w.length[s] * sizeof *a.tokens);
    w.n_prompt[s] = n;
    CHECK_EQ(engine_admit(w.engine, &a), 0);
    free(a.tokens);
}

static void run_until_idle(void) {
    for (int i = 0; i < 100000; i++) {
        const int rc = engine_step(w.engine);
        CHECK(rc >= 0);
        if (rc == 0)
            return;
    }
    CHECK(false);
}

struct expected {
    int32_t tokens[CONTEXT];
    uint32_t n;
};

/* What a sequence says when it runs alone, with room for everything. */
static struct expected alone(uint32_t s, uint32_t family, uint32_t n, uint32_t max, float t) {
    struct expected x = {.n = 0};
    open_world(64, 32);
    admit(s, family, n, max, t);
    run_until_idle();
    CHECK(w.ended[s]);
    x.n = w.length[s];
    memcpy(x.tokens, w.transcript[s], sizeof x.tokens);
    engine_destroy(w.engine);
    return x;
}

static void check_said(uint32_t s, const struct expected *x) {
    CHECK_EQ(w.length[s], x->n);
    CHECK(!memcmp(w.transcript[s], x->tokens, x->n * sizeof *x->tokens));
}

static void a_batch_says_what_each_says_alone(void) {
    struct expected x[SEQUENCES];
    for (uint32_t s = 0; s < SEQUENCES; s++)
        x[s] = alone(s, s % 2, 70 + 20 * s, 40 + s, s % 3 ? 0.8f : 0);
    open_world(256, 48);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        admit(s, s % 2, 70 + 20 * s, 40 + s, s % 3 ? 0.8f : 0);
        for (uint32_t i = 0; i < 2 * s; i++)
            engine_step(w.engine);
    }
    run_until_idle();
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        check_said(s, &x[s]);
        CHECK(w.ended[s] == END_LENGTH + 1 || w.ended[s] == END_EOG + 1);
    }
    CHECK(w.widest > 1 && w.widest <= 48);
    engine_destroy(w.engine);
}

static void shared_pages_are_found_and_change_nothing(void) {
    const struct expected x = alone(1, 0, 150, 30, 0);
    open_world(64, 64);
    admit(0, 0, 150, 5, 0);
    run_until_idle();
    admit(1, 0, 150, 30, 0); /* shares 100 tokens: three whole pages */
    run_until_idle();
    check_said(1, &x);
    CHECK_EQ(w.cached[0], 0);
    CHECK_EQ(w.cached[1], 3 * PAGE_TOKENS);
    admit(2, 1, 150, 3, 0); /* another user */
    run_until_idle();
    CHECK_EQ(w.cached[2], 0);
    admit(3, 0, 3 * PAGE_TOKENS, 3, 0); /* all of it is shared: the last token is computed anyway */
    run_until_idle();
    CHECK_EQ(w.cached[3], 2 * PAGE_TOKENS);
    CHECK_EQ(w.length[3], 3);
    engine_destroy(w.engine);
}

static void a_preempted_sequence_goes_on_as_if_nothing_had_been(void) {
    struct expected x[4];
    uint32_t total = 0;
    for (uint32_t s = 0; s < 4; s++)
        x[s] = alone(s, s, 60, 150, 0.7f);
    open_world(18, 64); /* 4 x 7 pages would be needed */
    for (uint32_t s = 0; s < 4; s++)
        admit(s, s, 60, 150, 0.7f);
    for (int i = 0; i < 100000; i++) {
        uint32_t done = 0;
        CHECK(engine_step(w.engine) >= 0);
        for (uint32_t s = 0; s < 4; s++) {
            if (w.preempted[s]) {
                total += w.preempted[s];
                w.preempted[s] = 0;
                admit(s, s, 60, 150, 0.7f);
            }
            done += w.ended[s] != 0;
        }
        if (done == 4)
            break;
    }
    CHECK(total > 0);
    for (uint32_t s = 0; s < 4; s++)
        check_said(s, &x[s]);
    engine_destroy(w.engine);
}

static void cancelled_sequences_leave_at_once(void) {
    open_world(64, 64);
    admit(0, 0, 60, 400, 0);
    for (int i = 0; i < 5; i++)
        engine_step(w.engine);
    CHECK_EQ(engine_cancel(w.engine, 0), 0);
    CHECK_EQ(w.ended[0], END_CANCELLED + 1);
    CHECK_EQ(engine_step(w.engine), 0);
    CHECK_EQ(engine_cancel(w.engine, 0), 0); /* late: nothing happens */
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.credit.free_sequences, SEQUENCES);
    CHECK_EQ(w.credit.free_pages, 64);
    engine_destroy(w.engine);
}

static void a_full_context_ends_with_its_own_reason(void) {
    open_world(64, 64);
    admit(0, 0, 500, 1000, 0);
    run_until_idle();
    if (w.ended[0] != END_EOG + 1) {
        CHECK_EQ(w.ended[0], END_CONTEXT + 1);
        CHECK_EQ(w.length[0], 12);
    }
    engine_destroy(w.engine);
}

static void a_prompt_is_scored_token_by_token(void) {
    open_world(64, 16);
    struct msg_admit a = {.sequence = 0, .n_prompt = 50, .n_tokens = 50, .prompt_logprobs = true};
    a.tokens = malloc(50 * sizeof *a.tokens);
    for (uint32_t i = 0; i < 50; i++)
        a.tokens[i] = prompt_token(0, 0, i);
    CHECK_EQ(engine_admit(w.engine, &a), 0);
    run_until_idle();
    CHECK_EQ(w.n_prompt_msgs, 49);
    CHECK_EQ(w.ended[0], END_LENGTH + 1);
    CHECK_EQ(w.length[0], 0);
    for (uint32_t i = 1; i < 50; i++)
        CHECK(w.prompt_logprob[i] < 0);
    engine_destroy(w.engine);
}

static void a_long_prompt_keeps_nobody_waiting(void) {
    const struct expected x = alone(0, 0, 450, 4, 0), y = alone(1, 1, 30, 4, 0);
    open_world(64, 64);
    admit(0, 0, 450, 4, 0);
    engine_step(w.engine); /* half of the rows, for want of a measure */
    admit(1, 1, 30, 4, 0);
    engine_step(w.engine);
    CHECK_EQ(w.length[1], 1);     /* at once … */
    CHECK_EQ(w.rows_of_step, 64); /* … and the long one goes on */
    admit(2, 2, 300, 4, 0);
    engine_step(w.engine);
    admit(3, 3, 8, 1, 0);
    engine_step(w.engine);
    CHECK_EQ(w.length[3], 1);
    run_until_idle();
    check_said(0, &x);
    check_said(1, &y);
    engine_destroy(w.engine);
}

/* The machine has something else to do, and a step takes so much longer. */
static void where_it_yields_prompts_are_cut_shorter(void) {
    open_world(64, 256);
    w.ns_per_row = 1000000;
    admit(0, 0, 450, 1, 0);
    engine_step(w.engine); /* measures */
    engine_yield(w.engine, true);
    engine_step(w.engine);
    CHECK(w.rows_of_step > 32 && w.rows_of_step <= 50);
    engine_yield(w.engine, false);
    engine_step(w.engine);
    CHECK(w.rows_of_step > 150 && w.rows_of_step <= 200);
    run_until_idle();
    engine_destroy(w.engine);
}

/* With room for one share a step, and a short prompt for every step. */
static void short_prompts_do_not_starve_a_long_one(void) {
    uint32_t steps = 0;
    open_world(64, 64);
    w.ns_per_row = 50000000; /* 200 ms are 4 rows: the least it is */
    admit(0, 0, 320, 1, 0);
    for (uint32_t s = 1; !w.ended[0]; s = s % 60 + 1, steps++) {
        w.ended[s] = 0;
        w.length[s] = 0;
        admit(s, 1 + s, 32, 1, 0);
        engine_step(w.engine);
        for (int i = 0; i < 2 && !w.ended[s]; i++) {
            engine_step(w.engine);
            steps++;
        }
        CHECK(w.ended[s]);
        CHECK(steps < 40);
    }
    engine_destroy(w.engine);
}

static void a_scored_prompt_leaves_the_others_their_outputs(void) {
    open_world(64, 64);
    struct msg_admit a = {.sequence = 0, .n_prompt = 50, .n_tokens = 50, .prompt_logprobs = true};
    a.tokens = malloc(50 * sizeof *a.tokens);
    for (uint32_t i = 0; i < 50; i++)
        a.tokens[i] = prompt_token(0, 0, i);
    w.n_prompt[0] = 50;
    CHECK_EQ(engine_admit(w.engine, &a), 0);
    engine_step(w.engine);
    CHECK_EQ(w.n_prompt_msgs, SEQUENCES);
    for (uint32_t s = 1; s < 3; s++)
        admit(s, s, 48 + s, 1, 0); /* longer than what is left to score, so it comes first */
    for (int i = 0; i < 2; i++)
        engine_step(w.engine);
    CHECK_EQ(w.length[1] + w.length[2], 2);
    run_until_idle();
    CHECK_EQ(w.n_prompt_msgs, 49);
    engine_destroy(w.engine);
}

static void two_scored_prompts_share_the_outputs_of_a_step(void) {
    open_world(64, 64);
    for (uint32_t s = 0; s < 2; s++) {
        struct msg_admit a = {
            .sequence = s, .n_prompt = 50, .n_tokens = 50, .prompt_logprobs = true};
        a.tokens = malloc(50 * sizeof *a.tokens);
        for (uint32_t i = 0; i < 50; i++)
            a.tokens[i] = prompt_token(s, s, i);
        CHECK_EQ(engine_admit(w.engine, &a), 0);
    }
    engine_step(w.engine);
    CHECK_EQ(w.n_prompt_msgs, SEQUENCES);
    run_until_idle();
    CHECK_EQ(w.n_prompt_msgs, 2 * 49);
    engine_destroy(w.engine);
}

static void choices_of_one_prompt_compute_it_once(void) {
    open_world(64, 64);
    for (uint32_t s = 0; s < 4; s++)
        admit(s, 0, 99, 1, 0);
    run_until_idle();
    CHECK_EQ(w.rows, 99 + 3 * 3);
    for (uint32_t s = 1; s < 4; s++)
        CHECK_EQ(w.cached[s], 96);
    engine_destroy(w.engine);
}

/* What does not fit at all is given up, and who waited for it goes on. */
static void the_oldest_always_goes_on(void) {
    const struct expected x = alone(0, 0, 90, 100, 0);
    open_world(6, 64); /* 192 tokens */
    admit(0, 0, 90, 100, 0);
    for (uint32_t s = 1; s < 5; s++)
        admit(s, s, 60, 100, 0.5f);
    for (int i = 0; i < 2000 && !w.ended[0]; i++) {
        CHECK(engine_step(w.engine) > 0);
        CHECK_EQ(w.preempted[0], 0);
        for (uint32_t s = 1; s < 5; s++)
            if (w.preempted[s]) {
                w.preempted[s] = 0;
                admit(s, s, 60, 100, 0.5f);
            }
    }
    check_said(0, &x);
    engine_destroy(w.engine);
}

/* The change itself carried something, and no step may follow it. */
static void what_was_carried_is_said_after_a_change_too(void) {
    open_world(64, 16);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.credit.carried.n[1][2], 0);
    w.carried = 77;
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 1); /* it waits for the next one */
    engine_continue(w.engine);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.credit.carried.n[1][2], 77);
    w.carried = 99;
    CHECK_EQ(engine_start_over(w.engine), 0);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.credit.carried.n[1][2], 99);
    engine_destroy(w.engine);
}

/* One that came and ended since the last time leaves everything as it was, but the counts. */
static void the_last_counts_are_said_before_it_rests(void) {
    open_world(64, 16);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    admit(0, 0, 10, 1, 0);
    while (engine_step(w.engine) > 0)
        ;
    CHECK_EQ(w.credit.steps, 0);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 2);
    CHECK_EQ(w.credit.rows, 10);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 2);
    engine_destroy(w.engine);
}

/* A long prompt gives no token for long; that it goes on is said all the same. */
static void an_engine_that_works_is_never_silent(void) {
    open_world(64, 16);
    admit(0, 0, 400, 1, 0);
    CHECK_EQ(engine_step(w.engine), 1);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 1);
    CHECK_EQ(engine_step(w.engine), 1);
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 1); /* not after every step */
    w.clock += 1000000000;
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 2);
    w.clock += 1000000000;
    CHECK_EQ(engine_send_credit(w.engine), 0);
    CHECK_EQ(w.n_credits, 2); /* nothing was done */
    CHECK_EQ(w.length[0], 0);
    engine_destroy(w.engine);
}

static void what_cannot_run_is_refused_by_name(void) {
    open_world(64, 16);
    struct msg_admit a = {.sequence = 3, .n_prompt = 1, .n_tokens = 1, .max_tokens = 1};
    a.tokens = malloc(sizeof *a.tokens);
    a.tokens[0] = VOCAB;
    CHECK_EQ(engine_admit(w.engine, &a), 0);
    CHECK_EQ(w.ended[3], END_ERROR + 1);
    free(a.tokens);
    engine_destroy(w.engine);
}

CHECK_MAIN(T(a_batch_says_what_each_says_alone), T(shared_pages_are_found_and_change_nothing),
           T(a_preempted_sequence_goes_on_as_if_nothing_had_been),
           T(cancelled_sequences_leave_at_once), T(a_full_context_ends_with_its_own_reason),
           T(a_prompt_is_scored_token_by_token), T(a_long_prompt_keeps_nobody_waiting),
           T(where_it_yields_prompts_are_cut_shorter), T(short_prompts_do_not_starve_a_long_one),
           T(a_scored_prompt_leaves_the_others_their_outputs),
           T(two_scored_prompts_share_the_outputs_of_a_step),
           T(choices_of_one_prompt_compute_it_once), T(the_oldest_always_goes_on),
           T(what_was_carried_is_said_after_a_change_too),
           T(the_last_counts_are_said_before_it_rests), T(an_engine_that_works_is_never_silent),
           T(what_cannot_run_is_refused_by_name))
