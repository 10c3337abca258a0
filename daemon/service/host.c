/* SPDX-License-Identifier: Apache-2.0 */
/* What the protocol sees of the service. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/plan.h"
#include "daemon/service/daemon.h"
#include "octarc/error.h"

static uint64_t host_now(void *user) {
    (void)user;
    return uv_hrtime();
}

/* The cards that are not used have none. */
static void sum_weights(const struct engines *e, struct status_view *view) {
    for (uint32_t i = 0; i < e->ready.n_cards; i++) {
        const struct ready_card *card = &e->ready.cards[i];
        if (e->cards[i].card.state != CARD_ONLINE)
            continue;
        view->weights_bytes += card->weights_bytes;
        view->reused_bytes += card->kept_bytes;
        if (view->huge_bytes >= 0)
            view->huge_bytes = card->huge_bytes < 0 ? -1 : view->huge_bytes + card->huge_bytes;
    }
}

/* Those that an operator took out are where they are wanted. */
static void tell_missing(const struct engines *e, struct status_view *view) {
    size_t at = 0;
    for (uint32_t i = 0; i < e->n_cards && at < sizeof view->cards_why; i++) {
        const struct card *card = &e->cards[i].card;
        const char *slot = e->topology->cards[i].slot;
        if (card->state != CARD_LOST && card->state != CARD_FENCED &&
            card->state != CARD_QUARANTINED)
            continue;
        const int n =
            snprintf(view->cards_why + at, sizeof view->cards_why - at, "%scard %u%s%s%s is %s%s%s",
                     at ? "; " : "", i, slot[0] ? " (" : "", slot, slot[0] ? ")" : "",
                     card_state_name(card->state), card->n_history ? ": " : "",
                     card->n_history ? card->history[card->n_history - 1].why : "");
        at += n > 0 ? (size_t)n : 0;
    }
}

static void host_status(void *user, struct status_view *view) {
    const struct daemon *d = user;
    const struct engines *e = &d->engines;
    *view = (struct status_view){
        .state = d->state,
        .status_text = d->status,
        .version = OCTARC_VERSION,
        .backend = d->backend.name,
        .backend_why = d->backend.why[0] ? d->backend.why : NULL,
        .split = plan_split_name(e->loaded ? e->plan.split : (enum split)d->config.split),
        .weights = e->ready.svm ? "private" : config_weights_name(&d->config),
        .kv_type = kv_type_name((enum kv_type)d->config.kv_type),
        .model_path = d->config.model[0] ? d->config.model : NULL,
        .generation = e->number,
        .rebalances = e->order.n_done,
        .uptime_ns = uv_hrtime() - d->started_ns,
        .n_cards = d->topology.n_cards,
        .cards_online = engines_online(e),
        .context = e->loaded ? e->context : d->config.context,
        .max_sequences = d->config.max_sequences,
        .load_done_bytes = e->progress.done_bytes,
        .load_total_bytes = e->progress.total_bytes,
        .last_event = e->last_event[0] ? e->last_event : NULL,
        .host_bytes = e->state == ENGINES_SERVING ? plan_host_bytes(&e->plan) : 0,
        .host_spill = engines_spill_limit(e),
    };
    if (e->state == ENGINES_SERVING && !strcmp(d->backend.name, "level_zero")) {
        view->storage = e->ready.svm ? "svm" : "usm";
        view->storage_why = e->ready.storage_why[0] ? e->ready.storage_why : NULL;
        view->products = e->ready.xmx ? "xmx" : "dp4a";
        view->products_why = e->ready.xmx_why[0] ? e->ready.xmx_why : NULL;
        view->kernels = e->ready.native ? "native" : "spirv";
        view->kernels_why = e->ready.native_why[0] ? e->ready.native_why : NULL;
    }
    tell_missing(e, view);
    sum_weights(e, view);
}

static bool view_change(const void *history, uint32_t i, struct change_view *view) {
    const struct card *card = history;
    if (i >= card->n_history)
        return false;
    const struct card_change *change = &card->history[i];
    *view = (struct change_view){change->ms, card_state_name(change->from),
                                 card_state_name(change->to), change->why};
    return true;
}

static void view_state(const struct card *card, struct card_view *view) {
    view->state = card_state_name(card->state);
    view->identity = card->identity.text;
    view->moving = card_moving(card);
    view->used = card->state == CARD_ONLINE;
    view->since_ms = card->since_ms;
    view->n_faults = CARD_FAULT_COUNT;
    for (int i = 0; i < CARD_FAULT_COUNT; i++)
        view->faults[i] = (struct fault_view){card_fault_name((enum card_fault)i), card->faults[i]};
    view->change = view_change;
    view->history = card;
}

