/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/behind.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NICE_MOST 19

struct run {
    const struct behind *work;
    _Atomic size_t next; /* slice to be begun */
    _Atomic bool over;   /* by the thread: none is begun by it any more */
};

static _Thread_local bool has_stepped_back;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* False: that was the last. */
static bool begin_one(struct run *run, enum behind_worker by) {
    const size_t i = atomic_fetch_add(&run->next, 1);
    return i < run->work->n && run->work->slice(run->work->user, i, by);
}

/* For good: a thread that has stepped back may not come forward again.  A sandbox that knows
 * nothing of this may still allow the other. */
static void step_back(void) {
    const struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_IDLE, &none))
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE_MOST);
    has_stepped_back = true;
}

/* Who does a slice at its own priority takes a step's time anyhow. */
void behind_pause(void) {
    const struct timespec pause = {.tv_nsec = BEHIND_PAUSE_NS};
    if (has_stepped_back)
        nanosleep(&pause, NULL);
}

static void *work_behind(void *arg) {
    struct run *run = arg;
    step_back();
    while (begin_one(run, BEHIND_THREAD))
        behind_pause();
    atomic_store(&run->over, true);
    return NULL;
}

static uint64_t ran_ns(pthread_t thread) {
    clockid_t clock;
    struct timespec t = {0};
    if (!pthread_getcpuclockid(thread, &clock))
        clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool may_help(const struct run *run) {
    return !run->work->rests || !run->work->rests(run->work->user);
}

static void look_on(struct run *run, pthread_t thread) {
    uint64_t begun_ns = now_ns(), ran_before_ns = 0;
    bool more = true;
    while (!atomic_load(&run->over)) {
        usleep(BEHIND_LOOK_US);
        if (run->work->look)
            run->work->look(run->work->user);
        if (now_ns() - begun_ns < BEHIND_WINDOW_NS)
            continue;
        const uint64_t ran = ran_ns(thread);
        if (more && ran - ran_before_ns < BEHIND_LEAST_NS && may_help(run))
            more = begin_one(run, BEHIND_CALLER);
        begun_ns = now_ns();
        ran_before_ns = ran;
    }
}

void behind_run(const struct behind *work) {
    struct run run = {.work = work};
    pthread_t thread;
    if (pthread_create(&thread, NULL, work_behind, &run)) {
        while (begin_one(&run, BEHIND_CALLER))
            ;
        return;
    }
    look_on(&run, thread);
    pthread_join(thread, NULL);
}
