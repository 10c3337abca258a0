/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that are harmed while they are in use are found, read again, and leave no trace. */
#include "daemon/engine/verify.h"

#include "daemon/engine/kept.h"
#include "tests/check.h"
#include "tests/loaded_model.h"

#define S         UINT64_C(1000000000)
#define SEQUENCES 4u
#define PROMPT    70u /* two full pages and an open one */
#define GENERATED 20u

struct world {
    struct loaded l;
    struct engine *engine;
    struct replan *replan;
    struct verify *verify;
    uint64_t now_ns, tick_ns; /* each look at the clock takes tick_ns */
    int32_t tokens[SEQUENCES][GENERATED];
    uint32_t n[SEQUENCES], preempted, cached;
    uint32_t n_progress;
    struct msg_progress progress;
    uint32_t n_harmed, n_failed, n_verified[3]; /* by cause */
    struct kept *kept;                          /* NULL: nothing is */
    uint32_t entered;                           /* pages, when harm was told the last time */
    struct msg_harmed harmed;
    struct msg_failed failed;
    struct msg_verified verified[3]; /* the last of each cause */
};

static struct ledger_site site_of(const struct world *w) {
    struct ledger_site site = {.backend = "cpu"};
    layout_kv(&w->l.plan, &site.layout);
    return site;
}

/* Pages that the next engine would find, were this one killed now. */
static uint32_t count_entered(const struct world *w) {
    const struct ledger_site site = site_of(w);
    struct ledger_entry *entries = calloc(site.layout.n_pages, sizeof *entries);
    uint32_t n = 0;
    CHECK_EQ(ledger_read(kept_fd(w->kept), &site, entries), 0);
    for (uint32_t i = 0; i < site.layout.n_pages; i++)
        n += entries[i].check != 0;
    free(entries);
    return n;
}

static int on_send(void *user, enum message_type type, const void *msg) {
    struct world *w = user;
    if (type == MSG_TOKEN) {
        const struct msg_token *m = msg;
        CHECK(!verify_holds(w->verify));
        CHECK_EQ(m->position, PROMPT + w->n[m->sequence]);
        w->tokens[m->sequence][w->n[m->sequence]++] = m->token;
    } else if (type == MSG_END) {
        w->cached = ((const struct msg_end *)msg)->n_cached;
    } else if (type == MSG_HARMED) {
        w->n_harmed++;
        w->entered = w->kept ? count_entered(w) : 0;
        w->harmed = *(const struct msg_harmed *)msg;
    } else if (type == MSG_FAILED) {
        w->n_failed++;
        w->failed = *(const struct msg_failed *)msg;
    } else if (type == MSG_VERIFIED) {
        const struct msg_verified *m = msg;
        CHECK(m->cause <= VERIFY_SCRUB);
        w->n_verified[m->cause]++;
        w->verified[m->cause] = *m;
    }
    if (type == MSG_PROGRESS) {
        w->n_progress++;
        w->progress = *(const struct msg_progress *)msg;
    }
    w->preempted += type == MSG_PREEMPTED;
    return 0;
}

static uint64_t clock_of_test(void *user) {
    struct world *w = user;
    return w->now_ns += w->tick_ns;
}

static int step_model(void *user, struct step_params *params, uint32_t *card) {
    struct world *w = user;
    return runner_step(w->l.runner, params, card);
}

static int digest_page(void *user, uint32_t page, uint64_t *out, uint32_t *card) {
    return runner_kv_digest(((struct world *)user)->l.runner, page, out, card);
}

static void open_world_of(struct world *w, const char *file, const struct setup *s,
                          uint32_t scrub_s) {
    *w = (struct world){.now_ns = 5 * S, .tick_ns = 1000};
    load(&w->l, file, s);
    const struct ledger_site ledger = site_of(w);
    const struct kept_memory memory = {w, digest_page, clock_of_test};
    CHECK_EQ(kept_create(&w->kept, &ledger, &memory), 0);
    const struct engine_options e = {.generation = 3,
                                     .n_vocab = w->l.model.params.n_vocab,
                                     .context = w->l.plan.context,
                                     .max_rows = w->l.plan.max_rows,
                                     .max_outputs = w->l.plan.max_outputs,
                                     .max_sequences = SEQUENCES,
                                     .n_pages = w->l.plan.n_pages};
    const struct engine_output output = {w, on_send, clock_of_test};
    CHECK_EQ(engine_create(&w->engine, &e, &(struct engine_model){.user = w, .step = step_model},
                           &output),
             0);
    const struct verify_site site = {.generation = 3,
                                     .runner = &w->l.runner,
                                     .engine = w->engine,
                                     .replan = &w->replan,
                                     .output = output,
                                     .scrub_s = scrub_s,
                                     .kept = w->kept};
    CHECK_EQ(verify_create(&w->verify, &site), 0);
}

