/* SPDX-License-Identifier: Apache-2.0 */
/* The line of generations, with the real spawner and channel.  The engines are this very program,
 * started again (scripted_engine.h). */
#include "daemon/service/engines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

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
    struct scheduler *scheduler;
    struct loaded *loaded;
    struct engines engines;
    char failed[600], why[600];
    int error;
    uint32_t n_changed;
    struct msg_limits limits;
    uint32_t measured;
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

/* All but the load. */
static void prepare_world(uint32_t cards, const char *script) {
    const struct scheduler_options options = {8, 8, 4, 0, 3};
    char path[512];
    struct err err = {{0}};
    if (!getenv("OCTARC_TINY"))
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    snprintf(path, sizeof path, "%s/tiny-f32.gguf", getenv("OCTARC_TINY"));
    setenv("FAKE_SCRIPT", script, 1);
    setenv("OCTARC_ENGINE", "/proc/self/exe", 1);
    CHECK_EQ(spawner_fork(&w.spawner, &err), 0);
    config_default(&w.config);
    w.config.cards = cards;
    w.config.max_sequences = 4;
    w.config.context = 64;
    w.config.no_card_wait_s = 1;
    w.config.card_memory = (struct config_sizes){1, {64u << 20}};
    CHECK_EQ(uv_loop_init(&w.loop), 0);
    CHECK_EQ(uv_poll_init(&w.loop, &w.reports, w.spawner.fd), 0);
    CHECK_EQ(uv_poll_start(&w.reports, UV_READABLE, on_reports), 0);
    uv_timer_init(&w.loop, &w.tick);
    uv_timer_start(&w.tick, on_tick, 10, 10);
    CHECK_EQ(scheduler_create(&w.scheduler, &options, &engines_ops, &w.engines), 0);
    w.engines = (struct engines){.loop = &w.loop,
                                 .spawner = &w.spawner,
                                 .scheduler = w.scheduler,
                                 .config = &w.config,
                                 .events = {on_changed, on_failed, on_stopped, on_measured}};
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

/* A request is accepted, even while the engine still starts, and ends with every token, once. */
static void is_answered(void) {
    struct err err;
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.finish, FINISH_LENGTH);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(c.ends, 1);
}

static void fails_with(int error, const char *word) {
    struct err err;
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.finish, FINISH_ERROR);
    CHECK_EQ(c.error, error);
    if (!strstr(c.text, word))
        printf("# '%s' lacks '%s'\n", c.text, word);
    CHECK(strstr(c.text, word));
}

/* --- tests --- */

static void an_answer_goes_on_after_a_death(void) {
    open_world(2, "do");
    is_answered();
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(c.pauses, 1);
    CHECK(strstr(w.engines.last_event, "signal 9"));
    close_world();
}

static void an_answer_goes_on_over_many_deaths_that_bring_tokens(void) {
    open_world(1, "d");
    is_answered();
    CHECK_EQ(w.engines.number, 4); /* 3 + 3 + 3 + 1 */
    close_world();
}

static void nonsense_on_the_channel_ends_the_engine_and_nothing_else(void) {
    open_world(1, "no");
    is_answered();
    CHECK_EQ(w.engines.number, 2);
    close_world();
}

static void a_measurement_is_answered_once_or_ends_with_its_engine(void) {
    struct err err;
    open_world(1, "owo");
    CHECK_EQ(engines_measure(&w.engines, &err), -ENODEV); /* it still starts */
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_measure(&w.engines, &err), 0);
    CHECK_EQ(engines_measure(&w.engines, &err), 0); /* joins the first */
    WAIT_FOR(w.measured);
    CHECK_EQ(w.limits.read_bytes_per_s, 12);
    CHECK_EQ(w.limits.n_threads, 3);
    CHECK(!strcmp(w.limits.isa, "avx2"));

    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_measure(&w.engines, &err), 0); /* this one says nothing */
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.measured == 2);
    CHECK(strstr(w.why, "ended before"));
    close_world();
    CHECK_EQ(w.measured, 2);
}

