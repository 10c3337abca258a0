/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/card.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "octarc/error.h"

#define WINDOW_NS (CARD_FAULTS_WINDOW_S * UINT64_C(1000000000))
#define NO        (-1) /* refused */

/* [state][event]: the state that follows. */
static const int next[CARD_STATE_COUNT][CARD_EVENT_COUNT] = {
    /*                  drain          leave         keep         release       lose          fence
                        corrupt        break         return       want          serve */
    [CARD_ONLINE] = {CARD_DRAINING, NO, NO, NO, CARD_LOST, CARD_FENCED, CARD_ONLINE,
                     CARD_QUARANTINED, NO, CARD_ONLINE, NO},
    [CARD_DRAINING] = {CARD_DRAINING, CARD_DRAINED, CARD_ONLINE, NO, CARD_OFFLINE, CARD_OFFLINE,
                       CARD_DRAINING, CARD_QUARANTINED, NO, CARD_PROBING, NO},
    [CARD_DRAINED] = {CARD_DRAINED, NO, NO, CARD_OFFLINE, CARD_OFFLINE, CARD_OFFLINE, CARD_DRAINED,
                      CARD_QUARANTINED, NO, CARD_PROBING, NO},
    [CARD_LOST] = {CARD_OFFLINE, NO, NO, NO, NO, NO, NO, CARD_QUARANTINED, CARD_PROBING,
                   CARD_PROBING, NO},
    [CARD_FENCED] = {CARD_OFFLINE, NO, NO, NO, CARD_LOST, NO, NO, CARD_QUARANTINED, CARD_PROBING,
                     CARD_PROBING, NO},
    [CARD_OFFLINE] = {CARD_OFFLINE, NO, NO, NO, NO, NO, NO, CARD_QUARANTINED, NO, CARD_PROBING, NO},
    [CARD_PROBING] = {CARD_DRAINING, NO, NO, NO, CARD_LOST, CARD_FENCED, CARD_PROBING,
                      CARD_QUARANTINED, NO, CARD_PROBING, CARD_ONLINE},
    [CARD_QUARANTINED] = {CARD_OFFLINE, NO, NO, NO, NO, NO, NO, NO, NO, CARD_PROBING, NO},
};

static const char *const state_names[CARD_STATE_COUNT] = {
    "online", "draining", "drained", "lost", "fenced", "offline", "probing", "quarantined"};

/* What an event asks for, in a sentence that ends with "…: it is STATE". */
static const char *const asked[CARD_EVENT_COUNT] = {
    "be drained", "leave",     "be kept",          "be released",     "be lost", "be fenced",
    "be harmed",  "be broken", "return by itself", "be taken online", "serve"};

const char *card_state_name(enum card_state state) {
    return state_names[state];
}

int card_state_find(const char *name) {
    for (int i = 0; i < CARD_STATE_COUNT; i++)
        if (!strcmp(state_names[i], name))
            return i;
    return -EINVAL;
}

const char *card_fault_name(enum card_fault fault) {
    static const char *const names[CARD_FAULT_COUNT] = {"lost", "silent", "corrupt"};
    return names[fault];
}

void card_init(struct card *card, const char *identity) {
    *card = (struct card){.state = CARD_ONLINE};
    snprintf(card->identity.text, sizeof card->identity.text, "%s", identity);
}

static const char *advice(enum card_state state, enum card_event event) {
    if (event != CARD_RETURN)
        return "";
    switch (state) {
    case CARD_DRAINED:
    case CARD_DRAINING:
    case CARD_OFFLINE:
    case CARD_QUARANTINED:
        return "; only an operator brings it back (octarc online)";
    default:
        return "";
    }
}

/* How many faults lie within the window; older ones are forgotten. */
static uint32_t count_recent(struct card *card, uint64_t now_ns) {
    uint32_t old = 0;
    while (old < card->n_recent && now_ns - card->recent_ns[old] >= WINDOW_NS)
        old++;
    card->n_recent -= old;
    memmove(card->recent_ns, card->recent_ns + old, card->n_recent * sizeof *card->recent_ns);
    return card->n_recent;
}

