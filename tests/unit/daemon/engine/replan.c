/* SPDX-License-Identifier: Apache-2.0 */
/* An order to go over to another plan is answered once, whatever becomes of it. */
#include "daemon/engine/replan.h"

#include "daemon/engine/rebalance.h"

#include <errno.h>

#include "daemon/channel/stream.h"
#include "daemon/placement/layout.h"
#include "tests/check.h"
#include "tests/loaded_model.h"

struct site {
    struct loaded l;
    struct plan *plan;
    struct runner *runner;
    struct engine *engine;
    uint32_t answers;
    struct msg_replanned last;
};

static struct site site;

static int on_send(void *user, enum message_type type, const void *msg) {
    struct site *s = user;
    if (type == MSG_REPLANNED) {
        s->answers++;
        s->last = *(const struct msg_replanned *)msg;
    }
    return 0;
}

static uint64_t clock_of_test(void *user) {
    (void)user;
    return 1;
}

static int step_model(void *user, struct step_params *params, uint32_t *card) {
    return runner_step(((struct site *)user)->runner, params, card);
}

static struct plan plan_on(uint32_t n_cards, uint32_t sequences) {
    struct plan plan;
    struct err err = {{0}};
    struct plan_input in = {.model = &site.l.model,
                            .backend = device_backend("cpu"),
                            .n_cards = n_cards,
                            .split = SPLIT_LAYER,
                            .context = 128,
                            .max_sequences = sequences,
                            .max_rows = MAX_ROWS};
    for (uint32_t i = 0; i < n_cards; i++) {
        in.online[i] = true;
        in.capacity_bytes[i] = 256 * MIB;
    }
    must(plan_build(&plan, &in, &err), &err);
    for (uint32_t i = 0; i < n_cards && site.plan->ranges; i++) {
        size_t n = 0;
        const struct plan_range *held = plan_card_ranges(site.plan, i, &n);
        CHECK_EQ(layout_card(&plan, i, held, n, true, layout_room(&plan, i)), 0);
    }
    return plan;
}

static void open_site(void) {
    struct err err = {{0}};
    site = (struct site){.plan = calloc(1, sizeof *site.plan)};
    CHECK_EQ(plan_model(&site.l, "tiny-f32.gguf", &(struct setup){.n_cards = 1, .split = 1}), 0);
    *site.plan = plan_on(2, 4);
    struct runner_options o = {.backend = device_backend("cpu"),
                               .model = &site.l.model,
                               .plan = site.plan,
                               .part_fds = &site.l.fd,
                               .file_name = "the model",
                               .file = site.l.file,
                               .head_fds = &site.l.fd,
                               .n_parts = 1,
                               .sums_fd = -1};
    o.device.n_threads = 1;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        o.weight_fds[i] = -1;
    must(runner_open(&site.runner, &o, &err), &err);
    const struct engine_options e = {.generation = 5,
                                     .n_vocab = site.l.model.params.n_vocab,
                                     .context = 128,
                                     .max_rows = site.plan->max_rows,
                                     .max_outputs = site.plan->max_outputs,
                                     .max_sequences = 4,
                                     .n_pages = site.plan->n_pages};
    CHECK_EQ(engine_create(&site.engine, &e,
                           &(struct engine_model){.user = &site, .step = step_model},
                           &(struct engine_output){&site, on_send, clock_of_test}),
             0);
}

static void close_site(void) {
    engine_destroy(site.engine);
    runner_close(site.runner);
    plan_finish(site.plan);
    free(site.plan);
    unload(&site.l);
}

static uint64_t stage_of_orders;

static int order(struct replan **replan, uint64_t number, struct plan plan, uint32_t n_fds) {
    const struct replan_site at = {.generation = 5,
                                   .runner = &site.runner,
                                   .plan = &site.plan,
                                   .engine = site.engine,
                                   .output = {&site, on_send, clock_of_test},
                                   .slice_bytes = REBALANCE_SLICE_BYTES};
    struct msg_replan msg = {
        .number = number, .keep = true, .stage_bytes = stage_of_orders, .plan = plan};
    int fds[STREAM_FDS_MAX];
    for (uint32_t i = 0; i < n_fds; i++)
        fds[i] = memfd_create("weights", MFD_CLOEXEC);
    const int rc = replan_begin(replan, &at, &msg, fds, n_fds);
    CHECK(msg.plan.ranges == NULL);
    return rc;
}

static void finish(struct replan **replan) {
    while (*replan)
        CHECK_EQ(replan_advance(replan), 0);
}

