/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/rebalance.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/engine/handover.h"
#include "daemon/engine/prove.h"
#include "octarc/error.h"

struct rebalance {
    struct runner_options options;
    bool keep;
    uint64_t slice_bytes;
    pthread_t thread;
    bool joined;
    _Atomic bool loaded, cancelled, paused; /* loaded: the thread has ended */
    _Atomic uint64_t done_bytes, total_bytes;
    /* Of the thread until it is joined. */
    struct runner *runner;
    struct handover *handover; /* NULL: there is nothing to carry over */
    struct engine_page *pages; /* [n_pages]; of it, those in use when it began */
    uint32_t n_pages;
    int rc;
    struct err err;
    uint64_t begin_ns, load_ns;
    /* The copying. */
    uint64_t *copied; /* [n_pages]: serial of the content that was copied, 0: none */
    uint64_t kv_bytes;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_progress(void *user, uint64_t done, uint64_t total) {
    struct rebalance *r = user;
    atomic_store(&r->total_bytes, total);
    atomic_store(&r->done_bytes, done);
}

/* The ways of K and V; and memory for the pages that are in use, which the kernel would else clear
 * while no step can run. */
static int prepare_pages(struct rebalance *r) {
    int rc = handover_create(&r->handover, r->options.before, r->runner);
    if (rc == -ENODATA) {
        r->keep = false;
        return 0;
    }
    if (rc)
        return err_set(&r->err, rc, "no memory for the pages' ways");
    for (uint32_t i = 0; i < r->n_pages && !rc && !atomic_load(&r->cancelled); i++)
        rc = handover_prefetch(r->handover, r->pages[i].page);
    return rc ? err_set(&r->err, rc, "no memory for K and V: %s", strerror(-rc)) : 0;
}

/* Whatever harmed weights have left behind is computed again. */
static int prove(struct rebalance *r) {
    bool whole = true;
    const int rc = prove_left(&r->options, &whole);
    r->keep &= whole;
    return rc ? err_set(&r->err, rc, "the weights in use cannot be verified: %s", strerror(-rc))
              : 0;
}

static void *load(void *arg) {
    struct rebalance *r = arg;
    r->rc = r->keep ? prove(r) : 0;
    if (!r->rc)
        r->rc = runner_open(&r->runner, &r->options, &r->err);
    if (!r->rc && r->keep)
        r->rc = prepare_pages(r);
    r->load_ns = now_ns() - r->begin_ns;
    atomic_store(&r->loaded, true);
    return NULL;
}

int rebalance_start(struct rebalance **out, const struct runner_options *options,
                    const struct engine *engine, bool keep, uint64_t slice_bytes, struct err *err) {
    struct rebalance *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, -ENOMEM, "no memory for a rebalance");
    r->options = *options;
    r->options.behind = true;
    r->options.cancelled = &r->cancelled;
    r->options.paused = &r->paused;
    r->options.progress = on_progress;
    r->options.user = r;
    r->keep = keep;
    r->slice_bytes = slice_bytes;
    r->begin_ns = now_ns();
    r->copied = calloc(options->plan->n_pages, sizeof *r->copied);
    r->pages = calloc(options->plan->n_pages, sizeof *r->pages);
    int rc = r->copied && r->pages ? 0 : -ENOMEM;
    if (!rc)
        r->n_pages = keep ? engine_pages(engine, r->pages) : 0;
    if (!rc)
        rc = -pthread_create(&r->thread, NULL, load, r);
    if (rc) {
        free(r->copied);
        free(r->pages);
        free(r);
        return err_set(err, rc, "a rebalance cannot begin: %s", strerror(-rc));
    }
    *out = r;
    return 0;
}

bool rebalance_loading(const struct rebalance *r) {
    return atomic_load(&r->paused) || (!r->joined && !atomic_load(&r->loaded));
}

void rebalance_pause(struct rebalance *r, bool pause) {
    atomic_store(&r->paused, pause);
}

void rebalance_progress(const struct rebalance *r, uint64_t *done, uint64_t *total) {
    *done = atomic_load(&r->done_bytes);
    *total = atomic_load(&r->total_bytes);
}

