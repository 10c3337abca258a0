/* SPDX-License-Identifier: Apache-2.0 */
/* Which cards are used, and the change from one set of them to another. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/placement/layout.h"
#include "daemon/service/box.h"
#include "daemon/service/events.h"
#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/service/store.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

/* --- transitions --- */

static struct card_time time_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (struct card_time){.ns = uv_hrtime(),
                              .ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000};
}

void line_event(struct engines *e, struct event *event, const char *fmt, ...) {
    va_list args;
    if (!e->log)
        return;
    va_start(args, fmt);
    vsnprintf(event->text, sizeof event->text, fmt, args);
    va_end(args);
    events_add(e->log, event);
}

/* What the card holds is not to be had any more. */
static bool is_gone(enum card_event event) {
    return event == CARD_LOSE || event == CARD_FENCE || event == CARD_BREAK;
}

int line_apply(struct engines *e, uint32_t number, enum card_event event, const char *why,
               struct err *err) {
    const struct card_rules rules = {.quiet_ns =
                                         (uint64_t)e->config->card_quiet_s * UINT64_C(1000000000),
                                     .faults_max = e->config->card_faults};
    const struct card_time now = time_now();
    struct card *card = &e->cards[number].card;
    const enum card_state before = card->state;
    const int rc = card_apply(card, number, event, why, &now, &rules, err);
    if (rc < 0)
        return rc;
    if (is_gone(event) || event == CARD_RELEASE) {
        memory_drop(&e->cards[number].memory);
        if (e->kv.bytes[number])
            line_drop_kv(e, why);
        if (e->store)
            store_remove(e->store, number);
        if (e->store && event == CARD_RELEASE) /* who is told may take it out */
            store_settle(e->store);
    }
    if (card->state == before) {
        if (event == CARD_CORRUPT && e->events.card)
            e->events.card(e->user, card);
        return 0;
    }
    const char *to = card_state_name(card->state);
    struct event told = {.kind = "card",
                         .card = (int32_t)number,
                         .from = card_state_name(before),
                         .to = to,
                         .seconds = -1};
    if (card->state == CARD_QUARANTINED && event != CARD_BREAK)
        line_event(e, &told, "card %u is quarantined: %u faults within %d s (key card_faults); %s",
                   number, card->n_recent, CARD_FAULTS_WINDOW_S, why);
    else
        line_event(e, &told, "card %u is %s: %s", number, to, why);
    log_line(is_gone(event) ? LOG_P_WARNING : LOG_P_NOTICE, "card %u is %s: %s", number, to, why);
    if (e->events.card)
        e->events.card(e->user, card);
    return 0;
}

void engines_restore(struct engines *e, uint32_t number, const struct card *saved) {
    const struct card_time now = time_now();
    struct card *card = &e->cards[number].card;
    card_restore(card, saved, &now);
    if (card->state == CARD_ONLINE)
        return;
    const struct card_change *last = &card->history[card->n_history - 1];
    const char *why = card->n_history ? last->why : "it was so before";
    struct event told = {
        .kind = "card", .card = (int32_t)number, .to = card_state_name(card->state), .seconds = -1};
    line_event(e, &told, "card %u is %s from the start: %s", number, told.to, why);
    log_notice("card %u is %s from the start: %s", number, told.to, why);
}

/* --- the plan --- */

void line_size_cards(struct engines *e) {
    for (uint32_t i = 0; i < e->n_cards; i++)
        e->cards[i].capacity_bytes = e->topology->cards[i].memory_bytes;
}

void line_plan_input(const struct engines *e, const bool *use, struct plan_input *in) {
    box_plan_input(e->config, e->backend, e->topology, &e->loaded->model, in);
    memcpy(in->online, use, e->n_cards * sizeof *use);
    in->host_spill = engines_spill_limit(e);
}

