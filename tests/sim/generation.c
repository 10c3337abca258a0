/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/generation.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"
#include "tests/sim/cards.h"
#include "tests/sim/pauses.h"

#define UNSENT_STEP 16384u /* bytes; engine/main.c has the same rule with more */
#define STEP_NS     (2 * MS)
#define ROW_NS      (100 * US)
#define FOREVER     (-1)

static uint64_t now_ns(void *user) {
    const struct generation *g = user;
    return sim.now_ns + g->spent_ns;
}

static bool sum_harmed(const struct msg_verified *msg) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < msg->n_cards; i++)
        n += msg->cards[i].harmed;
    return n > 0;
}

/* A pass leaves nothing harmed that was so when it was asked for. */
static void check_verified(struct generation *g, const struct msg_verified *msg) {
    uint32_t cards = 0;
    for (uint32_t i = 0; i < msg->n_cards; i++)
        cards |= (uint32_t)(msg->cards[i].ranges > 0) << i;
    if (msg->cause != VERIFY_SCRUB)
        PROMISE(
            !cards_harmed(g->runner, cards, msg->cause == VERIFY_ASKED ? g->asked_ns : g->held_ns),
            "engine %lu: verified, and yet harmed", g->setup.generation);
    sim_totals.harmed += msg->cause == VERIFY_REPORTED && sum_harmed(msg);
    if (msg->cause == VERIFY_REPORTED && !cards_harmed(g->runner, UINT32_MAX, NEVER))
        g->suspect = false;
}

/* What harmed weights left is not taken along, and everyone starts over. */
static void check_replanned(struct generation *g, const struct msg_replanned *msg) {
    if (msg->error)
        return;
    PROMISE(!msg->kept || !g->left_harmed, "engine %lu: K and V of harmed weights are carried over",
            g->setup.generation);
    g->suspect &= msg->kept;
    g->used = g->ordered[msg->number % 2];
}

/* Where pages are scarce streams wait for those of others, whatever else happens. */
static void note_gap(struct generation *g, enum message_type type, const void *msg) {
    if (!g->plan || g->n_pages < g->plan->max_sequences * (CONTEXT / PAGE_TOKENS))
        return;
    if (type == MSG_TOKEN)
        gaps_token(&g->gaps, ((const struct msg_token *)msg)->sequence, now_ns(g));
    if (type == MSG_END)
        gaps_end(&g->gaps, ((const struct msg_end *)msg)->sequence);
    if (type == MSG_PREEMPTED)
        gaps_end(&g->gaps, ((const struct msg_preempted *)msg)->sequence);
}

static int say(void *user, enum message_type type, const void *msg) {
    struct generation *g = user;
    if (g->dying)
        return -EPIPE;
    if (type == MSG_CREDIT)
        g->credit = *(const struct msg_credit *)msg;
    if (type == MSG_PREEMPTED)
        sim_totals.preempted++;
    if (type == MSG_VERIFIED)
        check_verified(g, msg);
    note_gap(g, type, msg);
    if (type == MSG_REPLANNED)
        check_replanned(g, msg);
    const int rc = wire_send(g->up, type, msg, now_ns(g));
    if (type == MSG_REPLANNED && ((const struct msg_replanned *)msg)->error == 0)
        faults_answer_under_way();
    if (g->dies_after && --g->dies_after == 0)
        g->dying = true;
    return rc;
}

/* --- a step --- */

static bool is_poisoned(const struct step_params *params) {
    for (uint32_t i = 0; i < params->n_rows; i++)
        if (params->rows[i].token == T_POISON)
            return true;
    return false;
}

/* A card goes while it computes: some rows have left their mark by then. */
static void lose_inside(struct generation *g, const struct step_params *params) {
    struct step_params begun = *params;
    uint32_t card;
    begun.n_rows = g->loses_row % (params->n_rows + 1);
    begun.n_outputs = 0;
    if (begun.n_rows)
        runner_step(g->runner, &begun, &card);
    trace("engine %lu: card %u goes in row %u of a step", g->setup.generation, g->loses,
          begun.n_rows);
    runner_lose(g->runner, g->loses);
    g->loses = CARDS_MAX;
}

static int step_model(void *user, struct step_params *params, uint32_t *card) {
    struct generation *g = user;
    if (is_poisoned(params)) {
        trace("engine %lu: poisoned", g->setup.generation);
        g->dying = true;
        return -EPIPE;
    }
    if (g->loses < CARDS_MAX)
        lose_inside(g, params);
    g->spent_ns += STEP_NS + params->n_rows * ROW_NS;
    gaps_step(&g->gaps, STEP_NS + params->n_rows * ROW_NS);
    pauses_step(STEP_NS + params->n_rows * ROW_NS, now_ns(g));
    return runner_step(g->runner, params, card);
}

/* --- from SETUP to READY --- */

