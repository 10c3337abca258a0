/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/sampler.h"

#include <errno.h>
#include <math.h>

#include "daemon/engine/philox.h"
#include "tests/check.h"

#define VOCAB 3000u

static struct sampler *sampler;
static float logits[VOCAB], copy[VOCAB];

static void start(void) {
    CHECK_EQ(sampler_create(&sampler, VOCAB), 0);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = (float)((i * 2654435761u >> 8) % 10000) / 1000.0f;
}

static struct sampling plain(float temperature) {
    return (struct sampling){
        .temperature = temperature, .top_p = 1, .repeat_penalty = 1, .seed = 7};
}

static int32_t draw(const struct sampling *s, const int32_t *tokens, uint32_t n) {
    static const int32_t eog[] = {5};
    const struct sampler_input in = {s, tokens, n, eog, 1};
    int32_t token = -1;
    memcpy(copy, logits, sizeof copy);
    CHECK_EQ(sampler_draw(sampler, copy, &in, &token), 0);
    return token;
}

static int32_t best(void) {
    int32_t b = 0;
    for (uint32_t i = 1; i < VOCAB; i++)
        b = logits[i] > logits[b] ? (int32_t)i : b;
    return b;
}

/* The vectors that the authors of Philox publish with it. */
static void philox_gives_the_published_numbers(void) {
    static const uint32_t in[3][6] = {
        {0, 0, 0, 0, 0, 0},
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0}};
    static const uint32_t want[3][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        philox(in[i], in[i] + 4, out);
        CHECK(!memcmp(out, want[i], sizeof out));
    }
}

static void temperature_zero_takes_the_largest_and_the_lowest_id(void) {
    start();
    struct sampling s = plain(0);
    CHECK_EQ(draw(&s, NULL, 0), best());
    logits[900] = logits[40] = 99;
    CHECK_EQ(draw(&s, NULL, 0), 40);
}

static void draws_follow_the_distribution(void) {
    start();
    struct sampling s = plain(1);
    uint32_t hits[4] = {0};
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    for (uint32_t i = 0; i < 4; i++)
        logits[i * 7] = logf((float)(i + 1)); /* 0.1 0.2 0.3 0.4 */
    const uint32_t n = 20000;
    for (uint32_t i = 0; i < n; i++) {
        const struct sampler_input in = {&s, NULL, i, NULL, 0};
        int32_t token;
        memcpy(copy, logits, sizeof copy);
        CHECK_EQ(sampler_draw(sampler, copy, &in, &token), 0);
        hits[token / 7]++;
    }
    for (uint32_t i = 0; i < 4; i++)
        CHECK(fabs((double)hits[i] / n - 0.1 * (i + 1)) < 0.015);
}

static void a_draw_depends_on_seed_choice_and_position_alone(void) {
    start();
    struct sampling s = plain(1), other = plain(1);
    int32_t tokens[50] = {0};
    uint32_t differ[3] = {0};
    for (uint32_t n = 1; n < 50; n++) {
        const int32_t t = draw(&s, tokens, n);
        CHECK_EQ(draw(&s, tokens, n), t);
        other.seed = 8;
        differ[0] += draw(&other, tokens, n) != t;
        other.seed = 7;
        other.choice = 1;
        differ[1] += draw(&other, tokens, n) != t;
        other.choice = 0;
        differ[2] += n > 1 && draw(&s, tokens, n - 1) != t;
    }
    for (int i = 0; i < 3; i++)
        CHECK(differ[i] > 40);
}

static void cuts_keep_the_most_likely(void) {
    start();
    struct sampling s = plain(1.5f);
    struct token_logprob top[10];
    const double sum = sampler_log_sum(sampler, logits);
    CHECK_EQ(sampler_top(sampler, logits, sum, 10, top), 10);
    s.top_k = 3;
    for (uint32_t n = 0; n < 200; n++) {
        s.seed = n;
        const int32_t t = draw(&s, NULL, 0);
        CHECK(t == top[0].token || t == top[1].token || t == top[2].token);
    }
    s.top_k = 0;
    s.top_p = 1e-6f;
    CHECK_EQ(draw(&s, NULL, 0), top[0].token);
    s.top_p = 1;
    s.min_p = 0.9999f;
    for (uint32_t n = 0; n < 50; n++) {
        s.seed = n;
        const int32_t t = draw(&s, NULL, 0);
        CHECK(logits[t] >= logits[best()] + logf(0.9999f));
    }
}

static void top_p_keeps_just_enough(void) {
    start();
    struct sampling s = plain(1);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    logits[10] = logf(0.5f), logits[20] = logf(0.3f), logits[30] = logf(0.2f);
    s.top_p = 0.7f;
    uint32_t seen = 0;
    for (uint32_t n = 0; n < 300; n++) {
        s.seed = n;
        const int32_t t = draw(&s, NULL, 0);
        CHECK(t == 10 || t == 20);
        seen |= t == 10 ? 1u : 2u;
    }
    CHECK_EQ(seen, 3);
}

