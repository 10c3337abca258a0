/* SPDX-License-Identifier: Apache-2.0 */
/* held_kv.c - K and V of real cards, as the engine before left them: held beside the weights, and
 * given to the next engine where its plan has them at the same places.
 *
 * They are of use together only: a page lies on all of these cards.  So with one of them all are
 * let go, and before anything else needs the room.  What is in them the engines say to each other.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/service/line.h"
#include "daemon/util/log.h"

#define GIVEN_MAX 2 /* engines in a row, none of which served */

static void close_all(struct engines *e) {
    for (uint32_t i = 0; i < CARDS_MAX && e->kv.held; i++)
        if (e->kv.bytes[i])
            close(e->kv.fds[i]);
    if (e->kv.held)
        close(e->kv.ledger_fd);
    memset(&e->kv, 0, sizeof e->kv);
}

void line_drop_kv(struct engines *e, const char *why) {
    struct event told = {.kind = "unkept_kv", .card = -1, .generation = e->number, .seconds = -1};
    if (!e->kv.held)
        return;
    close_all(e);
    if (!why)
        return;
    line_event(e, &told, "the K and V that are held are let go, and computed again: %s", why);
    log_notice("%s", told.text);
}

void line_give_kv(struct engines *e, const struct plan *plan, int fds[STREAM_FDS_MAX],
                  uint32_t *n_fds, uint64_t bytes[CARDS_MAX]) {
    struct kv_layout layout;
    if (!e->kv.held)
        return;
    layout_kv(plan, &layout);
    if (!layout_same_kv(&layout, &e->kv.layout)) {
        line_drop_kv(e, "the next plan has them elsewhere");
        return;
    }
    if (e->kv.n_given++ == GIVEN_MAX) {
        line_drop_kv(e, "engines that were given them did not come to serve");
        return;
    }
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        bytes[i] = e->kv.bytes[i];
        if (bytes[i])
            fds[(*n_fds)++] = e->kv.fds[i];
    }
    fds[(*n_fds)++] = e->kv.ledger_fd;
}

static bool lost_some(const struct engines *e) {
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (e->lost_here[i])
            return true;
    return false;
}

void line_take_kv(struct engines *e, const struct msg_ready *ready, const int *fds, uint32_t n) {
    uint32_t next = 0;
    close_all(e);
    for (uint32_t i = 0; i < ready->n_cards && i < CARDS_MAX && next < n; i++) {
        e->kv.bytes[i] = ready->cards[i].held_kv_bytes;
        if (e->kv.bytes[i])
            e->kv.fds[i] = fds[next++];
    }
    e->kv.held = next && next < n;
    if (e->kv.held) {
        e->kv.ledger_fd = fds[next++];
        layout_kv(&e->plan, &e->kv.layout);
    } else {
        memset(&e->kv, 0, sizeof e->kv);
        next = 0;
    }
    while (next < n)
        close(fds[next++]);
    if (lost_some(e))
        line_drop_kv(e, NULL);
}

void line_tell_kv(struct engines *e) {
    const struct msg_ready *r = &e->ready;
    struct event told = {.kind = r->unkept_why[0] ? "unkept_kv" : "kept_kv",
                         .card = -1,
                         .generation = e->number,
                         .seconds = -1,
                         .has_tokens = !r->unkept_why[0],
                         .tokens = r->kept_tokens};
    const bool given = e->kv_given;
    e->kv_given = false;
    e->kv_kept_tokens += r->kept_tokens;
    if (!given && (!r->unkept_why[0] || !strcmp(r->unkept_why, e->unkept_told)))
        return;
    snprintf(e->unkept_told, sizeof e->unkept_told, "%s", given ? "" : r->unkept_why);
    if (!r->unkept_why[0])
        line_event(e, &told, "K and V of %llu tokens that the engine before left are used",
                   (unsigned long long)r->kept_tokens);
    else
        line_event(e, &told, "K and V %s: %s",
                   given ? "that the engine before left are computed again"
                         : "end with their engine",
                   r->unkept_why);
    log_notice("%s", told.text);
}
