/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/engines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/util/log.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"

static void on_timer(uv_timer_t *timer);

void line_changed(struct engines *e) {
    e->events.changed(e->user);
}

uint32_t engines_online(const struct engines *e) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_cards; i++)
        n += e->cards[i].card.state == CARD_ONLINE;
    return n;
}

/* A simulated card has no identity but what a description gives it. */
static void identify(const struct topology_card *card, uint32_t number,
                     char identity[CARD_IDENTITY_MAX]) {
    if (card->id[0])
        snprintf(identity, CARD_IDENTITY_MAX, "%s:%s", card->uuid ? "uuid" : "serial", card->id);
    else if (card->slot[0])
        snprintf(identity, CARD_IDENTITY_MAX, "slot:%s", card->slot);
    else
        snprintf(identity, CARD_IDENTITY_MAX, "slot:cpu-%u", number);
}

void engines_init(struct engines *e) {
    char identity[CARD_IDENTITY_MAX];
    e->state = ENGINES_IDLE;
    e->n_cards = e->topology->n_cards;
    e->host_room = UINT64_MAX;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        identify(&e->topology->cards[i], i, identity);
        card_init(&e->cards[i].card, identity);
        e->cards[i].memory.fd = e->order.next[i].fd = e->order.before.next[i].fd = -1;
        e->beside.next[i].fd = -1;
    }
    uv_timer_init(e->loop, &e->timer);
    e->timer.data = e;
}

/* --- starting one --- */

static void on_message(void *user, const struct message *msg);
static void on_gone(void *user, const char *why);
const struct process_events line_current_events = {on_message, on_gone};

/* An engine that starts says how far it is, one that has sequences at least that a step is done;
 * one that says nothing is as good as dead.  The silence is counted in ticks, of which any number
 * that are late count once: where this process was stopped itself, it has to listen first. */
static void watch(struct engines *e, uint64_t limit_s) {
    const uint64_t tick_ms = limit_s * 1000 / ENGINE_SILENCE_TICKS;
    e->silent_ticks = 0;
    if (tick_ms)
        uv_timer_start(&e->timer, on_timer, tick_ms, tick_ms);
    else
        uv_timer_stop(&e->timer);
}

static void on_silent_tick(struct engines *e, uint32_t limit_s) {
    if (++e->silent_ticks <= ENGINE_SILENCE_TICKS)
        return;
    uv_timer_stop(&e->timer);
    snprintf(e->why, sizeof e->why, "said nothing for %u s%s", limit_s,
             e->state == ENGINES_STARTING ? " while it started" : "");
    process_kill(e->current);
}

/* What is in memory stays there.  Where it leaves no holes large enough the card starts anew. */
static void lay_out(struct engines *e) {
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (!line_lay_out_held(e, &e->plan, i) &&
            memory_lay_out(&e->cards[i].memory, &e->plan, i, false) < 0)
            memory_drop(&e->cards[i].memory);
    }
}

/* Private weights are the engine's own: it gets no descriptor for them. */
static int add_weight_memory(struct engines *e, int fds[STREAM_FDS_MAX], uint32_t *n_fds,
                             struct msg_setup *setup, struct event *told, struct err *err) {
    for (uint32_t i = 0; i < e->n_cards; i++) {
        struct card_memory *memory = &e->cards[i].memory;
        e->cards[i].given_bytes = 0;
        if (!e->plan.cards[i].online)
            continue;
        line_take_left(e, i);
        const uint64_t kept = memory_kept_bytes(memory, &e->plan, i);
        const int rc =
            e->config->weights == WEIGHTS_SHARED ? memory_for_card(memory, &e->plan, i, err) : 0;
        if (rc < 0)
            return rc;
        if (!line_give_held(e, &e->plan, i, fds, n_fds, setup->memory_bytes[i]) &&
            memory->fd >= 0) {
            fds[(*n_fds)++] = memory->fd;
            setup->memory_bytes[i][0] = memory->bytes;
        }
        e->cards[i].given_bytes = kept;
        e->cards[i].given_left = memory->left;
        told->reused_bytes += kept;
        told->reloaded_bytes += e->plan.cards[i].weights_bytes - kept;
    }
    line_give_kv(e, &e->plan, fds, n_fds, setup->kv_bytes);
    e->kv_given = e->kv.held;
    line_keep(e, false);
    return 0;
}