/* Far more tokens than are looked at first, and cuts that end anywhere among them. */
static void top_p_of_a_flat_distribution_keeps_its_part(void) {
    start();
    struct sampling s = plain(1);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = (float)(VOCAB - i) * 1e-6f; /* almost equal, the first a little likelier */
    for (float top_p = 0.02f; top_p < 1; top_p += 0.07f) {
        const uint32_t end = (uint32_t)ceil((double)top_p * VOCAB);
        uint32_t furthest = 0;
        s.top_p = top_p;
        for (uint32_t n = 0; n < 400; n++) {
            s.seed = n;
            const uint32_t t = (uint32_t)draw(&s, NULL, 0);
            furthest = t > furthest ? t : furthest;
        }
        CHECK(furthest <= end + 5 && furthest > end * 9 / 10);
    }
}

/* The same tokens are possible whichever way the cut is made. */
static void min_keep_holds_with_every_cut(void) {
    start();
    struct sampling s = plain(100); /* nearly flat: all that is kept is drawn */
    s.min_keep = 3;
    for (int kind = 0; kind < 3; kind++) {
        uint32_t seen = 0;
        struct token_logprob top[3];
        s.top_k = kind == 0 ? 1 : 0;
        s.top_p = kind == 1 ? 1e-6f : 1;
        s.min_p = kind == 2 ? 0.9999999f : 0;
        logits[2000] = 30, logits[100] = 25, logits[1000] = 20;
        CHECK_EQ(sampler_top(sampler, logits, 0, 3, top), 3);
        for (uint32_t n = 0; n < 200; n++) {
            s.seed = n;
            const int32_t t = draw(&s, NULL, 0);
            CHECK(t == 2000 || t == 100 || t == 1000);
            seen |= t == 2000 ? 1u : t == 100 ? 2u : 4u;
        }
        CHECK_EQ(seen, 7);
    }
}

static void penalties_and_bias_move_the_choice(void) {
    start();
    struct sampling s = plain(0);
    const int32_t first = best();
    const int32_t tokens[] = {first, 1, first};
    s.repeat_penalty = 10;
    s.penalty_last_n = 64;
    CHECK(draw(&s, tokens, 3) != first);
    s.penalty_last_n = 0;
    CHECK_EQ(draw(&s, tokens, 3), first);
    s = plain(0);
    s.penalty_last_n = -1;
    s.frequency_penalty = 5;
    CHECK(draw(&s, tokens, 3) != first);
    s = plain(0);
    struct logit_bias bias = {17, 100};
    s.bias = &bias;
    s.n_bias = 1;
    CHECK_EQ(draw(&s, NULL, 0), 17);
    bias = (struct logit_bias){first, -INFINITY};
    CHECK(draw(&s, NULL, 0) != first);
    s = plain(0);
    logits[5] = 1000;
    CHECK_EQ(draw(&s, NULL, 0), 5);
    s.ignore_eos = true;
    CHECK(draw(&s, NULL, 0) != 5);
}

static void logprobs_add_up_to_one_and_come_in_order(void) {
    static struct token_logprob top[VOCAB + 5];
    start();
    logits[7] = logits[8];
    const double sum = sampler_log_sum(sampler, logits);
    double total = 0;
    CHECK_EQ(sampler_top(sampler, logits, sum, VOCAB + 5, top), VOCAB);
    for (uint32_t i = 0; i < VOCAB; i++) {
        total += exp((double)top[i].logprob);
        if (i)
            CHECK(top[i - 1].logprob > top[i].logprob ||
                  (top[i - 1].logprob == top[i].logprob && top[i - 1].token < top[i].token) ||
                  logits[top[i - 1].token] > logits[top[i].token]);
    }
    CHECK(fabs(total - 1) < 1e-5);
}

static void logits_that_allow_nothing_are_named(void) {
    start();
    struct sampling s = plain(1);
    const struct sampler_input in = {&s, NULL, 0, NULL, 0};
    int32_t token = 77;
    logits[1234] = NAN;
    CHECK_EQ(sampler_draw(sampler, logits, &in, &token), -EDOM);
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    CHECK_EQ(sampler_draw(sampler, logits, &in, &token), -EDOM);
    CHECK_EQ(token, 77);
}

CHECK_MAIN(T(philox_gives_the_published_numbers),
           T(temperature_zero_takes_the_largest_and_the_lowest_id),
           T(draws_follow_the_distribution), T(a_draw_depends_on_seed_choice_and_position_alone),
           T(cuts_keep_the_most_likely), T(top_p_keeps_just_enough),
           T(top_p_of_a_flat_distribution_keeps_its_part), T(min_keep_holds_with_every_cut),
           T(penalties_and_bias_move_the_choice), T(logprobs_add_up_to_one_and_come_in_order),
           T(logits_that_allow_nothing_are_named))