static uint32_t host_cards(void *user, struct card_view views[CARDS_MAX]) {
    const struct daemon *d = user;
    const struct engines *e = &d->engines;
    for (uint32_t i = 0; i < d->topology.n_cards; i++) {
        const bool planned = i < e->plan.n_cards && e->plan.cards[i].online;
        views[i] = (struct card_view){
            .card = i,
            .described = &d->topology.cards[i],
            .capacity_bytes = d->topology.cards[i].memory_bytes,
            .plan = i < e->plan.n_cards ? &e->plan.cards[i] : NULL,
        };
        view_state(&e->cards[i].card, &views[i]);
        views[i].fetched_bytes = e->fetched_before.bytes[i] + e->fetched.bytes[i];
        views[i].fetch_faults = e->fetched_before.faults[i] + e->fetched.faults[i];
        if (!planned || i >= e->ready.n_cards)
            continue;
        views[i].weights_bytes = e->ready.cards[i].weights_bytes;
        views[i].kv_bytes = e->ready.cards[i].kv_bytes;
        views[i].scratch_bytes = e->ready.cards[i].scratch_bytes;
        views[i].landing_bytes = e->ready.cards[i].landing_bytes;
        views[i].huge_bytes = e->ready.cards[i].huge_bytes;
        views[i].reused =
            views[i].weights_bytes > 0 && e->ready.cards[i].kept_bytes == views[i].weights_bytes;
        views[i].advised_bytes = e->ready.cards[i].advised_bytes;
        views[i].prefetched_bytes = e->ready.cards[i].prefetched_bytes;
        views[i].resident_bytes = e->ready.cards[i].resident_bytes;
    }
    return d->topology.n_cards;
}

static const struct topology *host_topology(void *user) {
    return &((struct daemon *)user)->topology;
}

static const struct model_view *host_model(void *user) {
    const struct daemon *d = user;
    return d->engines.loaded ? &d->model : NULL;
}

static struct scheduler *host_scheduler(void *user) {
    return ((struct daemon *)user)->scheduler;
}

static int check_drill(const struct daemon *d, struct err *err) {
    if (config_drill(&d->config))
        return 0;
    return err_set(err, -EPERM, "faults are not rehearsed here; set the key drill = yes");
}

static int host_lose(void *user, uint32_t card, struct err *err) {
    struct daemon *d = user;
    const int rc = check_drill(d, err);
    return rc < 0 ? rc : engines_lose(&d->engines, card, err);
}

static int host_return(void *user, uint32_t card, struct err *err) {
    struct daemon *d = user;
    const int rc = check_drill(d, err);
    return rc < 0 ? rc : engines_return(&d->engines, card, err);
}

static int host_corrupt(void *user, uint32_t card, bool silent, struct err *err) {
    struct daemon *d = user;
    const int rc = check_drill(d, err);
    return rc < 0 ? rc : engines_corrupt(&d->engines, card, silent, err);
}

static int host_hang(void *user, uint32_t card, struct err *err) {
    struct daemon *d = user;
    const int rc = check_drill(d, err);
    return rc < 0 ? rc : engines_hang(&d->engines, card, err);
}

static int host_drain(void *user, uint32_t card, bool release, struct err *err) {
    return engines_drain(&((struct daemon *)user)->engines, card, release, err);
}

static int host_online(void *user, uint32_t card, struct err *err) {
    return engines_want(&((struct daemon *)user)->engines, card, err);
}

static int host_rebalance(void *user, bool dry_run, struct rebalance_view *view, struct err *err) {
    struct engines *e = &((struct daemon *)user)->engines;
    const int rc = engines_compare(e, view, err);
    if (rc == 0 && !dry_run && view->changes)
        engines_use_cards(e, "an operator rebalances");
    return rc;
}

static void host_event_range(void *user, uint64_t *first, uint64_t *last) {
    const struct daemon *d = user;
    *first = events_first(&d->events);
    *last = d->events.last;
}

static const struct event *host_event(void *user, uint64_t number) {
    return events_get(&((struct daemon *)user)->events, number);
}

static void host_metrics(void *user, struct metrics_view *view) {
    const struct daemon *d = user;
    *view = (struct metrics_view){.generations_failed = d->engines.n_ends[0],
                                  .generations_replaced = d->engines.n_ends[1],
                                  .rebalances = d->engines.order.n_done,
                                  .kv_kept_tokens = d->engines.kv_kept_tokens,
                                  .verified_bytes = d->engines.check.bytes,
                                  .scrubs = d->engines.check.scrubs,
                                  .ranges_harmed = d->engines.check.harmed,
                                  .ranges_repaired = d->engines.check.repaired,
                                  .carried = d->engines.carried_before,
                                  .pressed = d->pressed.pressure.pressed,
                                  .pressures = d->pressed.n};
    link_bytes_add(&view->carried, &d->engines.carried);
}