static int start_generation(struct engines *e, struct err *err) {
    int fds[STREAM_FDS_MAX];
    uint32_t n_fds = 0;
    struct msg_setup setup;
    struct event told = {.kind = "start", .card = -1, .seconds = -1, .has_bytes = true};
    line_add_files(e, fds, &n_fds);
    lay_out(e);
    line_fill_setup(e, e->latest + 1, &e->plan, &setup);
    const int rc = add_weight_memory(e, fds, &n_fds, &setup, &told, err);
    if (rc < 0)
        return rc;
    e->number = ++e->latest;
    e->started_ns = uv_hrtime();
    e->progress = (struct msg_progress){0};
    e->ending = ENDING_UNSEEN;
    memset(e->lost_here, 0, sizeof e->lost_here);
    memset(e->report_due, 0, sizeof e->report_due);
    e->refused = 0;
    e->tries = e->puzzled;
    e->why[0] = 0;
    setup.try_cards = e->tries;
    line_tell_start(e, e->number, &e->plan, &told);
    watch(e, ENGINE_SILENCE_S);
    return process_start(&e->current, e->loop, e->spawner, &setup, fds, n_fds, &line_current_events,
                         e, err);
}

void line_wait_for_card(struct engines *e, const char *why) {
    struct event told = {.kind = "no_card", .card = -1, .seconds = -1};
    e->state = ENGINES_WAITING;
    line_event(e, &told, "no card can serve the model, requests wait %u s: %s",
               e->config->no_card_wait_s, why);
    log_error("no card can serve the model: %s; requests wait %u s", why,
              e->config->no_card_wait_s);
    line_tell_short(e);
    snprintf(e->why, sizeof e->why, "%s", why);
    uv_timer_start(&e->timer, on_timer, (uint64_t)e->config->no_card_wait_s * 1000, 0);
}

/* It waited long enough for one. */
static void give_up_waiting(struct engines *e) {
    struct event told = {.kind = "no_card", .card = -1, .seconds = -1};
    struct scheduler_counts counts;
    scheduler_counts(e->scheduler, &counts);
    line_event(e, &told,
               "no card can serve the model after %u s: %u requests end, and new ones are "
               "refused: %s",
               e->config->no_card_wait_s, counts.running + counts.queued, e->why);
    log_error("%s", told.text);
    scheduler_refuse(e->scheduler, -ENODEV, e->why);
    scheduler_fail_all(e->scheduler, -ENODEV, e->why);
}

static void rest(struct engines *e, const char *what, const char *why) {
    struct event told = {.kind = "rest", .card = -1, .seconds = -1};
    char text[640];
    e->state = ENGINES_RESTING;
    e->rested = e->ready_once;
    snprintf(text, sizeof text, "%s: %s", what, why);
    line_event(e, &told, "nothing serves, the next try is in %d s: %s", ENGINE_REST_S, text);
    log_error("%s; the next try is in %d s", text, ENGINE_REST_S);
    snprintf(e->why, sizeof e->why, "%s", why);
    uv_timer_start(&e->timer, on_timer, ENGINE_REST_S * 1000, 0);
    scheduler_refuse(e->scheduler, -EIO, text);
    scheduler_fail_all(e->scheduler, -EIO, text);
    line_settle(e); /* nothing uses a card now, whatever was to be served without it */
}

void line_start_next(struct engines *e) {
    struct plan plan;
    struct err err = {{0}};
    if (e->beside.process) { /* it still has memory: when it is gone */
        e->state = ENGINES_STARTING;
        return;
    }
    int rc = line_plan(e, NO_CARD, &plan, &err);
    if (rc < 0 && line_keep_draining(e, err.text))
        rc = line_plan(e, NO_CARD, &plan, &err);
    if (rc == 0) {
        plan_finish(&e->plan);
        e->plan = plan;
        e->state = ENGINES_STARTING;
        rc = start_generation(e, &err);
        if (rc < 0)
            rest(e, "the engine cannot be started", err.text);
    } else {
        line_wait_for_card(e, err.text);
        line_settle(e);
    }
    line_changed(e);
}

/* In good order where it listens, which it does while it serves. */
void line_hand_over(struct engines *e, const char *why) {
    const bool heard = e->state == ENGINES_SERVING;
    line_drop_beside(e, NULL);
    e->state = ENGINES_HANDING_OVER;
    e->ending = ENDING_ASKED;
    snprintf(e->why, sizeof e->why, "%s", why);
    if (heard && process_send(e->current, MSG_STOP, NULL) == 0) {
        uv_timer_start(&e->timer, on_timer, ENGINE_STOP_MS, 0);
    } else {
        uv_timer_stop(&e->timer);
        process_kill(e->current);
    }
    line_changed(e);
}

