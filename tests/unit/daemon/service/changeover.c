/* SPDX-License-Identifier: Apache-2.0 */
/* Cards come and go while generations serve. */
#include "tests/unit/daemon/service/engines_world.h"

static enum card_state state_of(uint32_t card) {
    return w.engines.cards[card].card.state;
}

#define SERVES(n) WAIT_FOR(w.engines.number == (n) && w.engines.state == ENGINES_SERVING)

static void a_drained_card_is_planned_without_and_nothing_is_lost(void) {
    struct err err;
    open_world(3, "yo");
    SERVES(1);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(state_of(1), CARD_DRAINING);
    CHECK(w.engines.plan.cards[1].online);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(c.finish, FINISH_LENGTH);
    CHECK_EQ(w.engines.number, 2);
    WAIT_FOR(state_of(1) != CARD_DRAINING);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK(w.engines.plan.cards[0].online && w.engines.plan.cards[2].online);
    CHECK_EQ(w.engines.n_ends[0], 0); /* nobody is to blame */
    CHECK(w.engines.cards[1].memory.fd >= 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK(w.engines.cards[1].memory.fd >= 0);
    CHECK_EQ(engines_drain(&w.engines, 1, true, &err), 0);
    CHECK_EQ(state_of(1), CARD_OFFLINE);
    CHECK_EQ(w.engines.cards[1].memory.fd, -1);
    CHECK_EQ(engines_drain(&w.engines, 1, true, &err), 0);
    CHECK_EQ(state_of(1), CARD_OFFLINE);
    CHECK_EQ(w.engines.number, 2);
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
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(engines_want(&w.engines, 2, &err), -EINVAL);
    CHECK_EQ(w.engines.number, 3);
    is_answered();
    close_world();
}

static void a_release_lets_go_of_what_the_card_held(void) {
    open_world(2, "o");
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 0, true, NULL), 0);
    SERVES(2);
    CHECK_EQ(state_of(0), CARD_OFFLINE);
    CHECK_EQ(w.engines.cards[0].memory.fd, -1);
    close_world();
}

