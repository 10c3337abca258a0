/* SPDX-License-Identifier: Apache-2.0 */
/* What waits while memory is short, and what does not. */
#include "daemon/service/events.h"
#include "daemon/service/memory.h"
#include "daemon/service/store.h"
#include "tests/unit/daemon/service/engines_world.h"

#define SERVES(n) WAIT_FOR(w.engines.number == (n) && w.engines.state == ENGINES_SERVING)

static void a_drain_waits_until_memory_is_not_short_any_more(void) {
    struct err err;
    struct events log;
    open_world(3, "oo");
    SERVES(1);
    CHECK_EQ(events_init(&log, 64), 0);
    w.engines.log = &log;
    CHECK_EQ(engines_press(&w.engines, true, true), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    const struct event *event = events_get(&log, log.last);
    CHECK(!strcmp(event->kind, "pressure") && strstr(event->text, "put off"));
    CHECK(strstr(event->text, "card 1 is drained"));
    is_answered(); /* on the card that is to be drained, too */
    CHECK_EQ(w.engines.number, 1);
    CHECK_EQ(w.engines.cards[1].card.state, CARD_DRAINING);
    CHECK_EQ(engines_press(&w.engines, false, false), 0);
    SERVES(2);
    WAIT_FOR(w.engines.cards[1].card.state == CARD_DRAINED);
    CHECK(!w.engines.plan.cards[1].online);
    is_answered();
    w.engines.log = NULL;
    events_finish(&log);
    close_world();
}

/* The engines of these tests load nothing: as if the card's had loaded this much. */
static uint64_t fill_memory(uint32_t card) {
    char bytes[8192];
    memset(bytes, 1, sizeof bytes);
    CHECK_EQ(pwrite(w.engines.cards[card].memory.fd, bytes, sizeof bytes, 0),
             (ssize_t)sizeof bytes);
    return memory_held_bytes(&w.engines.cards[card].memory);
}

static void what_a_drained_card_holds_is_given_back(void) {
    struct err err;
    open_world(3, "ooo");
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    SERVES(2);
    WAIT_FOR(w.engines.cards[1].card.state == CARD_DRAINED);
    const uint64_t bytes = fill_memory(1), room = w.engines.cards[1].memory.bytes;
    const ino_t used = weights_of(0);
    CHECK(bytes >= 8192 && bytes < room);
    CHECK_EQ(engines_press(&w.engines, false, true), 0); /* not asked to */
    CHECK_EQ(engines_press(&w.engines, true, true), bytes);
    CHECK_EQ(w.engines.cards[1].memory.fd, -1);
    CHECK_EQ(weights_of(0), used); /* what is in use stays */
    CHECK_EQ(engines_press(&w.engines, true, true), 0);
    CHECK_EQ(engines_press(&w.engines, false, false), 0);
    CHECK_EQ(engines_want(&w.engines, 1, &err), 0); /* and it can be taken back */
    SERVES(3);
    WAIT_FOR(w.engines.cards[1].card.state == CARD_ONLINE);
    is_answered();
    close_world();
}

/* What systemd holds a descriptor of stays in memory, whoever else closes it. */
static void it_is_not_kept_for_the_next_service_either(void) {
    struct err err;
    struct store store;
    store_init(&store);
    open_world(3, "oo");
    SERVES(1);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    SERVES(2);
    WAIT_FOR(w.engines.cards[1].card.state == CARD_DRAINED);
    fill_memory(1);
    w.engines.store = &store;
    store.slots[0].kept = store.slots[1].kept = true;
    CHECK(engines_press(&w.engines, true, true) > 0);
    CHECK(!store.slots[1].kept);
    CHECK(store.slots[0].kept); /* this one is used */
    w.engines.store = NULL;
    close_world();
}

static void a_loss_does_not_wait(void) {
    struct err err;
    open_world(3, "ooo");
    SERVES(1);
    CHECK_EQ(engines_press(&w.engines, true, true), 0);
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), 0);
    CHECK_EQ(engines_lose(&w.engines, 2, &err), 0);
    SERVES(2);
    CHECK(!w.engines.plan.cards[2].online);
    CHECK(!w.engines.plan.cards[1].online); /* a plan was due anyway */
    WAIT_FOR(w.engines.cards[1].card.state == CARD_DRAINED);
    is_answered();
    /* What was owed is done, and is not done twice. */
    CHECK_EQ(engines_press(&w.engines, false, false), 0);
    is_answered();
    CHECK_EQ(w.engines.number, 2);
    close_world();
}

/* The generation that follows is told as well; what comes back by itself waits. */
static void nothing_is_begun_for_a_card_that_is_back_by_itself(void) {
    struct err err;
    open_world(3, "ooo");
    w.config.card_quiet_s = 0;
    SERVES(1);
    CHECK_EQ(engines_lose(&w.engines, 2, &err), 0);
    SERVES(2);
    CHECK_EQ(engines_press(&w.engines, true, true), 0);
    CHECK_EQ(engines_return(&w.engines, 2, &err), 0);
    for (int i = 0; i < 5; i++)
        engines_tick(&w.engines);
    is_answered();
    CHECK_EQ(w.engines.number, 2);
    CHECK_EQ(w.engines.cards[2].card.state, CARD_PROBING);
    CHECK_EQ(engines_press(&w.engines, false, false), 0);
    engines_tick(&w.engines);
    SERVES(3);
    CHECK_EQ(w.engines.cards[2].card.state, CARD_ONLINE);
    close_world();
}

CHECK_MAIN(T(a_drain_waits_until_memory_is_not_short_any_more),
           T(what_a_drained_card_holds_is_given_back),
           T(it_is_not_kept_for_the_next_service_either), T(a_loss_does_not_wait),
           T(nothing_is_begun_for_a_card_that_is_back_by_itself))
