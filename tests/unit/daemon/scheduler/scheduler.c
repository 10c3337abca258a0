/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler against an engine that dies, preempts, repeats itself and talks after its death. */
#include "daemon/scheduler/scheduler.h"

#include <errno.h>

#include "daemon/util/utf8.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"
#include "tests/check.h"

/* --- a vocabulary whose tokens cut code points and words --- */

static const char *const pieces[] = {"a",   "b",     "st",       "op",   " ",    "\xC3", "\xA4",
                                     "xyz", "\xE2",  "\x82\xAC", "sto",  "p!",   "\n",   "q",
                                     "",    "w\xF0", "\x9F\x98", "\x80", "\xFF", "end"};
#define VOCAB ((int32_t)(sizeof pieces / sizeof *pieces))

int tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, bool control, const char **bytes,
                    size_t *n) {
    (void)tokenizer, (void)control;
    if (id < 0 || id >= VOCAB)
        return -EINVAL;
    *bytes = pieces[id];
    *n = strlen(pieces[id]);
    return 0;
}

static const struct tokenizer *const any_tokenizer = (const void *)pieces;

static uint64_t rng_state;
static uint32_t rng(uint32_t below) {
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % below;
}

/* What the model says at a position: a function of the prompt, the seed and the choice. */
static int32_t model_says(int32_t prompt, uint64_t seed, uint32_t choice, uint32_t position) {
    uint64_t h = (uint64_t)prompt * 31 + seed * 1009 + choice * 7919u + position * 104729u;
    h ^= h >> 13, h *= 0x9E3779B97F4A7C15u, h ^= h >> 29;
    return h % 61 == 0 ? -1 : (int32_t)(h % (uint64_t)VOCAB);
}

/* --- the engine --- */

#define SEQUENCES 8
struct fake {
    struct scheduler *scheduler;
    uint64_t generation;
    bool alive;
    bool card_lost; /* why it dies: nobody is to blame */
    uint32_t n, admits, most;
    struct fake_sequence {
        uint64_t id;
        int32_t prompt;
        uint64_t seed;
        uint32_t choice, n_prompt, at, max, uid;
        bool cancelled;
    } sequences[SEQUENCES];
    uint64_t order[64]; /* uids as they were admitted */
};

static int fake_admit(void *user, const struct msg_admit *m) {
    struct fake *f = user;
    if (!f->alive)
        return -EPIPE;
    CHECK(f->n < SEQUENCES);
    for (uint32_t i = m->n_prompt; i < m->n_tokens; i++) /* a replay brings what was said */
        CHECK_EQ(m->tokens[i], model_says(m->tokens[0], m->sampling.seed, m->sampling.choice, i));
    f->sequences[f->n++] =
        (struct fake_sequence){m->sequence,        m->tokens[0], m->sampling.seed,
                               m->sampling.choice, m->n_prompt,  m->n_tokens,
                               m->max_tokens,      m->uid,       false};
    f->order[f->admits++ % 64] = m->uid;
    f->most = f->n > f->most ? f->n : f->most;
    return 0;
}

static int fake_cancel(void *user, uint64_t id) {
    struct fake *f = user;
    for (uint32_t i = 0; i < f->n; i++)
        if (f->sequences[i].id == id)
            f->sequences[i].cancelled = true;
    return f->alive ? 0 : -EPIPE;
}

static const struct scheduler_engine_ops fake_ops = {fake_admit, fake_cancel};

static void fake_start(struct fake *f) {
    f->alive = true;
    f->n = 0;
    scheduler_engine_ready(f->scheduler, ++f->generation, 1);
}

static void fake_die(struct fake *f) {
    f->alive = false;
    scheduler_engine_gone(f->scheduler, f->generation, !f->card_lost, 1);
    if (f->n > 0) { /* what was still in the pipe */
        const struct fake_sequence *q = &f->sequences[0];
        const struct msg_token late = {
            .generation = f->generation, .sequence = q->id, .position = q->at, .token = 3};
        scheduler_on_token(f->scheduler, &late, 1);
    }
}

static void fake_remove(struct fake *f, uint32_t i) {
    f->sequences[i] = f->sequences[--f->n];
}

static void fake_end(struct fake *f, uint32_t i, enum end_reason reason) {
    const struct msg_end end = {
        .generation = f->generation, .sequence = f->sequences[i].id, .reason = reason};
    fake_remove(f, i);
    scheduler_on_end(f->scheduler, &end, 1);
}

/* Sequence i goes on by one token. */
static void fake_step(struct fake *f, uint32_t i) {
    struct fake_sequence *q = &f->sequences[i];
    if (q->cancelled) {
        fake_end(f, i, END_CANCELLED);
        return;
    }
    if (q->at - q->n_prompt >= q->max) {
        fake_end(f, i, END_LENGTH);
        return;
    }
    const int32_t token = model_says(q->prompt, q->seed, q->choice, q->at);
    if (token < 0) {
        fake_end(f, i, END_EOG);
        return;
    }
    const struct msg_token m = {
        .generation = f->generation, .sequence = q->id, .position = q->at++, .token = token};
    scheduler_on_token(f->scheduler, &m, 1);
}