static int plan_for(const struct engines *e, const bool *use, struct plan *plan, struct err *err) {
    struct plan_input in;
    line_plan_input(e, use, &in);
    struct err why = {{0}};
    int rc = plan_build(plan, &in, &why);
    if (rc < 0 && e->demoted && in.split != SPLIT_AUTO) {
        in.split = SPLIT_AUTO; /* what was asked for may need links that are none any more */
        rc = plan_build(plan, &in, NULL);
    }
    const uint64_t most = e->topology->host.spill_bytes;
    if (rc < 0 && in.host_spill < most)
        return err_set(err, rc,
                       "%.200s: host memory has room for %llu MiB of weights now, of %llu MiB that "
                       "host_spill allows; %s",
                       e->loaded->path, (unsigned long long)in.host_spill >> 20,
                       (unsigned long long)most >> 20, why.text);
    return rc < 0 ? err_set(err, rc, "%.200s: %s", e->loaded->path, why.text) : 0;
}

int line_plan(const struct engines *e, uint32_t without, struct plan *plan, struct err *err) {
    const uint64_t now = uv_hrtime();
    bool use[CARDS_MAX] = {0};
    for (uint32_t i = 0; i < e->n_cards; i++)
        use[i] = i != without && card_usable(&e->cards[i].card, now);
    return plan_for(e, use, plan, err);
}

bool line_held_back(const struct engines *e, struct plan *plan) {
    bool all[CARDS_MAX], held = false;
    for (uint32_t i = 0; i < e->n_cards; i++) {
        all[i] = true;
        held |= e->cards[i].card.state != CARD_ONLINE;
    }
    return held && plan_for(e, all, plan, NULL) == 0;
}

/* Beside its ranges, which are compared for all cards at once. */
static bool same_card(const struct plan_card *a, const struct plan_card *b) {
    const bool same_bytes = a->weights_bytes == b->weights_bytes && a->kv_bytes == b->kv_bytes &&
                            a->scratch_bytes == b->scratch_bytes && a->n_spilled == b->n_spilled;
    if (a->weights_bytes + a->kv_bytes + a->scratch_bytes == 0)
        return same_bytes; /* it holds nothing, wherever that would begin */
    return same_bytes && a->layer_begin == b->layer_begin && a->layer_end == b->layer_end &&
           a->lane_begin == b->lane_begin && a->lane_end == b->lane_end;
}

/* No card would have anything else to do. */
bool line_same_work(const struct plan *a, const struct plan *b) {
    if (a->split != b->split || a->n_cards != b->n_cards || a->n_ranges != b->n_ranges ||
        a->n_pages != b->n_pages || a->max_rows != b->max_rows)
        return false;
    for (uint32_t i = 0; i < a->n_cards; i++)
        if (!same_card(&a->cards[i], &b->cards[i]))
            return false;
    for (size_t i = 0; i < a->n_ranges; i++)
        if (a->ranges[i].card != b->ranges[i].card ||
            !layout_same_values(&a->ranges[i], &b->ranges[i]))
            return false;
    return true;
}

/* What a new generation would read anew; private weights all. */
static uint64_t count_reload(const struct engines *e, const struct plan *plan) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < e->n_cards; i++)
        bytes += plan->cards[i].weights_bytes - memory_kept_bytes(&e->cards[i].memory, plan, i);
    return bytes;
}

int engines_compare(const struct engines *e, struct rebalance_view *view, struct err *err) {
    bool sources[CARDS_MAX] = {0};
    struct plan plan;
    if (!e->loaded || e->plan.n_cards == 0)
        return err_set(err, -ENODEV, "no model is served");
    int rc = line_plan(e, NO_CARD, &plan, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < e->n_cards; i++)
        sources[i] = e->plan.cards[i].online && !e->lost_here[i];
    struct rebalance_view made = {.changes = !line_same_work(&e->plan, &plan),
                                  .model = &e->loaded->model,
                                  .reload_bytes = count_reload(e, &plan)};
    rc = moves_between(&made.moves, &e->plan, &plan, sources);
    plan_finish(&plan);
    if (rc < 0)
        return err_set(err, rc, "no memory for the moves");
    *view = made;
    return 0;
}

/* --- changing over --- */

void line_settle(struct engines *e) {
    const uint64_t now = uv_hrtime();
    for (uint32_t i = 0; i < e->n_cards; i++) {
        struct card *card = &e->cards[i].card;
        const bool serving = e->state == ENGINES_SERVING;
        const bool used = serving ? e->plan.cards[i].online : card_usable(card, now);
        const bool release = card->release;
        if (card->state == CARD_PROBING && used && card_usable(card, now))
            line_apply(e, i, CARD_SERVE, "it is used again", NULL);
        if (card->state != CARD_DRAINING || used || line_is_left(e, i))
            continue;
        line_apply(e, i, CARD_LEAVE, "nothing runs on it any more", NULL);
        if (release)
            line_apply(e, i, CARD_RELEASE, "what it held was given back", NULL);
    }
    if (e->state == ENGINES_SERVING)
        line_tell_places(e);
}

