/* SPDX-License-Identifier: Apache-2.0 */
/* One schedule, from a service that starts to one that has stopped, and what must be true then. */
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/host.h"
#include "daemon/service/box.h"
#include "octarc/error.h"
#include "tests/sim/cards.h"
#include "tests/sim/client.h"
#include "tests/sim/generation.h"
#include "tests/sim/pauses.h"
#include "tests/toy_model.h"

#define CLIENTS_MOST 16
#define LATE_MOST    3
#define PAGES_LEAST  (CONTEXT / PAGE_TOKENS)
#define REST_NS      (600 * S) /* after the last fault and the last request: all must be over */
#define TURNS_MOST   4000000u  /* and nothing may go round for ever at one time */

struct sim sim;
struct sim_totals sim_totals;

/* --- what it is told --- */

static void on_changed(void *user) {
    static uint64_t counted;
    static bool crossed;
    const uint64_t number = sim.engines.order.number;
    (void)user;
    if (sim.engines.order.under_way && sim.engines.order.more && number != counted)
        sim_totals.waves++;
    if (sim.engines.order.crossed && !crossed)
        sim_totals.crossed++;
    counted = number;
    crossed = sim.engines.order.crossed;
}

static void on_failed(void *user, int error, const char *text) {
    (void)user;
    broken("the model cannot be served: %d, %s", error, text);
}

static void on_stopped(void *user) {
    (void)user;
    sim.stopped = true;
}

static void on_measured(void *user, const struct msg_limits *limits, const char *why) {
    (void)user, (void)limits, (void)why;
}

static void on_verified(void *user, const struct msg_verified *verified, const char *why) {
    (void)user, (void)why;
    sim.answered = sim.asked && verified;
    if (verified)
        sim.verified = *verified;
}

/* --- making one --- */

static void make_model(void) {
    static char path[] = "toy.gguf";
    struct random *r = &sim.random;
    const uint32_t n_kv = 1 + draw(r, 4);
    sim.spills = one_in(r, 5);
    sim.calm = !sim.spills && one_in(r, 6);
    sim.loaded = (struct loaded){
        .path = path,
        .files = {.fds = {-1}, .n = 1},
        .head_fds = {-1},
        .sums_fd = -1,
        .tokenizer = (struct tokenizer *)sim_tokenizer,
        .model.params = {.n_layers =
                             sim.spills ? 8 + draw(r, 9) : 2 + draw(r, one_in(r, 2) ? 4 : 12),
                         .n_embd = 64,
                         .n_heads = n_kv * (1 + draw(r, 3)),
                         .n_kv_heads = n_kv,
                         .head_dim = 16,
                         .n_ff = 64,
                         .n_vocab = VOCAB,
                         .n_ctx_train = CONTEXT,
                         .norm_eps = 1e-5f,
                         .tied = one_in(r, 2),
                         .rope = {.dims = 16}}};
    toy_model(&sim.loaded.model, TENSOR_F32);
}

static void make_config(void) {
    struct random *r = &sim.random;
    config_default(&sim.config);
    sim.config.context = CONTEXT;
    sim.config.max_sequences = one_in(r, 4) ? 12 : 1 + draw(r, 6);
    sim.config.split = one_in(r, 2) ? SPLIT_LAYER : SPLIT_TENSOR;
    sim.config.weights = one_in(r, 4) ? WEIGHTS_SHARED : WEIGHTS_PRIVATE;
    sim.config.rebalance = one_in(r, 3) ? REBALANCE_RESTART : REBALANCE_RUNNING;
    sim.config.engine_silence_s = 5;
    sim.config.no_card_wait_s = 10;
    sim.config.card_quiet_s = 1 + draw(r, 10);
    sim.config.card_faults = 3 + draw(r, 8);
    sim.config.scrub_s = one_in(r, 3) ? 1 + draw(r, 20) : 0;
    if (!sim.calm)
        return;
    sim.config.max_sequences = 12;
    sim.config.split = SPLIT_LAYER;
    sim.config.scrub_s = 0; /* which has slices, and a promise, of its own */
    sim.config.rebalance = one_in(r, 2) ? REBALANCE_RUNNING : REBALANCE_RESTART;
}

