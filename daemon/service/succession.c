/* SPDX-License-Identifier: Apache-2.0 */
/* succession.c - a generation takes over from one that serves on meanwhile.
 *
 * It starts and loads beside it.  When it is ready it is the current one, and the other leaves: the
 * scheduler moves what that one runs, one sequence after the other, and then it ends.  For that the
 * cards hold both at once, in memory of their own each: neither writes what the other reads, and
 * what befalls the one's weights is not the other's.
 *
 * There are two at most.  Where anything else happens meanwhile the second one is dropped, and the
 * line does what it does without. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/events.h"
#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define STILL_S 60 /* that a generation leaves without getting rid of anything; then it ends */

static void on_message(void *user, const struct message *msg);
static void on_gone(void *user, const char *why);
static const struct process_events beside_events = {on_message, on_gone};

/* --- whether it can be --- */

/* Nothing else is under way, and nobody waits for anything else. */
static bool is_sound(const struct engines *e) {
    bool sound = e->state == ENGINES_SERVING && e->current && !process_ending(e->current) &&
                 e->ending == ENDING_UNSEEN && !e->order.under_way && !e->order.before.waits &&
                 !e->beside.process;
    for (uint32_t i = 0; i < e->n_cards; i++)
        sound &= !e->lost_here[i];
    return sound;
}

static uint64_t used_bytes(const struct plan_card *card) {
    return card->weights_bytes - card->spilled_bytes + card->kv_bytes + card->scratch_bytes +
           card->landing_bytes;
}

/* Memory that outlived an engine may be more than the plan in use has in it. */
static uint64_t both_bytes(const struct engines *e, const struct plan *plan, uint32_t card) {
    const struct plan_card *now = &e->plan.cards[card];
    const uint64_t weights = now->weights_bytes - now->spilled_bytes;
    const uint64_t held =
        e->config->weights == WEIGHTS_HELD && weights ? e->cards[card].memory.bytes : 0;
    return used_bytes(now) + (held > weights ? held - weights : 0) + used_bytes(&plan->cards[card]);
}

/* A card without room for both; n_cards: it is the host that has none; UINT32_MAX: there is. */
static uint32_t find_tight(const struct engines *e, const struct plan *plan) {
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (both_bytes(e, plan, i) > e->cards[i].capacity_bytes)
            return i;
    return plan_host_bytes(&e->plan) + plan_host_bytes(plan) > engines_spill_limit(e) ? e->n_cards
                                                                                      : UINT32_MAX;
}

static void tell_no_room(struct engines *e, const struct plan *plan, uint32_t card) {
    struct event told = {.kind = "no_room", .card = -1, .generation = e->number, .seconds = -1};
    if (card < e->n_cards) {
        told.card = (int32_t)card;
        line_event(e, &told,
                   "card %u has no room for two generations at once (%llu of %llu MiB): requests "
                   "wait while the next one starts",
                   card, (unsigned long long)both_bytes(e, plan, card) >> 20,
                   (unsigned long long)e->cards[card].capacity_bytes >> 20);
    } else {
        line_event(e, &told,
                   "host memory has no room for the weights that two generations leave in it: "
                   "requests wait while the next one starts");
    }
    log_notice("%s", told.text);
}

/* --- starting it --- */

static void drop_memory(struct engines *e) {
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        memory_drop(&e->beside.next[i]);
}

/* What nobody uses, and a card held before, is used as it is; else the card gets new memory. */
static int make_memory(struct engines *e, struct plan *plan, int fds[STREAM_FDS_MAX],
                       uint32_t *n_fds, struct msg_setup *setup, struct event *told,
                       struct err *err) {
    for (uint32_t i = 0; i < e->n_cards; i++) {
        struct card_memory *held = &e->cards[i].memory, *memory = &e->beside.next[i];
        const uint64_t bytes = plan->cards[i].weights_bytes;
        uint64_t kept = 0;
        if (bytes && held->fd >= 0 && e->plan.cards[i].weights_bytes == 0) {
            memory = held;
            if (!line_lay_out_held(e, plan, i) && memory_lay_out(held, plan, i, false) < 0)
                memory_drop(held);
            kept = memory_kept_bytes(held, plan, i);
        }
        told->reused_bytes += kept;
        told->reloaded_bytes += bytes - kept;
        e->cards[i].given_bytes = kept;
        if (bytes && memory == held)
            line_give_held(e, plan, i, fds, n_fds, setup->memory_bytes[i]);
        if (bytes == 0 || e->config->weights != WEIGHTS_SHARED)
            continue;
        const int rc = memory_for_card(memory, plan, i, err);
        if (rc < 0)
            return rc;
        fds[(*n_fds)++] = memory->fd;
        setup->memory_bytes[i][0] = memory->bytes;
    }
    return 0;
}