bool line_keep_draining(struct engines *e, const char *why) {
    char text[CARD_WHY_MAX];
    bool any = false;
    snprintf(text, sizeof text, "the others cannot do without it: %s", why);
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (e->cards[i].card.state == CARD_DRAINING)
            any |= line_apply(e, i, CARD_KEEP, text, NULL) == 0;
    return any;
}

/* It was killed, or will be as soon as it says that it lost a card; or it has an order to do
 * without that, which comes first. */
static bool is_ending(const struct engines *e) {
    bool ending = !e->current || process_ending(e->current);
    for (uint32_t i = 0; i < e->n_cards; i++) {
        const bool left = e->order.under_way && !e->order.plan.cards[i].online;
        ending |= e->lost_here[i] && (e->report_due[i] || left);
    }
    return ending;
}

/* A plan that differs in no card's work, but in which of those without any may have some.  The
 * ranges stay where they are. */
static void take_same_work(struct engines *e, struct plan *plan) {
    struct plan *coming = e->order.under_way ? &e->order.plan : &e->plan;
    struct plan_range *ranges = coming->ranges;
    coming->ranges = plan->ranges;
    plan_finish(coming);
    *coming = *plan;
    coming->ranges = ranges;
    if (e->state == ENGINES_SERVING && !e->order.under_way)
        line_settle(e);
    line_changed(e);
}

/* Cards that are of no use make nobody wait longer. */
static void wait_or_start(struct engines *e) {
    struct plan plan;
    struct err err = {{0}};
    if (line_plan(e, NO_CARD, &plan, &err) < 0) {
        snprintf(e->why, sizeof e->why, "%s", err.text);
        line_settle(e);
        line_changed(e);
        return;
    }
    plan_finish(&plan);
    uv_timer_stop(&e->timer);
    line_start_next(e);
}

void engines_use_cards(struct engines *e, const char *why) {
    struct plan plan;
    if (e->state == ENGINES_IDLE || e->state == ENGINES_RESTING) {
        line_settle(e);
        return;
    }
    if (e->state == ENGINES_WAITING) {
        wait_or_start(e);
        return;
    }
    /* Else a generation is about to be planned anyway, or it goes over first. */
    if ((e->state != ENGINES_STARTING && e->state != ENGINES_SERVING) || is_ending(e)) {
        if (e->order.under_way)
            line_ask_again(e, why);
        return;
    }
    if (line_plan(e, NO_CARD, &plan, NULL) < 0) {
        line_hand_over(e, why);
        return;
    }
    if (line_beside_decides(e, &plan, why))
        return;
    if (!line_same_work(line_coming_plan(e), &plan)) {
        if (line_go_over(e, &plan, why) || line_take_over(e, &plan, why))
            return;
        plan_finish(&plan);
        line_hand_over(e, why);
        return;
    }
    take_same_work(e, &plan);
}

void engines_tick(struct engines *e) {
    struct scheduler_counts counts;
    const uint64_t now = uv_hrtime();
    line_beside_tick(e);
    for (uint32_t i = 0; i < e->n_cards; i++) {
        const struct card *card = &e->cards[i].card;
        if (card->state != CARD_PROBING || !card_usable(card, now))
            continue;
        scheduler_counts(e->scheduler, &counts);
        const bool disturbs =
            e->config->rebalance != REBALANCE_RUNNING && counts.running + counts.queued > 0;
        if (e->state == ENGINES_SERVING &&
            (disturbs || e->put_off.on || line_coming_plan(e)->cards[i].online))
            continue; /* nobody asked: it can wait until it disturbs nobody */
        char why[64];
        snprintf(why, sizeof why, "card %u is back", i);
        if (e->state != ENGINES_STARTING)
            engines_use_cards(e, why);
        return;
    }
}

/* --- asked for --- */

