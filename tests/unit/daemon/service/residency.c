/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine says of its memory and links, and what is told of it. */
#include "daemon/service/line.h"
#include "tests/unit/daemon/service/engines_world.h"

#define SERVES(n) WAIT_FOR(w.engines.number == (n) && w.engines.state == ENGINES_SERVING)

static uint32_t count_told(const struct events *log, const struct event **last) {
    uint32_t n = 0;
    for (uint64_t i = events_first(log); i <= log->last; i++)
        if (!strcmp(events_get(log, i)->kind, "residency")) {
            *last = events_get(log, i);
            n++;
        }
    return n;
}

static void what_does_not_lie_on_its_card_is_told(void) {
    const struct event *event = NULL;
    struct events log;
    open_world(2, "m");
    CHECK_EQ(events_init(&log, 64), 0);
    w.engines.log = &log;
    SERVES(1);
    CHECK_EQ(count_told(&log, &event), 1);
    CHECK_EQ(event->card, 1);
    CHECK(strstr(event->text, "card 1: 3 of 4 KiB"));
    /* What cannot be told is no complaint. */
    w.engines.ready.cards[1].resident_bytes = -1;
    line_tell_residency(&w.engines);
    CHECK_EQ(count_told(&log, &event), 1);
    is_answered();
    w.engines.log = NULL;
    events_finish(&log);
    close_world();
}

static void what_links_carried_is_counted_over_generations(void) {
    struct err err;
    open_world(2, "cc");
    SERVES(1);
    WAIT_FOR(w.engines.carried.n[1][0] == 100);
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    SERVES(2);
    WAIT_FOR(w.engines.carried.n[1][0] == 100);
    CHECK_EQ(w.engines.carried_before.n[1][0], 100);
    CHECK_EQ(w.engines.carried_before.n[0][1], 0);
    close_world();
}

CHECK_MAIN(T(what_does_not_lie_on_its_card_is_told),
           T(what_links_carried_is_counted_over_generations))