/* Any card can hold the model; most of them two plans at once, and pages for everyone. */
static void size_cards(const struct plan_card *c, uint32_t n, uint64_t bytes[CARDS_MAX]) {
    const uint64_t all = c->weights_bytes + c->scratch_bytes + c->kv_bytes;
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = all * (!sim.calm && one_in(&sim.random, 6) ? 1 : 3);
    topology_plain(&sim.topology, n, bytes, 0);
}

static bool is_enough(void) {
    struct plan_input in;
    struct plan plan;
    box_plan_input(&sim.config, device_backend("cpu"), &sim.topology, &sim.loaded.model, &in);
    const bool fits = plan_build(&plan, &in, NULL) == 0;
    if (fits)
        plan_finish(&plan);
    return fits;
}

/* All but one hold the model, and not much more: nowhere is there room for two plans. */
static void size_tightly(const struct plan_card *c, uint32_t n, uint64_t bytes[CARDS_MAX]) {
    const uint64_t held = c->weights_bytes - PLAN_WEIGHTS_HEADER + c->kv_bytes;
    uint64_t percent = 105;
    do {
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = held * (percent + draw(&sim.random, 30)) / 100 / (n - 1) +
                       2 * c->scratch_bytes + PLAN_WEIGHTS_HEADER;
        topology_plain(&sim.topology, n, bytes, 0);
        percent += 10;
    } while (!is_enough());
}

/* Together they have no room for all layers, where there are enough of them to take turns. */
static void size_to_spill(const struct plan_card *c, uint32_t n, uint64_t bytes[CARDS_MAX]) {
    const uint64_t weights = c->weights_bytes - PLAN_WEIGHTS_HEADER;
    const uint64_t held = weights + c->kv_bytes / sim.config.max_sequences;
    uint64_t percent = 30;
    do {
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = held * (percent + draw(&sim.random, 20)) / 100 / n + c->scratch_bytes +
                       PLAN_WEIGHTS_HEADER;
        topology_plain(&sim.topology, n, bytes, 0);
        sim.topology.host.spill_bytes = weights * (1 + draw(&sim.random, 2));
        percent += 5;
    } while (!is_enough());
}

static void make_cards(void) {
    const uint32_t n = 1 + draw(&sim.random, sim.spills ? 3 : CARDS_MAX);
    struct plan_input in;
    struct plan plan;
    struct err err;
    uint64_t bytes[CARDS_MAX] = {UINT64_C(1) << 40};
    topology_plain(&sim.topology, 1, bytes, 0);
    box_plan_input(&sim.config, device_backend("cpu"), &sim.topology, &sim.loaded.model, &in);
    PROMISE(!plan_build(&plan, &in, &err), "%s", err.text);
    sim.tight = !sim.spills && !sim.calm && n > 2 && one_in(&sim.random, 2);
    if (sim.tight && !one_in(&sim.random, 3)) {
        sim.config.split = SPLIT_LAYER;
        sim.config.rebalance = REBALANCE_RUNNING;
    }
    if (sim.spills)
        size_to_spill(&plan.cards[0], n, bytes);
    else if (sim.tight)
        size_tightly(&plan.cards[0], n, bytes);
    else
        size_cards(&plan.cards[0], n, bytes);
    sim.engine_pages = plan.n_pages;
    if (!sim.calm && one_in(&sim.random, 2))
        sim.engine_pages = PAGES_LEAST + draw(&sim.random, plan.n_pages - PAGES_LEAST + 1);
    plan_finish(&plan);
}

static void make_clients(void) {
    const bool poisoned = !sim.calm && one_in(&sim.random, 4);
    sim.busy_ms = sim.calm ? 256 : 1u << draw(&sim.random, 13);
    sim.n_clients = sim.calm ? CLIENTS_MOST : 1 + draw(&sim.random, CLIENTS_MOST);
    sim.deaths_left = poisoned ? 0 : 2;
    sim.clients = calloc(sim.n_clients, sizeof *sim.clients);
    PROMISE(sim.clients, "no memory");
    for (uint32_t i = 0; i < sim.n_clients; i++) {
        client_make(&sim.clients[i], poisoned && i == 0);
        reference_run(&sim.clients[i]);
        client_start(&sim.clients[i], draw(&sim.random, sim.busy_ms) * MS + 1);
    }
}