static int start(struct engines *e, struct plan *plan, struct err *err) {
    struct event told = {.kind = "start", .card = -1, .seconds = -1, .has_bytes = true};
    struct msg_setup setup;
    int fds[STREAM_FDS_MAX];
    uint32_t n_fds = 0;
    line_add_files(e, fds, &n_fds);
    line_fill_setup(e, e->latest + 1, plan, &setup);
    setup.beside = true;
    int rc = make_memory(e, plan, fds, &n_fds, &setup, &told, err);
    if (rc < 0)
        return rc;
    rc = process_start(&e->beside.process, e->loop, e->spawner, &setup, fds, n_fds, &beside_events,
                       e, err);
    if (rc < 0)
        return rc;
    line_tell_start(e, ++e->latest, plan, &told);
    return 0;
}

/* Its steps share the cards, or the cores, with another generation's. */
static void say_yield(struct engines *e, bool on) {
    const struct msg_yield msg = {on};
    if (e->current && e->state == ENGINES_SERVING && !process_ending(e->current))
        process_send(e->current, MSG_YIELD, &msg);
}

bool line_take_over(struct engines *e, struct plan *plan, const char *why) {
    struct scheduler_counts counts;
    struct err err = {{0}};
    scheduler_counts(e->scheduler, &counts);
    if (counts.running == 0 || !is_sound(e))
        return false;
    const uint32_t tight = find_tight(e, plan);
    if (tight != UINT32_MAX) {
        tell_no_room(e, plan, tight);
        return false;
    }
    const int rc = start(e, plan, &err);
    if (rc < 0) {
        log_warning("no generation can start beside the one that serves: %s",
                    err.text[0] ? err.text : strerror(-rc));
        drop_memory(e);
        return false;
    }
    e->beside.number = e->latest;
    e->beside.begun_ns = uv_hrtime();
    e->beside.leaves = e->beside.deaf = e->beside.asked = false;
    e->beside.plan = *plan;
    e->beside.silent_s = 0;
    e->beside.again[0] = 0;
    snprintf(e->beside.why, sizeof e->beside.why, "%s", why);
    log_notice("generation %llu is to take over: %s", (unsigned long long)e->beside.number, why);
    say_yield(e, true);
    line_changed(e);
    return true;
}

/* --- it takes over --- */

/* Counts of the one that leaves go on while it does. */
static void leave_counts(struct engines *e) {
    e->beside.carried = e->carried_before;
    e->beside.fetched = e->fetched_before;
    link_bytes_add(&e->carried_before, &e->carried);
    fetch_counts_add(&e->fetched_before, &e->fetched);
    e->carried = (struct link_bytes){{{0}}};
    e->fetched = (struct fetch_counts){{0}, {0}};
}

static void swap(struct engines *e) {
    struct process *left = e->current;
    const struct plan plan = e->plan;
    const uint64_t number = e->number, begun_ns = e->started_ns;
    e->current = e->beside.process;
    e->plan = e->beside.plan;
    e->number = e->beside.number;
    e->started_ns = e->beside.begun_ns;
    e->beside.process = left;
    e->beside.plan = plan;
    e->beside.number = number;
    e->beside.begun_ns = begun_ns;
    e->beside.leaves = true;
    process_hear(e->current, &line_current_events, e);
    process_hear(left, &beside_events, e);
}

static void tell_taken_over(struct engines *e, uint32_t running) {
    struct event told = {.kind = "takeover",
                         .card = -1,
                         .generation = e->number,
                         .seconds = -1,
                         .requests = running};
    line_event(e, &told,
               "generation %llu takes over from %llu, which goes on until its %u running requests "
               "have moved: %s",
               (unsigned long long)e->number, (unsigned long long)e->beside.number, running,
               e->beside.why);
    log_notice("%s", told.text);
}

static void on_ready(struct engines *e, const struct msg_ready *ready) {
    const uint64_t now = uv_hrtime();
    struct scheduler_counts counts;
    scheduler_counts(e->scheduler, &counts);
    swap(e);
    leave_counts(e);
    line_end_measuring(e, NULL, "another generation took over before it had measured");
    line_end_check(e, NULL, "another generation took over before all was verified");
    line_take_memory(e, e->beside.next);
    e->beside.silent_s = e->beside.still_s = 0;
    e->beside.held = counts.owed;
    e->beside.moved = counts.moved;
    e->ending = ENDING_UNSEEN;
    e->refused = 0;
    e->tries = false;
    e->why[0] = 0;
    line_serve(e, ready, now);
    tell_taken_over(e, counts.running);
    line_changed(e);
    scheduler_take_over(e->scheduler, e->number, now);
}

