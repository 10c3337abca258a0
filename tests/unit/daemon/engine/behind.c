/* SPDX-License-Identifier: Apache-2.0 */
/* Work behind steps: what it leaves to them, and that it comes to its end all the same. */
#include "daemon/engine/behind.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/check.h"

#define SLICES 40u

static _Atomic uint32_t n_done[SLICES], by_caller, looks;
static _Atomic bool waits;
static _Atomic int thread_policy;

/* The thread gets nothing of a core as long as it waits. */
static bool slice(void *user, size_t i, enum behind_worker by) {
    (void)user;
    CHECK(i < SLICES);
    n_done[i]++;
    if (by == BEHIND_CALLER)
        by_caller++;
    else
        thread_policy = sched_getscheduler(0);
    while (by == BEHIND_THREAD && waits)
        usleep(1000);
    return true;
}

/* Nor does a test that fails wait for ever. */
static void look(void *user) {
    (void)user;
    if (++looks == 5000)
        waits = false;
}

static bool is_resting(void *user) {
    (void)user;
    return false;
}

static void run(void) {
    const struct behind work = {SLICES, slice, look, is_resting, NULL};
    for (uint32_t i = 0; i < SLICES; i++)
        n_done[i] = 0;
    by_caller = looks = 0;
    behind_run(&work);
}

static void each_slice_is_done_once(void) {
    run();
    for (uint32_t i = 0; i < SLICES; i++)
        CHECK_EQ(n_done[i], 1);
    const struct behind none = {0, slice, NULL, NULL, NULL};
    behind_run(&none);
    CHECK_EQ(n_done[0], 1);
}

/* Which any other thread takes its core from at once. */
static void the_thread_has_only_what_nobody_else_wants(void) {
    run();
    CHECK(by_caller < SLICES);
    CHECK_EQ(thread_policy, SCHED_IDLE);
    CHECK_EQ(sched_getscheduler(0), SCHED_OTHER); /* who called is as before */
}

/* The last of the caller's slices lets the thread go on, which without them would never. */
static bool starved_slice(void *user, size_t i, enum behind_worker by) {
    const bool more = slice(user, i, by);
    if (by == BEHIND_CALLER && by_caller == 3)
        waits = false;
    return more;
}

static void a_thread_that_gets_no_core_is_helped(void) {
    const struct behind work = {SLICES, starved_slice, look, is_resting, NULL};
    waits = true;
    memset((void *)n_done, 0, sizeof n_done);
    by_caller = looks = 0;
    behind_run(&work);
    CHECK(by_caller >= 3);
    CHECK(looks >= 3 * BEHIND_WINDOW_NS / 1000 / BEHIND_LOOK_US / 4); /* it is late, mostly */
    for (uint32_t i = 0; i < SLICES; i++)
        CHECK_EQ(n_done[i], 1);
}

static uint32_t n_rested;

/* Let go after some windows: until then nothing is to be done. */
static bool rest_for_a_while(void *user) {
    (void)user;
    if (++n_rested == 4)
        waits = false;
    return true;
}

static void nobody_helps_while_the_work_rests(void) {
    const struct behind work = {SLICES, slice, NULL, rest_for_a_while, NULL};
    waits = true;
    by_caller = 0;
    behind_run(&work);
    CHECK_EQ(by_caller, 0);
    CHECK(n_rested >= 4);
}

/* How often who calls let go of its core in a hundred pauses. */
static long count_pauses(void) {
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    for (int i = 0; i < 100; i++)
        behind_pause();
    getrusage(RUSAGE_THREAD, &after);
    return after.ru_nvcsw - before.ru_nvcsw;
}

static bool pausing_slice(void *user, size_t i, enum behind_worker by) {
    (void)i;
    if (by == BEHIND_THREAD)
        *(long *)user = count_pauses();
    return false;
}

/* So that the kernel looks for a step's thread that could run there. */
static void the_thread_leaves_its_core_now_and_then(void) {
    long n = 0;
    const struct behind work = {1, pausing_slice, NULL, NULL, &n};
    behind_run(&work);
    CHECK(n >= 100);
    CHECK_EQ(count_pauses(), 0); /* nobody else does */
}

static bool last_slice(void *user, size_t i, enum behind_worker by) {
    slice(user, i, by);
    return i < 5;
}

static void none_is_begun_after_the_last(void) {
    const struct behind work = {SLICES, last_slice, NULL, NULL, NULL};
    for (uint32_t i = 0; i < SLICES; i++)
        n_done[i] = 0;
    behind_run(&work);
    for (uint32_t i = 0; i < SLICES; i++)
        CHECK_EQ(n_done[i], i <= 5 ? 1 : i == 6 ? n_done[6] : 0); /* the other may have begun one */
}

CHECK_MAIN(T(each_slice_is_done_once), T(the_thread_has_only_what_nobody_else_wants),
           T(a_thread_that_gets_no_core_is_helped), T(nobody_helps_while_the_work_rests),
           T(the_thread_leaves_its_core_now_and_then), T(none_is_begun_after_the_last))
