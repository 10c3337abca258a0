/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the weights in use are whole: asked for, rehearsed, and what an engine says of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/events.h"
#include "daemon/service/line.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

static int check_serving(const struct engines *e, int64_t card, struct err *err) {
    if (card >= (int64_t)e->n_cards)
        return err_set(err, -EINVAL, "there is no card %d; there are %u", (int)card, e->n_cards);
    if (!e->current || e->state != ENGINES_SERVING || process_ending(e->current))
        return err_set(err, -ENODEV, "no engine is serving now");
    if (card >= 0 && e->plan.cards[card].weights_bytes == 0)
        return err_set(err, -EINVAL, "card %d holds no weights that are in use", (int)card);
    return 0;
}

int engines_check(struct engines *e, int32_t card, struct err *err) {
    const struct msg_verify msg = {e->check.number + 1, card};
    int rc = check_serving(e, card, err);
    if (rc < 0)
        return rc;
    if (e->check.under_way && e->check.card == card)
        return 0;
    if (e->check.under_way)
        return err_set(err, -EBUSY, "other cards are being checked; try again when that is over");
    rc = process_send(e->current, MSG_VERIFY, &msg);
    if (rc < 0)
        return err_set(err, rc, "the engine is gone");
    e->check.number++;
    e->check.card = card;
    e->check.under_way = true;
    return 0;
}

void line_end_check(struct engines *e, const struct msg_verified *verified, const char *why) {
    if (!e->check.under_way)
        return;
    e->check.under_way = false;
    e->events.verified(e->user, verified, why);
}

int engines_corrupt(struct engines *e, uint32_t card, bool silent, struct err *err) {
    const struct msg_corrupt msg = {card, silent};
    int rc = check_serving(e, card, err);
    for (uint32_t i = 0; i < e->n_cards && rc == 0; i++)
        if (e->lost_here[i])
            rc = err_set(err, -EBUSY, "card %u was lost; try again when that is over", i);
    if (rc == 0 && (rc = process_send(e->current, MSG_CORRUPT, &msg)) < 0)
        err_set(err, rc, "the engine is gone");
    return rc;
}

/* --- what it says --- */

void line_harmed(struct engines *e, const struct msg_harmed *msg) {
    struct event told = {.kind = "harmed",
                         .card = (int32_t)msg->card,
                         .generation = e->number,
                         .seconds = (double)msg->read_ns * 1e-9,
                         .has_bytes = true,
                         .reloaded_bytes = msg->bytes};
    e->check.harmed++;
    e->check.repaired++;
    snprintf(told.tensor, sizeof told.tensor, "%.63s", msg->tensor);
    line_event(e, &told,
               "card %u: rows %llu to %llu of '%.60s' were harmed; read again in %.3f s; last "
               "known whole %.3f s before",
               msg->card, (unsigned long long)msg->row_begin, (unsigned long long)msg->row_end - 1,
               msg->tensor, told.seconds, (double)msg->age_ns * 1e-9);
    log_warning("card %u: rows %llu to %llu of '%s' were harmed; read again in %.3f s; last known "
                "whole %.3f s before",
                msg->card, (unsigned long long)msg->row_begin, (unsigned long long)msg->row_end - 1,
                msg->tensor, told.seconds, (double)msg->age_ns * 1e-9);
}

/* One fault a card, however many ranges it harmed.  True: a card must not be used any more. */
static bool count_faults(struct engines *e, const struct msg_verified *msg) {
    bool out = false;
    for (uint32_t i = 0; i < msg->n_cards && i < e->n_cards; i++)
        if (msg->cards[i].harmed &&
            line_apply(e, i, CARD_CORRUPT, "its weights were harmed", NULL) == 0)
            out |= e->cards[i].card.state == CARD_QUARANTINED;
    return out;
}

void line_verified(struct engines *e, const struct msg_verified *msg) {
    for (uint32_t i = 0; i < msg->n_cards; i++)
        e->check.bytes += msg->cards[i].bytes;
    e->check.scrubs += msg->cause == VERIFY_SCRUB;
    if (msg->cause == VERIFY_ASKED && msg->number == e->check.number)
        line_end_check(e, msg, NULL);
    if (msg->cause != VERIFY_REPORTED)
        return;
    const bool out = count_faults(e, msg);
    if (out || e->order.called_off)
        engines_use_cards(e, out ? "a card is quarantined: its weights were harmed too often"
                                 : "weights were harmed meanwhile");
    line_changed(e);
}
