/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in use: what is asked of an engine, and what follows from its answers. */
#include "tests/unit/daemon/service/engines_world.h"

#define SERVES(n) WAIT_FOR(w.engines.number == (n) && w.engines.state == ENGINES_SERVING)

static void a_check_is_answered_once_or_ends_with_its_engine(void) {
    struct err err;
    open_world(2, "ow");
    CHECK_EQ(engines_check(&w.engines, -1, &err), -ENODEV); /* it still starts */
    SERVES(1);
    CHECK_EQ(engines_check(&w.engines, 2, &err), -EINVAL);
    CHECK_EQ(engines_check(&w.engines, -1, &err), 0);
    CHECK_EQ(engines_check(&w.engines, -1, &err), 0); /* joins the first */
    CHECK_EQ(engines_check(&w.engines, 1, &err), -EBUSY);
    WAIT_FOR(w.checked);
    CHECK_EQ(w.checked, 1);
    CHECK_EQ(w.verified.cards[1].ranges, 9);
    CHECK_EQ(w.engines.check.bytes, 1000);
    CHECK_EQ(w.engines.cards[1].card.n_history, 0);

    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    SERVES(2);
    CHECK_EQ(engines_check(&w.engines, 0, &err), 0); /* this one says nothing */
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    WAIT_FOR(w.checked == 2);
    CHECK(strstr(w.why, "ended before"));
    close_world();
}

/* Nobody asks it for tokens, and yet its answer is waited for. */
static void an_engine_that_hangs_over_a_check_is_replaced(void) {
    struct err err;
    open_world(2, "wo");
    w.config.engine_silence_s = 1;
    SERVES(1);
    CHECK_EQ(engines_check(&w.engines, -1, &err), 0);
    WAIT_FOR(w.checked);
    CHECK(strstr(w.why, "ended before"));
    SERVES(2);
    CHECK_EQ(engines_measure(&w.engines, &err), 0);
    WAIT_FOR(w.measured);
    CHECK_EQ(w.engines.number, 2);
    is_answered();
    close_world();
}

/* Weights that cannot be read again end an engine, and whoever runs on it is not to blame. */
static void an_engine_that_says_why_it_gives_up_makes_nobody_a_suspect(void) {
    struct err err;
    struct scheduler_counts counts;
    open_world(2, "gggo");
    SERVES(1);
    CHECK_EQ(submit(&err), 0);
    for (uint32_t i = 1; i <= 3; i++) {
        SERVES(i);
        do {
            uv_run(&w.loop, UV_RUN_ONCE);
            scheduler_counts(w.scheduler, &counts);
        } while (counts.running == 0);
        CHECK_EQ(engines_check(&w.engines, -1, &err), 0);
    }
    WAIT_FOR(c.ends);
    CHECK_EQ(c.finish, FINISH_LENGTH);
    CHECK_EQ(c.n, TOKENS);
    CHECK_EQ(w.engines.n_ends[0], 0);
    CHECK_EQ(w.engines.n_ends[1], 3);
    close_world();
}

static void a_harmed_card_is_told_of_and_used_on(void) {
    struct err err;
    struct events log;
    open_world(2, "o");
    CHECK_EQ(events_init(&log, 64), 0);
    w.engines.log = &log;
    SERVES(1);
    const uint64_t before = log.last;
    const ino_t held = weights_of(1);
    CHECK_EQ(engines_corrupt(&w.engines, 2, false, &err), -EINVAL);
    CHECK_EQ(engines_corrupt(&w.engines, 1, false, &err), 0);
    WAIT_FOR(w.engines.cards[1].card.n_history);
    CHECK_EQ(log.last, before + 1);
    const struct event *event = events_get(&log, log.last);
    CHECK(!strcmp(event->kind, "harmed") && event->card == 1);
    CHECK(!strcmp(event->tensor, "blk.1.ffn_up.weight"));
    CHECK(strstr(event->text, "last known whole 2.500 s before"));
    CHECK_EQ(w.engines.cards[1].card.state, CARD_ONLINE);
    CHECK_EQ(w.engines.cards[1].card.faults[CARD_FAULT_CORRUPT], 1);
    CHECK_EQ(w.engines.check.harmed, 1);
    CHECK_EQ(w.engines.check.repaired, 1);
    CHECK_EQ(weights_of(1), held); /* it is in use */
    CHECK_EQ(w.engines.number, 1);
    is_answered();
    w.engines.log = NULL;
    events_finish(&log);
    close_world();
}

static void one_that_is_harmed_too_often_is_not_used_any_more(void) {
    struct err err;
    open_world(2, "o");
    SERVES(1);
    for (uint32_t i = 0; i < w.config.card_faults; i++) {
        CHECK_EQ(w.engines.cards[1].card.state, CARD_ONLINE);
        CHECK_EQ(engines_corrupt(&w.engines, 1, false, &err), 0);
        WAIT_FOR(w.engines.check.harmed > i && w.engines.cards[1].card.n_history > i);
    }
    CHECK_EQ(w.engines.cards[1].card.state, CARD_QUARANTINED);
    SERVES(2);
    CHECK(!w.engines.plan.cards[1].online);
    CHECK_EQ(w.engines.n_ends[0], 0); /* nobody is to blame */
    is_answered();
    close_world();
}

CHECK_MAIN(T(a_check_is_answered_once_or_ends_with_its_engine),
           T(an_engine_that_hangs_over_a_check_is_replaced),
           T(an_engine_that_says_why_it_gives_up_makes_nobody_a_suspect),
           T(a_harmed_card_is_told_of_and_used_on),
           T(one_that_is_harmed_too_often_is_not_used_any_more))
