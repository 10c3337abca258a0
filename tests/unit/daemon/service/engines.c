/* SPDX-License-Identifier: Apache-2.0 */
/* The line of generations: deaths, losses, refusals, silence. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/unit/daemon/service/engines_world.h"

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

static void weights_outlive_an_engine_while_the_plan_stays(void) {
    open_world(2, "wo");
    const ino_t first = weights_of(0), second = weights_of(1);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(weights_of(0), first);
    CHECK_EQ(weights_of(1), second);
    CHECK_EQ(w.engines.ready.cards[0].scratch_bytes, 3 + 2);
    CHECK(fcntl(w.engines.cards[0].memory.fd, F_GET_SEALS) & F_SEAL_GROW);
    CHECK(ftruncate(w.engines.cards[0].memory.fd, 0) < 0);
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
        CHECK_EQ(w.engines.cards[i].memory.fd, -1);
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
    CHECK_EQ(w.engines.cards[2].memory.fd, -1);
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

/* The plan does without it, before anything ever served. */
static void a_card_that_cannot_be_opened_is_named_and_done_without(void) {
    open_world(3, "uo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(w.engines.cards[2].card.state, CARD_LOST);
    CHECK(strstr(w.engines.last_event, "a card does not answer"));
    CHECK(!w.engines.plan.cards[2].online && w.engines.plan.cards[1].online);
    CHECK(!w.failed[0]);
    close_world();
}

static void so_are_two(void) {
    open_world(3, "uuo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.number, 3);
    CHECK_EQ(w.engines.cards[1].card.state, CARD_LOST);
    CHECK_EQ(w.engines.cards[0].card.state, CARD_ONLINE);
    close_world();
}

static void a_first_engine_whose_only_card_cannot_be_opened_says_so(void) {
    open_world(1, "u");
    WAIT_FOR(w.failed[0]);
    CHECK(strstr(w.failed, "a card does not answer"));
    CHECK_EQ(w.engines.number, 1);
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
    engines_stop(&w.engines);
    engines_stop(&w.engines); /* does not wait */
    uv_timer_stop(&w.engines.timer);
    WAIT_FOR(w.stopped);
    close_world();
}

/* The next one serves, and may take its time for it. */
static void next_is_patient(uint64_t number) {
    WAIT_FOR(w.engines.number == number);
    w.config.engine_silence_s = 3600;
}

static void an_engine_that_hangs_is_replaced_and_its_answer_goes_on(void) {
    struct err err;
    prepare_world(1, "wo");
    w.config.engine_silence_s = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, NULL), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    const uint64_t idle = uv_hrtime();
    WAIT_FOR(uv_hrtime() - idle > UINT64_C(1500000000));
    CHECK_EQ(w.engines.number, 1); /* nothing runs: nothing need be said */
    const uint64_t before = uv_hrtime();
    CHECK_EQ(submit(&err), 0);
    next_is_patient(2);
    CHECK(uv_hrtime() - before > UINT64_C(950000000));
    has_answered();
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(c.pauses, 1);
    CHECK(strstr(w.engines.last_event, "said nothing for 1 s"));
    close_world();
}

/* What it was told to cancel is all that it has, and in the way of the one that waits. */
static void an_engine_that_hangs_over_a_cancelled_request_is_replaced(void) {
    struct err err;
    prepare_world(1, "wo");
    w.config.engine_silence_s = 1;
    w.config.max_sequences = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, NULL), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(scheduler_cancel(w.scheduler, 1, 0, true), 0);
    CHECK_EQ(submit(&err), 0);
    next_is_patient(2);
    has_answered();
    CHECK_EQ(w.engines.number, 2);
    close_world();
}

static void a_front_that_slept_listens_before_it_judges(void) {
    struct err err;
    prepare_world(1, "o");
    w.config.engine_silence_s = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, NULL), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    usleep(1500000);
    WAIT_FOR(c.ends);
    CHECK_EQ(w.engines.number, 1);
    close_world();
}

/* A message that cannot be sent leaves the engine behind what the scheduler believes. */
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

/* A signal is there before what it does is. */
static void stop_spawner(void) {
    siginfo_t info;
    CHECK_EQ(kill(w.spawner.pid, SIGSTOP), 0);
    CHECK_EQ(waitid(P_PID, (id_t)w.spawner.pid, &info, WSTOPPED), 0);
}

static void an_engine_that_is_not_reaped_is_left_behind(void) {
    open_world(1, "wo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    stop_spawner();
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2);
    if (!strstr(w.engines.last_event, "left behind"))
        printf("# '%s'\n", w.engines.last_event);
    CHECK(strstr(w.engines.last_event, "left behind"));
    CHECK_EQ(kill(w.spawner.pid, SIGCONT), 0);
    is_answered();
    close_world();
}

static void an_order_to_kill_that_was_lost_is_given_again(void) {
    open_world(1, "to");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    stop_spawner();
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
    T(a_card_lost_while_the_engine_dies_is_lost), T(without_a_card_requests_wait_and_end_by_name),
    T(a_first_engine_that_refuses_is_not_tried_again), T(a_load_that_fails_says_nothing_else),
    T(an_engine_that_never_comes_to_life_is_given_up),
    T(a_service_whose_engines_do_not_stay_alive_says_so_and_rests),
    T(an_engine_that_dies_as_soon_as_it_is_ready_is_not_started_for_ever),
    T(a_card_that_cannot_be_opened_is_named_and_done_without), T(so_are_two),
    T(a_first_engine_whose_only_card_cannot_be_opened_says_so),
    T(a_request_that_kills_engines_is_given_up_by_name), T(an_engine_that_does_not_stop_is_killed),
    T(an_engine_that_hangs_is_replaced_and_its_answer_goes_on),
    T(an_engine_that_hangs_over_a_cancelled_request_is_replaced),
    T(a_front_that_slept_listens_before_it_judges), T(an_engine_that_cannot_be_told_is_replaced),
    T(an_engine_that_is_not_reaped_is_left_behind),
    T(an_order_to_kill_that_was_lost_is_given_again),
    T(without_the_spawner_all_that_is_left_is_to_stop))
