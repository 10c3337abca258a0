/* SPDX-License-Identifier: Apache-2.0 */
/* After an end that nobody explained the next generation tries its cards, where they are real. */
#include "tests/unit/daemon/service/engines_world.h"

/* Bytes of a card: of the tiny model at 64 tokens it holds more than half, and not all. */
#define ROOM_FOR_HALF (800u << 10)

static int no_probe(struct device_found *found, struct err *err) {
    (void)found;
    return err_set(err, -ENODEV, "nobody asks here");
}

/* Only what decides it is real. */
static void open_real_world(uint32_t cards, const char *script) {
    static struct device_ops real;
    struct err err;
    prepare_world(cards, script);
    real = *device_backend("cpu");
    real.probe = no_probe;
    w.engines.backend = &real;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
}

static bool is_lost(uint32_t card) {
    return w.engines.cards[card].card.state == CARD_LOST;
}

static void the_card_that_ended_an_engine_is_found_by_the_next(void) {
    open_real_world(3, "dpo");
    is_answered();
    CHECK_EQ(w.engines.number, 3);
    CHECK(is_lost(2) && !w.engines.plan.cards[2].online);
    CHECK_EQ(engines_online(&w.engines), 2);
    CHECK(strstr(w.engines.cards[2].card.history[0].why, "it was silent"));
    CHECK_EQ(w.engines.n_deaths, 0); /* one that names a card is no death */
    close_world();
}

static void a_first_engine_that_refuses_is_followed_by_one_that_tries(void) {
    open_real_world(2, "fpo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.number, 3);
    CHECK(is_lost(1));
    CHECK(!w.failed[0]);
    is_answered();
    close_world();
}

static void one_that_tried_and_refuses_is_believed(void) {
    open_real_world(2, "ff");
    WAIT_FOR(w.failed[0]);
    CHECK(strstr(w.failed, "no memory left"));
    CHECK_EQ(w.engines.number, 2);
    close_world();
}

/* The scripted engine that would name a card serves where it is not told to try. */
static void an_end_that_is_understood_has_nothing_tried(void) {
    open_real_world(2, "wpo");
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(engines_online(&w.engines), 2);
    close_world();
}

static void simulated_cards_are_not_tried(void) {
    open_world(2, "dp");
    is_answered();
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(engines_online(&w.engines), 2);
    close_world();
}

static void a_link_that_cannot_be_used_is_staged_and_no_card_is_lost(void) {
    open_real_world(2, "dqo");
    is_answered();
    CHECK_EQ(w.engines.number, 3);
    CHECK_EQ(engines_online(&w.engines), 2);
    CHECK_EQ(w.topology.links[0][1].mode, LINK_STAGED);
    CHECK(strstr(w.topology.links[0][1].reason, "it was ended"));
    CHECK_EQ(w.topology.links[1][0].mode, LINK_DIRECT);
    CHECK_EQ(w.engines.ready.cards[1].kv_bytes, 1u << 0); /* so it was told */
    close_world();
}

/* The split that was asked for needs direct links, and one card alone has no room. */
static void a_link_that_reads_wrong_bytes_is_staged_and_does_not_end_the_service(void) {
    struct err err;
    prepare_world(2, "io");
    SIZE_CARDS(ROOM_FOR_HALF, ROOM_FOR_HALF);
    w.config.split = SPLIT_TENSOR;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    WAIT_FOR(w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.plan.split, SPLIT_TENSOR);
    CHECK_EQ(w.topology.links[0][1].mode, LINK_STAGED);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    WAIT_FOR(w.engines.number == 2 && w.engines.state == ENGINES_SERVING);
    CHECK_EQ(w.engines.plan.split, SPLIT_LAYER);
    is_answered();
    close_world();
}

CHECK_MAIN(T(a_link_that_cannot_be_used_is_staged_and_no_card_is_lost),
           T(a_link_that_reads_wrong_bytes_is_staged_and_does_not_end_the_service),
           T(the_card_that_ended_an_engine_is_found_by_the_next),
           T(a_first_engine_that_refuses_is_followed_by_one_that_tries),
           T(one_that_tried_and_refuses_is_believed),
           T(an_end_that_is_understood_has_nothing_tried), T(simulated_cards_are_not_tried))
