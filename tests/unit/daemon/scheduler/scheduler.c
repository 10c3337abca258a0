/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler against an engine that dies, preempts, repeats itself and talks after its death. */
#include "daemon/scheduler/scheduler.h"

#include <errno.h>

#include "octarc/error.h"
#include "tests/check.h"
#include "tests/unit/daemon/scheduler/fake_engine.h"

static struct client clients[CLIENTS];

static void disturb(struct fake *f) {
    if (f->n == 0)
        return;
    const uint32_t i = rng(f->n);
    struct fake_sequence *q = &f->sequences[i];
    struct msg_token m = {.generation = f->generation, .sequence = q->id, .token = 3};
    switch (rng(24)) {
    case 0:
        if (rng(20))
            return;
        fake_die(f);
        fake_start(f);
        return;
    case 1: {
        const struct msg_preempted p = {f->generation, q->id};
        fake_remove(f, i);
        scheduler_on_preempted(f->scheduler, &p);
        return;
    }
    case 2: /* said again */
        m.position = q->at - 1;
        scheduler_on_token(f->scheduler, &m, 1);
        return;
    case 3: /* one is missing */
        m.position = q->at + 1;
        scheduler_on_token(f->scheduler, &m, 1);
        return;
    case 4: /* of an engine that is dead */
        m.generation = f->generation - 1;
        m.position = q->at;
        scheduler_on_token(f->scheduler, &m, 1);
        return;
    default:
        fake_step(f, i);
    }
}

static void transcripts_survive_deaths_and_repetitions(void) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        rng_state = seed;
        struct fake f = {0};
        make(&f, 1024, 1024);
        memset(clients, 0, sizeof clients);
        for (int i = 0; i < CLIENTS; i++) {
            clients[i].prompt = (int32_t)rng(VOCAB);
            clients[i].seed = rng(1000);
            clients[i].max = rng(120);
            clients[i].n_choices = 1 + rng(3);
            clients[i].stops = rng(2);
            CHECK_EQ(submit(&f, &clients[i], rng(4), rng(2)), 0);
        }
        fake_start(&f);
        struct scheduler_counts counts;
        for (int step = 0; step < 2000000; step++) {
            disturb(&f);
            scheduler_counts(f.scheduler, &counts);
            if (counts.queued + counts.running == 0)
                break;
        }
        for (int i = 0; i < CLIENTS; i++)
            if (clients[i].last[0].finish != FINISH_ERROR)
                check_transcript(&clients[i]);
        CHECK_EQ(counts.finished + counts.failed, CLIENTS);
        CHECK(counts.finished >= CLIENTS - 1);
        CHECK(counts.dropped_tokens > 0);
        scheduler_destroy(f.scheduler);
    }
}

/* One answer that ends in a stop string, with a death behind each of its tokens in turn: so a
 * replay falls between the parts of the stop string too. */
static void a_stop_string_is_found_though_a_replay_falls_into_it(void) {
    uint32_t found = 0;
    for (uint64_t seed = 0; seed < 20000 && found < 40; seed++) {
        static struct client one;
        char text[4096];
        size_t n;
        one = (struct client){.prompt = (int32_t)(seed % (uint64_t)VOCAB),
                              .seed = seed,
                              .max = 40,
                              .n_choices = 1,
                              .stops = true};
        if (reference(&one, 0, text, &n) != FINISH_WORD)
            continue;
        found++;
        bool went_on = true;
        for (uint32_t dies = 1; went_on; dies++) {
            struct fake f = {0};
            make(&f, 8, 8);
            clients[0] = one;
            CHECK_EQ(submit(&f, &clients[0], 0, true), 0);
            fake_start(&f);
            for (uint32_t k = 0; k < dies && f.n; k++)
                fake_step(&f, 0);
            went_on = f.n > 0;
            if (went_on) {
                fake_die(&f);
                fake_start(&f);
            }
            while (f.n)
                fake_step(&f, 0);
            check_transcript(&clients[0]);
            scheduler_destroy(f.scheduler);
        }
    }
    CHECK_EQ(found, 40);
}

static uint64_t dropped(const struct fake *f) {
    struct scheduler_counts counts;
    scheduler_counts(f->scheduler, &counts);
    return counts.dropped_tokens;
}

