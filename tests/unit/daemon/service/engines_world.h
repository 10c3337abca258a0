/* SPDX-License-Identifier: Apache-2.0 */
/* engines_world.h - the front around a line of generations: the real spawner and channel, and a
 * client. The engines are the test program itself, started again (scripted_engine.h). */
#ifndef OCTARC_TESTS_ENGINES_WORLD_H
#define OCTARC_TESTS_ENGINES_WORLD_H

#include <errno.h>
#include <sys/stat.h>

#include "daemon/service/engines.h"
#include "daemon/service/events.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/unit/daemon/service/scripted_engine.h"

#define PROMPT 3
#define TOKENS 10

/* --- the front --- */

static struct world {
    uv_loop_t loop;
    uv_poll_t reports;
    uv_timer_t tick; /* a loop that waits for a condition must turn */
    struct spawner spawner;
    struct config config;
    struct topology topology;
    struct scheduler *scheduler;
    struct loaded *loaded;
    struct engines engines;
    char failed[600], why[600];
    int error;
    uint32_t n_changed;
    struct msg_limits limits;
    uint32_t measured;
    struct msg_verified verified;
    uint32_t checked;
    bool stopped;
} w;

static void on_changed(void *user) {
    (void)user;
    w.n_changed++;
}

static void on_failed(void *user, int error, const char *text) {
    (void)user;
    w.error = error;
    snprintf(w.failed, sizeof w.failed, "%s", text);
}

static void on_stopped(void *user) {
    (void)user;
    w.stopped = true;
}

static void on_measured(void *user, const struct msg_limits *limits, const char *why) {
    (void)user;
    w.measured++;
    if (limits)
        w.limits = *limits;
    snprintf(w.why, sizeof w.why, "%s", limits ? "" : why);
}

static void on_verified(void *user, const struct msg_verified *verified, const char *why) {
    (void)user;
    w.checked++;
    if (verified)
        w.verified = *verified;
    snprintf(w.why, sizeof w.why, "%s", verified ? "" : why);
}

static void on_tick(uv_timer_t *timer) {
    scheduler_tick(w.scheduler, uv_hrtime());
    (void)timer;
}

static void on_reports(uv_poll_t *poll_handle, int status, int what) {
    struct spawner_report report;
    (void)poll_handle, (void)what;
    CHECK_EQ(status, 0);
    while (spawner_read(&w.spawner, &report) == 0)
        engines_report(&w.engines, &report);
}

