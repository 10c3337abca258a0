/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/engine/deadline.h"
#include "daemon/engine/silence.h"

#define ALIVE_NS UINT64_C(1000000000)

struct watch {
    struct watch_options options;
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows; held while fenced() is called */
    pthread_cond_t wake;
    bool asleep, ending;
    struct deadline deadline;
    const struct device_ops *ops;
    struct device *device;            /* of the step under way, or NULL */
    const struct device_calls *calls; /* of the load under way, or NULL */
    uint32_t needed;                  /* by it */
    uint64_t idle;                    /* ticks in which it waited for no card */
    uint64_t alive_done, alive_ns;    /* when alive() was called last */
    uint32_t rows;
    uint64_t began_ns, deadline_ns;
    struct silence silence;
    bool said;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A tick in which nothing of a card's is waited for is as one in which something was done. */
static void look_at_calls(struct watch *w, struct device_pending *out) {
    *out = (struct device_pending){.needed = w->needed};
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        out->cards |= atomic_load(&w->calls->waits[i]) ? 1u << i : 0;
    w->idle += out->cards == 0;
    out->done = atomic_load(&w->calls->done) + w->idle;
}

static void say_alive(struct watch *w) {
    const uint64_t now = now_ns(), done = atomic_load(&w->calls->done);
    if (!w->options.alive || done == w->alive_done || now - w->alive_ns < ALIVE_NS)
        return;
    w->alive_done = done;
    w->alive_ns = now;
    w->options.alive(w->options.user);
}

static void judge(struct watch *w) {
    struct device_pending pending;
    uint64_t deadline_ns = w->deadline_ns;
    if (w->calls) {
        look_at_calls(w, &pending);
        say_alive(w);
        if (atomic_load(&w->calls->builds) && deadline_ns < BUILD_NS)
            deadline_ns = BUILD_NS;
    } else {
        w->ops->pending(w->device, &pending);
    }
    if (!silence_tick(&w->silence, pending.done, deadline_ns, now_ns()) || w->said)
        return;
    if (pending.cards == 0 || pending.cards == pending.needed)
        return;
    w->said = w->options.fenced(w->options.user, pending.cards, deadline_ns) == 0;
}

/* False: none is due yet.  By the time that one would have been, the step may be another one. */
static bool wait_tick(struct watch *w) {
    const uint64_t at = w->silence.due_ns;
    const struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
    return pthread_cond_clockwait(&w->wake, &w->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT &&
           w->silence.due_ns == at;
}

static void *run(void *arg) {
    struct watch *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        if (!w->device && !w->calls) {
            w->asleep = true;
            pthread_cond_wait(&w->wake, &w->lock);
            w->asleep = false;
            continue;
        }
        if (wait_tick(w) && (w->device || w->calls))
            judge(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int watch_create(struct watch **out, const struct watch_options *options) {
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->options = *options;
    w->deadline.first_ns = options->first_ns;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    const int rc = pthread_create(&w->thread, NULL, run, w);
    if (rc) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return -rc;
    }
    *out = w;
    return 0;
}

void watch_destroy(struct watch *w) {
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* The lock is held. */
static void begin(struct watch *w, uint64_t deadline_ns) {
    w->began_ns = now_ns();
    w->deadline_ns = deadline_ns;
    silence_begin(&w->silence, WATCH_TICK_NS, w->began_ns);
    w->said = false;
    if (w->asleep)
        pthread_cond_signal(&w->wake);
}

void watch_begin(struct watch *w, const struct device_ops *ops, struct device *device,
                 uint32_t rows) {
    pthread_mutex_lock(&w->lock);
    w->ops = ops;
    w->device = device;
    w->rows = rows;
    begin(w, deadline_of(&w->deadline, rows));
    pthread_mutex_unlock(&w->lock);
}

void watch_begin_calls(struct watch *w, const struct device_calls *calls, uint32_t needed) {
    pthread_mutex_lock(&w->lock);
    w->calls = calls;
    w->needed = needed;
    w->idle = 0;
    w->alive_done = atomic_load(&calls->done);
    w->alive_ns = now_ns();
    begin(w, w->options.first_ns);
    w->silence.many = true;
    pthread_mutex_unlock(&w->lock);
}

/* What a step took is known by both clocks: the smaller one did not run while the machine stood. */
void watch_end(struct watch *w) {
    pthread_mutex_lock(&w->lock);
    const uint64_t took = now_ns() - w->began_ns, counted = silence_counted_ns(&w->silence);
    if (w->device)
        deadline_learn(&w->deadline, w->rows, took < counted ? took : counted);
    w->device = NULL;
    w->calls = NULL;
    pthread_mutex_unlock(&w->lock);
}