static void only_the_next_position_of_the_current_generation_is_taken(void) {
    struct fake f = {0};
    make(&f, 8, 8);
    fake_start(&f);
    fake_die(&f);
    fake_start(&f); /* generation 2 */
    struct client c = {.prompt = 1, .seed = 2, .max = 8, .n_choices = 1};
    CHECK_EQ(submit(&f, &c, 0, true), 0);
    const uint64_t id = f.sequences[0].id;
    const struct msg_token wrong[] = {
        {.generation = 1, .sequence = id, .position = 3, .token = 3},
        {.generation = 3, .sequence = id, .position = 3, .token = 3},
        {.generation = 2, .sequence = id + 1, .position = 3, .token = 3},
        {.generation = 2, .sequence = id, .position = 2, .token = 3},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        scheduler_on_token(f.scheduler, &wrong[i], 1);
        CHECK_EQ(dropped(&f), i + 1);
        CHECK_EQ(c.tokens[0], 0);
    }
    fake_step(&f, 0);
    CHECK_EQ(c.tokens[0], 1);
    f.sequences[0].at--; /* said again */
    fake_step(&f, 0);
    CHECK_EQ(c.tokens[0], 1);
    CHECK_EQ(dropped(&f), 5);
    while (f.n > 0)
        fake_step(&f, 0);
    check_transcript(&c);
    scheduler_destroy(f.scheduler);
}

static void no_event_comes_from_inside_submit(void) {
    struct fake f = {0};
    make(&f, 8, 8);
    fake_start(&f);
    struct client c = {.prompt = 1, .seed = 2, .max = 4, .n_choices = 2};
    CHECK_EQ(submit(&f, &c, 0, true), 0); /* on_text checks submitted */
    CHECK_EQ(f.n, 2);
    while (f.n)
        fake_step(&f, 0);
    check_transcript(&c);
    scheduler_destroy(f.scheduler);
}

static void uids_take_turns_and_the_oldest_of_one_goes_first(void) {
    struct fake f = {0};
    make(&f, 64, 64);
    memset(clients, 0, sizeof clients);
    for (int i = 0; i < 9; i++) {
        clients[i] = (struct client){.prompt = i, .seed = 2, .max = 2, .n_choices = 1};
        CHECK_EQ(submit(&f, &clients[i], i < 6 ? 1000 : 1000 + (uint32_t)i, false), 0);
    }
    fake_start(&f);
    const uint64_t want[] = {1000, 1006, 1007, 1008, 1000, 1000, 1000, 1000};
    for (int i = 0; i < 8; i++)
        CHECK_EQ(f.order[i], want[i]);
    CHECK_EQ(f.sequences[4].prompt, 1); /* the second of uid 1000 */
    scheduler_destroy(f.scheduler);
}

static void an_interrupted_answer_goes_on_before_what_never_ran(void) {
    struct fake f = {0};
    make(&f, 64, 64);
    scheduler_set_model(f.scheduler, any_tokenizer, 4096, 2);
    fake_start(&f);
    memset(clients, 0, sizeof clients);
    static const uint32_t uids[] = {1005, 1005, 1001, 1002, 1009, 1005};
    for (int i = 0; i < 6; i++) {
        clients[i] = (struct client){.prompt = i, .seed = 2, .max = 20, .n_choices = 1};
        CHECK_EQ(submit(&f, &clients[i], uids[i], true), 0);
    }
    CHECK_EQ(f.n, 2);
    for (int i = 0; i < 3; i++) {
        fake_step(&f, 0);
        fake_step(&f, 1);
        fake_die(&f);
        fake_start(&f);
        CHECK_EQ(f.n, 2);
        CHECK_EQ(f.sequences[0].prompt, 0); /* of the two that ran, the older first */
        CHECK_EQ(f.sequences[1].prompt, 1);
    }
    const uint32_t turn = f.admits;
    while (f.n)
        fake_step(&f, 0);
    static const uint32_t want[] = {1009, 1001, 1002, 1005}; /* the turn is where it was */
    for (int i = 0; i < 4; i++)
        CHECK_EQ(f.order[turn + (uint32_t)i], want[i]);
    for (int i = 0; i < 6; i++)
        check_transcript(&clients[i]);
    scheduler_destroy(f.scheduler);
}

static void credit_bounds_what_is_admitted(void) {
    struct fake f = {0};
    make(&f, 64, 64);
    fake_start(&f);
    struct client first = {.prompt = 1, .max = 50, .n_choices = 1};
    CHECK_EQ(submit(&f, &first, 0, true), 0);
    const struct msg_credit none = {.free_sequences = 0}, two = {.free_sequences = 2};
    scheduler_on_credit(f.scheduler, &none);
    memset(clients, 0, sizeof clients);
    for (int i = 0; i < 4; i++) {
        clients[i] = (struct client){.prompt = 2, .max = 50, .n_choices = 1};
        CHECK_EQ(submit(&f, &clients[i], 0, true), 0);
    }
    CHECK_EQ(f.n, 1);
    scheduler_on_credit(f.scheduler, &two);
    CHECK_EQ(f.n, 3);
    scheduler_destroy(f.scheduler);
}