/* Before the load: the memory of each card. */
static void size_cards(const uint64_t *bytes, uint32_t n) {
    topology_plain(&w.topology, n, bytes, 0);
}
#define SIZE_CARDS(...)                                                                            \
    size_cards((const uint64_t[]){__VA_ARGS__},                                                    \
               sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* All but the load. */
static void prepare_world(uint32_t cards, const char *script) {
    const struct scheduler_options options = {8, 8, 4, 0, 3};
    uint64_t bytes[CARDS_MAX];
    char path[512];
    struct err err = {{0}};
    if (!getenv("OCTARC_TINY"))
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    snprintf(path, sizeof path, "%s/tiny-f32.gguf", getenv("OCTARC_TINY"));
    setenv("FAKE_SCRIPT", script, 1);
    setenv("OCTARC_ENGINE", "/proc/self/exe", 1);
    CHECK_EQ(spawner_fork(&w.spawner, &err), 0);
    config_default(&w.config);
    w.config.max_sequences = 4;
    w.config.rebalance = REBALANCE_RESTART;
    w.config.context = 64;
    w.config.no_card_wait_s = 1;
    for (uint32_t i = 0; i < cards; i++)
        bytes[i] = 64u << 20;
    size_cards(bytes, cards);
    CHECK_EQ(uv_loop_init(&w.loop), 0);
    CHECK_EQ(uv_poll_init(&w.loop, &w.reports, w.spawner.fd), 0);
    CHECK_EQ(uv_poll_start(&w.reports, UV_READABLE, on_reports), 0);
    uv_timer_init(&w.loop, &w.tick);
    uv_timer_start(&w.tick, on_tick, 10, 10);
    CHECK_EQ(scheduler_create(&w.scheduler, &options, &engines_ops, &w.engines), 0);
    w.engines = (struct engines){
        .backend = device_backend("cpu"),
        .loop = &w.loop,
        .spawner = &w.spawner,
        .scheduler = w.scheduler,
        .config = &w.config,
        .topology = &w.topology,
        .events = {on_changed, on_failed, on_stopped, on_measured, on_verified, NULL, NULL}};
    engines_init(&w.engines);
    CHECK_EQ(loaded_open(&w.loaded, path, &err), 0);
}

static void open_world(uint32_t cards, const char *script) {
    struct err err;
    prepare_world(cards, script);
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
}

#define WAIT_FOR(what)                                                                             \
    while (!(what))                                                                                \
    uv_run(&w.loop, UV_RUN_ONCE)

static void close_world(void) {
    engines_stop(&w.engines);
    WAIT_FOR(w.stopped);
    uv_close((uv_handle_t *)&w.engines.timer, NULL);
    uv_close((uv_handle_t *)&w.reports, NULL);
    uv_close((uv_handle_t *)&w.tick, NULL);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    scheduler_destroy(w.scheduler);
    engines_finish(&w.engines);
    loaded_close(w.loaded);
    CHECK_EQ(uv_loop_close(&w.loop), 0);
    spawner_stop(&w.spawner);
}

/* --- a client --- */

static struct client {
    uint32_t n, ends, pauses;
    enum finish finish;
    int error;
    char text[600];
} c;

static void on_text(void *user, uint32_t choice, const char *text, size_t n,
                    const struct request_token *tokens, uint32_t n_tokens) {
    (void)user, (void)choice, (void)text, (void)n;
    for (uint32_t i = 0; i < n_tokens; i++)
        CHECK_EQ(tokens[i].token, says(PROMPT + c.n++));
}

static void on_choice_end(void *user, uint32_t choice, const struct request_end *end) {
    (void)user, (void)choice;
    c.finish = end->finish;
    c.error = end->error;
    snprintf(c.text, sizeof c.text, "%s", end->error_text ? end->error_text : "");
}

static void on_end(void *user) {
    (void)user;
    c.ends++;
}

static void on_waiting(void *user, bool waiting) {
    (void)user;
    c.pauses += waiting;
}

static int submit(struct err *err) {
    static const struct request_events events = {
        .text = on_text, .choice_end = on_choice_end, .end = on_end, .waiting = on_waiting};
    const int32_t tokens[PROMPT] = {20, 21, 22};
    const struct request_spec spec = {.tokens = tokens,
                                      .n_tokens = PROMPT,
                                      .max_tokens = TOKENS,
                                      .n = 1,
                                      .stream = true,
                                      .special = true};
    struct request *request;
    c = (struct client){0};
    return scheduler_submit(w.scheduler, &spec, &events, NULL, uv_hrtime(), &request, err);
}

static void has_answered(void) {
    WAIT_FOR(c.ends);
    CHECK_EQ(c.finish, FINISH_LENGTH);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(c.ends, 1);
}

/* A request is accepted, even while the engine still starts, and ends with every token, once. */
static void is_answered(void) {
    struct err err;
    CHECK_EQ(submit(&err), 0);
    has_answered();
}

__attribute__((unused)) static void fails_with(int error, const char *word) {
    struct err err;
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.finish, FINISH_ERROR);
    CHECK_EQ(c.error, error);
    if (!strstr(c.text, word))
        printf("# '%s' lacks '%s'\n", c.text, word);
    CHECK(strstr(c.text, word));
}

__attribute__((unused)) static ino_t weights_of(uint32_t card) {
    struct stat st;
    CHECK_EQ(fstat(w.engines.cards[card].memory.fd, &st), 0);
    return st.st_ino;
}

#endif
