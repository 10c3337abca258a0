/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.h - an engine that can die, preempt, repeat itself and talk after its death, and
 * clients who know what it ought to have said. */
#ifndef OCTARC_TESTS_FAKE_ENGINE_H
#define OCTARC_TESTS_FAKE_ENGINE_H

#include <errno.h>

#include "daemon/scheduler/scheduler.h"
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
        uint32_t choice, n_prompt, at, max, uid, from;
        bool cancelled;
    } sequences[SEQUENCES];
    uint64_t order[64]; /* uids as they were admitted */
    struct fake *left;  /* that it takes over from; NULL: none */
    uint32_t emptied;   /* times that the scheduler said so of that */
};

static int fake_admit(void *user, const struct msg_admit *m) {
    struct fake *f = user;
    if (!f->alive)
        return -EPIPE;
    CHECK(f->n < SEQUENCES);
    for (uint32_t i = m->n_prompt; i < m->n_tokens; i++) /* a replay brings what was said */
        CHECK_EQ(m->tokens[i], model_says(m->tokens[0], m->sampling.seed, m->sampling.choice, i));
    f->sequences[f->n++] = (struct fake_sequence){
        m->sequence, m->tokens[0],  m->sampling.seed, m->sampling.choice, m->n_prompt,
        m->n_tokens, m->max_tokens, m->uid,           m->n_tokens,        false};
    f->order[f->admits++ % 64] = m->uid;
    f->most = f->n > f->most ? f->n : f->most;
    return 0;
}

static int fake_cancel(void *user, uint64_t generation, uint64_t id) {
    struct fake *f = user;
    if (f->left && generation == f->left->generation)
        f = f->left;
    CHECK_EQ(generation, f->generation);
    for (uint32_t i = 0; i < f->n; i++)
        if (f->sequences[i].id == id)
            f->sequences[i].cancelled = true;
    return f->alive ? 0 : -EPIPE;
}

static void fake_emptied(void *user, uint64_t generation) {
    struct fake *f = user;
    CHECK(f->left && f->left->generation == generation && f->left->n == 0);
    f->emptied++;
}

static const struct scheduler_engine_ops fake_ops = {fake_admit, fake_cancel, fake_emptied};

static void fake_start(struct fake *f) {
    f->alive = true;
    f->n = 0;
    scheduler_engine_ready(f->scheduler, ++f->generation, 1);
}

/* Another one takes over from it, which is *left from now on. */
__attribute__((unused)) static void fake_take_over(struct fake *f, struct fake *left) {
    *left = *f;
    left->left = NULL;
    f->left = left;
    f->n = f->most = f->emptied = 0;
    scheduler_take_over(f->scheduler, ++f->generation, 1);
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

#endif