static void add_recent(struct card *card, uint64_t ns) {
    if (card->n_recent == CARD_FAULTS_MOST) {
        card->n_recent--;
        memmove(card->recent_ns, card->recent_ns + 1, card->n_recent * sizeof *card->recent_ns);
    }
    card->recent_ns[card->n_recent++] = ns;
}

static void remember(struct card *card, enum card_state to, bool fault, const char *why,
                     uint64_t ms) {
    if (card->n_history == CARD_HISTORY_MAX) {
        card->n_history--;
        memmove(card->history, card->history + 1, card->n_history * sizeof *card->history);
    }
    struct card_change *change = &card->history[card->n_history++];
    *change = (struct card_change){.ms = ms, .from = card->state, .to = to, .fault = fault};
    snprintf(change->why, sizeof change->why, "%s", why);
    card->since_ms = card->state == to ? card->since_ms : ms;
    card->state = to;
}

int card_apply(struct card *card, uint32_t number, enum card_event event, const char *why,
               const struct card_time *now, const struct card_rules *rules, struct err *err) {
    int to = next[card->state][event];
    if (to == NO)
        return err_set(err, -EINVAL, "card %u cannot %s: it is %s%s", number, asked[event],
                       state_names[card->state], advice(card->state, event));
    const bool fault =
        event == CARD_LOSE || event == CARD_FENCE || event == CARD_CORRUPT || event == CARD_BREAK;
    if (fault) {
        card->faults[event == CARD_CORRUPT ? CARD_FAULT_CORRUPT
                     : event == CARD_FENCE ? CARD_FAULT_SILENT
                                           : CARD_FAULT_LOST]++;
        add_recent(card, now->ns);
        if (count_recent(card, now->ns) >= rules->faults_max)
            to = CARD_QUARANTINED;
    }
    if (event == CARD_WANT && card->state != CARD_ONLINE)
        card->n_recent = 0; /* who says it of one that is online forgives it nothing */
    if (to == CARD_PROBING && event != CARD_CORRUPT)
        card->quiet_until_ns = event == CARD_WANT ? now->ns : now->ns + rules->quiet_ns;
    if (event != CARD_DRAIN && event != CARD_LEAVE && event != CARD_CORRUPT)
        card->release = false;
    if ((int)card->state != to || event == CARD_CORRUPT)
        remember(card, (enum card_state)to, fault, why, now->ms);
    return 0;
}

bool card_usable(const struct card *card, uint64_t now_ns) {
    return card->state == CARD_ONLINE ||
           (card->state == CARD_PROBING && now_ns >= card->quiet_until_ns);
}

bool card_moving(const struct card *card) {
    return card->state == CARD_DRAINING || card->state == CARD_PROBING;
}

static enum card_state restored(enum card_state saved) {
    switch (saved) {
    case CARD_DRAINING:
    case CARD_DRAINED:
    case CARD_OFFLINE:
        return CARD_OFFLINE; /* what it held went with the service */
    case CARD_QUARANTINED:
        return CARD_QUARANTINED;
    default:
        return CARD_ONLINE;
    }
}

void card_restore(struct card *card, const struct card *saved, const struct card_time *now) {
    *card = *saved;
    card->state = restored(saved->state);
    card->release = false;
    card->n_recent = 0;
    for (uint32_t i = 0; i < saved->n_history; i++) {
        const struct card_change *change = &saved->history[i];
        const uint64_t age_ms = now->ms - change->ms;
        if (change->fault && change->ms <= now->ms &&
            age_ms < CARD_FAULTS_WINDOW_S * UINT64_C(1000) && age_ms * UINT64_C(1000000) <= now->ns)
            add_recent(card, now->ns - age_ms * UINT64_C(1000000));
    }
    if (card->state != saved->state) {
        const enum card_state to = card->state;
        card->state = saved->state;
        remember(card, to, false, "the service started", now->ms);
    }
}
