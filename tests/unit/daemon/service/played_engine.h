/* SPDX-License-Identifier: Apache-2.0 */
/* played_engine.h - the front around a running engine that the test plays itself: it says when what
 * is heard, so no clock, no process and no thread decides.  process.h is implemented here, in the
 * place of service/process.c. */
#ifndef OCTARC_TESTS_PLAYED_ENGINE_H
#define OCTARC_TESTS_PLAYED_ENGINE_H

#include <errno.h>
#include <sys/stat.h>

#include "daemon/service/engines.h"
#include "octarc/error.h"
#include "tests/check.h"

#define CARDS       3 /* at most */
#define ORDERS_MOST 8

/* An order, with the memory of each card as the engine would map it; 0: none. */
struct told {
    uint64_t number, stage_bytes;
    ino_t memory[CARDS_MAX];
    bool uses[CARDS_MAX];
};

struct process {
    struct process_events events;
    void *user;
    struct told start, orders[ORDERS_MOST];
    uint32_t n_orders, n_losses; /* that it was told of */
    ino_t kv[CARDS_MAX + 1]; /* given with SETUP: K and V of cards, then their ledger; 0: none */
    int fds[CARDS_MAX + 1];  /* that came with what it said last, and are not taken yet */
    uint32_t n_fds;
    bool ending;
};

static struct process played; /* one at a time */

static ino_t inode_of(int fd) {
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    return st.st_ino;
}

static struct told note(uint64_t number, const struct plan *plan, const int *fds, uint32_t n_fds) {
    struct told told = {.number = number};
    uint32_t next = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        told.uses[i] = plan->cards[i].weights_bytes > 0;
        if (told.uses[i] && next < n_fds)
            told.memory[i] = inode_of(fds[next++]);
    }
    CHECK_EQ(next, n_fds);
    return told;
}

/* Behind all else.  Returns how many. */
static uint32_t note_kv(const struct msg_setup *setup, const int *fds, uint32_t n_fds) {
    uint32_t n = 0, next;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        n += setup->kv_bytes[i] > 0;
    n += n > 0;
    CHECK(n <= n_fds);
    next = n_fds - n;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (setup->kv_bytes[i])
            played.kv[i] = inode_of(fds[next++]);
    if (n)
        played.kv[CARDS_MAX] = inode_of(fds[next]);
    return n;
}

/* --- process.h, in the place of service/process.c --- */

int process_start(struct process **process, uv_loop_t *loop, struct spawner *spawner,
                  const struct msg_setup *setup, const int *fds, uint32_t n_fds,
                  const struct process_events *events, void *user, struct err *err) {
    (void)loop, (void)spawner, (void)err;
    played = (struct process){.events = *events, .user = user};
    n_fds -= note_kv(setup, fds, n_fds);
    played.start = note(0, &setup->plan, fds + 3, n_fds - 3); /* behind the model's */
    *process = &played;
    return 0;
}

uint32_t process_take_fds(struct process *p, int fds[STREAM_FDS_MAX]) {
    const uint32_t n = p->n_fds;
    memcpy(fds, p->fds, n * sizeof *fds);
    p->n_fds = 0;
    return n;
}

int process_send_fds(struct process *p, enum message_type type, const void *msg, const int *fds,
                     uint32_t n_fds) {
    const struct msg_replan *order = msg;
    p->n_losses += type == MSG_LOSE;
    if (type != MSG_REPLAN)
        return 0;
    CHECK(p->n_orders < ORDERS_MOST);
    p->orders[p->n_orders] = note(order->number, &order->plan, fds, n_fds);
    p->orders[p->n_orders++].stage_bytes = order->stage_bytes;
    return 0;
}

int process_send(struct process *p, enum message_type type, const void *msg) {
    return process_send_fds(p, type, msg, NULL, 0);
}

void process_kill(struct process *p) {
    p->ending = true;
}