static ino_t weights_of(uint32_t card) {
    struct stat st;
    CHECK_EQ(fstat(w.engines.cards[card].weights_fd, &st), 0);
    return st.st_ino;
}

static void weights_outlive_an_engine_while_the_plan_stays(void) {
    open_world(2, "wo");
    const ino_t first = weights_of(0), second = weights_of(1);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(weights_of(0), first);
    CHECK_EQ(weights_of(1), second);
    CHECK_EQ(w.engines.ready.cards[0].scratch_bytes, 3 + 2);
    CHECK(fcntl(w.engines.cards[0].weights_fd, F_GET_SEALS) & F_SEAL_GROW);
    CHECK(ftruncate(w.engines.cards[0].weights_fd, 0) < 0);
    close_world();
}

/* The scripted engine says how many descriptors its SETUP brought. */
static void private_weights_are_no_matter_of_the_front(void) {
    struct err err;
    prepare_world(3, "wlo");
    w.config.weights = WEIGHTS_PRIVATE;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.ready.cards[0].scratch_bytes, 3);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    is_answered();
    CHECK_EQ(w.engines.number, 3);
    CHECK_EQ(engines_online(&w.engines), 2);
    CHECK_EQ(w.engines.ready.cards[0].scratch_bytes, 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(w.engines.cards[i].weights_fd, -1);
    close_world();
}

static bool is_lost(uint32_t card) {
    return w.engines.cards[card].card.state == CARD_LOST;
}

static void a_lost_card_keeps_its_number_and_the_others_serve(void) {
    struct err err;
    open_world(3, "lo");
    is_answered();
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(engines_online(&w.engines), 2);
    CHECK(is_lost(2) && !w.engines.plan.cards[2].online);
    CHECK_EQ(w.engines.cards[2].weights_fd, -1);
    CHECK_EQ(w.engines.plan.n_cards, 3);
    CHECK_EQ(engines_lose(&w.engines, 2, &err), -EINVAL);
    CHECK_EQ(engines_lose(&w.engines, 3, &err), -EINVAL);
    CHECK(strstr(err.text, "no card 3"));
    is_answered();
    close_world();
}

static void a_card_lost_while_the_engine_dies_is_lost(void) {
    open_world(4, "wo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_lose(&w.engines, 1, NULL), 0); /* the engine never says so */
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    CHECK_EQ(engines_lose(&w.engines, 2, NULL), 0);
    CHECK(is_lost(2));
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_online(&w.engines), 2);
    CHECK(is_lost(1) && !w.engines.plan.cards[1].online);
    CHECK(is_lost(2) && !w.engines.plan.cards[2].online);
    is_answered();
    close_world();
}

/* --- cards come and go --- */

static enum card_state state_of(uint32_t card) {
    return w.engines.cards[card].card.state;
}

#define SERVES(n) WAIT_FOR(w.engines.number == (n) && w.engines.state == ENGINES_SERVING)

static void a_drained_card_is_planned_without_and_nothing_is_lost(void) {
    struct err err;
    open_world(3, "wo");
    SERVES(1);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(state_of(1), CARD_DRAINING);
    CHECK(w.engines.plan.cards[1].online);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(c.finish, FINISH_LENGTH);
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK(w.engines.plan.cards[0].online && w.engines.plan.cards[2].online);
    CHECK_EQ(w.engines.n_ends[0], 0); /* nobody is to blame */
    CHECK(w.engines.cards[1].weights_fd >= 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), -EINVAL);
    CHECK_EQ(engines_drain(&w.engines, 1, true, &err), 0);
    CHECK_EQ(state_of(1), CARD_OFFLINE);
    CHECK_EQ(w.engines.cards[1].weights_fd, -1);
    close_world();
}