/* --- a client --- */

struct client {
    struct request *request;
    char text[CHOICES_MAX][4096];
    size_t n[CHOICES_MAX];
    uint32_t tokens[CHOICES_MAX], choice_ends[CHOICES_MAX], ends;
    struct request_end last[CHOICES_MAX];
    char error[200];
    bool waiting, submitted;
    int32_t prompt;
    uint64_t seed;
    uint32_t max, n_choices;
    bool stops;
};

static void on_text(void *user, uint32_t choice, const char *text, size_t n,
                    const struct request_token *tokens, uint32_t n_tokens) {
    struct client *c = user;
    CHECK(c->submitted && !c->ends && !c->choice_ends[choice] && !c->waiting);
    (void)tokens;
    memcpy(c->text[choice] + c->n[choice], text, n);
    c->n[choice] += n;
    c->tokens[choice] += n_tokens;
}

static void on_choice_end(void *user, uint32_t choice, const struct request_end *end) {
    struct client *c = user;
    CHECK(c->submitted);
    c->choice_ends[choice]++;
    c->last[choice] = *end;
    snprintf(c->error, sizeof c->error, "%s", end->error_text ? end->error_text : "");
}

static void on_end(void *user) {
    struct client *c = user;
    c->ends++;
}

static void on_waiting(void *user, bool waiting) {
    struct client *c = user;
    CHECK(c->waiting != waiting);
    c->waiting = waiting;
}

static const struct request_events events = {
    .text = on_text, .choice_end = on_choice_end, .end = on_end, .waiting = on_waiting};

static const char *const stop_strings[] = {"stop!", "\xE2\x82\xACq", "endend"};

static int submit(struct fake *f, struct client *c, uint32_t uid, bool stream) {
    const int32_t tokens[3] = {c->prompt, 1, 2};
    const struct request_spec spec = {
        .uid = uid,
        .kind = "completion",
        .tokens = tokens,
        .n_tokens = 3,
        .max_tokens = c->max,
        .n = c->n_choices,
        .stream = stream,
        .sampling = {.seed = c->seed},
        .stops = stop_strings,
        .n_stops = c->stops ? 3 : 0,
    };
    const int rc = scheduler_submit(f->scheduler, &spec, &events, c, 1, &c->request, NULL);
    c->submitted = true;
    return rc;
}

/* The undisturbed transcript, by the plainest means. */
static enum finish reference(const struct client *c, uint32_t choice, char *out, size_t *n) {
    char raw[4096];
    size_t n_raw = 0;
    enum finish finish = FINISH_LENGTH;
    for (uint32_t i = 0; i < c->max; i++) {
        const int32_t t = model_says(c->prompt, c->seed, choice, 3 + i);
        if (t < 0) {
            finish = FINISH_STOP;
            break;
        }
        memcpy(raw + n_raw, pieces[t], strlen(pieces[t]));
        n_raw += strlen(pieces[t]);
    }
    struct utf8_stream stream = {0};
    *n = utf8_stream_push(&stream, raw, n_raw, out);
    *n += utf8_stream_finish(&stream, out + *n);
    for (size_t end = 1; c->stops && end <= *n; end++)
        for (int s = 0; s < 3; s++) {
            const size_t k = strlen(stop_strings[s]);
            if (k <= end && !memcmp(out + end - k, stop_strings[s], k)) {
                *n = end - k;
                return FINISH_WORD;
            }
        }
    return finish;
}

static void check_transcript(const struct client *c) {
    CHECK_EQ(c->ends, 1);
    for (uint32_t i = 0; i < c->n_choices; i++) {
        char want[16384];
        size_t n;
        CHECK_EQ(c->last[i].finish, reference(c, i, want, &n));
        CHECK_EQ(c->choice_ends[i], 1);
        CHECK_EQ(c->n[i], n);
        CHECK(!memcmp(c->text[i], want, n));
    }
}

static struct scheduler *make(struct fake *f, uint32_t max_requests, uint32_t per_uid) {
    const struct scheduler_options options = {max_requests, per_uid, SEQUENCES, 4096, 3};
    CHECK_EQ(scheduler_create(&f->scheduler, &options, &fake_ops, f), 0);
    scheduler_set_model(f->scheduler, any_tokenizer, 4096, SEQUENCES);
    return f->scheduler;
}

/* --- tests --- */

#define CLIENTS 24
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
           T(only_the_next_position_of_the_current_generation_is_taken),
           T(no_event_comes_from_inside_submit),
           T(uids_take_turns_and_the_oldest_of_one_goes_first),
           T(an_interrupted_answer_goes_on_before_what_never_ran),
           T(credit_bounds_what_is_admitted),
           T(a_poisoned_request_fails_by_name_at_the_third_death),
           T(a_lost_card_makes_nobody_a_suspect), T(a_suspect_that_gives_a_token_has_company_again),
           T(limits_name_their_key), T(abandoned_and_cancelled_requests_leave_the_engine),
           T(draining_refuses_and_ends_once), T(no_device_ends_all_with_its_text))