bool process_ending(const struct process *p) {
    return p->ending;
}

void process_leave(struct process *p, const char *why) {
    (void)p, (void)why;
}

void process_report(struct process *p, const struct spawner_report *report) {
    (void)p, (void)report;
}

void process_hear(struct process *p, const struct process_events *events, void *user) {
    p->events = *events;
    p->user = user;
}

pid_t process_pid(const struct process *p) {
    (void)p;
    return 1;
}

/* --- the front --- */

static struct world {
    uv_loop_t loop;
    struct config config;
    struct topology topology;
    struct scheduler *scheduler;
    struct loaded *loaded;
    struct engines engines;
} w;

static void on_changed(void *user) {
    (void)user;
}

static void on_failed(void *user, int error, const char *text) {
    (void)user, (void)error, (void)text;
    CHECK(!"an engine is given up");
}

static void hear(enum message_type type, const struct message *msg) {
    struct message heard = *msg;
    heard.type = type;
    played.events.message(played.user, &heard);
}

__attribute__((unused)) static void says_ready(void) {
    hear(MSG_READY, &(struct message){.ready = {.generation = w.engines.number, .n_cards = CARDS}});
}

/* The answer to the order of that number arrives. */
__attribute__((unused)) static void answers(uint64_t number, int error) {
    struct message msg = {.replanned = {.generation = w.engines.number,
                                        .number = number,
                                        .error = error,
                                        .kept = true,
                                        .ready = {.n_cards = CARDS}}};
    hear(MSG_REPLANNED, &msg);
}

/* Its process is gone. */
__attribute__((unused)) static void ends(void) {
    played.ending = false;
    played.events.gone(played.user, "it has ended");
}

/* Up to the load. */
static void prepare_world(const char *model, uint32_t cards, uint64_t card_bytes) {
    const struct scheduler_options options = {8, 8, 4, 0, 3};
    char path[512];
    uint64_t bytes[CARDS];
    struct err err = {{0}};
    if (!getenv("OCTARC_TINY"))
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    snprintf(path, sizeof path, "%s/%s", getenv("OCTARC_TINY"), model);
    config_default(&w.config);
    w.config.max_sequences = 4;
    w.config.context = 64;
    w.config.rebalance = REBALANCE_RUNNING;
    w.config.weights = WEIGHTS_SHARED;
    for (uint32_t i = 0; i < cards; i++)
        bytes[i] = card_bytes;
    topology_plain(&w.topology, cards, bytes, 0);
    CHECK_EQ(uv_loop_init(&w.loop), 0);
    CHECK_EQ(scheduler_create(&w.scheduler, &options, &engines_ops, &w.engines), 0);
    w.engines = (struct engines){.loop = &w.loop,
                                 .scheduler = w.scheduler,
                                 .backend = device_backend("cpu"),
                                 .config = &w.config,
                                 .topology = &w.topology,
                                 .events = {.changed = on_changed, .failed = on_failed}};
    engines_init(&w.engines);
    CHECK_EQ(loaded_open(&w.loaded, path, &err), 0);
}

__attribute__((unused)) static void start_world(void) {
    struct err err;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    says_ready();
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
}

static void close_world(void) {
    CHECK(!played.ending);
    scheduler_destroy(w.scheduler);
    engines_finish(&w.engines);
    loaded_close(w.loaded);
    uv_close((uv_handle_t *)&w.engines.timer, NULL);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&w.loop), 0);
}

__attribute__((unused)) static void drain(uint32_t card) {
    struct err err;
    CHECK_EQ(engines_drain(&w.engines, card, false, &err), 0);
}

__attribute__((unused)) static void want(uint32_t card) {
    struct err err;
    CHECK_EQ(engines_want(&w.engines, card, &err), 0);
}

__attribute__((unused)) static enum card_state state_of(uint32_t card) {
    return w.engines.cards[card].card.state;
}

#endif
