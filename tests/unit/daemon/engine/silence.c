/* SPDX-License-Identifier: Apache-2.0 */
/* How long a card is silent, on plain ticks: what is late, and what is not. */
#include "daemon/engine/silence.h"

#include "tests/check.h"

#define US   UINT64_C(1000)
#define MS   (1000 * US)
#define S    (1000 * MS)
#define TICK (50 * MS)

/* A watch whose ticks all come so late.  Something is done until then; when the deadline is over.
 */
static uint64_t time_of_fence(uint64_t late_ns, uint64_t done_until_ns, uint64_t deadline_ns) {
    struct silence s;
    uint64_t now, work = 0;
    bool over;
    silence_begin(&s, TICK, 0);
    do {
        now = s.due_ns + late_ns;
        work = now < done_until_ns ? now : done_until_ns;
        over = silence_tick(&s, work, deadline_ns, now);
    } while (!over);
    return now;
}

/* 600 ticks, each of them as late as a busy machine makes them. */
static void lateness_does_not_add_up_over_a_long_deadline(void) {
    CHECK_EQ(time_of_fence(0, 0, 30 * S), 30 * S);
    CHECK_EQ(time_of_fence(700 * US, 0, 30 * S), 30 * S + 700 * US);
    CHECK_EQ(time_of_fence(40 * MS, 0, 30 * S), 30 * S + 40 * MS);
}

/* Whenever it was that the card stopped. */
static void a_deadline_is_not_overdrawn_and_ends_a_tick_too_early_at_most(void) {
    for (uint64_t stops = 1 * MS; stops < 400 * MS; stops += 1 * MS) {
        const uint64_t at = time_of_fence(0, stops, 1 * S);
        const uint64_t worked = stops < 100 * MS ? stops : 100 * MS;
        CHECK(at <= stops - worked + 1 * S);
        CHECK(at >= stops - worked + 1 * S - TICK);
    }
}

/* A card that stops while the step does what it always does. */
static void a_step_is_ended_when_it_has_run_for_its_deadline(void) {
    static const uint64_t deadlines[] = {1 * S, 2200 * MS, 30 * S};
    for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++)
        for (uint64_t stops = 0; stops <= deadlines[i] / 10; stops += 1 * MS)
            CHECK_EQ(time_of_fence(0, stops, deadlines[i]), deadlines[i]);
}

/* However long it works first: that makes it a slow one, which has to be silent all the same. */
static void what_was_done_counts_as_a_tenth_at_most(void) {
    for (uint64_t stops = 200 * MS; stops < 20 * S; stops += 30 * MS)
        CHECK(time_of_fence(0, stops, 1 * S) >= stops + 900 * MS - TICK);
}

/* A load waits for its cards again and again: what was done before is none of the next wait's. */
static void each_of_many_waits_has_the_whole_deadline(void) {
    struct silence s;
    silence_begin(&s, TICK, 0);
    s.many = true;
    for (uint64_t i = 1; i < 100; i++)
        CHECK(!silence_tick(&s, i, 20 * TICK, i * TICK));
    for (uint64_t i = 100; i < 118; i++)
        CHECK(!silence_tick(&s, 99, 20 * TICK, i * TICK));
    CHECK(silence_tick(&s, 99, 20 * TICK, 118 * TICK));
}

/* The next one leaves whoever stood still as long as ever to go on. */
static void a_late_tick_counts_once(void) {
    struct silence s;
    silence_begin(&s, TICK, 0);
    CHECK(!silence_tick(&s, 7, 4 * TICK, TICK));
    CHECK(!silence_tick(&s, 7, 4 * TICK, 100 * S));
    CHECK_EQ(s.due_ns, 100 * S + TICK);
    CHECK(!silence_tick(&s, 7, 4 * TICK, 100 * S + TICK));
    CHECK(silence_tick(&s, 7, 4 * TICK, 100 * S + 2 * TICK));
}

static void whatever_is_done_begins_it_anew(void) {
    struct silence s;
    silence_begin(&s, TICK, 0);
    for (uint64_t i = 1; i < 100; i++)
        CHECK(!silence_tick(&s, i, 2 * TICK, i * TICK));
    CHECK(silence_tick(&s, 99, 2 * TICK, 100 * TICK));
}

/* What a step took is learned from that; else ten times the standstill were the next deadline. */
static void the_time_that_is_counted_stands_still_with_the_machine(void) {
    struct silence s;
    silence_begin(&s, TICK, 0);
    CHECK_EQ(silence_counted_ns(&s), TICK);
    silence_tick(&s, 1, S, TICK);
    silence_tick(&s, 2, S, 100 * S);
    CHECK_EQ(silence_counted_ns(&s), 3 * TICK);
}

CHECK_MAIN(T(lateness_does_not_add_up_over_a_long_deadline),
           T(a_deadline_is_not_overdrawn_and_ends_a_tick_too_early_at_most),
           T(a_step_is_ended_when_it_has_run_for_its_deadline),
           T(what_was_done_counts_as_a_tenth_at_most), T(each_of_many_waits_has_the_whole_deadline),
           T(a_late_tick_counts_once), T(whatever_is_done_begins_it_anew),
           T(the_time_that_is_counted_stands_still_with_the_machine))