static void read_setup(struct generation *g) {
    struct message msg;
    while (g->state == BORN && !wire_read(g->down, &msg)) {
        if (msg.type == MSG_HELLO) {
            say(g, MSG_HELLO, &msg.hello);
        } else if (msg.type == MSG_SETUP) {
            g->setup = msg.setup;
            g->beside = msg.setup.beside;
            g->state = LOADING;
            g->actor.due_ns = sim.now_ns + draw_delay_ns(&sim.random, sim.calm ? 100000 : 2000000);
            return;
        }
        message_finish(&msg);
    }
}

static void open_engine(struct generation *g) {
    const struct plan *plan = g->plan;
    struct engine_options o = {.generation = g->setup.generation,
                               .n_vocab = VOCAB,
                               .context = plan->context,
                               .max_rows = plan->max_rows,
                               .max_outputs = plan->max_outputs,
                               .max_sequences = plan->max_sequences,
                               .n_pages = plan->n_pages,
                               .n_eog = g->setup.n_eog};
    const struct engine_model model = {.user = g, .step = step_model};
    const struct engine_output output = {g, say, now_ns};
    if (o.n_pages > sim.engine_pages)
        o.n_pages = sim.engine_pages;
    g->n_pages = o.n_pages;
    memcpy(o.eog, g->setup.eog, sizeof o.eog);
    PROMISE(!engine_create(&g->engine, &o, &model, &output), "no memory");
}

static void open_verify(struct generation *g) {
    const struct verify_site site = {.generation = g->setup.generation,
                                     .runner = &g->runner,
                                     .engine = g->engine,
                                     .replan = &g->replan,
                                     .output = {g, say, now_ns},
                                     .scrub_s = g->setup.scrub_s};
    PROMISE(!verify_create(&g->verify, &site), "no memory");
}

static void load(struct generation *g) {
    struct runner_options o = {.backend = device_backend("cpu"), .model = &sim.loaded.model};
    struct msg_ready ready;
    struct err err;
    g->plan = malloc(sizeof *g->plan);
    PROMISE(g->plan, "no memory");
    *g->plan = g->setup.plan;
    g->setup.plan = (struct plan){.ranges = NULL};
    o.plan = g->plan;
    PROMISE(!runner_open(&g->runner, &o, &err), "%s", err.text);
    open_engine(g);
    open_verify(g);
    g->state = SERVING;
    replan_fill_ready(g->runner, g->setup.generation, &ready);
    say(g, MSG_READY, &ready);
    engine_send_credit(g->engine);
    g->actor.due_ns = sim.now_ns + 1;
}

/* --- serving --- */

static int lose(struct generation *g, uint32_t card) {
    const struct msg_lost lost = {g->setup.generation, card};
    const int rc = replan_cancel(&g->replan, "a card of the plan in use was lost");
    if (rc || card >= g->plan->n_cards)
        return rc;
    g->lost |= !runner_lose(g->runner, card) && plan_uses(g->plan, card);
    return say(g, MSG_LOST, &lost);
}

static int corrupt(struct generation *g, const struct msg_corrupt *msg) {
    const int rc = msg->silent ? 0 : replan_cancel(&g->replan, "weights in use were harmed");
    if (runner_corrupt(g->runner, msg->card) == 0 && !msg->silent) {
        verify_hold(g->verify, msg->card);
        g->held_ns = now_ns(g);
    }
    return rc;
}

static int ask(struct generation *g, const struct msg_verify *msg) {
    g->asked_ns = now_ns(g);
    return verify_ask(g->verify, msg->number, msg->card);
}

static int begin_replan(struct generation *g, struct msg_replan *order) {
    const struct replan_site site = {.generation = g->setup.generation,
                                     .runner = &g->runner,
                                     .plan = &g->plan,
                                     .engine = g->engine,
                                     .output = {g, say, now_ns},
                                     .slice_bytes = cards_slice_bytes(g->runner)};
    const int no_fd = -1; /* there are no bytes in them */
    for (uint32_t i = 0; i < g->plan->n_cards; i++)
        if (cards_lost(g->runner, i))
            g->used.of[i] = 0;
    if (!held_fits(&g->used, g->plan, &g->ordered[order->number % 2], &order->plan))
        g->load_error = -EINVAL;
    cards_hold_loading();
    g->loaded_ns = sim.now_ns + draw_delay_ns(&sim.random, 1500000);
    return replan_begin(&g->replan, &site, order, &no_fd, 0);
}

/* The thread that loads is let go at its time, and waited for. */
static int advance_replan(struct generation *g) {
    if (g->replan && replan_patience_ms(g->replan) > 0 && now_ns(g) >= g->loaded_ns) {
        g->left_harmed = cards_harmed(g->runner, UINT32_MAX, NEVER);
        cards_end_loading(g->load_error);
        while (replan_patience_ms(g->replan) > 0)
            sched_yield();
        g->load_error = 0;
    }
    return replan_advance(&g->replan);
}

static int handle(struct generation *g, struct message *msg) {
    switch (msg->type) {
    case MSG_ADMIT:
        return engine_admit(g->engine, &msg->admit);
    case MSG_CANCEL:
        return engine_cancel(g->engine, msg->cancel.sequence);
    case MSG_LOSE:
        return lose(g, msg->lose.card);
    case MSG_REPLAN:
        return begin_replan(g, &msg->replan);
    case MSG_VERIFY:
        return ask(g, &msg->verify);
    case MSG_CORRUPT:
        return corrupt(g, &msg->corrupt);
    case MSG_YIELD:
        g->beside = msg->yield.on;
        return 0;
    case MSG_STOP:
        g->stop = true;
        return 0;
    default:
        return -EPROTO;
    }
}