static void a_poisoned_request_fails_by_name_at_the_third_death(void) {
    struct fake f = {0};
    make(&f, 64, 64);
    struct client poison = {.prompt = 1, .seed = 2, .max = 40, .n_choices = 1};
    struct client good = {.prompt = 4, .seed = 9, .max = 40, .n_choices = 1};
    CHECK_EQ(submit(&f, &poison, 0, true), 0);
    CHECK_EQ(submit(&f, &good, 0, true), 0);
    fake_start(&f);
    CHECK_EQ(f.n, 2);
    fake_step(&f, 1); /* the good one had a token: its account is clear */
    fake_die(&f);
    CHECK(poison.waiting && good.waiting);
    fake_start(&f);
    CHECK_EQ(f.n, 2);
    CHECK_EQ(f.sequences[1].prompt, 4);
    fake_step(&f, 1);
    fake_die(&f);
    fake_start(&f);
    CHECK_EQ(f.n, 1); /* alone */
    CHECK_EQ(f.sequences[0].prompt, 1);
    fake_die(&f);
    CHECK_EQ(poison.ends, 1);
    CHECK_EQ(poison.last[0].finish, FINISH_ERROR);
    CHECK(strstr(poison.error, "req-1 "));
    fake_start(&f);
    while (f.n)
        fake_step(&f, 0);
    check_transcript(&good);
    scheduler_destroy(f.scheduler);
}

static void a_lost_card_makes_nobody_a_suspect(void) {
    struct fake f = {.card_lost = true};
    make(&f, 64, 64);
    struct client two[2] = {{.prompt = 1, .seed = 2, .max = 40, .n_choices = 1},
                            {.prompt = 4, .seed = 9, .max = 40, .n_choices = 1}};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(submit(&f, &two[i], 0, true), 0);
    for (int i = 0; i < 5; i++) {
        fake_start(&f);
        CHECK_EQ(f.n, 2); /* together again */
        fake_die(&f);
    }
    fake_start(&f);
    while (f.n)
        fake_step(&f, 0);
    for (int i = 0; i < 2; i++)
        check_transcript(&two[i]);
    scheduler_destroy(f.scheduler);
}

static void a_suspect_that_gives_a_token_has_company_again(void) {
    struct fake f = {0};
    make(&f, 64, 64);
    struct client a = {.prompt = 1, .seed = 2, .max = 40, .n_choices = 1};
    struct client b = {.prompt = 4, .seed = 9, .max = 40, .n_choices = 1};
    CHECK_EQ(submit(&f, &a, 0, true), 0);
    CHECK_EQ(submit(&f, &b, 0, true), 0);
    for (int i = 0; i < 3; i++) {
        fake_start(&f);
        CHECK_EQ(f.n, i < 2 ? 2 : 1);
        if (i < 2)
            fake_die(&f);
    }
    fake_step(&f, 0);
    CHECK_EQ(f.n, 2);
    while (f.n)
        fake_step(&f, 0);
    check_transcript(&a);
    check_transcript(&b);
    scheduler_destroy(f.scheduler);
}

/* It said a token, and then it was the end again: of that engine, and not of its company. */
static void a_suspect_is_given_up_only_where_it_was_alone(void) {
    struct fake f = {0};
    make(&f, 64, 64);
    struct client a = {.prompt = 1, .seed = 2, .max = 40, .n_choices = 1};
    struct client b = {.prompt = 4, .seed = 9, .max = 40, .n_choices = 1};
    CHECK_EQ(submit(&f, &a, 0, true), 0);
    CHECK_EQ(submit(&f, &b, 0, true), 0);
    for (int i = 0; i < 3; i++) {
        fake_start(&f);
        if (i == 2)
            fake_step(&f, 0);
        CHECK_EQ(f.n, 2);
        fake_die(&f);
    }
    CHECK_EQ(a.ends + b.ends, 0);
    fake_start(&f);
    CHECK_EQ(f.n, 1); /* now it is b's turn to be alone */
    fake_die(&f);
    CHECK_EQ(a.ends, 0);
    CHECK_EQ(b.last[0].finish, FINISH_ERROR);
    fake_start(&f);
    while (f.n)
        fake_step(&f, 0);
    check_transcript(&a);
    scheduler_destroy(f.scheduler);
}