/* Who comes last, with what others came with before. */
static void make_late(void) {
    sim.n_late = sim.n_clients < LATE_MOST ? sim.n_clients : LATE_MOST;
    sim.late = calloc(sim.n_late, sizeof *sim.late);
    PROMISE(sim.late, "no memory");
    for (uint32_t i = 0; i < sim.n_late; i++) {
        client_make_again(&sim.late[i], &sim.clients[sim.n_clients - 1 - i]);
        reference_run(&sim.late[i]);
    }
}

static void make_front(void) {
    struct scheduler_options o = {1024, 1024, sim.config.max_sequences, CONTEXT, 3};
    struct engines *e = &sim.engines;
    struct err err;
    PROMISE(!scheduler_create(&sim.scheduler, &o, &engines_ops, e), "no memory");
    PROMISE(!events_init(&sim.log, 64), "no memory");
    *e = (struct engines){.backend = device_backend("cpu"),
                          .scheduler = sim.scheduler,
                          .config = &sim.config,
                          .topology = &sim.topology,
                          .log = &sim.log,
                          .events = {.changed = on_changed,
                                     .failed = on_failed,
                                     .stopped = on_stopped,
                                     .measured = on_measured,
                                     .verified = on_verified}};
    sim.timer.due_ns = NEVER;
    clock_add(&sim.timer);
    engines_init(e);
    PROMISE(!engines_load(e, &sim.loaded, &err), "%s", err.text);
}

/* --- its end --- */

static bool all_done(void) {
    for (uint32_t i = 0; i < sim.n_clients; i++)
        if (!client_done(&sim.clients[i]))
            return false;
    return true;
}

static void check_counts(void) {
    struct scheduler_counts n;
    scheduler_counts(sim.scheduler, &n);
    PROMISE(n.queued + n.running == 0, "%u requests are still there", n.queued + n.running);
    const uint32_t all = sim.n_clients + sim.n_late;
    PROMISE(n.accepted == all && n.finished + n.cancelled + n.failed == n.accepted,
            "%lu accepted, %lu finished, %lu cancelled, %lu failed", n.accepted, n.finished,
            n.cancelled, n.failed);
    sim_totals.requests += n.accepted;
    sim_totals.tokens += n.completion_tokens;
    for (uint32_t i = 0; i < sim.n_clients; i++)
        sim_totals.disturbed += sim.clients[i].disturbed;
    for (uint32_t i = 0; i < sim.n_late; i++)
        sim_totals.disturbed += sim.late[i].disturbed;
    sim_totals.cancelled += n.cancelled;
    sim_totals.failed += n.failed;
    sim_totals.replays += n.replays;
    sim_totals.moved += n.moved;
    sim_totals.rebalances += sim.engines.order.n_done;
}

/* An engine with nothing to do keeps no page for anyone. */
static void check_pages(void) {
    const struct generation *g = sim.generation;
    if (!g || g->state != SERVING || g->hangs)
        return;
    struct engine_page *pages = calloc(g->n_pages, sizeof *pages);
    PROMISE(pages, "no memory");
    const uint32_t n = engine_pages(g->engine, pages);
    for (uint32_t i = 0; i < n; i++)
        PROMISE(pages[i].full, "page %u is kept half full", pages[i].page);
    PROMISE(g->credit.free_pages == g->n_pages && g->credit.running == 0 && g->credit.waiting == 0,
            "an engine without requests has %u of %u pages", g->credit.free_pages, g->n_pages);
    free(pages);
}