static void one_that_is_carried_out_is_answered_with_the_bytes(void) {
    struct replan *replan = NULL;
    open_site();
    CHECK_EQ(replan_patience_ms(replan), -1);
    CHECK_EQ(order(&replan, 7, plan_on(3, 4), 0), 0);
    CHECK_EQ(site.answers, 0);
    finish(&replan);
    CHECK_EQ(site.answers, 1);
    CHECK_EQ(site.last.number, 7);
    CHECK_EQ(site.last.generation, 5);
    CHECK_EQ(site.last.error, 0);
    CHECK_EQ(site.last.ready.n_cards, 3);
    CHECK_EQ(site.plan->n_cards, 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(site.last.ready.cards[i].weights_bytes, site.plan->cards[i].weights_bytes);
    close_site();
}

static void another_takes_its_place(void) {
    struct replan *replan = NULL;
    open_site();
    CHECK_EQ(order(&replan, 1, plan_on(3, 4), 0), 0);
    CHECK_EQ(order(&replan, 2, plan_on(4, 4), 0), 0);
    CHECK_EQ(site.answers, 1);
    CHECK_EQ(site.last.number, 1);
    CHECK_EQ(site.last.error, -ECANCELED);
    finish(&replan);
    CHECK_EQ(site.answers, 2);
    CHECK_EQ(site.last.number, 2);
    CHECK_EQ(site.plan->n_cards, 4);
    close_site();
}

static void what_cannot_be_carried_out_changes_nothing(void) {
    struct replan *replan = NULL;
    open_site();
    CHECK_EQ(order(&replan, 1, plan_on(3, 5), 0), 0); /* other pages */
    CHECK(replan == NULL);
    CHECK_EQ(site.last.error, -EINVAL);
    CHECK_EQ(order(&replan, 2, plan_on(3, 4), 2), 0); /* three cards, two descriptors */
    CHECK(replan == NULL);
    CHECK_EQ(site.last.error, -EPROTO);
    CHECK_EQ(order(&replan, 3, plan_on(3, 4), 3), 0); /* memory that is too short */
    finish(&replan);
    CHECK_EQ(site.answers, 3);
    CHECK(site.last.error < 0 && site.last.text[0]);
    CHECK_EQ(site.plan->n_cards, 2);
    close_site();
}

/* Cards that have room for what they have in either plan, and no more. */
static struct plan full_plan(void) {
    struct plan plan = plan_on(3, 4);
    for (uint32_t c = 0; c < 2; c++) {
        const struct plan_card *a = &site.plan->cards[c];
        struct plan_card *b = &plan.cards[c];
        const uint64_t x = a->weights_bytes + a->kv_bytes + a->scratch_bytes;
        const uint64_t y = b->weights_bytes + b->kv_bytes + b->scratch_bytes;
        b->capacity_bytes = x > y ? x : y;
    }
    return plan;
}

static void full_cards_need_a_stage_that_is_large_enough(void) {
    struct replan *replan = NULL;
    open_site();
    struct plan plan = full_plan();
    const uint64_t bytes = layout_staged_bytes(site.plan, &plan);
    CHECK(bytes > 2 * LAYOUT_STAGED_LEAST);
    CHECK_EQ(order(&replan, 1, plan, 0), 0);
    CHECK(replan == NULL && site.last.error == -ENOSPC);
    CHECK(strstr(site.last.text, "for both plans"));
    stage_of_orders = bytes - 1;
    CHECK_EQ(order(&replan, 2, full_plan(), 0), 0);
    finish(&replan);
    CHECK_EQ(site.last.error, -ENOSPC);
    CHECK(strstr(site.last.text, "wait in host memory"));
    CHECK_EQ(site.plan->n_cards, 2);
    stage_of_orders = bytes;
    CHECK_EQ(order(&replan, 3, full_plan(), 0), 0);
    finish(&replan);
    CHECK_EQ(site.last.error, 0);
    CHECK_EQ(site.plan->n_cards, 3);
    stage_of_orders = 0;
    close_site();
}

static void one_that_is_called_off_is_answered_too(void) {
    struct replan *replan = NULL;
    open_site();
    CHECK_EQ(order(&replan, 9, plan_on(3, 4), 0), 0);
    CHECK(replan_patience_ms(replan) >= 0);
    CHECK_EQ(replan_cancel(&replan, "why"), 0);
    CHECK(replan == NULL);
    CHECK_EQ(site.answers, 1);
    CHECK_EQ(site.last.error, -ECANCELED);
    CHECK(!strcmp(site.last.text, "why"));
    CHECK_EQ(replan_cancel(&replan, "again"), 0);
    CHECK_EQ(site.answers, 1);
    close_site();
}

/* However far it is, and however often it is asked. */
static void one_that_is_paused_waits_and_can_be_called_off(void) {
    struct replan *replan = NULL;
    open_site();
    replan_pause(replan, true); /* there is none: nothing happens */
    CHECK_EQ(order(&replan, 7, plan_on(3, 4), 0), 0);
    replan_pause(replan, true);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(replan_advance(&replan), 0);
        CHECK(replan && replan_patience_ms(replan) > 0);
    }
    CHECK_EQ(site.answers, 0);
    replan_pause(replan, false);
    finish(&replan);
    CHECK_EQ(site.last.error, 0);
    CHECK_EQ(site.plan->n_cards, 3);
    CHECK_EQ(order(&replan, 8, plan_on(2, 4), 0), 0);
    replan_pause(replan, true);
    CHECK_EQ(replan_cancel(&replan, "enough"), 0);
    CHECK_EQ(site.last.error, -ECANCELED);
    close_site();
}

CHECK_MAIN(T(one_that_is_paused_waits_and_can_be_called_off),
           T(one_that_is_carried_out_is_answered_with_the_bytes), T(another_takes_its_place),
           T(full_cards_need_a_stage_that_is_large_enough),
           T(what_cannot_be_carried_out_changes_nothing), T(one_that_is_called_off_is_answered_too))
