/* SPDX-License-Identifier: Apache-2.0 */
/* Overrides (placement/place.h) that the plan in use does not keep, as events: who placed something
 * hears when it lies elsewhere, and when it is where it was wanted again. */
#include "daemon/service/line.h"
#include "daemon/util/log.h"

static void tell(struct engines *e, uint32_t number, bool dropped) {
    const struct place *place = &e->config->places.of[number];
    const struct card *card = &e->cards[place->card].card;
    struct event told = {.kind = "place", .card = (int32_t)place->card, .seconds = -1};
    char why[80] = "";
    if (dropped && !e->plan.cards[place->card].online)
        snprintf(why, sizeof why, "card %u is %s", place->card, card_state_name(card->state));
    else if (dropped)
        snprintf(why, sizeof why, "the cards that are left cannot hold the model so");
    line_event(e, &told, "place = %s = card %u is %s%s", place->pattern, place->card,
               dropped ? "dropped: " : "kept again", why);
    log_notice("place = %s = card %u is %s%s", place->pattern, place->card,
               dropped ? "dropped: " : "kept again", why);
}

void line_tell_places(struct engines *e) {
    const uint64_t changed = e->told_places ^ e->plan.dropped_places;
    for (uint32_t k = 0; k < e->config->places.n; k++)
        if (changed >> k & 1)
            tell(e, k, e->plan.dropped_places >> k & 1);
    e->told_places = e->plan.dropped_places;
}