static void a_card_taken_back_is_planned_and_finds_what_it_held(void) {
    struct err err;
    open_world(2, "o");
    SERVES(1);
    const ino_t held = weights_of(1);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    SERVES(2);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_PROBING);
    SERVES(3);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK(w.engines.plan.cards[1].online);
    CHECK_EQ(weights_of(1), held);
    CHECK_EQ(engines_want(&w.engines, 1, &err), -EINVAL);
    CHECK(strstr(err.text, "card 1") && strstr(err.text, "online"));
    is_answered();
    close_world();
}

static void a_release_lets_go_of_what_the_card_held(void) {
    open_world(2, "o");
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 0, true, NULL), 0);
    SERVES(2);
    CHECK_EQ(state_of(0), CARD_OFFLINE);
    CHECK_EQ(w.engines.cards[0].weights_fd, -1);
    close_world();
}

static void what_the_others_cannot_hold_is_not_drained(void) {
    struct err err;
    prepare_world(2, "o");
    w.config.card_memory = (struct config_sizes){2, {64u << 20, 1u << 10}};
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 0, false, &err), -ENOSPC);
    CHECK(strstr(err.text, "card 0 cannot be drained") && strstr(err.text, "does not fit"));
    CHECK_EQ(state_of(0), CARD_ONLINE);
    CHECK_EQ(engines_drain(&w.engines, 2, false, &err), -EINVAL);
    CHECK_EQ(w.engines.number, 1);
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    close_world();
}

static void the_last_card_is_not_drained(void) {
    struct err err;
    open_world(2, "lo");
    is_answered();
    CHECK_EQ(engines_drain(&w.engines, 0, false, &err), -ENOSPC);
    CHECK(strstr(err.text, "card 0") && strstr(err.text, "only card"));
    is_answered();
    close_world();
}

static void a_card_lost_while_it_is_drained_stays_out(void) {
    struct err err;
    open_world(3, "to"); /* the first one does not stop when it is asked to */
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_OFFLINE);
    SERVES(2);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK_EQ(engines_return(&w.engines, 1, &err), -EINVAL);
    is_answered();
    close_world();
}

static void an_engine_killed_while_a_card_is_drained_changes_nothing(void) {
    struct err err;
    open_world(3, "two"); /* the second one dies, too */
    SERVES(1);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.current);
    CHECK_EQ(state_of(1), CARD_DRAINING);
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(w.engines.number, 3);
    close_world();
}

static void a_drain_the_others_can_no_longer_do_without_is_called_off(void) {
    struct err err;
    prepare_world(3, "to");
    w.config.card_memory = (struct config_sizes){3, {64u << 20, 64u << 20, 1u << 10}};
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 0, false, &err), 0);
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0); /* the one that should have taken over */
    SERVES(2);
    CHECK_EQ(state_of(0), CARD_ONLINE);
    CHECK(w.engines.plan.cards[0].online && !w.engines.plan.cards[1].online);
    is_answered();
    close_world();
}

static void a_card_drained_while_the_engine_starts_is_not_used(void) {
    struct err err;
    open_world(3, "so"); /* the first one takes for ever */
    CHECK_EQ(engines_drain(&w.engines, 2, false, &err), 0);
    SERVES(2);
    CHECK_EQ(state_of(2), CARD_DRAINED);
    CHECK(!w.engines.plan.cards[2].online);
    is_answered();
    close_world();
}