static void open_world(struct world *w, enum split split, uint32_t scrub_s) {
    open_world_of(w, "tiny-f32.gguf",
                  &(struct setup){.n_cards = 3, .split = split, .memfds = split == SPLIT_TENSOR},
                  scrub_s);
}

static void close_world(struct world *w) {
    verify_destroy(w->verify);
    engine_destroy(w->engine);
    kept_destroy(w->kept);
    unload(&w->l);
}

/* Sequence s, with what it has generated so far; its first page is that of all others. */
static void admit(struct world *w, uint32_t s) {
    struct msg_admit a = {.sequence = s,
                          .n_prompt = PROMPT,
                          .n_tokens = PROMPT + w->n[s],
                          .max_tokens = GENERATED,
                          .cache_prompt = true,
                          .sampling = {.temperature = s < 2 ? 0 : 1.0f,
                                       .top_p = 1,
                                       .repeat_penalty = 1,
                                       .seed = 7 + s,
                                       .ignore_eos = true}};
    a.tokens = calloc(a.n_tokens, sizeof *a.tokens);
    for (uint32_t i = 0; i < PROMPT; i++)
        a.tokens[i] = (int32_t)((i * 37 + (i < 64 ? 0 : s * 101) + 11) % w->l.model.params.n_vocab);
    memcpy(a.tokens + PROMPT, w->tokens[s], w->n[s] * sizeof *a.tokens);
    CHECK_EQ(engine_admit(w->engine, &a), 0);
}

static void run_steps(struct world *w, uint32_t n) {
    while (n-- && engine_step(w->engine) > 0)
        ;
}

/* As a card's memory does it: one bit, anywhere in the range. */
static void flip(struct world *w, const struct plan_range *r, uint64_t at, uint8_t bit) {
    const struct device_ops *ops = runner_options(w->l.runner)->backend;
    uint8_t byte;
    CHECK_EQ(ops->peek(runner_device(w->l.runner), r->card, r->offset + at, &byte, 1), 0);
    byte ^= (uint8_t)(1u << bit);
    CHECK_EQ(ops->poke(runner_device(w->l.runner), r->card, r->offset + at, &byte, 1), 0);
}

static uint64_t digest(const struct world *w, const struct plan_range *r) {
    uint64_t found;
    CHECK_EQ(runner_options(w->l.runner)
                 ->backend->digest(runner_device(w->l.runner), r->card, AREA_WEIGHTS, r->offset,
                                   r->bytes, &found),
             0);
    return found;
}

static uint64_t bytes_of(const struct plan *plan, uint32_t card, uint32_t *ranges) {
    uint64_t bytes = 0;
    *ranges = 0;
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (plan->ranges[i].card == card) {
            bytes += plan->ranges[i].bytes;
            ++*ranges;
        }
    return bytes;
}

static void advance_until_idle(struct world *w) {
    do
        CHECK_EQ(verify_advance(w->verify, 0), 0);
    while (verify_patience_ms(w->verify) == 0);
}

