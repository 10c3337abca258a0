/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/client.h"

#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"

static const char *const stops[] = {"stop!", "\xE2\x82\xACq", "endend", "a!!"};

static struct sampling draw_sampling(struct random *r) {
    struct sampling s = {.top_p = 1, .repeat_penalty = 1, .seed = draw(r, 1000)};
    if (one_in(r, 3))
        return s;
    s.temperature = one_in(r, 2) ? 0.7f : 2.5f;
    s.top_k = one_in(r, 2) ? 12 : 0;
    s.top_p = one_in(r, 2) ? 0.95f : 1;
    s.min_p = one_in(r, 3) ? 0.02f : 0;
    s.repeat_penalty = one_in(r, 2) ? 1.2f : 1;
    s.frequency_penalty = one_in(r, 3) ? 0.5f : 0;
    s.penalty_last_n = one_in(r, 2) ? 32 : -1;
    s.ignore_eos = one_in(r, 4);
    return s;
}

/* Few beginnings, so that users and requests have pages in common. */
static void draw_prompt(struct client *c, struct random *r) {
    const uint32_t family = draw(r, 3), common = draw(r, 120);
    c->spec.n_tokens = 1 + draw(r, sim.calm || one_in(r, 4) ? 150 : 70);
    for (uint32_t i = 0; i < c->spec.n_tokens; i++)
        c->prompt[i] = i < common ? (int32_t)((i * 7 + family * 5) % 22) : (int32_t)draw(r, 22);
}

void client_make(struct client *c, bool poisons) {
    struct random *r = &sim.random;
    *c = (struct client){.poisons = poisons, .patience_ns = NEVER};
    c->spec = (struct request_spec){.uid = draw(r, 3),
                                    .kind = "completion",
                                    .tokens = c->prompt,
                                    .max_tokens = one_in(r, 8)   ? UINT32_MAX
                                                  : one_in(r, 6) ? draw(r, 2)
                                                                 : 1 + draw(r, sim.calm ? 120 : 50),
                                    .n = one_in(r, 3) ? 1 + draw(r, CHOICES) : 1,
                                    .logprobs = one_in(r, 3),
                                    .prompt_logprobs = one_in(r, 6),
                                    .cache_prompt = !one_in(r, 4),
                                    .stream = !one_in(r, 3),
                                    .sampling = draw_sampling(r),
                                    .stops = stops,
                                    .n_stops = one_in(r, 2) ? 4 : 0};
    if (c->spec.logprobs || c->spec.prompt_logprobs)
        c->spec.n_logprobs = draw(r, TOPS + 1);
    draw_prompt(c, r);
    if (poisons && one_in(r, 2)) {
        c->prompt[draw(r, c->spec.n_tokens)] = T_POISON;
    } else if (poisons) { /* its first token is: it is said, and then computed */
        c->bias = (struct logit_bias){T_POISON, 2000};
        c->spec.sampling.bias = &c->bias;
        c->spec.sampling.n_bias = 1;
        c->spec.sampling.temperature = 0;
        c->spec.max_tokens = 2 + draw(r, 20);
        c->spec.n_tokens = 1 + c->spec.n_tokens % (CONTEXT / 2);
        c->spec.n_stops = 0;
    }
    if (!poisons && one_in(r, 6))
        c->patience_ns = draw(r, 3000) * MS;
    c->abandons = one_in(r, 2);
    if (!poisons && one_in(r, 16))
        c->stays = 1 + draw(r, 12);
}

void client_make_again(struct client *c, const struct client *like) {
    *c = (struct client){.patience_ns = NEVER, .spec = like->spec, .bias = like->bias};
    memcpy(c->prompt, like->prompt, sizeof c->prompt);
    for (uint32_t i = 0; i < c->spec.n_tokens; i++)
        if (c->prompt[i] == T_POISON)
            c->prompt[i] = 0;
    c->spec.tokens = c->prompt;
    c->spec.sampling.bias = NULL;
    c->spec.sampling.n_bias = 0;
}

void client_finish(struct client *c) {
    for (uint32_t i = 0; i < CHOICES; i++) {
        buffer_finish(&c->got[i].text);
        buffer_finish(&c->got[i].tokens);
        buffer_finish(&c->want[i].text);
        buffer_finish(&c->want[i].tokens);
    }
}

bool client_done(const struct client *c) {
    return c->gone || c->ends;
}

static void leave(struct client *c) {
    trace("request %lu is %s", c->id, c->abandons ? "left alone" : "cancelled");
    if (c->abandons) {
        c->gone = true;
        request_abandon(c->request);
        return;
    }
    c->cancelled = true;
    PROMISE(!scheduler_cancel(sim.scheduler, c->id, c->spec.uid, false),
            "request %lu is not there to be cancelled", c->id);
    PROMISE(client_done(c), "a cancelled request goes on");
}

static void act(void *user) {
    struct client *c = user;
    struct err err;
    if (c->submitted) {
        if (!client_done(c))
            leave(c);
        return;
    }
    const int rc = scheduler_submit(sim.scheduler, &c->spec, &transcript_events, c, sim.now_ns,
                                    &c->request, &err);
    PROMISE(!rc, "a request is refused: %s", err.text);
    c->submitted = true;
    c->disturbed = sim.harmed;
    c->id = request_id(c->request);
    trace("request %lu: user %u, %u tokens, at most %u, %u choices%s", c->id, c->spec.uid,
          c->spec.n_tokens, c->spec.max_tokens, c->spec.n, c->poisons ? ", poison" : "");
    if (c->patience_ns != NEVER)
        c->actor.due_ns = sim.now_ns + c->patience_ns;
}

void client_start(struct client *c, uint64_t at_ns) {
    c->actor = (struct actor){at_ns, act, c};
    clock_add(&c->actor);
}