static void a_card_that_returns_is_used_when_it_was_quiet_and_nothing_runs(void) {
    struct err err;
    open_world(3, "owo");
    w.config.card_quiet_s = 1;
    SERVES(1);
    CHECK_EQ(engines_lose(&w.engines, 2, &err), 0);
    SERVES(2);
    CHECK_EQ(engines_return(&w.engines, 2, &err), 0);
    CHECK_EQ(submit(&err), 0); /* the second engine never answers it */
    const uint64_t before = uv_hrtime();
    while (uv_hrtime() - before < UINT64_C(1500000000)) {
        engines_tick(&w.engines);
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(state_of(2), CARD_PROBING);
    scheduler_cancel(w.scheduler, 1, 0, true);
    CHECK_EQ(c.ends, 1);
    engines_kill(&w.engines, NULL);
    SERVES(3);
    CHECK_EQ(state_of(2), CARD_ONLINE);

    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
    w.config.card_quiet_s = 0;
    SERVES(4);
    CHECK_EQ(engines_return(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_PROBING);
    engines_tick(&w.engines);
    SERVES(5);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    close_world();
}

static void ten_losses_within_a_minute_quarantine_a_card(void) {
    struct err err;
    open_world(2, "o");
    SERVES(1);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(state_of(1), i ? CARD_PROBING : CARD_ONLINE);
        CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
        CHECK_EQ(engines_return(&w.engines, 1, &err), i < 9 ? 0 : -EINVAL);
    }
    CHECK_EQ(state_of(1), CARD_QUARANTINED);
    SERVES(2);
    w.config.card_quiet_s = 0;
    engines_tick(&w.engines);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    SERVES(3);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    SERVES(4);
    CHECK(w.engines.plan.cards[1].online);
    close_world();
}

static void cards_held_back_from_the_start_are_waited_for(void) {
    struct err err;
    prepare_world(2, "o");
    w.config.card_memory = (struct config_sizes){2, {64u << 20, 1u << 10}};
    CHECK_EQ(engines_drain(&w.engines, 0, false, &err), 0); /* there is no model to hold */
    CHECK_EQ(state_of(0), CARD_DRAINED);
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    CHECK_EQ(engines_want(&w.engines, 0, &err), 0);
    SERVES(1);
    CHECK_EQ(state_of(0), CARD_ONLINE);
    is_answered();
    close_world();
}

static void a_card_that_holds_nothing_goes_and_comes_without_a_word(void) {
    struct err err;
    prepare_world(3, "o");
    w.config.card_memory = (struct config_sizes){3, {64u << 20, 1u << 10, 64u << 20}};
    w.config.split = SPLIT_LAYER;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    CHECK_EQ(w.engines.plan.cards[1].weights_bytes, 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(w.engines.number, 1);
    close_world();
}

static void events_tell_the_story_in_order(void) {
    static const char *const want[] = {"start", "ready", "card", "end", "start",
                                       "ready", "card",  "card", "card"};
    struct err err;
    struct events log;
    prepare_world(2, "o");
    CHECK_EQ(events_init(&log, 16), 0);
    w.engines.log = &log;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 1, true, &err), 0);
    SERVES(2);
    CHECK_EQ(engines_lose(&w.engines, 0, &err), 0);
    CHECK_EQ(log.last, 9);
    for (uint64_t i = 1; i <= 9; i++) {
        const struct event *event = events_get(&log, i);
        if (strcmp(event->kind, i < 6 ? want[i - 1] : i == 9 ? "card" : event->kind))
            printf("# %" PRIu64 ": %s %s\n", i, event->kind, event->text);
        CHECK_EQ(event->number, i);
        CHECK(event->text[0]);
    }
    const struct event *drained = events_get(&log, 3), *end = events_get(&log, 4);
    CHECK(!strcmp(drained->from, "online") && !strcmp(drained->to, "draining"));
    CHECK_EQ(drained->card, 1);
    CHECK(strstr(end->text, "generation 1 hands over") && strstr(end->text, "card 1 is drained"));
    w.engines.log = NULL;
    events_finish(&log);
    close_world();
}

static void without_a_card_requests_wait_and_end_by_name(void) {
    struct err err;
    open_world(1, "l");
    const uint64_t before = uv_hrtime();
    fails_with(-ENODEV, "online");
    CHECK(uv_hrtime() - before > UINT64_C(900000000));
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    CHECK_EQ(submit(&err), -ENODEV);
    close_world();
}

static void a_first_engine_that_refuses_is_not_tried_again(void) {
    open_world(1, "fo");
    WAIT_FOR(w.failed[0]);
    CHECK(strstr(w.failed, "no memory left"));
    CHECK_EQ(w.error, -ENOMEM);
    CHECK_EQ(w.engines.number, 1);
    close_world();
}