static int check_number(const struct engines *e, uint32_t card, struct err *err) {
    return card < e->n_cards
               ? 0
               : err_set(err, -EINVAL, "there is no card %u; there are %u", card, e->n_cards);
}

/* The model can do without the card. */
static int check_dispensable(const struct engines *e, uint32_t number, struct err *err) {
    const uint64_t now = uv_hrtime();
    struct plan plan;
    struct err why = {{0}};
    uint32_t others = 0;
    if (!e->loaded)
        return 0;
    for (uint32_t i = 0; i < e->n_cards; i++)
        others += i != number && card_usable(&e->cards[i].card, now);
    if (others == 0)
        return err_set(err, -ENOSPC,
                       "card %u cannot be drained: it is the only card that is left; nothing was "
                       "changed",
                       number);
    const int rc = line_plan(e, number, &plan, &why);
    if (rc < 0)
        return err_set(err, rc,
                       "card %u cannot be drained: without it, %.400s; nothing was changed", number,
                       why.text);
    plan_finish(&plan);
    return 0;
}

int engines_drain(struct engines *e, uint32_t number, bool release, struct err *err) {
    int rc = check_number(e, number, err);
    if (rc < 0)
        return rc;
    struct card *card = &e->cards[number].card;
    const enum card_state before = card->state;
    if (release && before == CARD_DRAINED)
        return line_apply(e, number, CARD_RELEASE, "what it held was given back", err);
    if (before == CARD_ONLINE || before == CARD_PROBING)
        rc = check_dispensable(e, number, err);
    if (rc == 0)
        rc = line_apply(e, number, CARD_DRAIN, "an operator takes it out", err);
    if (rc < 0 || (card->state == before && !card_moving(card)))
        return rc;
    card->release |= release && card->state == CARD_DRAINING;
    char why[64];
    snprintf(why, sizeof why, "card %u is drained", number);
    line_use_cards_in_time(e, why);
    return 0;
}

int engines_want(struct engines *e, uint32_t number, struct err *err) {
    int rc = check_number(e, number, err);
    if (rc == 0)
        rc = line_apply(e, number, CARD_WANT, "an operator takes it back", err);
    if (rc < 0 || e->cards[number].card.state == CARD_ONLINE)
        return rc;
    char why[64];
    snprintf(why, sizeof why, "card %u is back", number);
    line_use_cards_in_time(e, why);
    return 0;
}

int engines_return(struct engines *e, uint32_t number, struct err *err) {
    return engines_hear(e, number, CARD_RETURN, "it is there again", err);
}

/* The engine uses it, or will as soon as it has carried out what it was told. */
static bool is_used(const struct engines *e, uint32_t card) {
    return e->plan.cards[card].online || (e->order.under_way && e->order.plan.cards[card].online) ||
           (e->order.before.waits && e->order.before.plan.cards[card].online);
}

/* The engine that computes on a lost card has to go; one that is heard says so itself. */
static void end_on_lost(struct engines *e, uint32_t card, bool ask) {
    const struct msg_lose lose = {card};
    if (!e->current || !is_used(e, card))
        return;
    e->lost_here[card] = true;
    if (e->ending == ENDING_UNSEEN)
        e->ending = ENDING_ASKED;
    if (process_ending(e->current))
        return;
    if (ask && e->state == ENGINES_SERVING && process_send(e->current, MSG_LOSE, &lose) == 0) {
        e->report_due[card] = true;
        return;
    }
    snprintf(e->why, sizeof e->why, "card %u was lost", card);
    process_kill(e->current);
}

/* The engine lives on without the card, where the cards left can hold the model. */
static bool go_over_without(struct engines *e, uint32_t number) {
    struct plan plan;
    char why[64];
    if (line_plan(e, NO_CARD, &plan, NULL) < 0)
        return false;
    snprintf(why, sizeof why, "card %u was lost", number);
    if (e->config->rebalance == REBALANCE_RUNNING && line_same_work(line_coming_plan(e), &plan) &&
        !plan_uses(&e->plan, number)) {
        e->lost_here[number] = false;
        e->ending = ENDING_UNSEEN;
        take_same_work(e, &plan);
        return true;
    }
    if (e->ending == ENDING_UNSEEN)
        e->ending = ENDING_ASKED; /* nobody's request is to blame, should it end after all */
    if (line_go_over(e, &plan, why))
        return true;
    plan_finish(&plan);
    return false;
}

