/* SPDX-License-Identifier: Apache-2.0 */
/* The order to a running engine to go over to another plan, and its answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/placement/layout.h"
#include "daemon/placement/waves.h"
#include "daemon/service/events.h"
#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

static uint64_t mib_up(uint64_t bytes) {
    return (bytes >> 20) + (bytes % (1u << 20) != 0);
}

const struct plan *line_coming_plan(const struct engines *e) {
    return e->order.under_way ? &e->order.plan : &e->plan;
}

/* K and V keep their pages, and the engine its buffers. */
static bool same_steps(const struct plan *a, const struct plan *b) {
    return a->context == b->context && a->n_pages == b->n_pages && a->kv_type == b->kv_type &&
           a->max_rows == b->max_rows && a->max_outputs == b->max_outputs &&
           a->max_sequences == b->max_sequences;
}

static bool is_lost(const struct engines *e, uint32_t card) {
    return e->lost_here[card];
}

/* Until it has gone over, a card holds what it held and what it is to hold. */
static bool is_tight(const struct engines *e, const struct plan *plan, uint32_t card) {
    return !is_lost(e, card) &&
           layout_peak_bytes(&e->plan, plan, card) > e->cards[card].capacity_bytes;
}

static bool fits_beside(const struct engines *e, const struct plan *plan) {
    uint64_t host = 0;
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (is_tight(e, plan, i))
            return false;
        if (!is_lost(e, i))
            host += e->plan.cards[i].spilled_bytes + plan->cards[i].spilled_bytes;
    }
    return host <= engines_spill_limit(e);
}

/* Why no stage helped; wanted: bytes that one would have to have, 0: none would help. */
static void say_stage(const struct engines *e, uint64_t wanted, char *text, size_t size) {
    const uint64_t most = line_stage_limit(e), key = e->config->rebalance_stage;
    if (wanted > most && most < key)
        snprintf(text, size, " (for what full cards exchange the host has %llu MiB, of %llu)",
                 (unsigned long long)most >> 20, (unsigned long long)mib_up(wanted));
    else if (wanted > most)
        snprintf(text, size,
                 " (full cards may exchange %llu MiB at once by rebalance_stage, %llu would do)",
                 (unsigned long long)most >> 20, (unsigned long long)mib_up(wanted));
    else
        text[0] = 0;
}

/* Why the engine is replaced, though it could have gone over. */
static void tell_no_room(struct engines *e, const struct plan *plan, uint64_t wanted) {
    char stage[128];
    struct event told = {.kind = "no_room", .card = -1, .generation = e->number, .seconds = -1};
    uint32_t card = 0;
    say_stage(e, wanted, stage, sizeof stage);
    while (card < e->n_cards && !is_tight(e, plan, card))
        card++;
    if (card < e->n_cards) {
        told.card = (int32_t)card;
        line_event(e, &told,
                   "card %u has no room for what it holds beside what it is to hold (%llu of %llu "
                   "MiB), and there is no way in parts%s: another generation has to start",
                   card, (unsigned long long)mib_up(layout_peak_bytes(&e->plan, plan, card)),
                   (unsigned long long)e->cards[card].capacity_bytes >> 20, stage);
    } else {
        line_event(e, &told,
                   "host memory has no room for the weights that stay in it in both plans: another "
                   "generation has to start");
    }
    log_notice("%s", told.text);
}

/* Places beside what is in use; where an engine's own memory is not to be had here, it is known by
 * the plan. */
static bool lay_out_beside(const struct engines *e, struct plan *plan) {
    int rc = 0;
    for (uint32_t i = 0; i < e->n_cards && !rc; i++) {
        size_t n;
        const struct plan_range *held = plan_card_ranges(&e->plan, i, &n);
        const bool in_use = n > 0 && !is_lost(e, i);
        if (in_use && !layout_in_place(&e->plan, plan, i))
            continue;
        if (e->config->weights == WEIGHTS_SHARED)
            rc = memory_lay_out(&e->cards[i].memory, plan, i, in_use);
        else if (in_use)
            rc = layout_card(plan, i, held, n, true, layout_room(&e->plan, i));
    }
    return rc == 0;
}

/* The plan in use needs a card that is lost. */
static bool is_broken(const struct engines *e) {
    bool broken = false;
    for (uint32_t i = 0; i < e->n_cards; i++)
        broken |= is_lost(e, i) && plan_uses(&e->plan, i);
    return broken;
}