static int host_kill(void *user, struct err *err) {
    struct daemon *d = user;
    const int rc = check_drill(d, err);
    return rc < 0 ? rc : engines_kill(&d->engines, err);
}

static int host_measure(void *user,
                        void (*done)(void *arg, const struct limits_view *limits, const char *why),
                        void *arg, struct err *err) {
    struct daemon *d = user;
    const int rc = engines_measure(&d->engines, err);
    if (rc < 0)
        return rc;
    d->measured = done;
    d->measured_arg = arg;
    return 0;
}

/* Of an embedding that is not the output matrix too, a token reads one row: nothing. */
static void count_weights(const struct device_ops *backend, const struct model *model,
                          struct limits_view *view) {
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct model_tensor *t = &model->tensors[i];
        if (t->role != ROLE_TOKEN_EMBD || model->params.tied)
            view->token_bytes +=
                backend->packed_bytes(t->type, model_tensor_is_vector(t), t->rows, t->cols);
        if (t->layer >= 0)
            view->layer_params += t->rows * t->cols;
    }
}

void daemon_measured(void *user, const struct msg_limits *limits, const char *why) {
    struct daemon *d = user;
    if (!limits) {
        d->measured(d->measured_arg, NULL, why);
        return;
    }
    struct limits_view view = {
        .read_bytes_per_s = limits->read_bytes_per_s,
        .int8_ops_per_s = limits->int8_ops_per_s,
        .weights_bytes = limits->weights_bytes,
        .huge_bytes = limits->huge_bytes,
        .n_threads = limits->n_threads,
        .isa = limits->isa,
    };
    count_weights(d->backend.ops, &d->loaded->model, &view);
    d->measured(d->measured_arg, &view, NULL);
}

static int host_check(void *user, int64_t card,
                      void (*done)(void *arg, const struct check_view *view, const char *why),
                      void *arg, struct err *err) {
    struct daemon *d = user;
    const int rc = engines_check(&d->engines, (int32_t)card, err);
    if (rc < 0)
        return rc;
    d->checked = done;
    d->checked_arg = arg;
    return 0;
}

void daemon_verified(void *user, const struct msg_verified *verified, const char *why) {
    struct daemon *d = user;
    struct check_view view = {0};
    for (uint32_t i = 0; verified && i < verified->n_cards; i++) {
        const struct verified_card *c = &verified->cards[i];
        if (c->ranges)
            view.cards[view.n_cards++] = (struct checked_card){.card = i,
                                                               .ranges = c->ranges,
                                                               .harmed = c->harmed,
                                                               .repaired = c->repaired,
                                                               .bytes = c->bytes,
                                                               .seconds = (double)c->ns * 1e-9};
    }
    d->checked(d->checked_arg, verified ? &view : NULL, why);
}

static int host_reload(void *user, struct err *err) {
    return daemon_reload(user, err);
}

struct job {
    uv_work_t work;
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

static void job_run(uv_work_t *work) {
    struct job *job = work->data;
    job->run(job->arg);
}

static void job_done(uv_work_t *work, int status) {
    struct job *job = work->data;
    (void)status; /* jobs are never cancelled */
    job->done(job->arg);
    free(job);
}

static int host_offload(void *user, void (*run)(void *arg), void (*done)(void *arg), void *arg) {
    struct daemon *d = user;
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return -ENOMEM;
    *job = (struct job){.run = run, .done = done, .arg = arg};
    job->work.data = job;
    const int rc = uv_queue_work(&d->loop, &job->work, job_run, job_done);
    if (rc < 0)
        free(job);
    return rc;
}

void daemon_fill_host(struct daemon *d, struct protocol_host *host) {
    *host = (struct protocol_host){
        .user = d,
        .now_ns = host_now,
        .status = host_status,
        .cards = host_cards,
        .topology = host_topology,
        .model = host_model,
        .scheduler = host_scheduler,
        .drill_lose = host_lose,
        .drill_kill_engine = host_kill,
        .drill_return = host_return,
        .drill_corrupt = host_corrupt,
        .drill_hang = host_hang,
        .drain = host_drain,
        .online = host_online,
        .rebalance = host_rebalance,
        .event_range = host_event_range,
        .event = host_event,
        .metrics = host_metrics,
        .measure = host_measure,
        .check = host_check,
        .reload = host_reload,
        .offload = host_offload,
        .max_request_bytes = d->config.max_request_bytes,
    };
}

void daemon_describe_model(struct daemon *d) {
    const struct loaded *l = d->loaded;
    d->model = (struct model_view){
        .id = l->id,
        .params = &l->model.params,
        .tokenizer = l->tokenizer,
        .chat = l->chat,
        .chat_error = l->chat_error,
        .bos_text = l->bos_text,
        .eos_text = l->eos_text,
        .created = l->created,
        .file_bytes = l->model.file_bytes,
        .n_params = l->n_params,
        .context = d->engines.context,
    };
}