static void a_load_that_fails_says_nothing_else(void) {
    struct err err = {{0}};
    struct rlimit files;
    prepare_world(8, "w");
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
    const rlim_t most = files.rlim_cur;
    files.rlim_cur = (rlim_t)dup(0) + 4; /* of eight cards' memory, about three */
    close((int)files.rlim_cur - 4);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), -EMFILE);
    files.rlim_cur = most;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    CHECK(strstr(err.text, "weight memory"));
    CHECK_EQ(w.n_changed, 0);
    close_world();
}

static void an_engine_that_never_comes_to_life_is_given_up(void) {
    open_world(1, "b");
    WAIT_FOR(w.failed[0]);
    CHECK(strstr(w.failed, "5 times") && strstr(w.failed, "status 3"));
    CHECK_EQ(w.engines.number, ENGINE_DEATHS_MAX);
    close_world();
}

static void a_service_whose_engines_do_not_stay_alive_says_so_and_rests(void) {
    struct err err;
    open_world(1, "wb");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    fails_with(-EIO, "does not stay alive");
    CHECK_EQ(w.engines.state, ENGINES_RESTING);
    CHECK_EQ(w.engines.number, 1 + ENGINE_DEATHS_MAX);
    CHECK_EQ(submit(&err), -EIO);
    close_world();
}

/* With nobody's request in it, too. */
static void an_engine_that_dies_as_soon_as_it_is_ready_is_not_started_for_ever(void) {
    open_world(1, "r");
    WAIT_FOR(w.engines.state == ENGINES_RESTING);
    CHECK_EQ(w.engines.number, ENGINE_DEATHS_MAX);
    CHECK(strstr(w.engines.why, "status 5"));
    /* The next try is one try. */
    uv_timer_start(&w.engines.timer, w.engines.timer.timer_cb, 0, 0);
    WAIT_FOR(w.engines.number > ENGINE_DEATHS_MAX);
    WAIT_FOR(w.engines.state == ENGINES_RESTING);
    CHECK_EQ(w.engines.number, ENGINE_DEATHS_MAX + 1);
    close_world();
}

static void a_request_that_kills_engines_is_given_up_by_name(void) {
    open_world(1, "x");
    fails_with(-EIO, "req-1");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.number, 4);
    close_world();
}

static void an_engine_that_does_not_stop_is_killed(void) {
    open_world(1, "t");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    const uint64_t before = uv_hrtime();
    engines_stop(&w.engines);
    engines_stop(&w.engines); /* does not wait */
    WAIT_FOR(w.stopped);
    CHECK(uv_hrtime() - before < ENGINE_STOP_MS * UINT64_C(1000000) / 2);
    close_world();
}

/* A message that cannot be sent leaves the engine behind what the scheduler believes. */
static void an_engine_that_hangs_is_replaced_and_its_answer_goes_on(void) {
    prepare_world(1, "wo");
    w.config.engine_silence_s = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, NULL), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    const uint64_t idle = uv_hrtime();
    WAIT_FOR(uv_hrtime() - idle > UINT64_C(1500000000));
    CHECK_EQ(w.engines.number, 1); /* nothing runs: nothing need be said */
    const uint64_t before = uv_hrtime();
    is_answered();
    CHECK(uv_hrtime() - before > UINT64_C(950000000));
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(c.pauses, 1);
    CHECK(strstr(w.engines.last_event, "said nothing for 1 s"));
    close_world();
}

static void a_front_that_slept_listens_before_it_judges(void) {
    struct err err;
    prepare_world(1, "o");
    w.config.engine_silence_s = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, NULL), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    usleep(2500000);
    WAIT_FOR(c.ends);
    CHECK_EQ(w.engines.number, 1);
    close_world();
}