void line_lost(struct engines *e, uint32_t number) {
    if (number >= e->n_cards)
        return;
    e->report_due[number] = false;
    if (e->order.after_loss && !e->order.plan.cards[number].online)
        return; /* the step that needed it says so too */
    line_drop_beside(e, "a card was lost");
    if (!e->lost_here[number])
        line_apply(e, number, CARD_LOSE, "the engine reports it lost", NULL);
    e->lost_here[number] = true;
    if (go_over_without(e, number))
        return;
    e->ending = ENDING_DEAF;
    snprintf(e->why, sizeof e->why, "card %u was lost", number);
    if (e->current)
        process_kill(e->current);
}

/* Another plan does without them; where none does, the first start ends with what the engine says.
 */
static bool take_as_lost(struct engines *e, uint32_t cards, const char *why) {
    struct plan plan;
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (cards >> i & 1) {
            if (!e->lost_here[i])
                line_apply(e, i, CARD_LOSE, why, NULL);
            e->lost_here[i] = true;
        }
    if (!cards || (!e->ready_once && line_plan(e, NO_CARD, &plan, NULL) < 0))
        return false;
    if (!e->ready_once)
        plan_finish(&plan);
    return true;
}

void line_failed(struct engines *e, const struct msg_failed *msg) {
    const uint32_t lost = msg->lost & ((1u << e->n_cards) - 1);
    char why[CARD_WHY_MAX];
    snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, msg->text);
    snprintf(e->why, sizeof e->why, "%s", msg->text);
    if (take_as_lost(e, lost, why)) {
        snprintf(e->why, sizeof e->why, "card %d was lost: %.400s", __builtin_ctz(lost), msg->text);
        e->ending = ENDING_DEAF;
        return;
    }
    e->refused = msg->error < 0 ? msg->error : -EIO;
    if (e->state == ENGINES_SERVING && e->ending == ENDING_UNSEEN)
        e->ending = ENDING_ASKED; /* what it says why is no request's fault */
}

void line_fenced(struct engines *e, const struct msg_fenced *msg) {
    char why[CARD_WHY_MAX];
    snprintf(why, sizeof why, "it was silent %s for %.2f s, its deadline",
             e->state == ENGINES_STARTING ? "while a model was loaded" : "in a step",
             (double)msg->deadline_ns * 1e-9);
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (!(msg->cards >> i & 1))
            continue;
        if (!e->lost_here[i])
            line_apply(e, i, CARD_FENCE, why, NULL);
        e->lost_here[i] = true;
        snprintf(e->why, sizeof e->why, "card %u was silent", i);
    }
    e->ending = ENDING_DEAF;
    if (e->current)
        process_kill(e->current);
}

int engines_hang(struct engines *e, uint32_t number, struct err *err) {
    const struct msg_hang hang = {number};
    const int rc = check_number(e, number, err);
    if (rc < 0)
        return rc;
    if (e->backend->probe)
        return err_set(err, -ENOTSUP, "a real card cannot be made silent");
    if (e->state != ENGINES_SERVING || !e->current || process_ending(e->current))
        return err_set(err, -ENODEV, "no engine is serving now");
    if (!e->plan.cards[number].online || e->lost_here[number])
        return err_set(err, -EINVAL, "card %u cannot be silent: it is not used, it is %s", number,
                       card_state_name(e->cards[number].card.state));
    return process_send(e->current, MSG_HANG, &hang) < 0
               ? err_set(err, -ENODEV, "the engine is gone")
               : 0;
}

int engines_hear(struct engines *e, uint32_t number, enum card_event event, const char *why,
                 struct err *err) {
    int rc = check_number(e, number, err);
    if (rc == 0)
        rc = line_apply(e, number, event, why, err);
    if (rc < 0 || !is_gone(event))
        return rc;
    line_drop_beside(e, "a card was lost");
    end_on_lost(e, number, true);
    line_changed(e);
    return 0;
}

int engines_lose(struct engines *e, uint32_t number, struct err *err) {
    return engines_hear(e, number, CARD_LOSE, "a rehearsed loss", err);
}