static void run_until_done(void) {
    uint64_t end_ns = NEVER;
    for (uint32_t turns = 0;; turns++) {
        PROMISE(turns < TURNS_MOST, "it goes round and round");
        PROMISE(clock_turn(), "everyone waits for ever");
        const uint64_t last_ns = faults_last_ns();
        if (end_ns == NEVER && last_ns != NEVER)
            end_ns = sim.now_ns + REST_NS;
        if (last_ns != NEVER && all_done())
            return;
        PROMISE(sim.now_ns < end_ns, "a request waits for ever");
    }
}

/* All faults are over.  A check finds what is still harmed, and whoever comes then is told what an
 * undisturbed run tells. */
static void check_weights(void) {
    const uint64_t end_ns = sim.now_ns + REST_NS;
    sim.asked = true;
    while (!sim.answered) {
        engines_check(&sim.engines, -1, NULL); /* or it is under way, or none can be now */
        PROMISE(clock_turn(), "everyone waits for ever");
        PROMISE(sim.now_ns < end_ns, "no check is answered");
    }
    /* One that died as it said so leaves what the next one proves. */
    PROMISE(!sim.generation || sim.generation->state != SERVING ||
                !cards_harmed(sim.generation->runner, UINT32_MAX, NEVER),
            "the last check left harm");
}

static void run_late(void) {
    for (uint32_t i = 0; i < sim.n_late; i++)
        client_start(&sim.late[i], sim.now_ns + 1 + draw(&sim.random, 1000) * MS);
    const uint64_t end_ns = sim.now_ns + REST_NS;
    for (uint32_t i = 0; i < sim.n_late;) {
        PROMISE(clock_turn(), "everyone waits for ever");
        PROMISE(sim.now_ns < end_ns, "a request waits for ever");
        i += client_done(&sim.late[i]);
    }
    for (uint32_t i = 0; i < sim.n_late; i++)
        client_check(&sim.late[i]);
}

/* Long after the last that happened, nothing is left to be done: the way was gone to its end. */
static void check_settled(void) {
    struct rebalance_view view;
    struct engines *e = &sim.engines;
    if (e->state != ENGINES_SERVING)
        return;
    PROMISE(!e->order.under_way && !e->order.before.waits, "an order is not answered");
    PROMISE(!engines_compare(e, &view, NULL), "the plan in use cannot be compared");
    const bool changes = view.changes;
    moves_finish(&view.moves);
    PROMISE(!changes, "the plan in use is not the one for the cards that there are");
    for (uint32_t i = 0; i < e->n_cards; i++)
        PROMISE(!card_moving(&e->cards[i].card), "card %u is on its way for ever", i);
}

static void run_for(uint64_t ns) {
    const uint64_t end_ns = sim.now_ns + ns;
    while (sim.now_ns < end_ns)
        clock_turn();
}

static void stop(void) {
    engines_stop(&sim.engines);
    const uint64_t end_ns = sim.now_ns + 60 * S;
    while (!sim.stopped) {
        clock_turn();
        PROMISE(sim.now_ns < end_ns, "the service does not stop");
    }
}

static void finish(void) {
    scheduler_destroy(sim.scheduler);
    engines_finish(&sim.engines);
    events_finish(&sim.log);
    for (uint32_t i = 0; i < sim.n_clients; i++)
        client_finish(&sim.clients[i]);
    for (uint32_t i = 0; i < sim.n_late; i++)
        client_finish(&sim.late[i]);
    free(sim.clients);
    free(sim.late);
    model_finish(&sim.loaded.model);
    clock_clear();
}

void sim_run(uint64_t seed) {
    sim = (struct sim){.seed = seed, .random = {mix(seed, 7)}};
    trace_clear();
    pauses_forget();
    make_model();
    make_config();
    make_cards();
    make_clients();
    make_late();
    sim.admit_starves = !sim.calm && one_in(&sim.random, 8);
    make_front();
    faults_start();
    run_until_done();
    run_for(20 * S); /* what was begun comes to its end: a hanging engine too */
    for (uint32_t i = 0; i < sim.n_clients; i++)
        client_check(&sim.clients[i]);
    check_weights();
    run_late();
    run_for(20 * S);
    check_counts();
    check_pages();
    check_settled();
    stop();
    finish();
}
