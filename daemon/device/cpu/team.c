/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/team.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/device/cpu/cores.h"
#include "octarc/error.h"

/* About 20 µs: longer than members differ inside a phase, shorter than a sleep and a wake-up. */
#define SPINS 4000

struct member {
    struct team *team;
    pthread_t thread;
    uint32_t number;
    bool started;
};

struct team {
    uint32_t n;
    bool crowded; /* more members than cores: spinning would only keep the others from running */
    _Atomic uint32_t round;   /* +1 a team_run; members wait for it to change */
    _Atomic uint32_t meeting; /* +1 when all have met */
    _Atomic uint32_t arrived;
    _Atomic uint32_t sleepers;
    _Atomic bool ending;
    void (*fn)(void *arg, uint32_t member);
    void *arg;
    struct member members[TEAM_MAX];
};

static void pause_core(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Wait until *word is no longer `old`. */
static void wait_change(struct team *team, _Atomic uint32_t *word, uint32_t old) {
    for (int i = 0; i < (team->crowded ? 1 : SPINS); i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old)
            return;
        pause_core();
    }
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(word) == old)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&team->sleepers, 1);
}

static void change(struct team *team, _Atomic uint32_t *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&team->sleepers))
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void team_meet(struct team *team) {
    const uint32_t meeting = atomic_load(&team->meeting);
    if (team->n == 1)
        return;
    if (atomic_fetch_add(&team->arrived, 1) + 1 == team->n) {
        atomic_store(&team->arrived, 0);
        change(team, &team->meeting);
    } else {
        wait_change(team, &team->meeting, meeting);
    }
}

void team_open(struct team *team, _Atomic uint32_t *gate) {
    change(team, gate);
}

void team_pass(struct team *team, _Atomic uint32_t *gate, bool (*idle)(void *arg), void *arg) {
    while (idle && !team->crowded && !atomic_load_explicit(gate, memory_order_acquire) && idle(arg))
        ;
    wait_change(team, gate, 0);
}

static void *serve(void *arg) {
    struct member *m = arg;
    struct team *team = m->team;
    for (uint32_t round = 0;; round++) {
        wait_change(team, &team->round, round);
        if (atomic_load(&team->ending))
            return NULL;
        team->fn(team->arg, m->number);
        team_meet(team);
    }
}

int team_create(struct team **out, uint32_t n, struct err *err) {
    cpu_set_t cores;
    if (n == 0 || n > TEAM_MAX)
        return err_set(err, -EINVAL, "%u threads, expected 1 to %d", n, TEAM_MAX);
    struct team *team = calloc(1, sizeof *team);
    if (!team)
        return err_set(err, -ENOMEM, "no memory for %u threads", n);
    team->n = n;
    team->crowded = !sched_getaffinity(0, sizeof cores, &cores) && n > (uint32_t)CPU_COUNT(&cores);
    for (uint32_t i = 1; i < n; i++) {
        struct member *m = &team->members[i];
        m->team = team;
        m->number = i;
        const int rc = pthread_create(&m->thread, NULL, serve, m);
        if (rc) {
            team->n = i;
            team_destroy(team);
            return err_set(err, -rc, "thread %u of %u: %s", i, n, strerror(rc));
        }
        m->started = true;
    }
    *out = team;
    return 0;
}

void team_destroy(struct team *team) {
    if (!team)
        return;
    atomic_store(&team->ending, true);
    change(team, &team->round);
    for (uint32_t i = 1; i < team->n; i++)
        if (team->members[i].started)
            pthread_join(team->members[i].thread, NULL);
    free(team);
}

static bool bind(pthread_t thread, int core) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    return !pthread_setaffinity_np(thread, sizeof one, &one);
}

uint32_t team_pin(struct team *team) {
    int cores[TEAM_MAX];
    uint32_t pinned = 0;
    if (!cores_choose(team->n, cores))
        return 0;
    for (uint32_t i = 1; i < team->n; i++)
        pinned += bind(team->members[i].thread, cores[i]);
    return pinned;
}

uint32_t team_size(const struct team *team) {
    return team->n;
}

void team_run(struct team *team, void (*fn)(void *arg, uint32_t member), void *arg) {
    team->fn = fn;
    team->arg = arg;
    if (team->n > 1)
        change(team, &team->round);
    fn(arg, 0);
    team_meet(team);
}