static void take_model(struct engines *e, const struct loaded *loaded, const struct plan *plan) {
    e->context = plan->context;
    scheduler_set_model(e->scheduler, loaded->tokenizer, plan->context, plan->max_sequences);
}

int engines_load(struct engines *e, const struct loaded *loaded, struct err *err) {
    struct plan plan;
    struct err why = {{0}};
    e->loaded = loaded;
    line_size_cards(e);
    int rc = line_plan(e, NO_CARD, &plan, &why);
    if (rc < 0 && line_held_back(e, &plan)) {
        take_model(e, loaded, &plan);
        plan_finish(&plan);
        line_wait_for_card(e, why.text);
        line_changed(e);
        return 0;
    }
    if (rc < 0) {
        e->loaded = NULL;
        return err_set(err, rc, "%s", why.text);
    }
    e->plan = plan;
    take_model(e, loaded, &plan);
    e->state = ENGINES_STARTING;
    rc = start_generation(e, err);
    if (rc < 0) {
        e->loaded = NULL;
        e->state = ENGINES_IDLE;
        uv_timer_stop(&e->timer);
        return rc;
    }
    line_changed(e);
    return 0;
}

static void on_timer(uv_timer_t *timer) {
    struct engines *e = timer->data;
    struct scheduler_counts counts;
    switch (e->state) {
    case ENGINES_STARTING:
        on_silent_tick(e, ENGINE_SILENCE_S);
        return;
    case ENGINES_SERVING:
        scheduler_counts(e->scheduler, &counts);
        if (counts.owed == 0 && e->ending == ENDING_UNSEEN && !e->check.under_way && !e->measuring)
            e->silent_ticks = 0; /* one that was told of a loss has to say so */
        else
            on_silent_tick(e, e->config->engine_silence_s);
        return;
    case ENGINES_WAITING:
        give_up_waiting(e);
        return;
    case ENGINES_RESTING:
        line_start_next(e);
        return;
    case ENGINES_HANDING_OVER:
        process_kill(e->current);
        return;
    case ENGINES_STOPPING:
        if (e->orphaned && e->beside.process)
            process_leave(e->beside.process, "the process that starts engines is gone");
        if (e->current && e->orphaned)
            process_leave(e->current, "the process that starts engines is gone");
        else if (e->current)
            process_kill(e->current);
        else if (!e->beside.process)
            e->events.stopped(e->user);
        return;
    default:
        return;
    }
}

/* --- what it says --- */

static void tell_ready(struct engines *e, uint64_t now) {
    struct event told = {.kind = "ready",
                         .card = -1,
                         .generation = e->number,
                         .seconds = (double)(now - e->started_ns) * 1e-9,
                         .has_bytes = true};
    for (uint32_t i = 0; i < e->ready.n_cards; i++) {
        const struct ready_card *card = &e->ready.cards[i];
        told.reused_bytes += card->kept_bytes;
        told.reloaded_bytes += card->weights_bytes - card->kept_bytes;
    }
    line_event(e, &told, "generation %llu serves after %.2f s on %u card%s",
               (unsigned long long)e->number, told.seconds, engines_online(e),
               engines_online(e) == 1 ? "" : "s");
    line_tell_storage(e);
    line_tell_held(e);
    line_tell_kv(e);
    line_tell_residency(e);
    line_tell_spilled(e);
}

void line_serve(struct engines *e, const struct msg_ready *ready, uint64_t now) {
    e->ready = *ready;
    e->state = ENGINES_SERVING;
    watch(e, e->config->engine_silence_s);
    line_take_held(e, ready);
    line_settle(e);
    line_keep(e, true);
    line_tell_left(e);
    line_judge_links(e);
    tell_ready(e, now);
    line_say_put_off(e);
}

static void on_ready(struct engines *e, const struct msg_ready *ready) {
    const uint64_t now = uv_hrtime();
    if (e->state != ENGINES_STARTING)
        return; /* it is to end, whatever it says */
    line_serve(e, ready, now);
    if (e->ready_once) {
        char event[256];
        snprintf(event, sizeof event, "generation %llu serves after %.2f s on %u card%s",
                 (unsigned long long)e->number, (double)(now - e->gone_ns) * 1e-9,
                 engines_online(e), engines_online(e) == 1 ? "" : "s");
        const size_t n = strlen(e->last_event);
        snprintf(e->last_event + n, sizeof e->last_event - n, "; %s", event);
        log_notice("%s", event);
    }
    e->ready_once = true;
    scheduler_refuse(e->scheduler, 0, NULL);
    line_changed(e);
    scheduler_engine_ready(e->scheduler, e->number, now);
}

