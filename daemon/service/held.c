/* SPDX-License-Identifier: Apache-2.0 */
/* held.c - the weight memory of real cards: an engine makes it, the front holds its descriptors,
 * and the next engine takes it over.
 *
 * What is held is the card's memory, and in use, whether an engine is there or not.  So it is let
 * go before anything else needs the room: of a card that is lost or given back (line_apply()), for
 * a plan that has no use for it, and when the card did not take it over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/util/log.h"

static bool holds(const struct engines *e) {
    return e->config->weights == WEIGHTS_HELD;
}

/* The plan is as it was. */
static void drop(struct engines *e, uint32_t card, const char *why) {
    struct event told = {
        .kind = "unheld", .card = (int32_t)card, .generation = e->number, .seconds = -1};
    memory_drop(&e->cards[card].memory);
    line_event(e, &told, "card %u: the weights that it holds are let go: %s", card, why);
    log_notice("%s", told.text);
}

bool line_lay_out_held(struct engines *e, struct plan *plan, uint32_t card) {
    const struct plan_card *c = &plan->cards[card];
    struct card_memory *memory = &e->cards[card].memory;
    if (!holds(e))
        return false;
    if (memory->fd < 0 || !c->online)
        return true;
    const int rc = c->weights_bytes == 0 ? -ENODATA
                   : c->spilled_bytes    ? -ENOTSUP
                                         : memory_lay_out_held(memory, plan, card);
    if (rc)
        drop(e, card,
             rc == -ENODATA   ? "the plan has nothing of them there"
             : rc == -ENOTSUP ? "others of the plan's stay in host memory"
                              : "the plan's others have no room beside them");
    return true;
}

bool line_give_held(const struct engines *e, const struct plan *plan, uint32_t card,
                    int fds[STREAM_FDS_MAX], uint32_t *n_fds, uint64_t bytes[DEVICE_PIECES_MAX]) {
    const struct card_memory *memory = &e->cards[card].memory;
    if (!holds(e) || !plan->cards[card].online || memory->fd < 0)
        return false;
    for (uint32_t i = 0; i <= memory->n_more; i++) {
        fds[(*n_fds)++] = i ? memory->more_fds[i - 1] : memory->fd;
        bytes[i] = memory->borders[i] - (i ? memory->borders[i - 1] : 0);
    }
    return true;
}

void line_take_held(struct engines *e, const struct msg_ready *ready) {
    int fds[STREAM_FDS_MAX];
    const uint32_t n = holds(e) ? process_take_fds(e->current, fds) : 0;
    uint32_t next = 0;
    if (!holds(e))
        return;
    for (uint32_t i = 0; i < e->n_cards; i++) {
        uint32_t pieces = 0;
        while (i < ready->n_cards && pieces < DEVICE_PIECES_MAX && next + pieces < n &&
               ready->cards[i].held_bytes[pieces])
            pieces++;
        if (pieces && !e->lost_here[i])
            memory_hold(&e->cards[i].memory, &e->plan, i, fds + next, ready->cards[i].held_bytes,
                        pieces);
        else if (e->plan.cards[i].weights_bytes)
            memory_drop(&e->cards[i].memory);
        for (uint32_t k = 0; k < pieces && e->lost_here[i]; k++)
            close(fds[next + k]);
        next += pieces;
    }
    line_take_kv(e, ready, fds + next, n - next);
}

static void tell_kept(struct engines *e, uint32_t card) {
    const struct ready_card *c = &e->ready.cards[card];
    const uint64_t anew = c->weights_bytes > c->kept_bytes ? c->weights_bytes - c->kept_bytes : 0;
    const double kept = (double)c->kept_bytes / (1 << 20), read = (double)anew / (1 << 20);
    struct event told = {.kind = "kept",
                         .card = (int32_t)card,
                         .generation = e->number,
                         .seconds = -1,
                         .has_bytes = true,
                         .reused_bytes = c->kept_bytes,
                         .reloaded_bytes = anew};
    const bool harmed = c->kept_bytes < e->cards[card].given_bytes;
    const bool left = e->cards[card].given_left;
    line_event(e, &told,
               "card %u: kept %.1f MiB of the weights that the %s before left on it, "
               "read %.1f MiB anew%s%s",
               card, kept, left ? "service" : "engine", read,
               harmed ? "; some of what was there was not what it was" : "",
               harmed && left ? ", or not this plan's" : "");
    log_line(harmed ? LOG_P_WARNING : LOG_P_NOTICE, "%s", told.text);
}

void line_tell_held(struct engines *e) {
    const char *why = e->ready.unheld_why;
    struct event told = {.kind = "unheld", .card = -1, .generation = e->number, .seconds = -1};
    for (uint32_t i = 0; i < e->ready.n_cards && holds(e); i++) {
        if (e->cards[i].given_bytes)
            tell_kept(e, i);
        e->cards[i].given_bytes = 0;
    }
    if (!why[0] || !strcmp(why, e->unheld_told))
        return;
    snprintf(e->unheld_told, sizeof e->unheld_told, "%s", why);
    line_event(e, &told,
               "weights on a card end with their engine, and are read again by the next: %s", why);
    log_notice("%s", told.text);
}

void line_refuse_held(struct engines *e, const struct msg_tried *msg) {
    for (uint32_t i = 0; i < e->n_cards; i++) {
        struct event told = {
            .kind = "unheld", .card = (int32_t)i, .generation = msg->generation, .seconds = -1};
        if (!(msg->memory >> i & 1))
            continue;
        memory_drop(&e->cards[i].memory);
        line_drop_kv(e, "a card does not take over what it holds");
        line_event(e, &told,
                   "card %u does not take over the weights that it holds, which are read "
                   "again: %s",
                   i, msg->why[i]);
        log_warning("%s", told.text);
    }
}
