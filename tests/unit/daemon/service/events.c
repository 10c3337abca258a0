/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/events.h"

#include "tests/check.h"

static void add(struct events *events, int32_t card) {
    const struct event event = {.kind = "card", .card = card, .number = 999};
    events_add(events, &event);
}

static void numbers_have_no_gap_and_the_oldest_make_room(void) {
    struct events events;
    CHECK_EQ(events_init(&events, 4), 0);
    CHECK_EQ(events_first(&events), 1);
    CHECK(!events_get(&events, 0) && !events_get(&events, 1));
    for (int32_t i = 1; i <= 10; i++) {
        add(&events, i);
        CHECK_EQ(events.last, i);
        const uint64_t first = i > 4 ? (uint64_t)i - 3 : 1;
        CHECK_EQ(events_first(&events), first);
        for (uint64_t number = 0; number < 12; number++) {
            const struct event *event = events_get(&events, number);
            CHECK_EQ(event != NULL, number >= first && number <= (uint64_t)i);
            if (event) {
                CHECK_EQ(event->number, number);
                CHECK_EQ(event->card, number);
                CHECK(event->ms > UINT64_C(1600000000000));
            }
        }
    }
    events_finish(&events);
}

CHECK_MAIN(T(numbers_have_no_gap_and_the_oldest_make_room))