static void what_is_whole_is_said_to_be(void) {
    struct world w;
    uint32_t ranges;
    open_world(&w, SPLIT_LAYER, 0);
    verify_ask(w.verify, 7, -1);
    advance_until_idle(&w);
    CHECK_EQ(w.n_verified[VERIFY_ASKED], 1);
    const struct msg_verified *all = &w.verified[VERIFY_ASKED];
    CHECK_EQ(all->number, 7);
    CHECK_EQ(all->generation, 3);
    CHECK_EQ(all->n_cards, 3);
    for (uint32_t c = 0; c < 3; c++) {
        CHECK_EQ(all->cards[c].bytes, bytes_of(&w.l.plan, c, &ranges));
        CHECK_EQ(all->cards[c].ranges, ranges);
        CHECK_EQ(all->cards[c].harmed, 0);
        CHECK(all->cards[c].ns > 0);
    }
    verify_ask(w.verify, 8, 1); /* one card */
    advance_until_idle(&w);
    CHECK_EQ(w.verified[VERIFY_ASKED].number, 8);
    CHECK_EQ(w.verified[VERIFY_ASKED].cards[0].ranges, 0);
    CHECK_EQ(w.verified[VERIFY_ASKED].cards[1].bytes, bytes_of(&w.l.plan, 1, &ranges));
    CHECK_EQ(w.n_harmed + w.preempted, 0);
    CHECK_EQ(verify_patience_ms(w.verify), -1);
    close_world(&w);
}

/* Each range in turn, at places drawn anew. */
static void a_bit_in_any_range_is_found_and_repaired(void) {
    static const enum split splits[] = {SPLIT_LAYER, SPLIT_TENSOR};
    uint64_t draw = 12345;
    for (int k = 0; k < 2; k++) {
        struct world w;
        open_world(&w, splits[k], 0);
        for (size_t i = 0; i < w.l.plan.n_ranges; i++) {
            const struct plan_range *r = &w.l.plan.ranges[i];
            const uint64_t whole = digest(&w, r);
            draw = draw * UINT64_C(6364136223846793005) + 1;
            flip(&w, r, (draw >> 20) % r->bytes, draw >> 60 & 7);
            CHECK(digest(&w, r) != whole);
            verify_ask(w.verify, i + 1, i % 2 ? -1 : (int32_t)r->card);
            w.now_ns += S;
            advance_until_idle(&w);
            CHECK_EQ(w.n_harmed, i + 1);
            CHECK_EQ(w.harmed.card, r->card);
            CHECK(!strcmp(w.harmed.tensor, w.l.model.tensors[r->tensor].name));
            CHECK(w.harmed.row_begin == r->row_begin && w.harmed.row_end == r->row_end &&
                  w.harmed.col_begin == r->col_begin && w.harmed.col_end == r->col_end);
            CHECK_EQ(w.harmed.bytes, r->bytes);
            CHECK_EQ(digest(&w, r), whole);
            /* Said once the rest of the card was looked at, and that once. */
            CHECK_EQ(w.n_verified[VERIFY_REPORTED], i + 1);
            CHECK_EQ(w.n_verified[VERIFY_ASKED], i + 1);
            const struct verified_card *c = &w.verified[VERIFY_ASKED].cards[r->card];
            CHECK_EQ(c->harmed, 1);
            CHECK_EQ(c->repaired, 1);
        }
        close_world(&w);
    }
}

/* The time since which what was sent may be wrong. */
static void the_age_is_that_of_the_last_proof(void) {
    struct world w;
    open_world(&w, SPLIT_LAYER, 0);
    w.tick_ns = 0;
    verify_ask(w.verify, 1, -1);
    advance_until_idle(&w);
    w.now_ns += 90 * S;
    flip(&w, &w.l.plan.ranges[4], 17, 3);
    verify_hold(w.verify, w.l.plan.ranges[4].card);
    CHECK(verify_holds(w.verify));
    CHECK_EQ(verify_patience_ms(w.verify), 0);
    advance_until_idle(&w);
    CHECK(!verify_holds(w.verify));
    CHECK_EQ(w.harmed.age_ns, 90 * S);
    CHECK_EQ(w.verified[VERIFY_REPORTED].cards[w.l.plan.ranges[4].card].harmed, 1);
    close_world(&w);
}

/* Where steps wait for long, the front hears of it: an engine that says nothing is taken for hung.
 * Each look at the clock takes a second, so a slice is one range. */
static void a_long_hold_is_told_of(void) {
    struct world w;
    uint32_t ranges;
    open_world(&w, SPLIT_LAYER, 0);
    CHECK_EQ(verify_advance(w.verify, 0), 0);
    w.tick_ns = S;
    const uint64_t all = bytes_of(&w.l.plan, 1, &ranges);
    verify_hold(w.verify, 1);
    while (verify_holds(w.verify)) {
        const uint64_t done = w.progress.done_bytes;
        CHECK_EQ(verify_advance(w.verify, 0), 0);
        CHECK(!verify_holds(w.verify) || w.progress.done_bytes > done);
    }
    CHECK(w.n_progress >= ranges - 2 && w.n_progress <= ranges);
    CHECK_EQ(w.progress.total_bytes, all);
    CHECK(w.progress.done_bytes <= all);
    close_world(&w);
}

