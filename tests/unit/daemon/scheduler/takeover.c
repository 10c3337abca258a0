/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences move from an engine that leaves to the one that serves: one after the other, with their
 * pages computed before, and nothing twice or missing. */
#include "daemon/scheduler/scheduler.h"

#include "daemon/device/program.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/unit/daemon/scheduler/fake_engine.h"

#define PIECE (2 * PAGE_TOKENS) /* that is computed at a time, at most */

static struct client clients[CLIENTS];

static void submit_all(struct fake *f, uint32_t n, uint32_t max) {
    memset(clients, 0, sizeof clients);
    for (uint32_t i = 0; i < n; i++) {
        clients[i] = (struct client){
            .prompt = (int32_t)i % VOCAB, .seed = 7 * i, .max = max, .n_choices = 1};
        CHECK_EQ(submit(f, &clients[i], i % 3, true), 0);
    }
}

/* So that no sequence ends by itself in the tests that count. */
static void submit_long(struct fake *f, uint32_t n) {
    memset(clients, 0, sizeof clients);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t seed = 1000 * i;
        for (uint32_t at = 3; at < 400; at++)
            if (model_says((int32_t)i, seed, 0, at) < 0)
                at = 2, seed++;
        clients[i] =
            (struct client){.prompt = (int32_t)i, .seed = seed, .max = 390, .n_choices = 1};
        CHECK_EQ(submit(f, &clients[i], 0, true), 0);
    }
}

static void step_all(struct fake *f) {
    for (uint32_t i = f->n; i-- > 0;)
        fake_step(f, i);
}

static void steps(struct fake *f, uint32_t n) {
    while (n--)
        step_all(f);
}

static uint32_t n_called(const struct fake *f) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n; i++)
        n += f->sequences[i].cancelled;
    return n;
}

/* That have come and had no token yet. */
static uint32_t n_awaited(const struct fake *f) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n; i++)
        n += f->sequences[i].max && f->sequences[i].at == f->sequences[i].from;
    return n;
}

static uint64_t n_told(const struct fake *f) {
    struct scheduler_counts counts;
    scheduler_counts(f->scheduler, &counts);
    return counts.completion_tokens;
}

static void all_are_told_all(struct fake *f) {
    struct scheduler_counts counts;
    do {
        step_all(f);
        if (f->left)
            step_all(f->left);
        scheduler_counts(f->scheduler, &counts);
    } while (counts.queued + counts.running);
    for (int i = 0; i < CLIENTS && clients[i].submitted; i++)
        check_transcript(&clients[i]);
}

static void move_four(uint32_t n_tokens) {
    struct fake f = {0}, left;
    make(&f, 64, 64);
    fake_start(&f);
    submit_long(&f, 4);
    steps(&f, n_tokens);
    fake_take_over(&f, &left);
    uint32_t moved = 0;
    while (left.n) {
        const uint32_t held = left.n;
        step_all(&f);
        CHECK(n_called(&left) <= 1);
        const uint64_t told = n_told(&f);
        step_all(&left);
        CHECK(n_told(&f) >= told + held - 1);
        CHECK(left.n >= held - 1);
        CHECK(n_awaited(&f) + n_called(&left) <= 1);
        moved += held - left.n;
    }
    CHECK_EQ(moved, 4);
    CHECK_EQ(f.emptied, 1);
    struct scheduler_counts counts;
    scheduler_counts(f.scheduler, &counts);
    CHECK_EQ(counts.moved, 4);
    CHECK_EQ(counts.leaving, 0);
    for (int i = 0; i < 4; i++)
        CHECK(!clients[i].waiting);
    all_are_told_all(&f);
    scheduler_destroy(f.scheduler);
}

static void one_moves_at_a_time_and_the_others_are_told_on(void) {
    move_four(100);
    move_four(10); /* no page is full, and each could go at once */
}

/* A step has one piece at most; and who is called back lacks less than a page, and what it is told
 * until it is there. */
static void pages_are_computed_by_pieces_before_anyone_is_called_back(void) {
    struct fake f = {0}, left;
    uint32_t at = 0;
    make(&f, 64, 64);
    fake_start(&f);
    submit_long(&f, 1);
    steps(&f, 300);
    fake_take_over(&f, &left);
    while (n_called(&left) == 0) {
        CHECK_EQ(f.n, 1);
        CHECK_EQ(f.sequences[0].max, 0);
        CHECK(f.sequences[0].n_prompt > at && f.sequences[0].n_prompt <= at + PIECE);
        CHECK_EQ(f.sequences[0].n_prompt % PAGE_TOKENS, 0);
        at = f.sequences[0].n_prompt;
        steps(&left, 3);
        step_all(&f);
    }
    CHECK(left.sequences[0].at - at <= PAGE_TOKENS);
    steps(&left, 1);
    CHECK_EQ(left.n, 0);
    CHECK_EQ(f.n, 1);
    CHECK_EQ(f.sequences[0].max, 390);
    all_are_told_all(&f);
    scheduler_destroy(f.scheduler);
}