static bool may_go_over(const struct engines *e, const struct plan *plan) {
    return e->config->rebalance == REBALANCE_RUNNING && e->state == ENGINES_SERVING && e->current &&
           !process_ending(e->current) && !e->beside.process && same_steps(&e->plan, plan);
}

/* The smallest stage that is tried: what waits in one arrives while no step runs. */
#define STAGE_LEAST (UINT64_C(64) << 20)

/* The plan that comes first on the way to `plan`.  An engine that lost a card has no time for ways.
 */
static int find_wave(const struct engines *e, const struct plan *plan, struct waves *waves,
                     uint64_t *wanted) {
    const uint64_t most = line_stage_limit(e);
    struct plan_input in;
    bool use[CARDS_MAX];
    *wanted = 0;
    if (is_broken(e))
        return -ENOSPC;
    for (uint32_t i = 0; i < e->n_cards; i++)
        use[i] = plan->cards[i].online;
    line_plan_input(e, use, &in);
    uint64_t stage = STAGE_LEAST < most ? STAGE_LEAST : most;
    int rc = waves_find(waves, &e->plan, plan, &in, stage, wanted);
    while (rc == -ENOSPC && stage < most) {
        stage = stage < most / 4 ? 4 * stage : most;
        rc = waves_find(waves, &e->plan, plan, &in, stage, wanted);
    }
    return rc;
}

/* Of each card with weights: the memory that it has, or new memory where it has none, or uses it
 * for ranges that it cannot keep there. */
static int make_memory(struct engines *e, struct card_memory next[CARDS_MAX],
                       const struct plan *plan, int fds[STREAM_FDS_MAX], uint32_t *n_fds,
                       struct err *err) {
    *n_fds = 0;
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (plan->cards[i].weights_bytes == 0 || e->config->weights != WEIGHTS_SHARED)
            continue;
        const bool in_use = e->plan.cards[i].weights_bytes && !is_lost(e, i);
        if (e->cards[i].memory.fd >= 0 && (!in_use || layout_in_place(&e->plan, plan, i))) {
            fds[(*n_fds)++] = e->cards[i].memory.fd;
            continue;
        }
        const int rc = memory_for_card(&next[i], plan, i, err);
        if (rc < 0)
            return rc;
        fds[(*n_fds)++] = next[i].fd;
    }
    return 0;
}

static void drop_memory(struct card_memory next[CARDS_MAX]) {
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        memory_drop(&next[i]);
}

static void forget_before(struct engines *e) {
    if (!e->order.before.waits)
        return;
    e->order.before.waits = false;
    drop_memory(e->order.before.next);
    plan_finish(&e->order.before.plan);
}

void line_forget_order(struct engines *e) {
    forget_before(e);
    e->order.again[0] = 0;
    if (!e->order.under_way)
        return;
    e->order.under_way = e->order.after_loss = false;
    drop_memory(e->order.next);
    plan_finish(&e->order.plan);
    e->order.plan = (struct plan){.ranges = NULL};
}

/* Another takes its place; what was made for it is kept until the engine says what became of it. */
static void set_aside(struct engines *e) {
    if (!e->order.under_way)
        return;
    e->order.before.waits = true;
    e->order.before.number = e->order.number;
    e->order.before.given_ns = e->order.given_ns;
    e->order.before.plan = e->order.plan;
    memcpy(e->order.before.next, e->order.next, sizeof e->order.next);
}

static void tell_order(struct engines *e, uint64_t stage_bytes) {
    struct event told = {.kind = "rebalance", .card = -1, .generation = e->number, .seconds = -1};
    char staged[64] = "";
    if (stage_bytes)
        snprintf(staged, sizeof staged, ", %llu MiB by way of host memory",
                 (unsigned long long)mib_up(stage_bytes));
    line_event(e, &told, "generation %llu goes over to another plan (%s split%s%s): %s",
               (unsigned long long)e->number, plan_split_name(e->order.plan.split),
               e->order.more ? ", a part of the way" : "", staged, e->order.why);
    log_notice("generation %llu goes over to another plan: %s", (unsigned long long)e->number,
               e->order.why);
}