/* What it has passed by then is harmed, and the card says so: one fault more is not lost either. */
static void a_card_that_reports_harm_while_it_is_held_is_verified_again(void) {
    struct world w;
    open_world(&w, SPLIT_LAYER, 0);
    CHECK_EQ(verify_advance(w.verify, 0), 0);
    w.tick_ns = S; /* a slice is a range */
    const struct plan_range *first = &w.l.plan.ranges[0];
    const uint64_t whole = digest(&w, first);
    while (first->card != 1)
        first++;
    const uint64_t want = digest(&w, first), second = digest(&w, first + 1);
    flip(&w, first, 3, 2);
    verify_hold(w.verify, 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(verify_advance(w.verify, 0), 0);
    CHECK(verify_holds(w.verify));
    CHECK(digest(&w, first) == want);
    flip(&w, first, 5, 2);
    flip(&w, &w.l.plan.ranges[0], 5, 2);
    verify_hold(w.verify, 1);
    verify_hold(w.verify, w.l.plan.ranges[0].card);
    while (verify_holds(w.verify))
        CHECK_EQ(verify_advance(w.verify, 0), 0);
    CHECK(digest(&w, first) == want);
    CHECK(digest(&w, first + 1) == second);
    CHECK(digest(&w, &w.l.plan.ranges[0]) == whole);
    CHECK_EQ(w.n_harmed, 3);
    CHECK_EQ(w.verified[VERIFY_REPORTED].cards[1].harmed, 2);
    CHECK_EQ(w.verified[VERIFY_REPORTED].cards[w.l.plan.ranges[0].card].harmed, 1);
    close_world(&w);
}

/* The same of a check that nobody's tokens interrupt. */
static void a_long_check_is_told_of(void) {
    struct world w;
    uint32_t ranges;
    open_world(&w, SPLIT_LAYER, 0);
    CHECK_EQ(verify_advance(w.verify, 0), 0);
    w.tick_ns = S;
    const uint64_t all = bytes_of(&w.l.plan, 1, &ranges);
    verify_ask(w.verify, 5, 1);
    while (w.n_verified[VERIFY_ASKED] == 0) {
        const uint32_t told = w.n_progress;
        CHECK_EQ(verify_advance(w.verify, 0), 0);
        CHECK(w.n_verified[VERIFY_ASKED] || w.n_progress == told + 1);
    }
    CHECK(w.n_progress >= ranges - 2);
    CHECK_EQ(w.progress.total_bytes, all);
    close_world(&w);
}

/* What a card says before a step is computed hurts nobody. */
static void a_reported_harm_changes_no_token(void) {
    struct world calm, w;
    for (int k = 0; k < 2; k++) {
        const enum split split = k ? SPLIT_TENSOR : SPLIT_LAYER;
        open_world(&calm, split, 0);
        open_world(&w, split, 0);
        for (uint32_t s = 0; s < SEQUENCES; s++) {
            admit(&calm, s);
            admit(&w, s);
        }
        run_steps(&calm, 1000);
        run_steps(&w, 8);
        for (uint32_t card = 0; card < 3; card++) {
            const uint32_t ended = w.preempted;
            CHECK_EQ(runner_corrupt(w.l.runner, card), 0);
            verify_hold(w.verify, card);
            advance_until_idle(&w);
            CHECK_EQ(w.n_harmed, card + 1);
            CHECK_EQ(w.preempted, ended + SEQUENCES);
            for (uint32_t s = 0; s < SEQUENCES; s++)
                admit(&w, s);
            run_steps(&w, 3);
        }
        run_steps(&w, 1000);
        for (uint32_t s = 0; s < SEQUENCES; s++) {
            CHECK_EQ(w.n[s], GENERATED);
            CHECK(!memcmp(w.tokens[s], calm.tokens[s], sizeof w.tokens[s]));
        }
        close_world(&calm);
        close_world(&w);
    }
}

/* K and V that were computed with harmed weights are nobody's prefix any more. */
static void pages_of_harmed_weights_are_forgotten(void) {
    struct world calm, w;
    open_world(&calm, SPLIT_LAYER, 0);
    open_world(&w, SPLIT_LAYER, 0);
    admit(&calm, 0);
    run_steps(&calm, 1000);
    for (uint32_t c = 0; c < 3; c++)
        CHECK_EQ(runner_corrupt(w.l.runner, c), 0);
    admit(&w, 0);
    run_steps(&w, 1000);
    CHECK(memcmp(w.tokens[0], calm.tokens[0], sizeof w.tokens[0]) != 0); /* it was felt */
    verify_ask(w.verify, 1, -1);
    advance_until_idle(&w);
    CHECK_EQ(w.n_harmed, 3);
    w.n[0] = 0;
    admit(&w, 0);
    run_steps(&w, 1000);
    CHECK_EQ(w.cached, 0);
    CHECK(!memcmp(w.tokens[0], calm.tokens[0], sizeof w.tokens[0]));
    close_world(&calm);
    close_world(&w);
}

/* After steps. */
static void enter_all(struct world *w) {
    CHECK_EQ(kept_advance(w->kept, engine_page_table(w->engine), 1000), 0);
    while (kept_waits(w->kept))
        CHECK_EQ(kept_advance(w->kept, engine_page_table(w->engine), 0), 0);
}

/* Nor does the next engine find them, whenever this one is killed: once the weights are repaired
 * nothing shows any more what made them. */
static void what_harmed_weights_made_is_left_to_nobody(void) {
    struct world w;
    open_world(&w, SPLIT_LAYER, 0);
    admit(&w, 0);
    run_steps(&w, 1000);
    enter_all(&w);
    const uint32_t full = count_entered(&w);
    CHECK(full >= PROMPT / PAGE_TOKENS);
    CHECK_EQ(runner_corrupt(w.l.runner, 1), 0);
    verify_ask(w.verify, 1, -1);
    w.entered = full;
    advance_until_idle(&w);
    CHECK_EQ(w.n_harmed, 1);
    CHECK_EQ(w.entered, 0);
    enter_all(&w);
    CHECK_EQ(count_entered(&w), 0);
    w.n[0] = 0;
    admit(&w, 0); /* computed anew, it is left again */
    run_steps(&w, 1000);
    enter_all(&w);
    CHECK_EQ(count_entered(&w), full);
    close_world(&w);
}

static void a_scrub_comes_round_in_its_time_and_no_oftener(void) {
    struct world w;
    open_world(&w, SPLIT_LAYER, 100);
    CHECK_EQ(verify_advance(w.verify, 0), 0);
    w.n_verified[VERIFY_SCRUB] = 0;
    const uint64_t begin = w.now_ns;
    while (w.now_ns - begin < 1000 * S) {
        const int ms = verify_patience_ms(w.verify);
        CHECK(ms >= 0 && ms <= 60000);
        w.now_ns += (uint64_t)ms * 1000000;
        CHECK_EQ(verify_advance(w.verify, 0), 0);
    }
    CHECK(w.n_verified[VERIFY_SCRUB] >= 9 && w.n_verified[VERIFY_SCRUB] <= 11);
    flip(&w, &w.l.plan.ranges[2], 5, 5);
    for (int i = 0; i < 200 && w.n_harmed == 0; i++) {
        w.now_ns += S;
        CHECK_EQ(verify_advance(w.verify, 0), 0);
    }
    CHECK_EQ(w.n_harmed, 1);
    advance_until_idle(&w);
    CHECK_EQ(w.n_verified[VERIFY_REPORTED], 1);
    close_world(&w);
}

/* One that is always due, beside steps of a millisecond. */
static void a_scrub_takes_a_hundredth_of_the_steps_time(void) {
    struct world w;
    uint64_t spent = 0, most = 0, steps = 0;
    open_world(&w, SPLIT_LAYER, 1);
    w.tick_ns = 500000;
    CHECK_EQ(verify_advance(w.verify, 0), 0);
    for (; steps < 100 * S; steps += S / 1000) {
        w.now_ns += S / 1000;
        const uint64_t begin = w.now_ns;
        CHECK_EQ(verify_advance(w.verify, S / 1000), 0);
        uint64_t took = w.now_ns - begin;
        took = took > w.tick_ns ? took - w.tick_ns : 0; /* a look at the clock alone */
        spent += took;
        most = took > most ? took : most;
    }
    CHECK(spent <= steps / 100 + most);
    CHECK(spent > steps / 200); /* and it does take it */
    close_world(&w);
}

/* What was asked for is answered all the same. */
static void a_scrub_that_is_put_off_waits_and_is_made_up_for(void) {
    struct world w;
    open_world(&w, SPLIT_LAYER, 100);
    CHECK_EQ(verify_advance(w.verify, 0), 0);
    verify_put_off(w.verify, true);
    w.n_verified[VERIFY_SCRUB] = 0;
    for (int i = 0; i < 400; i++) {
        w.now_ns += S;
        CHECK_EQ(verify_patience_ms(w.verify), -1);
        CHECK_EQ(verify_advance(w.verify, i % 2 ? S : 0), 0);
    }
    CHECK_EQ(w.n_verified[VERIFY_SCRUB], 0);
    verify_ask(w.verify, 9, -1);
    while (w.n_verified[VERIFY_ASKED] == 0)
        CHECK_EQ(verify_advance(w.verify, 0), 0);
    verify_put_off(w.verify, false);
    CHECK_EQ(verify_patience_ms(w.verify), 0);
    for (int i = 0; i < 1000 && w.n_verified[VERIFY_SCRUB] == 0; i++)
        CHECK_EQ(verify_advance(w.verify, 0), 0);
    CHECK_EQ(w.n_verified[VERIFY_SCRUB], 1);
    close_world(&w);
}

/* A copy of the model that may be changed. */
static void copy_file(const char *from, char *to) {
    char bytes[65536];
    ssize_t n;
    const int in = open(from, O_RDONLY | O_CLOEXEC), out = mkstemp(to);
    CHECK(in >= 0 && out >= 0);
    while ((n = read(in, bytes, sizeof bytes)) > 0)
        CHECK_EQ(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

static void what_the_file_does_not_hold_any_more_is_not_taken_from_it(void) {
    struct world w;
    char path[] = "/tmp/octarc-verify-XXXXXX";
    copy_file(tiny_path("tiny-f32.gguf"), path);
    open_world_of(&w, path, &(struct setup){.n_cards = 2, .split = SPLIT_LAYER, .memfds = true}, 0);
    const struct plan_range *r = &w.l.plan.ranges[w.l.plan.n_ranges / 2];
    const struct model_tensor *t = &w.l.model.tensors[r->tensor];
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, (off_t)t->file_offset), 1);
    byte ^= 1;
    CHECK_EQ(pwrite(fd, &byte, 1, (off_t)t->file_offset), 1);
    close(fd);
    flip(&w, r, r->bytes / 2, 1);
    verify_ask(w.verify, 1, -1);
    int rc = 0;
    for (int i = 0; i < 100 && !rc; i++)
        rc = verify_advance(w.verify, 0);
    CHECK_EQ(rc, -ESTALE);
    CHECK_EQ(w.n_failed, 1);
    CHECK_EQ(w.failed.error, -ESTALE);
    CHECK(strstr(w.failed.text, t->name) != NULL);
    CHECK_EQ(w.n_harmed + w.n_verified[VERIFY_ASKED], 0);
    unlink(path);
    close_world(&w);
}

CHECK_MAIN(T(a_scrub_that_is_put_off_waits_and_is_made_up_for), T(what_is_whole_is_said_to_be),
           T(a_bit_in_any_range_is_found_and_repaired), T(the_age_is_that_of_the_last_proof),
           T(a_long_hold_is_told_of), T(a_long_check_is_told_of),
           T(a_card_that_reports_harm_while_it_is_held_is_verified_again),
           T(a_reported_harm_changes_no_token), T(what_harmed_weights_made_is_left_to_nobody),
           T(pages_of_harmed_weights_are_forgotten),
           T(a_scrub_comes_round_in_its_time_and_no_oftener),
           T(a_scrub_takes_a_hundredth_of_the_steps_time),
           T(what_the_file_does_not_hold_any_more_is_not_taken_from_it))