/* --- what it says --- */

/* What the one that leaves says of cards is told as if the kernel had: the current one uses them.
 */
static void hear_of_cards(struct engines *e, const struct message *msg) {
    const bool lost = msg->type == MSG_LOST;
    const uint32_t cards = lost ? 1u << msg->lost.card % CARDS_MAX : msg->fenced.cards;
    char why[CARD_WHY_MAX] = "a generation that leaves lost it";
    if (!lost)
        snprintf(why, sizeof why,
                 "it was silent for %.2f s, its deadline, in a generation that leaves",
                 (double)msg->fenced.deadline_ns * 1e-9);
    line_drop_beside(e, "a card was lost");
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (cards >> i & 1)
            engines_hear(e, i, lost ? CARD_LOSE : CARD_FENCE, why, NULL);
}

static void hear_leaving(struct engines *e, const struct message *msg, uint64_t now) {
    switch (msg->type) {
    case MSG_TOKEN:
        scheduler_on_token(e->scheduler, &msg->token, now);
        break;
    case MSG_PROMPT:
        scheduler_on_prompt(e->scheduler, &msg->prompt);
        break;
    case MSG_END:
        scheduler_on_end(e->scheduler, &msg->end, now);
        break;
    case MSG_PREEMPTED:
        scheduler_on_preempted(e->scheduler, &msg->preempted);
        break;
    case MSG_CREDIT:
        e->carried_before = e->beside.carried;
        e->fetched_before = e->beside.fetched;
        link_bytes_add(&e->carried_before, &msg->credit.carried);
        fetch_counts_add(&e->fetched_before, &msg->credit.fetched);
        break;
    case MSG_FAILED: /* what it says why is no request's fault */
        e->beside.asked = true;
        break;
    case MSG_LOST:
    case MSG_FENCED:
        hear_of_cards(e, msg);
        break;
    case MSG_HARMED:
        line_harmed(e, &msg->harmed);
        break;
    case MSG_VERIFIED:
        line_verified(e, &msg->verified);
        break;
    default:
        break;
    }
}

/* What the one that serves uses is left to that one's own watch.  Where it uses none of them, it
 * serves on: what is still to be done is seen anew, without them. */
static void hear_fenced(struct engines *e, const struct msg_fenced *msg) {
    char why[CARD_WHY_MAX];
    bool used = false;
    snprintf(why, sizeof why, "it was silent while a model was loaded for %.2f s, its deadline",
             (double)msg->deadline_ns * 1e-9);
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (!(msg->cards >> i & 1))
            continue;
        log_warning("generation %llu cannot take over: card %u: %s",
                    (unsigned long long)e->beside.number, i, why);
        if (e->plan.cards[i].online)
            used = true;
        else
            line_apply(e, i, CARD_FENCE, why, NULL);
    }
    if (used)
        process_kill(e->beside.process);
    else
        line_drop_beside(e, e->beside.why);
}

/* Cards that do not take over what they held: the next one is given none of it. */
static void hear_tried(struct engines *e, const struct msg_tried *msg) {
    line_refuse_held(e, msg);
    line_drop_beside(e, e->beside.why);
}

/* The one that it is to take over from may be about to end: that comes first, and is explained. */
static void hear_ready(struct engines *e, const struct msg_ready *ready) {
    if (e->state == ENGINES_SERVING && !process_ending(e->current) && e->ending == ENDING_UNSEEN)
        on_ready(e, ready);
    else
        line_drop_beside(e, e->beside.why);
}

static void on_message(void *user, const struct message *msg) {
    struct engines *e = user;
    if (e->beside.deaf)
        return;
    e->beside.silent_s = 0;
    if (e->beside.leaves)
        hear_leaving(e, msg, uv_hrtime());
    else if (msg->type == MSG_READY)
        hear_ready(e, &msg->ready);
    else if (msg->type == MSG_FENCED)
        hear_fenced(e, &msg->fenced);
    else if (msg->type == MSG_TRIED)
        hear_tried(e, &msg->tried);
    else if (msg->type == MSG_FAILED)
        log_warning("generation %llu cannot take over: %s", (unsigned long long)e->beside.number,
                    msg->failed.text);
}

/* --- its end --- */

void line_drop_beside(struct engines *e, const char *again) {
    if (!e->beside.process)
        return;
    if (again)
        snprintf(e->beside.again, sizeof e->beside.again, "%s", again);
    e->beside.deaf = true;
    process_kill(e->beside.process);
}