/* Tell it: true, the plan is the order's. */
static bool give_order(struct engines *e, struct plan *plan, bool more, uint64_t stage_bytes,
                       const char *why) {
    struct card_memory next[CARDS_MAX];
    struct msg_replan msg = {
        .number = e->order.number + 1, .keep = true, .stage_bytes = stage_bytes};
    int fds[STREAM_FDS_MAX];
    uint32_t n_fds = 0;
    struct err err = {{0}};
    if (!lay_out_beside(e, plan))
        return false;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        next[i] = (struct card_memory){.fd = -1};
    msg.plan = *plan;
    int rc = make_memory(e, next, plan, fds, &n_fds, &err);
    if (rc == 0)
        rc = process_send_fds(e->current, MSG_REPLAN, &msg, fds, n_fds);
    if (rc < 0) {
        log_warning("generation %llu cannot be told another plan: %s",
                    (unsigned long long)e->number, err.text[0] ? err.text : strerror(-rc));
        drop_memory(next);
        return false;
    }
    set_aside(e);
    e->order.number++;
    e->order.under_way = true;
    e->order.called_off = e->order.crossed = false;
    e->order.more = more;
    e->order.after_loss = is_broken(e);
    e->order.plan = *plan;
    e->order.given_ns = uv_hrtime();
    memcpy(e->order.next, next, sizeof next);
    snprintf(e->order.why, sizeof e->order.why, "%s", why);
    tell_order(e, stage_bytes);
    line_changed(e);
    return true;
}

bool line_go_over(struct engines *e, struct plan *plan, const char *why) {
    struct waves waves;
    uint64_t wanted;
    if (!may_go_over(e, plan))
        return false;
    if (e->order.before.waits) { /* until that is answered nobody knows what is in use */
        line_ask_again(e, why);
        e->order.after_loss |= is_broken(e);
        plan_finish(plan);
        return true;
    }
    if (fits_beside(e, plan))
        return give_order(e, plan, false, 0, why);
    if (find_wave(e, plan, &waves, &wanted) < 0 || (waves.n == 1 && !waves.staged_bytes)) {
        tell_no_room(e, plan, wanted);
        return false;
    }
    if (waves.n == 1)
        return give_order(e, plan, false, waves.staged_bytes, why);
    const bool under_way = e->order.under_way && line_same_work(&e->order.plan, &waves.first);
    if (!under_way && !give_order(e, &waves.first, true, waves.staged_bytes, why)) {
        waves_finish(&waves);
        return false;
    }
    if (under_way) {
        e->order.more = true; /* it may have been given as the last one */
        waves_finish(&waves);
    }
    plan_finish(plan);
    return true;
}

bool line_unheard(const struct engines *e, const struct message *msg) {
    if (!e->order.after_loss)
        return false;
    return msg->type == MSG_TOKEN || msg->type == MSG_PROMPT ||
           (msg->type == MSG_END && msg->end.reason != END_CANCELLED);
}

/* --- the answer --- */

static void tell_done(struct engines *e, const struct msg_replanned *msg, uint64_t given_ns) {
    struct event told = {.kind = "rebalanced",
                         .card = -1,
                         .generation = e->number,
                         .seconds = (double)(uv_hrtime() - given_ns) * 1e-9,
                         .has_bytes = true};
    for (uint32_t i = 0; i < msg->ready.n_cards; i++) {
        const struct ready_card *card = &msg->ready.cards[i];
        told.reused_bytes += card->kept_bytes;
        told.reloaded_bytes += card->weights_bytes - card->copied_bytes - card->kept_bytes;
        told.moved_bytes += card->copied_bytes;
    }
    line_event(e, &told,
               "generation %llu went over in %.2f s: %llu MiB of weights copied, %llu read, %llu "
               "kept; %llu MiB of K and V %s; the last slice took %.1f ms",
               (unsigned long long)e->number, told.seconds,
               (unsigned long long)told.moved_bytes >> 20,
               (unsigned long long)told.reloaded_bytes >> 20,
               (unsigned long long)told.reused_bytes >> 20, (unsigned long long)msg->kv_bytes >> 20,
               msg->kept ? "carried over" : "are computed again", (double)msg->gap_ns * 1e-6);
    log_notice("generation %llu went over in %.2f s (%s)", (unsigned long long)e->number,
               told.seconds, e->order.why);
}

/* What a drained card holds is kept for its return; so is what the order that crosses this one's
 * answer was laid out in. */
