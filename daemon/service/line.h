/* SPDX-License-Identifier: Apache-2.0 */
/* line.h - inside the line of generations: what its files share.
 *
 * engines.c starts generations and hears of their ends; changeover.c says which cards they use. */
#ifndef OCTARC_SERVICE_LINE_H
#define OCTARC_SERVICE_LINE_H

#include "daemon/protocol/host.h"
#include "daemon/service/engines.h"

#define NO_CARD UINT32_MAX

void line_changed(struct engines *engines);

/* --- engines.c --- */

/* Plan for the cards that may be used now, and start; wait where no plan fits. */
void line_start_next(struct engines *engines);
/* The generation ends in good order, because of `why`, and the next one is planned anew. */
void line_hand_over(struct engines *engines, const char *why);
void line_wait_for_card(struct engines *engines, const char *why);

/* --- changeover.c --- */

/* What the configuration says of each card's memory; the host's share where it says nothing. */
void line_size_cards(struct engines *engines);
/* A plan for the cards that may be used, but for `without`.  As plan_build(). */
int line_plan(const struct engines *engines, uint32_t without, struct plan *plan, struct err *err);
/* No plan fits at the start; but it would if no card were held back.  True: line_plan() of all
 * cards is in *plan. */
bool line_held_back(const struct engines *engines, struct plan *plan);
/* A transition: applied, logged, and an event.  -EINVAL. */
int line_apply(struct engines *engines, uint32_t card, enum card_event event, const char *why,
               struct err *err);
/* Cards that are on their way have arrived, as far as the plan in use shows it. */
void line_settle(struct engines *engines);
/* The cards left cannot do without those that are being drained.  True: there were some. */
bool line_keep_draining(struct engines *engines, const char *why);
/* An engine reported a card lost. */
void line_lost(struct engines *engines, uint32_t card);

void line_event(struct engines *engines, struct event *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
