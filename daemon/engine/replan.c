/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/replan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/channel/stream.h"
#include "daemon/engine/rebalance.h"
#include "daemon/placement/layout.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define LOADING_PATIENCE_MS 10
#define PROGRESS_NS         UINT64_C(500000000)

struct replan {
    struct replan_site site;
    uint64_t number, stage_most;
    struct plan *plan; /* owned until it is in use */
    int fds[STREAM_FDS_MAX];
    uint32_t n_fds;
    struct rebalance *rebalance;
    uint64_t told_ns; /* when PROGRESS was sent last */
};

void replan_fill_ready(struct runner *runner, uint64_t generation, struct msg_ready *ready) {
    const struct plan *plan = runner_options(runner)->plan;
    uint64_t huge[CARDS_MAX];
    const bool told = !runner_huge(runner, huge);
    *ready = (struct msg_ready){
        .generation = generation, .n_cards = plan->n_cards, .xmx = true, .native = true};
    for (uint32_t i = 0; i < ready->n_cards; i++) {
        struct runner_card card = {0};
        if (plan->cards[i].online)
            runner_card(runner, i, &card);
        ready->cards[i] = (struct ready_card){.weights_bytes = card.weights_bytes,
                                              .kv_bytes = card.kv_bytes,
                                              .scratch_bytes = card.scratch_bytes,
                                              .landing_bytes = card.landing_bytes,
                                              .huge_bytes = told ? (int64_t)huge[i] : -1,
                                              .copied_bytes = card.copied_bytes,
                                              .advised_bytes = card.advised_bytes,
                                              .prefetched_bytes = card.prefetched_bytes,
                                              .resident_bytes = card.resident_bytes,
                                              .kept_bytes = card.kept_bytes,
                                              .misread = card.misread};
        if (!plan->cards[i].online)
            continue;
        /* The same of all; and of the engine only where it is of all, else what the first lacks. */
        ready->svm = card.svm;
        memcpy(ready->storage_why, card.storage_why, sizeof ready->storage_why);
        if (ready->xmx && !card.xmx)
            memcpy(ready->xmx_why, card.xmx_why, sizeof ready->xmx_why);
        ready->xmx = ready->xmx && card.xmx;
        if (ready->native && !card.native)
            memcpy(ready->native_why, card.native_why, sizeof ready->native_why);
        ready->native = ready->native && card.native;
    }
}

static void free_plan(struct plan *plan) {
    if (plan)
        plan_finish(plan);
    free(plan);
}

static void finish(struct replan **replan) {
    struct replan *r = *replan;
    rebalance_drop(r->rebalance);
    free_plan(r->plan);
    for (uint32_t i = 0; i < r->n_fds; i++)
        close(r->fds[i]);
    free(r);
    *replan = NULL;
}

static int answer_error(const struct replan_site *site, uint64_t number, int error,
                        const char *text) {
    struct msg_replanned msg = {.generation = site->generation, .number = number, .error = error};
    snprintf(msg.text, sizeof msg.text, "%s", text);
    return site->output.send(site->output.user, MSG_REPLANNED, &msg);
}

/* Descriptors as the plan's cards have them; without any, the memory is this process's own. */
static int share_fds(const struct replan *r, int weight_fds[CARDS_MAX]) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        const bool holds = i < r->plan->n_cards && r->plan->cards[i].weights_bytes > 0;
        weight_fds[i] = holds && next < r->n_fds ? r->fds[next] : -1;
        next += holds;
    }
    return r->n_fds == 0 || r->n_fds == next ? 0 : -EPROTO;
}

/* The pages and the sizes of a step are the engine's, and stay. */
static bool same_steps(const struct plan *a, const struct plan *b) {
    return a->context == b->context && a->n_pages == b->n_pages && a->kv_type == b->kv_type &&
           a->max_rows == b->max_rows && a->max_outputs == b->max_outputs &&
           a->max_sequences == b->max_sequences;
}

static bool is_lost(const struct replan *r, uint32_t card) {
    const struct runner *serving = *r->site.runner;
    struct device *device = runner_device(serving);
    return runner_options(serving)->backend->copy(device, card, AREA_KV, 0, device, card, 0, 0) ==
           -ENODEV;
}

/* What is new on a full card may wait in host memory. */
static bool may_wait(const struct replan *r, uint32_t card) {
    return r->stage_most && layout_is_staged(*r->site.plan, r->plan, card);
}

/* Both plans' shares of every card, before anything is written; a lost one has nothing any more. */
static int check_room(const struct replan *r, struct err *err) {
    for (uint32_t i = 0; i < r->plan->n_cards; i++) {
        const struct plan_card *c = &r->plan->cards[i];
        const uint64_t bytes = layout_peak_bytes(*r->site.plan, r->plan, i);
        if (plan_uses(r->plan, i) && !is_lost(r, i) && bytes > c->capacity_bytes && !may_wait(r, i))
            return err_set(err, -ENOSPC, "card %u: %llu bytes for both plans, %llu are there", i,
                           (unsigned long long)bytes, (unsigned long long)c->capacity_bytes);
    }
    return 0;
}