static bool keeps_memory(const struct engines *e, uint32_t card) {
    const enum card_state state = e->cards[card].card.state;
    return state == CARD_DRAINING || state == CARD_DRAINED ||
           (e->order.under_way && e->order.plan.cards[card].weights_bytes &&
            e->order.next[card].fd < 0);
}

/* What a card holds that the plan has nothing for is of no more use, as a rule. */
void line_take_memory(struct engines *e, struct card_memory of_order[CARDS_MAX]) {
    for (uint32_t i = 0; i < e->n_cards; i++) {
        struct card_memory *now = &e->cards[i].memory, *next = &of_order[i];
        if (next->fd >= 0) {
            memory_drop(now);
            *now = *next;
            *next = (struct card_memory){.fd = -1};
        } else if (now->fd >= 0 && e->plan.cards[i].weights_bytes) {
            memory_take_ranges(now, &e->plan, i);
        } else if (!keeps_memory(e, i)) {
            memory_drop(now);
        }
    }
}

/* The order's plan and memory are those in use. */
static void adopt(struct engines *e, struct plan *plan, struct card_memory next[CARDS_MAX],
                  const struct msg_replanned *msg) {
    plan_finish(&e->plan);
    e->plan = *plan;
    *plan = (struct plan){.ranges = NULL};
    line_take_memory(e, next);
    e->order.n_done++;
    line_drop_kv(e, "the plan in use has them elsewhere");
    line_keep(e, true);
    e->ready = msg->ready;
    line_tell_residency(e);
    line_tell_spilled(e);
}

/* What was carried out after the report of a loss was begun after it; but where it had gone over
 * before it heard of one, the report comes next. */
static void forget_losses(struct engines *e) {
    bool any = false;
    for (uint32_t i = 0; i < e->n_cards; i++) {
        e->lost_here[i] &= e->report_due[i];
        any |= e->lost_here[i];
    }
    if (any || process_ending(e->current))
        return;
    e->ending = ENDING_UNSEEN;
    e->why[0] = 0;
}

void line_ask_again(struct engines *e, const char *why) {
    snprintf(e->order.again, sizeof e->order.again, "%s", why);
}

/* Because of what was asked for meanwhile, else of what the latest order was given for. */
static void look_again(struct engines *e) {
    char why[sizeof e->order.why];
    snprintf(why, sizeof why, "%s", e->order.again[0] ? e->order.again : e->order.why);
    e->order.again[0] = 0;
    engines_use_cards(e, why);
}

/* Of a way of several waves, the next one is asked for: what it leads to may be another by now. */
static void go_on(struct engines *e, const struct msg_replanned *msg) {
    tell_done(e, msg, e->order.given_ns);
    adopt(e, &e->order.plan, e->order.next, msg);
    e->order.under_way = e->order.after_loss = false;
    forget_losses(e);
    line_settle(e);
    line_changed(e);
    if (e->order.more || e->order.again[0])
        look_again(e);
}

/* The answer crossed the order that was to take its place. */
static void hear_of_before(struct engines *e, const struct msg_replanned *msg) {
    if (msg->error == 0) {
        tell_done(e, msg, e->order.before.given_ns);
        adopt(e, &e->order.before.plan, e->order.before.next, msg);
        e->order.crossed = true;
        forget_losses(e);
        e->order.after_loss = is_broken(e); /* the plan in use may do without the lost card */
        line_settle(e);
        line_changed(e);
    }
    forget_before(e);
    if (e->order.again[0])
        look_again(e);
}

void line_replanned(struct engines *e, const struct msg_replanned *msg) {
    char why[128];
    if (e->order.before.waits && msg->number == e->order.before.number) {
        hear_of_before(e, msg);
        return;
    }
    if (!e->order.under_way || msg->number != e->order.number)
        return; /* another took its place */
    if (msg->error == 0) {
        go_on(e, msg);
        return;
    }
    snprintf(why, sizeof why, "%s", e->order.why);
    line_forget_order(e);
    e->order.called_off = msg->error == -ECANCELED;
    if (e->order.called_off)
        return; /* a card is lost, or weights were harmed: that is said next */
    if (e->order.crossed) {
        look_again(e);
        return;
    }
    log_warning("generation %llu cannot go over while it runs: %s", (unsigned long long)e->number,
                msg->text);
    if (e->state == ENGINES_SERVING)
        line_hand_over(e, why);
}