static void join(struct rebalance *r) {
    if (!r->joined)
        pthread_join(r->thread, NULL);
    r->joined = true;
}

void rebalance_drop(struct rebalance *r) {
    if (!r)
        return;
    atomic_store(&r->cancelled, true);
    join(r);
    handover_destroy(r->handover);
    if (r->runner) {
        runner_close(r->runner);
        runner_trim(r->options.before);
    }
    free(r->copied);
    free(r->pages);
    free(r);
}

/* --- the copying --- */

static int copy_page(struct rebalance *r, const struct engine_page *page) {
    const int rc = handover_page(r->handover, page->page);
    r->copied[page->page] = rc || !page->full ? 0 : page->serial;
    r->kv_bytes += rc ? 0 : handover_page_bytes(r->handover);
    return rc;
}

/* Move those that have still to be copied to the front; returns how many. */
static uint32_t pages_left(const struct rebalance *r, struct engine_page *pages, uint32_t n) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < n; i++)
        if (r->copied[pages[i].page] != pages[i].serial)
            pages[left++] = pages[i];
    return left;
}

/* A slice of the full pages; all that is left, when it is no more than a slice.  1: it was. */
static int copy_slice(struct rebalance *r, const struct engine *engine,
                      struct rebalance_result *result) {
    const uint64_t begin = now_ns(), before = r->kv_bytes,
                   of_page = handover_page_bytes(r->handover);
    const uint64_t fit = of_page ? r->slice_bytes / of_page : UINT64_MAX;
    const uint32_t most = fit < 1 ? 1 : fit > UINT32_MAX ? UINT32_MAX : (uint32_t)fit;
    const uint32_t n = pages_left(r, r->pages, engine_pages(engine, r->pages));
    uint32_t copied = 0, open = 0;
    for (uint32_t i = 0; i < n; i++)
        open += !r->pages[i].full;
    /* Open pages are written by every step, so they come last, however many there are. */
    const bool last = n - open <= most;
    for (uint32_t i = 0; i < n && (last || copied < most); i++) {
        if (!last && !r->pages[i].full)
            continue;
        const int rc = copy_page(r, &r->pages[i]);
        if (rc)
            return rc;
        copied++;
    }
    result->gap_ns = now_ns() - begin;
    result->gap_kv_bytes = r->kv_bytes - before;
    return last;
}

/* The weights are there: 0, or what the loading failed with. */
static int begin_copying(struct rebalance *r, struct err *err) {
    join(r);
    return r->rc ? err_set(err, r->rc, "%s", r->err.text) : 0;
}

/* What waited for room comes to the full cards; from its first write on there is no way back. */
static int move_in(struct rebalance *r, const struct engine *engine,
                   struct rebalance_result *result, struct err *err) {
    const uint64_t begin = now_ns();
    if (!runner_options(r->runner)->stage)
        return 0;
    int rc = runner_move_in(r->runner, r->options.before, err);
    if (!rc && r->keep) {
        const uint32_t n = engine_pages(engine, r->pages);
        for (uint32_t i = 0; i < n && !rc; i++)
            rc = handover_bring(r->handover, r->pages[i].page);
        if (rc)
            err_set(err, rc, "K and V do not come from host memory: %s", strerror(-rc));
    }
    runner_leave_stage(r->runner);
    result->gap_ns += now_ns() - begin;
    result->broken = rc != 0;
    return rc;
}

int rebalance_advance(struct rebalance *r, const struct engine *engine,
                      struct rebalance_result *result, struct err *err) {
    *result = (struct rebalance_result){.runner = NULL};
    if (rebalance_loading(r))
        return 0;
    int rc = r->joined ? 0 : begin_copying(r, err);
    if (rc)
        return rc;
    rc = r->keep ? copy_slice(r, engine, result) : 1;
    if (rc < 0)
        return err_set(err, rc, "K and V cannot be carried over: %s", strerror(-rc));
    if (rc == 0)
        return 0;
    rc = move_in(r, engine, result, err);
    if (rc)
        return rc;
    result->runner = r->runner;
    result->kept = r->keep;
    result->kv_bytes = r->kv_bytes;
    result->load_ns = r->load_ns;
    r->runner = NULL;
    return 1;
}