static int drain_channel(struct generation *g) {
    struct message msg;
    while (!g->stop && !wire_read(g->down, &msg)) {
        const int rc = handle(g, &msg);
        message_finish(&msg);
        if (rc)
            return rc;
    }
    return 0;
}

static bool may_verify(const struct generation *g) {
    return !g->lost && (!g->replan || verify_holds(g->verify));
}

/* Between two steps, as engine/main.c.  True (or *rc): there may be work at once. */
static bool tend(struct generation *g, uint64_t step_ns, int *rc) {
    const bool replans = g->replan;
    const struct runner *runner = g->runner;
    const uint64_t begun_ns = g->spent_ns;
    if (may_verify(g))
        *rc = verify_advance(g->verify, step_ns);
    gaps_other(&g->gaps, g->spent_ns - begun_ns);
    if (g->lost || verify_holds(g->verify))
        gaps_forget(&g->gaps);
    if (g->replan)
        gaps_moving(&g->gaps);
    if (!*rc)
        *rc = advance_replan(g);
    if (g->runner != runner) {
        g->lost = false;
        verify_runner_changed(g->verify);
    }
    return replans && !g->replan;
}

/* When the next turn is due, of one that has nothing to compute. */
static uint64_t idle_until(struct generation *g) {
    const int of_replan = replan_patience_ms(g->replan);
    const int of_verify = may_verify(g) ? verify_patience_ms(g->verify) : -1;
    const int patience_ms =
        of_replan < 0 || (of_verify >= 0 && of_verify < of_replan) ? of_verify : of_replan;
    return patience_ms < 0 ? NEVER : now_ns(g) + (uint64_t)patience_ms * MS + 1;
}

static void serve(struct generation *g) {
    int rc = drain_channel(g);
    if (rc || g->stop) {
        g->dying = true;
        return;
    }
    if (g->up->flight.n > UNSENT_STEP) {
        g->actor.due_ns = sim.now_ns + MS;
        gaps_forget(&g->gaps);
        return;
    }
    engine_yield(g->engine, g->beside || g->replan);
    rc = verify_holds(g->verify) ? 0 : engine_step(g->engine);
    const bool found_out = rc == -ENODEV && !g->lost;
    g->lost |= found_out;
    rc = rc == -ENODEV ? 0 : rc;
    if (found_out)
        rc = replan_cancel(&g->replan, "a card of the plan in use was lost in a step");
    bool idle = rc == 0;
    if (rc >= 0) {
        rc = 0;
        idle &= !tend(g, g->spent_ns, &rc);
    }
    if (!rc)
        rc = engine_send_credit(g->engine);
    g->ends = rc && !g->dying;
    g->dying |= rc != 0;
    g->actor.due_ns = idle ? idle_until(g) : now_ns(g) + 1;
}

static void turn(void *user) {
    struct generation *g = user;
    if (g->dead || g->hangs)
        return;
    g->spent_ns = 0;
    cards_spend_on(&g->spent_ns);
    if (g->state == BORN)
        read_setup(g);
    else if (g->state == LOADING)
        load(g);
    else
        serve(g);
    g->busy_ns = now_ns(g) + 1;
    g->spent_ns = 0;
    if (g->dying)
        generation_die(g);
}

/* --- coming and going --- */

struct generation *generation_start(struct wire *down, struct wire *up, void (*died)(void *user),
                                    void *user) {
    struct generation *g = calloc(1, sizeof *g);
    PROMISE(g, "no memory");
    g->actor = (struct actor){sim.now_ns + draw_delay_ns(&sim.random, 50000), turn, g};
    g->down = down;
    g->up = up;
    g->died = died;
    g->user = user;
    g->loses = CARDS_MAX;
    clock_add(&g->actor);
    sim_totals.generations++;
    return g;
}

void generation_wake(struct generation *g) {
    if (!g->dead && g->state != LOADING)
        clock_at(&g->actor, g->busy_ns > sim.now_ns ? g->busy_ns : sim.now_ns + 1);
}

void generation_die(struct generation *g) {
    if (g->dead)
        return;
    trace("engine %lu is dead", g->setup.generation);
    g->dead = g->dying = true;
    clock_remove(&g->actor);
    if (!g->stop && !g->ends)
        wire_cut(g->up);
    replan_cancel(&g->replan, "the engine ends");
    verify_destroy(g->verify);
    engine_destroy(g->engine);
    runner_close(g->runner);
    plan_finish(&g->setup.plan);
    if (g->plan)
        plan_finish(g->plan);
    free(g->plan);
    g->verify = NULL;
    g->engine = NULL;
    g->runner = NULL;
    g->plan = NULL;
    g->died(g->user);
}

void generation_destroy(struct generation *g) {
    if (!g)
        return;
    generation_die(g);
    free(g);
}