static void an_engine_that_cannot_be_told_is_replaced(void) {
    open_world(1, "wo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    struct msg_admit admit = {.sequence = 9, .n_tokens = CHANNEL_FRAME_MAX / sizeof(int32_t)};
    admit.tokens = calloc(admit.n_tokens, sizeof *admit.tokens);
    CHECK_EQ(engines_ops.admit(&w.engines, &admit), -EMSGSIZE);
    free(admit.tokens);
    WAIT_FOR(w.engines.number == 2);
    CHECK(strstr(w.engines.last_event, "could not be told"));
    is_answered();
    close_world();
}

static void an_engine_that_is_not_reaped_is_left_behind(void) {
    open_world(1, "wo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(kill(w.spawner.pid, SIGSTOP), 0);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2);
    CHECK(strstr(w.engines.last_event, "left behind"));
    CHECK_EQ(kill(w.spawner.pid, SIGCONT), 0);
    is_answered();
    close_world();
}

static void an_order_to_kill_that_was_lost_is_given_again(void) {
    open_world(1, "to");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(kill(w.spawner.pid, SIGSTOP), 0);
    while (spawner_kill(&w.spawner, INT_MAX) == 0) /* nobody's */
        ;
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    CHECK_EQ(kill(w.spawner.pid, SIGCONT), 0);
    WAIT_FOR(w.engines.number == 2);
    CHECK(strstr(w.engines.last_event, "ended by signal 9"));
    is_answered();
    close_world();
}

static void without_the_spawner_all_that_is_left_is_to_stop(void) {
    open_world(1, "w");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    uv_poll_stop(&w.reports);
    kill(w.spawner.pid, SIGKILL);
    engines_orphaned(&w.engines);
    close_world();
}

CHECK_MAIN(
    T(an_answer_goes_on_after_a_death), T(an_answer_goes_on_over_many_deaths_that_bring_tokens),
    T(nonsense_on_the_channel_ends_the_engine_and_nothing_else),
    T(a_measurement_is_answered_once_or_ends_with_its_engine),
    T(weights_outlive_an_engine_while_the_plan_stays),
    T(private_weights_are_no_matter_of_the_front),
    T(a_lost_card_keeps_its_number_and_the_others_serve),
    T(a_card_lost_while_the_engine_dies_is_lost),
    T(a_drained_card_is_planned_without_and_nothing_is_lost),
    T(a_card_taken_back_is_planned_and_finds_what_it_held),
    T(a_release_lets_go_of_what_the_card_held), T(what_the_others_cannot_hold_is_not_drained),
    T(the_last_card_is_not_drained), T(a_card_lost_while_it_is_drained_stays_out),
    T(an_engine_killed_while_a_card_is_drained_changes_nothing),
    T(a_drain_the_others_can_no_longer_do_without_is_called_off),
    T(a_card_drained_while_the_engine_starts_is_not_used),
    T(a_card_that_returns_is_used_when_it_was_quiet_and_nothing_runs),
    T(ten_losses_within_a_minute_quarantine_a_card),
    T(cards_held_back_from_the_start_are_waited_for),
    T(a_card_that_holds_nothing_goes_and_comes_without_a_word), T(events_tell_the_story_in_order),
    T(without_a_card_requests_wait_and_end_by_name),
    T(a_first_engine_that_refuses_is_not_tried_again), T(a_load_that_fails_says_nothing_else),
    T(an_engine_that_never_comes_to_life_is_given_up),
    T(a_service_whose_engines_do_not_stay_alive_says_so_and_rests),
    T(an_engine_that_dies_as_soon_as_it_is_ready_is_not_started_for_ever),
    T(a_request_that_kills_engines_is_given_up_by_name), T(an_engine_that_does_not_stop_is_killed),
    T(an_engine_that_hangs_is_replaced_and_its_answer_goes_on),
    T(a_front_that_slept_listens_before_it_judges), T(an_engine_that_cannot_be_told_is_replaced),
    T(an_engine_that_is_not_reaped_is_left_behind),
    T(an_order_to_kill_that_was_lost_is_given_again),
    T(without_the_spawner_all_that_is_left_is_to_stop))