static void what_the_others_cannot_hold_is_not_drained(void) {
    struct err err;
    prepare_world(2, "o");
    SIZE_CARDS(64u << 20, 1u << 10);
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

/* What it says behind the report is wrong, and would be seen in the answer. */
static void a_fenced_card_is_planned_without_and_its_engine_not_heard_any_more(void) {
    open_world(3, "ho");
    SERVES(1);
    is_answered();
    SERVES(2);
    CHECK_EQ(state_of(2), CARD_FENCED);
    CHECK_EQ(w.engines.cards[2].card.faults[CARD_FAULT_SILENT], 1);
    CHECK(strstr(w.engines.cards[2].card.history[0].why, "1.50 s"));
    CHECK_EQ(w.engines.cards[2].memory.fd, -1);
    CHECK(!w.engines.plan.cards[2].online && w.engines.plan.cards[1].online);
    CHECK_EQ(w.engines.n_ends[1], 1); /* explained: no request is to blame */
    is_answered();
    close_world();
}

static void so_is_one_that_is_silent_while_a_model_is_loaded(void) {
    open_world(3, "ko");
    SERVES(2);
    CHECK_EQ(state_of(2), CARD_FENCED);
    CHECK(strstr(w.engines.cards[2].card.history[0].why, "while a model was loaded for 2.50 s"));
    CHECK(!w.engines.plan.cards[2].online && w.engines.plan.cards[1].online);
    CHECK_EQ(w.engines.n_ends[1], 1);
    is_answered();
    close_world();
}

static void what_cannot_hang_is_refused(void) {
    struct err err;
    open_world(3, "ho");
    CHECK_EQ(engines_hang(&w.engines, 3, &err), -EINVAL);
    CHECK_EQ(engines_hang(&w.engines, 1, &err), -ENODEV); /* it starts */
    SERVES(1);
    CHECK_EQ(engines_hang(&w.engines, 1, &err), 0);
    is_answered();
    SERVES(2);
    CHECK_EQ(engines_hang(&w.engines, 2, &err), -EINVAL);
    CHECK(strstr(err.text, "card 2") && strstr(err.text, "fenced"));
    close_world();
}

static void an_engine_killed_while_a_card_is_drained_changes_nothing(void) {
    struct err err;
    open_world(3, "twwo"); /* the second was to take over; the third one dies, too */
    SERVES(1);
    CHECK_EQ(submit(&err), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    WAIT_FOR(w.engines.number == 3 && w.engines.current);
    CHECK_EQ(state_of(1), CARD_DRAINING);
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    WAIT_FOR(c.ends);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(w.engines.number, 4);
    CHECK_EQ(w.engines.n_ends[0], 0); /* nobody is to blame */
    close_world();
}

static void a_drain_the_others_can_no_longer_do_without_is_called_off(void) {
    struct err err;
    prepare_world(3, "to");
    SIZE_CARDS(64u << 20, 64u << 20, 1u << 10);
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

static void a_late_report_of_a_known_loss_is_no_second_one(void) {
    struct err err;
    open_world(2, "o");
    SERVES(1);
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
    CHECK_EQ(engines_return(&w.engines, 1, &err), 0); /* the engine has not said a word yet */
    SERVES(2);
    CHECK_EQ(state_of(1), CARD_PROBING);
    CHECK_EQ(w.engines.cards[1].card.faults[CARD_FAULT_LOST], 1);
    CHECK(!w.engines.plan.cards[1].online);
    close_world();
}

static void a_card_taken_back_at_once_is_used_by_the_next_engine(void) {
    struct err err;
    open_world(2, "wo"); /* the first one never says that it lost it */
    SERVES(1);
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    engines_tick(&w.engines);
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    CHECK_EQ(state_of(1), CARD_PROBING); /* the engine that there is must not be believed */
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    SERVES(2);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK(w.engines.plan.cards[1].online);
    is_answered();
    close_world();
}

static void a_card_that_is_too_small_alone_is_back_all_the_same(void) {
    struct err err;
    prepare_world(2, "o");
    SIZE_CARDS(64u << 20, 1u << 10);
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
    CHECK_EQ(engines_lose(&w.engines, 0, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_WAITING);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    CHECK_EQ(engines_want(&w.engines, 0, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    is_answered();
    close_world();
}

static void one_that_does_not_say_that_it_lost_a_card_is_replaced(void) {
    struct err err;
    prepare_world(2, "wo");
    w.config.engine_silence_s = 1;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0); /* and nothing runs */
    SERVES(2);
    CHECK(!w.engines.plan.cards[1].online);
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
    SIZE_CARDS(64u << 20, 1u << 10);
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
    SIZE_CARDS(64u << 20, 1u << 10, 64u << 20);
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
    static const struct {
        const char *kind, *to;
        const char *words;
    } want[] = {{"start", NULL, "generation 1 starts on 2 cards"},
                {"ready", NULL, "generation 1 serves"},
                {"card", "draining", "card 1 is draining: an operator"},
                {"end", NULL, "generation 1 hands over"},
                {"start", NULL, "generation 2 starts on 1 card"},
                {"card", "drained", "card 1 is drained"},
                {"card", "offline", "card 1 is offline"},
                {"ready", NULL, "generation 2 serves"},
                {"card", "lost", "card 0 is lost: a rehearsed loss"}};
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
    CHECK_EQ(log.last, sizeof want / sizeof *want);
    for (uint64_t i = 1; i <= log.last; i++) {
        const struct event *event = events_get(&log, i);
        printf("# %s\n", event->text);
        CHECK(!strcmp(event->kind, want[i - 1].kind));
        CHECK(!want[i - 1].to || !strcmp(event->to, want[i - 1].to));
        CHECK(strstr(event->text, want[i - 1].words));
    }
    CHECK(strstr(events_get(&log, 4)->text, "card 1 is drained"));
    w.engines.log = NULL;
    events_finish(&log);
    close_world();
}

/* No engine is there: nothing uses a card, and whoever waits for one is not kept. */
static void while_nothing_serves_a_drain_is_over_at_once(void) {
    struct err err;
    open_world(2, "ob"); /* all that come after the first one die */
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(state_of(1), CARD_DRAINING);
    WAIT_FOR(w.engines.state == ENGINES_RESTING);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK(w.engines.cards[1].memory.fd >= 0);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(engines_drain(&w.engines, 1, true, &err), 0);
    CHECK_EQ(state_of(1), CARD_OFFLINE);
    CHECK_EQ(w.engines.cards[1].memory.fd, -1);
    CHECK_EQ(w.engines.state, ENGINES_RESTING);
    close_world();
}

/* Said once, and for no_card_wait from then on, whatever is done to cards that are of no use. */
static void who_waits_for_a_card_waits_no_longer_for_what_is_of_no_use(void) {
    struct err err;
    struct events log;
    prepare_world(3, "o");
    SIZE_CARDS(64u << 20, 1u << 10, 1u << 10);
    CHECK_EQ(events_init(&log, 32), 0);
    w.engines.log = &log;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    SERVES(1);
    for (uint32_t i = 3; i-- > 0;)
        CHECK_EQ(engines_lose(&w.engines, i, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_WAITING);
    const uint64_t from = log.last;
    while (uv_timer_get_due_in(&w.engines.timer) > 900)
        uv_run(&w.loop, UV_RUN_ONCE);
    CHECK_EQ(engines_drain(&w.engines, 0, false, &err), 0);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    CHECK(uv_is_active((uv_handle_t *)&w.engines.timer));
    CHECK(uv_timer_get_due_in(&w.engines.timer) <= 900);
    for (uint64_t i = from + 1; i <= log.last; i++)
        CHECK(!strcmp(events_get(&log, i)->kind, "card"));
    CHECK(strstr(w.engines.why, "does not fit")); /* as it is with card 1 */
    CHECK_EQ(engines_want(&w.engines, 0, &err), 0);
    SERVES(2);
    is_answered();
    w.engines.log = NULL;
    events_finish(&log);
    close_world();
}

CHECK_MAIN(T(a_drained_card_is_planned_without_and_nothing_is_lost),
           T(a_card_taken_back_is_planned_and_finds_what_it_held),
           T(a_release_lets_go_of_what_the_card_held),
           T(what_the_others_cannot_hold_is_not_drained), T(the_last_card_is_not_drained),
           T(a_card_lost_while_it_is_drained_stays_out),
           T(an_engine_killed_while_a_card_is_drained_changes_nothing),
           T(a_drain_the_others_can_no_longer_do_without_is_called_off),
           T(a_card_drained_while_the_engine_starts_is_not_used),
           T(a_card_that_returns_is_used_when_it_was_quiet_and_nothing_runs),
           T(a_late_report_of_a_known_loss_is_no_second_one),
           T(a_card_that_is_too_small_alone_is_back_all_the_same),
           T(while_nothing_serves_a_drain_is_over_at_once),
           T(who_waits_for_a_card_waits_no_longer_for_what_is_of_no_use),
           T(one_that_does_not_say_that_it_lost_a_card_is_replaced),
           T(a_card_taken_back_at_once_is_used_by_the_next_engine),
           T(ten_losses_within_a_minute_quarantine_a_card),
           T(cards_held_back_from_the_start_are_waited_for),
           T(a_card_that_holds_nothing_goes_and_comes_without_a_word),
           T(a_fenced_card_is_planned_without_and_its_engine_not_heard_any_more),
           T(so_is_one_that_is_silent_while_a_model_is_loaded), T(what_cannot_hang_is_refused),
           T(events_tell_the_story_in_order))
