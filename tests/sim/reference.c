/* SPDX-License-Identifier: Apache-2.0 */
/* A request by itself: one card, one engine that takes what it is told at once, no fault. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/runner.h"
#include "octarc/error.h"
#include "tests/sim/client.h"
#include "tests/sim/wire.h"

struct alone {
    struct scheduler *scheduler;
    struct engine *engine;
    struct runner *runner;
    struct plan plan;
    struct wire down, up;
};

static int admit(void *user, const struct msg_admit *msg) {
    return wire_send(&((struct alone *)user)->down, MSG_ADMIT, msg, 0);
}

static int cancel(void *user, uint64_t generation, uint64_t sequence) {
    const struct msg_cancel msg = {sequence};
    (void)generation;
    return wire_send(&((struct alone *)user)->down, MSG_CANCEL, &msg, 0);
}

static int say(void *user, enum message_type type, const void *msg) {
    return wire_send(&((struct alone *)user)->up, type, msg, 0);
}

static uint64_t now_ns(void *user) {
    (void)user;
    return 1;
}

static int step(void *user, struct step_params *params, uint32_t *card) {
    return runner_step(((struct alone *)user)->runner, params, card);
}

static void open_engine(struct alone *a) {
    const struct plan *p = &a->plan;
    const struct engine_options o = {.generation = 1,
                                     .n_vocab = VOCAB,
                                     .context = p->context,
                                     .max_rows = p->max_rows,
                                     .max_outputs = p->max_outputs,
                                     .max_sequences = p->max_sequences,
                                     .n_pages = p->n_pages,
                                     .eog = {T_EOG},
                                     .n_eog = 1};
    const struct engine_model model = {.user = a, .step = step};
    const struct engine_output output = {a, say, now_ns};
    PROMISE(!engine_create(&a->engine, &o, &model, &output), "no memory");
}

static void open_alone(struct alone *a) {
    static const struct scheduler_engine_ops ops = {admit, cancel, NULL};
    const struct scheduler_options o = {8, 8, CHOICES, CONTEXT, 3};
    const struct plan_input in = {.model = &sim.loaded.model,
                                  .backend = device_backend("cpu"),
                                  .n_cards = 1,
                                  .online = {true},
                                  .capacity_bytes = {UINT64_C(1) << 40},
                                  .context = CONTEXT,
                                  .max_sequences = CHOICES,
                                  .max_rows = CONTEXT};
    struct err err;
    PROMISE(!plan_build(&a->plan, &in, &err), "%s", err.text);
    const struct runner_options r = {
        .backend = in.backend, .model = &sim.loaded.model, .plan = &a->plan};
    PROMISE(!runner_open(&a->runner, &r, &err), "%s", err.text);
    PROMISE(!scheduler_create(&a->scheduler, &o, &ops, a), "no memory");
    scheduler_set_model(a->scheduler, sim_tokenizer, CONTEXT, CHOICES);
    wire_init(&a->down, NULL, NULL);
    wire_init(&a->up, NULL, NULL);
    open_engine(a);
    scheduler_engine_ready(a->scheduler, 1, 1);
}

static void close_alone(struct alone *a) {
    scheduler_destroy(a->scheduler);
    engine_destroy(a->engine);
    runner_close(a->runner);
    plan_finish(&a->plan);
    wire_finish(&a->down);
    wire_finish(&a->up);
}

static void tell_engine(struct alone *a) {
    struct message msg;
    wire_deliver(&a->down);
    while (!wire_read(&a->down, &msg)) {
        const int rc = msg.type == MSG_ADMIT ? engine_admit(a->engine, &msg.admit)
                                             : engine_cancel(a->engine, msg.cancel.sequence);
        PROMISE(!rc, "an engine alone fails");
        message_finish(&msg);
    }
}

static void tell_scheduler(struct alone *a) {
    struct message msg;
    wire_deliver(&a->up);
    while (!wire_read(&a->up, &msg)) {
        if (msg.type == MSG_TOKEN)
            scheduler_on_token(a->scheduler, &msg.token, 1);
        else if (msg.type == MSG_PROMPT)
            scheduler_on_prompt(a->scheduler, &msg.prompt);
        else if (msg.type == MSG_END)
            scheduler_on_end(a->scheduler, &msg.end, 1);
        message_finish(&msg);
    }
}

void reference_run(struct client *c) {
    struct alone a = {0};
    struct request *request;
    open_alone(&a);
    c->submitted = c->alone = true;
    PROMISE(!scheduler_submit(a.scheduler, &c->spec, &transcript_events, c, 1, &request, NULL),
            "a request alone is refused");
    for (uint32_t i = 0; i < 10000 && !c->ends; i++) {
        tell_engine(&a);
        PROMISE(engine_step(a.engine) >= 0, "an engine alone fails");
        tell_scheduler(&a);
    }
    PROMISE(c->ends == 1, "a request alone does not end");
    close_alone(&a);
    memcpy(c->want, c->got, sizeof c->want);
    memset(c->got, 0, sizeof c->got);
    c->submitted = c->alone = false;
    c->ends = 0;
}
