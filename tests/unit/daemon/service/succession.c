/* SPDX-License-Identifier: Apache-2.0 */
/* A generation takes over from one that serves on: what is left of that, and what else happens. */
#include "tests/unit/daemon/service/engines_world.h"

static struct err err;

static enum card_state state_of(uint32_t card) {
    return w.engines.cards[card].card.state;
}

/* Its engine has said three tokens of the answer, and card 1 is to be drained. */
static void drain_beside_a_request(const char *script) {
    open_world(3, script);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.n == 3);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(w.engines.number, 1);
    CHECK_EQ(state_of(1), CARD_DRAINING);
}

static void a_card_is_drained_when_the_one_that_leaves_is_gone(void) {
    drain_beside_a_request("yo");
    const ino_t held = weights_of(0), drained = weights_of(1);
    CHECK(w.engines.beside.process && !w.engines.beside.leaves);
    WAIT_FOR(w.engines.number == 2);
    CHECK(w.engines.beside.process && w.engines.beside.leaves);
    CHECK_EQ(state_of(1), CARD_DRAINING);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK(weights_of(0) != held); /* each has its own */
    has_answered();
    WAIT_FOR(!w.engines.beside.process);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(weights_of(1), drained);
    CHECK_EQ(c.pauses, 0);
    CHECK_EQ(w.engines.n_ends[0], 0);
    CHECK_EQ(w.engines.n_ends[1], 1);
    is_answered();
    close_world();
}

/* The card has room for both plans, but not beside what lies there from before. */
static void what_a_card_holds_beyond_its_plan_takes_room_too(void) {
    open_world(3, "yo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.n == 3);
    w.config.weights = WEIGHTS_HELD;
    const uint64_t was = w.engines.cards[2].memory.bytes;
    w.engines.cards[2].memory.bytes = w.engines.cards[2].capacity_bytes;
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK(!w.engines.beside.process);
    w.engines.cards[2].memory.bytes = was;
    w.config.weights = WEIGHTS_SHARED;
    has_answered();
    CHECK_EQ(c.pauses, 1);
    close_world();
}

static void without_room_for_both_requests_wait(void) {
    struct events log;
    const struct event *told;
    open_world(3, "yo");
    CHECK_EQ(events_init(&log, 16), 0);
    w.engines.log = &log;
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.n == 3);
    w.engines.cards[2].capacity_bytes = 1 << 10;
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK(!w.engines.beside.process);
    for (uint64_t at = 1; (told = events_get(&log, at)) && strcmp(told->kind, "no_room"); at++)
        ;
    CHECK(told && told->card == 2 && strstr(told->text, "two generations"));
    has_answered();
    CHECK_EQ(c.pauses, 1);
    CHECK_EQ(w.engines.number, 2);
    close_world();
    events_finish(&log);
}

static void one_that_cannot_take_over_is_done_without(void) {
    drain_beside_a_request("yfo");
    has_answered();
    CHECK_EQ(c.pauses, 1);
    CHECK_EQ(w.engines.number, 3);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(w.engines.n_ends[0], 0);
    close_world();
}

/* Card 2 is used by the one that serves, which has its own watch. */
static void so_is_one_that_waits_for_a_silent_card(void) {
    drain_beside_a_request("yko");
    has_answered();
    CHECK_EQ(c.pauses, 1);
    CHECK_EQ(w.engines.number, 3);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(state_of(2), CARD_ONLINE);
    close_world();
}

static void a_silent_card_that_only_it_would_use_is_fenced(void) {
    open_world(3, "oyko");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_drain(&w.engines, 2, false, &err), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    WAIT_FOR(c.n == 3);
    CHECK_EQ(engines_want(&w.engines, 2, &err), 0);
    WAIT_FOR(state_of(2) == CARD_FENCED);
    CHECK(strstr(w.engines.cards[2].card.history[w.engines.cards[2].card.n_history - 1].why,
                 "while a model was loaded"));
    WAIT_FOR(!w.engines.beside.process);
    CHECK(!w.engines.plan.cards[2].online);
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    CHECK_EQ(w.engines.number, 2); /* the one that serves was not disturbed */
    CHECK_EQ(c.n, 3);
    CHECK_EQ(c.pauses, 0);
    close_world();
}