void line_end_measuring(struct engines *e, const struct msg_limits *limits, const char *why) {
    if (!e->measuring)
        return;
    e->measuring = false;
    e->events.measured(e->user, limits, why);
}

static void on_message(void *user, const struct message *msg) {
    struct engines *e = user;
    const uint64_t now = uv_hrtime();
    if (e->ending == ENDING_DEAF || line_unheard(e, msg))
        return;
    e->silent_ticks = 0;
    switch (msg->type) {
    case MSG_PROGRESS:
        e->progress = msg->progress;
        line_changed(e);
        break;
    case MSG_READY:
        on_ready(e, &msg->ready);
        break;
    case MSG_FAILED:
        line_failed(e, &msg->failed);
        break;
    case MSG_TOKEN:
        e->n_deaths = 0;
        e->rested = false;
        scheduler_on_token(e->scheduler, &msg->token, now);
        break;
    case MSG_PROMPT:
        scheduler_on_prompt(e->scheduler, &msg->prompt);
        break;
    case MSG_END:
        scheduler_on_end(e->scheduler, &msg->end, now);
        break;
    case MSG_CREDIT:
        e->carried = msg->credit.carried;
        e->fetched = msg->credit.fetched;
        scheduler_on_credit(e->scheduler, &msg->credit);
        break;
    case MSG_PREEMPTED:
        scheduler_on_preempted(e->scheduler, &msg->preempted);
        break;
    case MSG_LOST:
        line_lost(e, msg->lost.card);
        break;
    case MSG_FENCED:
        line_fenced(e, &msg->fenced);
        break;
    case MSG_TRIED:
        line_tried(e, &msg->tried);
        break;
    case MSG_REPLANNED:
        line_replanned(e, &msg->replanned);
        break;
    case MSG_HARMED:
        line_harmed(e, &msg->harmed);
        break;
    case MSG_VERIFIED:
        line_verified(e, &msg->verified);
        break;
    case MSG_LIMITS:
        line_end_measuring(e, msg->limits.error ? NULL : &msg->limits,
                           strerror(-msg->limits.error));
        break;
    default:
        break;
    }
}

/* --- its end --- */

/* True: it is too often now. */
static bool count_death(struct engines *e, uint64_t now) {
    if (e->n_deaths == ENGINE_DEATHS_MAX) {
        memmove(e->deaths_ns, e->deaths_ns + 1, sizeof e->deaths_ns - sizeof *e->deaths_ns);
        e->n_deaths--;
    }
    e->deaths_ns[e->n_deaths++] = now;
    return e->rested || (e->n_deaths == ENGINE_DEATHS_MAX &&
                         now - e->deaths_ns[0] < ENGINE_DEATHS_WINDOW_S * UINT64_C(1000000000));
}

static void tell_end(struct engines *e, const char *why, uint32_t running, uint64_t now) {
    struct event told = {.kind = "end",
                         .card = -1,
                         .generation = e->number,
                         .seconds = (double)(now - e->started_ns) * 1e-9,
                         .requests = running};
    const bool hands_over = e->state == ENGINES_HANDING_OVER;
    e->n_ends[e->ending != ENDING_UNSEEN]++;
    line_event(e, &told, "generation %llu %s after %.2f s: %.120s; %u requests are replayed",
               (unsigned long long)e->number, hands_over ? "hands over" : "is gone", told.seconds,
               why, running);
    if (hands_over)
        log_notice("generation %llu hands over: %s; %u running requests are replayed",
                   (unsigned long long)e->number, why, running);
    else
        log_warning("the engine of generation %llu is gone: %s; %u running requests are replayed",
                    (unsigned long long)e->number, why, running);
}

