/* SPDX-License-Identifier: Apache-2.0 */
/* A silent card is fenced when its deadline is over, counted in ticks; nobody else ever is.  The
 * device is this test: it says what the step waits for. */
#include "daemon/engine/watch.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/check.h"

#define TICKS    6 /* of the first deadline */
#define FIRST_NS (TICKS * WATCH_TICK_NS)

static _Atomic uint32_t needed, cards, asked, refusals, n_fenced, fenced_cards, asked_then;
static _Atomic uint64_t done, fenced_deadline_ns;
static _Atomic int late_ms; /* the next tick comes so late */
static _Atomic bool works;  /* something is done from tick to tick */

static void sleep_ms(int ms) {
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static void pending(struct device *device, struct device_pending *out) {
    (void)device;
    asked++;
    if (works)
        done++;
    *out = (struct device_pending){needed, cards, done};
    const int ms = atomic_exchange(&late_ms, 0);
    if (ms)
        sleep_ms(ms);
}

static int on_fenced(void *user, uint32_t which, uint64_t deadline_ns) {
    (void)user;
    fenced_cards = which;
    fenced_deadline_ns = deadline_ns;
    asked_then = asked;
    n_fenced++;
    if (refusals == 0)
        return 0;
    refusals--;
    return -EAGAIN;
}

static const struct device_ops ops = {.name = "test", .pending = pending};
static char any; /* nobody looks into the device */

static struct watch *open_watch(uint32_t all, uint32_t silent) {
    const struct watch_options o = {.first_ns = FIRST_NS, .fenced = on_fenced};
    struct watch *w = NULL;
    needed = all;
    cards = silent;
    CHECK_EQ(watch_create(&w, &o), 0);
    return w;
}

static void begin(struct watch *w) {
    watch_begin(w, &ops, (struct device *)&any, 1);
}

static void wait_asked(uint32_t n) {
    while (asked < n)
        sleep_ms(5);
}

static void wait_fenced(uint32_t n) {
    while (n_fenced < n)
        sleep_ms(5);
}

static void a_silent_card_is_fenced_once_when_its_deadline_is_over(void) {
    struct watch *w = open_watch(0xf, 0x4);
    begin(w);
    wait_fenced(1);
    CHECK_EQ(fenced_cards, 0x4);
    CHECK_EQ(fenced_deadline_ns, FIRST_NS);
    CHECK_EQ(asked_then, TICKS);
    wait_asked(3 * TICKS);
    CHECK_EQ(n_fenced, 1);
    watch_end(w);
    watch_destroy(w);
}

static void when_all_are_silent_nobody_is_fenced(void) {
    struct watch *w = open_watch(0xf, 0xf);
    begin(w);
    wait_asked(3 * TICKS);
    CHECK_EQ(n_fenced, 0);
    cards = 0; /* and so when it waits for no card at all */
    wait_asked(6 * TICKS);
    CHECK_EQ(n_fenced, 0);
    watch_end(w);
    watch_destroy(w);
}

static void a_slow_card_is_not_a_silent_one(void) {
    struct watch *w = open_watch(0x3, 0x2);
    works = true;
    begin(w);
    wait_asked(3 * TICKS);
    CHECK_EQ(n_fenced, 0);
    works = false;
    wait_fenced(1);
    CHECK(asked_then >= 4 * TICKS - 1);
    watch_end(w);
    watch_destroy(w);
}

static void a_late_tick_counts_once(void) {
    struct watch *w = open_watch(0x3, 0x2);
    late_ms = 2 * TICKS * 50;
    begin(w);
    wait_fenced(1);
    CHECK_EQ(asked_then, TICKS);
    watch_end(w);
    watch_destroy(w);
}

/* Else ten times that would be the next deadline. */
static void a_step_during_which_the_machine_stood_is_not_taken_for_a_long_one(void) {
    struct watch *w = open_watch(0x3, 0x2);
    late_ms = 2000;
    begin(w);
    wait_asked(1);
    watch_end(w); /* waits for the watch */
    asked = 0;
    begin(w);
    wait_fenced(1);
    CHECK_EQ(fenced_deadline_ns, UINT64_C(1000000000));
    CHECK_EQ(asked_then, 20);
    watch_end(w);
    watch_destroy(w);
}

static void what_could_not_be_said_is_said_at_the_next_tick(void) {
    struct watch *w = open_watch(0x3, 0x2);
    refusals = 2;
    begin(w);
    wait_fenced(3);
    CHECK_EQ(asked_then, TICKS + 2);
    wait_asked(TICKS + 6);
    CHECK_EQ(n_fenced, 3);
    watch_end(w);
    watch_destroy(w);
}

static void between_steps_nobody_is_asked(void) {
    struct watch *w = open_watch(0x3, 0x2);
    for (int i = 0; i < 1000; i++) {
        begin(w);
        watch_end(w);
    }
    const uint32_t before = asked;
    sleep_ms(300);
    CHECK_EQ(asked, before);
    CHECK_EQ(n_fenced, 0);
    watch_destroy(w);
}

/* ---- a device that is filled ---------------------------------------------------------------- */

static struct device_calls calls;
static _Atomic uint32_t n_alive;

static void on_alive(void *user) {
    (void)user;
    n_alive++;
}

static struct watch *watch_calls(uint32_t all) {
    const struct watch_options o = {.first_ns = FIRST_NS, .fenced = on_fenced, .alive = on_alive};
    struct watch *w = NULL;
    CHECK_EQ(watch_create(&w, &o), 0);
    watch_begin_calls(w, &calls, all);
    return w;
}

static void finish(struct watch *w) {
    watch_end(w);
    watch_destroy(w);
}

static void a_card_that_a_call_waits_for_is_fenced(void) {
    struct watch *w = watch_calls(0x7);
    calls.waits[1]++;
    wait_fenced(1);
    CHECK_EQ(fenced_cards, 0x2);
    CHECK_EQ(fenced_deadline_ns, FIRST_NS);
    CHECK_EQ(asked, 0); /* there is no step */
    sleep_ms(3 * TICKS * 50);
    CHECK_EQ(n_fenced, 1);
    finish(w);
}

/* A disk that is slow is no card's silence, nor is a call that comes late. */
static void what_no_card_is_waited_for_fences_none(void) {
    const int ticks = 30; /* far from both ends, on a machine that stands still at times */
    const struct watch_options o = {
        .first_ns = (uint64_t)ticks * WATCH_TICK_NS, .fenced = on_fenced, .alive = on_alive};
    struct watch *w = NULL;
    CHECK_EQ(watch_create(&w, &o), 0);
    watch_begin_calls(w, &calls, 0x7);
    sleep_ms(ticks * 50 * 3 / 2);
    calls.waits[1]++;
    sleep_ms(ticks * 50 / 3);
    calls.waits[1]--;
    CHECK_EQ(n_fenced, 0);
    CHECK_EQ(n_alive, 0);
    finish(w);
}

static void calls_that_end_are_told_of_and_fence_none(void) {
    struct watch *w = watch_calls(0x7);
    calls.waits[1]++;
    for (int i = 0; n_alive < 2; i++) {
        calls.done++;
        sleep_ms(20);
    }
    CHECK_EQ(n_fenced, 0);
    finish(w);
}

static void a_build_may_take_longer(void) {
    struct watch *w = watch_calls(0x7);
    calls.builds++;
    calls.waits[1]++;
    sleep_ms(3 * TICKS * 50);
    CHECK_EQ(n_fenced, 0);
    calls.builds--;
    wait_fenced(1);
    CHECK_EQ(fenced_cards, 0x2);
    finish(w);
}

static void the_only_card_that_is_needed_is_not_fenced(void) {
    struct watch *w = watch_calls(0x2);
    calls.waits[1]++;
    sleep_ms(3 * TICKS * 50);
    CHECK_EQ(n_fenced, 0);
    finish(w);
}

/* What a load took says nothing of steps. */
static void a_load_is_no_step(void) {
    struct watch *w = watch_calls(0x3);
    sleep_ms(150);
    watch_end(w);
    needed = 0x3;
    cards = 0x2;
    begin(w);
    wait_fenced(1);
    CHECK_EQ(fenced_deadline_ns, FIRST_NS);
    CHECK_EQ(asked_then, TICKS);
    finish(w);
}

CHECK_MAIN(T(a_card_that_a_call_waits_for_is_fenced), T(what_no_card_is_waited_for_fences_none),
           T(calls_that_end_are_told_of_and_fence_none), T(a_build_may_take_longer),
           T(the_only_card_that_is_needed_is_not_fenced), T(a_load_is_no_step),
           T(a_silent_card_is_fenced_once_when_its_deadline_is_over),
           T(when_all_are_silent_nobody_is_fenced), T(a_slow_card_is_not_a_silent_one),
           T(a_late_tick_counts_once),
           T(a_step_during_which_the_machine_stood_is_not_taken_for_a_long_one),
           T(what_could_not_be_said_is_said_at_the_next_tick), T(between_steps_nobody_is_asked))