static void a_card_that_refuses_what_it_holds_is_given_none_of_it_the_next_time(void) {
    drain_beside_a_request("yTo");
    has_answered();
    WAIT_FOR(w.engines.number == 3);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK_EQ(c.pauses, 0);
    WAIT_FOR(!w.engines.beside.process);
    is_answered();
    close_world();
}

static void a_loss_meanwhile_comes_first(void) {
    drain_beside_a_request("yso");
    CHECK_EQ(engines_lose(&w.engines, 0, &err), 0);
    CHECK(w.engines.beside.deaf);
    has_answered();
    CHECK_EQ(w.engines.number, 3);
    CHECK(!w.engines.plan.cards[0].online && w.engines.plan.cards[2].online);
    CHECK_EQ(w.engines.n_ends[0], 0);
    close_world();
}

static void what_is_not_wanted_any_more_is_dropped(void) {
    drain_beside_a_request("yso");
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK(w.engines.beside.deaf);
    WAIT_FOR(!w.engines.beside.process);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(w.engines.number, 1);
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    CHECK_EQ(c.pauses, 0);
    close_world();
}

static void the_engine_that_serves_may_die_meanwhile(void) {
    drain_beside_a_request("yso");
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    has_answered();
    CHECK_EQ(w.engines.number, 3);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    close_world();
}

/* One that is silent is not waited for: what it holds is replayed. */
static void one_that_leaves_and_says_nothing_is_ended(void) {
    prepare_world(3, "wo");
    w.config.engine_silence_s = 20;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    WAIT_FOR(w.engines.number == 2);
    for (int s = 0; s <= 20; s++) {
        CHECK(!w.engines.beside.asked);
        engines_tick(&w.engines);
    }
    CHECK(w.engines.beside.asked);
    has_answered();
    CHECK_EQ(w.engines.number, 2);
    WAIT_FOR(state_of(1) == CARD_DRAINED);
    close_world();
}

/* Only what it owes itself counts against the one that serves. */
static void one_that_has_taken_over_and_has_nothing_to_do_is_not_silent(void) {
    prepare_world(3, "wo");
    w.config.engine_silence_s = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    WAIT_FOR(w.engines.number == 2);
    const uint64_t end_ns = uv_hrtime() + UINT64_C(2000000000);
    WAIT_FOR(uv_hrtime() > end_ns);
    CHECK(w.engines.beside.process);
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    close_world();
}

static void the_service_stops_while_one_is_to_take_over(void) {
    drain_beside_a_request("ys");
    close_world();
}

static void the_service_stops_while_one_leaves(void) {
    drain_beside_a_request("yw");
    WAIT_FOR(w.engines.number == 2);
    CHECK(w.engines.beside.leaves);
    close_world();
}

CHECK_MAIN(T(a_card_is_drained_when_the_one_that_leaves_is_gone),
           T(what_a_card_holds_beyond_its_plan_takes_room_too),
           T(without_room_for_both_requests_wait), T(one_that_cannot_take_over_is_done_without),
           T(so_is_one_that_waits_for_a_silent_card),
           T(a_silent_card_that_only_it_would_use_is_fenced),
           T(a_card_that_refuses_what_it_holds_is_given_none_of_it_the_next_time),
           T(a_loss_meanwhile_comes_first), T(what_is_not_wanted_any_more_is_dropped),
           T(the_engine_that_serves_may_die_meanwhile),
           T(one_that_leaves_and_says_nothing_is_ended),
           T(one_that_has_taken_over_and_has_nothing_to_do_is_not_silent),
           T(the_service_stops_while_one_is_to_take_over), T(the_service_stops_while_one_leaves))