static void what_has_no_token_yet_stays_until_it_has(void) {
    struct fake f = {0}, left;
    make(&f, 64, 64);
    fake_start(&f);
    submit_long(&f, 2);
    fake_take_over(&f, &left);
    CHECK_EQ(f.n, 0);
    CHECK_EQ(n_called(&left), 0);
    fake_step(&left, 0);
    CHECK_EQ(n_called(&left), 1); /* it has no full page */
    steps(&left, 1);
    CHECK_EQ(f.n, 1);
    all_are_told_all(&f);
    CHECK_EQ(f.emptied, 1);
    scheduler_destroy(f.scheduler);
}

static void together_they_hold_no_more_than_one(void) {
    struct fake f = {0}, left;
    make(&f, 64, 64);
    fake_start(&f);
    submit_all(&f, CLIENTS, 60);
    steps(&f, 40);
    fake_take_over(&f, &left);
    while (left.n) {
        step_all(&f);
        step_all(&left);
        CHECK(f.n + left.n <= SEQUENCES + 1); /* one computes pages for one that is still there */
    }
    all_are_told_all(&f);
    CHECK(f.most <= SEQUENCES);
    scheduler_destroy(f.scheduler);
}

static void pages_that_cannot_be_had_are_done_without(void) {
    struct fake f = {0}, left;
    make(&f, 64, 64);
    fake_start(&f);
    submit_long(&f, 1);
    steps(&f, 100);
    fake_take_over(&f, &left);
    const struct msg_preempted p = {f.generation, f.sequences[0].id};
    fake_remove(&f, 0);
    scheduler_on_preempted(f.scheduler, &p);
    CHECK_EQ(n_called(&left), 1);
    all_are_told_all(&f);
    scheduler_destroy(f.scheduler);
}

static void who_leaves_while_it_is_moved_is_forgotten(void) {
    struct fake f = {0}, left;
    make(&f, 64, 64);
    fake_start(&f);
    submit_long(&f, 2);
    steps(&f, 100);
    fake_take_over(&f, &left);
    request_abandon(clients[0].request); /* while its pages are computed */
    clients[0].submitted = false;
    CHECK_EQ(n_called(&left), 1);
    fake_step(&left, 0);
    while (n_called(&left) == 0)
        step_all(&f);
    CHECK_EQ(scheduler_cancel(f.scheduler, request_id(clients[1].request), 0, true), 0);
    CHECK_EQ(clients[1].last[0].finish, FINISH_CANCELLED);
    steps(&left, 2);
    CHECK_EQ(left.n, 0);
    steps(&f, 2);
    CHECK_EQ(f.n, 0);
    CHECK_EQ(f.emptied, 1);
    scheduler_destroy(f.scheduler);
}

/* Both take turns by chance; either may die, be repetitive, or give a sequence back. */
static void transcripts_survive_whatever_happens_to_either(void) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct fake f = {0}, left = {0};
        struct scheduler_counts counts;
        rng_state = seed;
        make(&f, 1024, 1024);
        memset(clients, 0, sizeof clients);
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = (struct client){.prompt = (int32_t)rng(VOCAB),
                                         .seed = rng(1000),
                                         .max = rng(200),
                                         .n_choices = 1 + rng(3),
                                         .stops = rng(2)};
            CHECK_EQ(submit(&f, &clients[i], rng(4), rng(2)), 0);
        }
        f.card_lost = true;
        fake_start(&f);
        for (int step = 0; step < 2000000; step++) {
            struct fake *g = f.left && rng(2) ? f.left : &f;
            const uint32_t what = rng(400);
            if (what == 0 && !f.left) {
                fake_take_over(&f, &left);
            } else if (what < 3 && f.left && (what == 1 || left.n == 0)) {
                f.left = NULL;
                left.n = 0;
                scheduler_engine_gone(f.scheduler, left.generation, false, 1);
            } else if (what == 3 && rng(10) == 0) {
                const uint64_t gone = left.generation;
                fake_die(&f); /* then the other one is ended, too */
                if (f.left)
                    scheduler_engine_gone(f.scheduler, gone, false, 1);
                f.left = NULL;
                fake_start(&f);
            } else if (what < 6 && g->n) {
                const uint32_t i = rng(g->n);
                const struct msg_preempted p = {g->generation, g->sequences[i].id};
                fake_remove(g, i);
                scheduler_on_preempted(f.scheduler, &p);
            } else if (g->n) {
                fake_step(g, rng(g->n));
            }
            scheduler_tick(f.scheduler, 1);
            scheduler_counts(f.scheduler, &counts);
            CHECK(counts.queued + counts.running == 0 || f.n || left.n || f.left);
            if (counts.queued + counts.running == 0)
                break;
        }
        CHECK_EQ(counts.finished, CLIENTS);
        for (int i = 0; i < CLIENTS; i++)
            check_transcript(&clients[i]);
        scheduler_destroy(f.scheduler);
    }
}

CHECK_MAIN(T(one_moves_at_a_time_and_the_others_are_told_on),
           T(pages_are_computed_by_pieces_before_anyone_is_called_back),
           T(what_has_no_token_yet_stays_until_it_has), T(together_they_hold_no_more_than_one),
           T(pages_that_cannot_be_had_are_done_without),
           T(who_leaves_while_it_is_moved_is_forgotten),
           T(transcripts_survive_whatever_happens_to_either))
