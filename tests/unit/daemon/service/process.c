/* SPDX-License-Identifier: Apache-2.0 */
/* One engine's channel in the loop: an engine that says much does not hold the others up, and all
 * it said is heard.  The engine is this very program, started again. */
#include "daemon/service/process.h"

#include <errno.h>
#include <poll.h>

#include "octarc/error.h"
#include "tests/check.h"

#define SAID    2000u /* more than one read of the channel holds */
#define WORK_US 500   /* that hearing one takes */

/* --- the engine: says everything at once, and ends or stays --- */

static void send_all(struct stream *stream) {
    for (uint64_t i = 1; i <= SAID; i++) {
        const struct msg_progress msg = {i, SAID};
        if (stream_send(stream, MSG_PROGRESS, &msg) < 0)
            _exit(1);
    }
    while (stream_wants_write(stream)) {
        struct pollfd fd = {.fd = stream->fd, .events = POLLOUT};
        poll(&fd, 1, -1);
        if (stream_flush(stream) == -EPIPE)
            _exit(1);
    }
}

/* Before main: where the arguments are an engine's, this is one. */
__attribute__((constructor)) static void become_engine(int argc, char **argv) {
    if (argc != 3 || strcmp(argv[1], "--channel"))
        return;
    struct stream stream;
    stream_init(&stream, atoi(argv[2]));
    send_all(&stream);
    if (getenv("FAKE_STAYS"))
        pause();
    _exit(0);
}

/* --- the front --- */

static struct world {
    uv_loop_t loop;
    uv_poll_t reports;
    uv_timer_t others; /* whoever else wants a turn of the loop */
    struct spawner spawner;
    struct process *process;
    uint64_t heard, turns;
    bool gone;
} w;

static void on_others(uv_timer_t *timer) {
    (void)timer;
    w.turns += w.heard > 0 && w.heard < SAID;
}

static void on_message(void *user, const struct message *msg) {
    const uint64_t until = uv_hrtime() + WORK_US * 1000;
    (void)user;
    CHECK_EQ(msg->type, MSG_PROGRESS);
    CHECK_EQ(msg->progress.done_bytes, ++w.heard); /* each once, in order */
    CHECK(!w.gone);
    while (uv_hrtime() < until)
        continue;
}

static void on_gone(void *user, const char *why) {
    (void)user, (void)why;
    w.gone = true;
}

static void on_reports(uv_poll_t *poll_handle, int status, int what) {
    struct spawner_report report;
    (void)poll_handle, (void)what;
    CHECK_EQ(status, 0);
    while (!w.gone && spawner_read(&w.spawner, &report) == 0)
        process_report(w.process, &report);
}

static void open_world(bool stays) {
    static const struct process_events events = {on_message, on_gone};
    const struct msg_setup setup = {.generation = 1, .n_parts = 1};
    const int none[1] = {-1};
    struct err err = {{0}};
    if (stays)
        setenv("FAKE_STAYS", "1", 1);
    setenv("OCTARC_ENGINE", "/proc/self/exe", 1);
    CHECK_EQ(spawner_fork(&w.spawner, &err), 0);
    CHECK_EQ(uv_loop_init(&w.loop), 0);
    CHECK_EQ(uv_poll_init(&w.loop, &w.reports, w.spawner.fd), 0);
    CHECK_EQ(uv_poll_start(&w.reports, UV_READABLE, on_reports), 0);
    uv_timer_init(&w.loop, &w.others);
    uv_timer_start(&w.others, on_others, 1, 1);
    CHECK_EQ(process_start(&w.process, &w.loop, &w.spawner, &setup, none, 0, &events, NULL, &err),
             0);
}

#define WAIT_FOR(what)                                                                             \
    while (!(what))                                                                                \
    uv_run(&w.loop, UV_RUN_ONCE)

static void close_world(void) {
    uv_close((uv_handle_t *)&w.reports, NULL);
    uv_close((uv_handle_t *)&w.others, NULL);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&w.loop), 0);
    spawner_stop(&w.spawner);
}

static void an_engine_that_says_much_lets_the_others_have_their_turn(void) {
    open_world(true);
    WAIT_FOR(w.heard == SAID);
    CHECK(w.turns >= 20); /* of about 200 */
    process_kill(w.process);
    WAIT_FOR(w.gone);
    close_world();
}

static void the_last_words_of_an_engine_are_all_heard(void) {
    open_world(false);
    WAIT_FOR(w.gone);
    CHECK_EQ(w.heard, SAID);
    close_world();
}

static void nothing_is_heard_of_one_that_is_left(void) {
    open_world(true);
    WAIT_FOR(w.heard > 5);
    const uint64_t heard = w.heard;
    process_leave(w.process, "test");
    CHECK(w.gone);
    for (int i = 0; i < 20; i++)
        uv_run(&w.loop, UV_RUN_NOWAIT);
    CHECK_EQ(w.heard, heard);
    close_world();
}

CHECK_MAIN(T(an_engine_that_says_much_lets_the_others_have_their_turn),
           T(the_last_words_of_an_engine_are_all_heard), T(nothing_is_heard_of_one_that_is_left))