bool line_is_left(const struct engines *e, uint32_t card) {
    return e->beside.process && e->beside.leaves && e->beside.plan.cards[card].online;
}

static bool same_cards(const struct plan *a, const struct plan *b) {
    bool same = true;
    for (uint32_t i = 0; i < a->n_cards; i++)
        same &= a->cards[i].online == b->cards[i].online;
    return same;
}

bool line_beside_decides(struct engines *e, struct plan *plan, const char *why) {
    if (!e->beside.process)
        return false;
    if (e->beside.leaves || e->beside.deaf) {
        snprintf(e->beside.again, sizeof e->beside.again, "%s", why);
    } else if (!line_same_work(&e->beside.plan, plan) || !same_cards(&e->beside.plan, plan)) {
        line_drop_beside(e, why);
    }
    plan_finish(plan);
    return true;
}

static void tell_left(struct engines *e, const char *why, uint64_t now) {
    struct scheduler_counts counts;
    struct event told = {.kind = "end", .card = -1, .generation = e->beside.number};
    scheduler_counts(e->scheduler, &counts);
    told.seconds = (double)(now - e->beside.begun_ns) * 1e-9;
    told.requests = counts.leaving;
    e->n_ends[e->beside.asked || e->beside.deaf]++;
    line_event(e, &told,
               "generation %llu has handed over after %.2f s: %.120s; %llu sequences "
               "moved, %u are replayed",
               (unsigned long long)e->beside.number, told.seconds,
               e->beside.asked ? e->beside.why : why,
               (unsigned long long)(counts.moved - e->beside.moved), counts.leaving);
    log_notice("%s", told.text);
    snprintf(e->last_event, sizeof e->last_event, "%s", told.text);
}

/* It could not take over, and what it was to be for is still to be done. */
static void do_without(struct engines *e, uint64_t number, const char *why) {
    char text[128];
    log_warning("generation %llu, which was to take over, is gone: %s", (unsigned long long)number,
                why);
    snprintf(text, sizeof text, "%s", e->beside.why);
    if (e->state == ENGINES_SERVING)
        line_hand_over(e, text);
}

static void go_on(struct engines *e) {
    char again[sizeof e->beside.again];
    snprintf(again, sizeof again, "%s", e->beside.again);
    e->beside.again[0] = 0;
    if (e->state == ENGINES_STOPPING && !e->current)
        e->events.stopped(e->user);
    else if (e->state == ENGINES_STARTING && !e->current)
        line_start_next(e);
    else if (e->state == ENGINES_SERVING)
        line_settle(e);
    say_yield(e, false);
    if (again[0] && e->state == ENGINES_SERVING)
        engines_use_cards(e, again);
}

static void on_gone(void *user, const char *why) {
    struct engines *e = user;
    const uint64_t now = uv_hrtime();
    const bool left = e->beside.leaves, failed = !left && !e->beside.deaf;
    e->beside.process = NULL;
    drop_memory(e);
    plan_finish(&e->beside.plan);
    e->beside.plan = (struct plan){.ranges = NULL};
    if (left && e->state != ENGINES_STOPPING)
        tell_left(e, why, now);
    if (left)
        scheduler_engine_gone(e->scheduler, e->beside.number, !e->beside.asked && !e->beside.deaf,
                              now);
    if (failed)
        do_without(e, e->beside.number, why);
    go_on(e);
    line_changed(e);
}

/* --- patience with it --- */

/* What it has still got is replayed then. */
static bool is_stuck(struct engines *e) {
    const uint32_t silence_s = e->config->engine_silence_s;
    struct scheduler_counts counts;
    scheduler_counts(e->scheduler, &counts);
    e->beside.still_s = counts.leaving == e->beside.held ? e->beside.still_s + 1 : 0;
    e->beside.held = counts.leaving;
    return e->beside.still_s > STILL_S || (silence_s && e->beside.silent_s > silence_s);
}

void line_beside_tick(struct engines *e) {
    if (!e->beside.process || e->beside.deaf)
        return;
    e->beside.silent_s++;
    if (e->beside.asked ? e->beside.silent_s > ENGINE_STOP_MS / 1000
                        : !e->beside.leaves && e->beside.silent_s > ENGINE_SILENCE_S) {
        process_kill(e->beside.process);
    } else if (e->beside.leaves && !e->beside.asked && is_stuck(e)) {
        e->beside.asked = true;
        e->beside.silent_s = 0;
        process_send(e->beside.process, MSG_STOP, NULL);
    }
}