static void limits_name_their_key(void) {
    struct fake f = {0};
    make(&f, 3, 2);
    memset(clients, 0, sizeof clients);
    const int want[] = {0, 0, -EDQUOT, 0, -EOVERFLOW};
    const uint32_t uids[] = {5, 5, 5, 6, 7};
    for (int i = 0; i < 5; i++) {
        clients[i] = (struct client){.prompt = 1, .max = 2, .n_choices = 1};
        CHECK_EQ(submit(&f, &clients[i], uids[i], false), want[i]);
    }
    int32_t tokens[5000] = {0};
    struct request_spec spec = {.tokens = tokens, .n_tokens = 5000, .n = 1};
    struct err err;
    struct request *r;
    CHECK_EQ(scheduler_submit(f.scheduler, &spec, &events, NULL, 1, &r, &err), -EINVAL);
    CHECK(strstr(err.text, "5000") && strstr(err.text, "4096"));
    scheduler_destroy(f.scheduler);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(clients[i].last[0].finish, FINISH_CANCELLED);
}

static void abandoned_and_cancelled_requests_leave_the_engine(void) {
    struct fake f = {0};
    make(&f, 8, 8);
    fake_start(&f);
    struct client a = {.prompt = 1, .max = 50, .n_choices = 1}, b = a, c = a;
    CHECK_EQ(submit(&f, &a, 7, true), 0);
    CHECK_EQ(submit(&f, &b, 7, true), 0);
    CHECK_EQ(submit(&f, &c, 7, true), 0);
    CHECK_EQ(scheduler_cancel(f.scheduler, request_id(b.request), 8, false), -ENOENT);
    CHECK_EQ(scheduler_cancel(f.scheduler, request_id(b.request), 0, false), -ENOENT);
    CHECK_EQ(scheduler_cancel(f.scheduler, request_id(b.request), 7, false), 0);
    CHECK_EQ(b.ends, 1);
    CHECK_EQ(b.last[0].finish, FINISH_CANCELLED);
    CHECK_EQ(scheduler_cancel(f.scheduler, request_id(c.request), 8, true), 0);
    CHECK_EQ(c.last[0].finish, FINISH_CANCELLED);
    request_abandon(a.request);
    CHECK(f.sequences[0].cancelled && f.sequences[1].cancelled && f.sequences[2].cancelled);
    while (f.n)
        fake_step(&f, 0);
    CHECK_EQ(a.ends + a.choice_ends[0], 0);
    scheduler_destroy(f.scheduler);
}

static void count_call(void *user) {
    ++*(int *)user;
}

static void draining_refuses_and_ends_once(void) {
    struct fake f = {0};
    make(&f, 8, 8);
    fake_start(&f);
    struct client a = {.prompt = 1, .seed = 3, .max = 5, .n_choices = 1}, b = a;
    CHECK_EQ(submit(&f, &a, 7, true), 0);
    int drained = 0;
    scheduler_drain(f.scheduler, count_call, &drained);
    CHECK_EQ(submit(&f, &b, 7, true), -ESHUTDOWN);
    CHECK_EQ(drained, 0);
    while (f.n)
        fake_step(&f, 0);
    check_transcript(&a);
    CHECK_EQ(drained, 1);
    scheduler_destroy(f.scheduler);
    CHECK_EQ(drained, 1);
}

static void no_device_ends_all_with_its_text(void) {
    struct fake f = {0};
    make(&f, 8, 8);
    fake_start(&f);
    struct client a = {.prompt = 1, .max = 50, .n_choices = 2};
    CHECK_EQ(submit(&f, &a, 7, true), 0);
    fake_die(&f);
    scheduler_fail_all(f.scheduler, -ENODEV, "no card is left");
    CHECK_EQ(a.ends, 1);
    CHECK_EQ(a.last[1].error, -ENODEV);
    CHECK(!strcmp(a.error, "no card is left"));
    scheduler_refuse(f.scheduler, -ENODEV, "no card is left");
    CHECK_EQ(submit(&f, &(struct client){.n_choices = 1, .max = 1}, 7, true), -ENODEV);
    scheduler_destroy(f.scheduler);
}

CHECK_MAIN(T(transcripts_survive_deaths_and_repetitions),
           T(a_stop_string_is_found_though_a_replay_falls_into_it),
           T(only_the_next_position_of_the_current_generation_is_taken),
           T(no_event_comes_from_inside_submit),
           T(uids_take_turns_and_the_oldest_of_one_goes_first),
           T(an_interrupted_answer_goes_on_before_what_never_ran),
           T(credit_bounds_what_is_admitted),
           T(a_poisoned_request_fails_by_name_at_the_third_death),
           T(a_lost_card_makes_nobody_a_suspect), T(a_suspect_that_gives_a_token_has_company_again),
           T(a_suspect_is_given_up_only_where_it_was_alone), T(limits_name_their_key),
           T(abandoned_and_cancelled_requests_leave_the_engine), T(draining_refuses_and_ends_once),
           T(no_device_ends_all_with_its_text))