static void on_gone(void *user, const char *why) {
    struct engines *e = user;
    struct scheduler_counts counts;
    char text[512];
    const uint64_t now = uv_hrtime();
    snprintf(text, sizeof text, "%s", e->why[0] ? e->why : why);
    e->current = NULL;
    e->gone_ns = now;
    link_bytes_add(&e->carried_before, &e->carried);
    e->carried = (struct link_bytes){{{0}}};
    fetch_counts_add(&e->fetched_before, &e->fetched);
    e->fetched = (struct fetch_counts){{0}, {0}};
    line_forget_order(e);
    line_drop_beside(e, NULL);
    line_end_measuring(e, NULL, "the engine ended before it had measured");
    line_end_check(e, NULL, "the engine ended before all was verified");
    if (e->state == ENGINES_STOPPING) {
        uv_timer_stop(&e->timer);
        if (!e->beside.process)
            e->events.stopped(e->user);
        return;
    }
    uv_timer_stop(&e->timer);
    if (e->state == ENGINES_HANDING_OVER)
        e->refused = 0; /* its refusal was of a plan that is none any more */
    if (!e->ready_once && e->ending == ENDING_UNSEEN && line_forget_left(e))
        e->refused = 0; /* the next one reads the file, as it is now */
    e->puzzled = line_is_puzzled(e);
    /* What said why, before it ever served, would say it again. */
    if (!e->ready_once && e->refused && (e->tries || !e->puzzled)) {
        e->state = ENGINES_IDLE;
        e->events.failed(e->user, e->refused, text);
        return;
    }
    scheduler_counts(e->scheduler, &counts);
    snprintf(e->last_event, sizeof e->last_event, "generation %llu: %s",
             (unsigned long long)e->number, text);
    tell_end(e, text, counts.running, now);
    e->state = ENGINES_STARTING;
    scheduler_engine_gone(e->scheduler, e->number, e->ending == ENDING_UNSEEN, now);
    if (e->refused == -ESTALE) { /* nothing but the file can change that */
        rest(e, "the weights cannot be read again", text);
        line_changed(e);
        return;
    }
    if (e->ending == ENDING_UNSEEN && count_death(e, now)) {
        e->n_deaths = 0;
        if (!e->ready_once) {
            char line[600];
            e->state = ENGINES_IDLE;
            snprintf(line, sizeof line, "the engine ended %d times before it served: %s",
                     ENGINE_DEATHS_MAX, text);
            e->events.failed(e->user, -EIO, line);
            return;
        }
        rest(e, "the engine does not stay alive", text);
        line_changed(e);
        return;
    }
    line_start_next(e);
}

void engines_report(struct engines *e, const struct spawner_report *report) {
    if (e->beside.process && report->generation == e->beside.number) {
        process_report(e->beside.process, report);
        return;
    }
    if (report->generation < e->number && report->event == SPAWNER_EXITED)
        log_notice("the engine of generation %llu, left behind, has ended",
                   (unsigned long long)report->generation);
    if (report->generation < e->number && report->event == SPAWNER_STARTED)
        spawner_kill(e->spawner, report->pid); /* it was left behind before it was there */
    if (e->current)
        process_report(e->current, report);
}

/* --- asked for --- */

int engines_kill(struct engines *e, struct err *err) {
    if (!e->current)
        return err_set(err, -ENODEV, "no engine is running now");
    if (e->ending == ENDING_UNSEEN)
        e->ending = ENDING_ASKED;
    process_kill(e->current);
    return 0;
}

int engines_measure(struct engines *e, struct err *err) {
    if (!e->current || e->state != ENGINES_SERVING)
        return err_set(err, -ENODEV, "no engine is serving now");
    if (e->measuring)
        return 0;
    const int rc = process_send(e->current, MSG_MEASURE, NULL);
    if (rc < 0)
        return err_set(err, rc, "the engine is gone");
    e->measuring = true;
    return 0;
}

/* An engine hears a STOP only while it serves, and has nothing to lose before. */
void engines_stop(struct engines *e) {
    const bool at_once = e->state != ENGINES_SERVING;
    e->state = ENGINES_STOPPING;
    line_drop_beside(e, NULL);
    if (!e->current || e->orphaned) {
        uv_timer_start(&e->timer, on_timer, 0, 0);
    } else if (at_once || process_send(e->current, MSG_STOP, NULL) < 0) {
        process_kill(e->current);
    } else {
        uv_timer_start(&e->timer, on_timer, ENGINE_STOP_MS, 0);
    }
}

void engines_orphaned(struct engines *e) {
    e->orphaned = true;
    if (e->state == ENGINES_STOPPING)
        engines_stop(e);
}

void engines_finish(struct engines *e) {
    line_forget_order(e);
    line_drop_kv(e, NULL);
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        memory_drop(&e->cards[i].memory);
    plan_finish(&e->plan);
    e->plan = (struct plan){0};
}