static int start(struct replan *r, bool keep, struct err *err) {
    struct runner_options options = *runner_options(*r->site.runner);
    if (!same_steps(*r->site.plan, r->plan))
        return err_set(err, -EINVAL, "the plan has other pages or other steps than the one in use");
    options.plan = r->plan;
    options.before = *r->site.runner;
    options.stage_most = r->stage_most;
    memset(options.held, 0, sizeof options.held);
    memset(options.held_kv, 0, sizeof options.held_kv);
    if (share_fds(r, options.weight_fds))
        return err_set(err, -EPROTO, "REPLAN came without the descriptors of all cards");
    const int rc = check_room(r, err);
    if (rc)
        return rc;
    return rebalance_start(&r->rebalance, &options, r->site.engine, keep, r->site.slice_bytes, err);
}

int replan_begin(struct replan **replan, const struct replan_site *site, struct msg_replan *order,
                 const int *fds, uint32_t n_fds) {
    struct err err = {{0}};
    const int said = replan_cancel(replan, "another plan took its place");
    struct replan *r = calloc(1, sizeof *r);
    struct plan *plan = malloc(sizeof *plan);
    if (!r || !plan) {
        free(r);
        free(plan);
        for (uint32_t i = 0; i < n_fds; i++)
            close(fds[i]);
        return said ? said : answer_error(site, order->number, -ENOMEM, "no memory for a plan");
    }
    *plan = order->plan;
    order->plan = (struct plan){.ranges = NULL};
    r->site = *site;
    r->number = order->number;
    r->stage_most = order->stage_bytes;
    r->plan = plan;
    r->n_fds = n_fds;
    memcpy(r->fds, fds, n_fds * sizeof *fds);
    const int rc = said ? said : start(r, order->keep, &err);
    *replan = r;
    if (rc == 0)
        return 0;
    finish(replan);
    return said ? said : answer_error(site, order->number, rc, err.text);
}

int replan_cancel(struct replan **replan, const char *why) {
    struct replan *r = *replan;
    if (!r)
        return 0;
    const struct replan_site site = r->site;
    const uint64_t number = r->number;
    finish(replan);
    return answer_error(&site, number, -ECANCELED, why);
}

void replan_pause(struct replan *r, bool pause) {
    if (r)
        rebalance_pause(r->rebalance, pause);
}

int replan_patience_ms(const struct replan *r) {
    return !r ? -1 : rebalance_loading(r->rebalance) ? LOADING_PATIENCE_MS : 0;
}

/* --- the change --- */

static int go_over(struct replan *r, const struct rebalance_result *result) {
    const struct replan_site *site = &r->site;
    struct msg_replanned msg = {.generation = site->generation,
                                .number = r->number,
                                .kept = result->kept,
                                .kv_bytes = result->kv_bytes,
                                .load_ns = result->load_ns,
                                .gap_ns = result->gap_ns,
                                .gap_kv_bytes = result->gap_kv_bytes};
    int rc = 0;
    runner_inherit(result->runner, *site->runner);
    runner_leave_behind(result->runner, *site->runner, *site->plan);
    *site->runner = result->runner;
    *site->plan = r->plan;
    r->plan = NULL;
    replan_fill_ready(result->runner, site->generation, &msg.ready);
    if (result->kept)
        engine_continue(site->engine);
    else
        rc = engine_start_over(site->engine);
    return rc ? rc : site->output.send(site->output.user, MSG_REPLANNED, &msg);
}

/* An engine whose card is lost has nothing else to say while it loads. */
static int report_progress(struct replan *r) {
    const uint64_t now = r->site.output.now_ns(r->site.output.user);
    struct msg_progress msg;
    if (now - r->told_ns < PROGRESS_NS)
        return 0;
    r->told_ns = now;
    rebalance_progress(r->rebalance, &msg.done_bytes, &msg.total_bytes);
    return r->site.output.send(r->site.output.user, MSG_PROGRESS, &msg);
}

int replan_advance(struct replan **replan) {
    struct replan *r = *replan;
    struct rebalance_result result;
    struct err err = {{0}};
    if (!r)
        return 0;
    int rc = rebalance_advance(r->rebalance, r->site.engine, &result, &err);
    if (rc == 0)
        return report_progress(r);
    if (result.broken) /* whoever reads what the cards hold proves it first */
        log_error("the change to another plan broke off: %s", err.text);
    else
        rc = rc > 0 ? go_over(r, &result) : answer_error(&r->site, r->number, rc, err.text);
    finish(replan);
    return rc;
}
