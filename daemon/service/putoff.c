/* SPDX-License-Identifier: Apache-2.0 */
/* putoff.c - what can wait while memory is short on the host.
 *
 * Going over to another plan takes memory beside what is in use, and a new generation takes the
 * machine's time; neither is begun then, unless a loss makes it necessary. */
#include <stdio.h>

#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/service/store.h"
#include "daemon/util/log.h"

static void say(struct engines *e, bool give_back) {
    const struct msg_pressed msg = {give_back, e->put_off.on};
    if (e->state == ENGINES_SERVING && e->current && !process_ending(e->current))
        process_send(e->current, MSG_PRESSED, &msg);
}

void line_say_put_off(struct engines *e) {
    if (e->put_off.on)
        say(e, false);
}

/* What drained cards hold would only make taking them back quick. */
static uint64_t drop_kept(struct engines *e) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (e->config->weights == WEIGHTS_SHARED && e->cards[i].card.state == CARD_DRAINED &&
            e->cards[i].memory.fd >= 0) { /* what is held of real cards is not the host's */
            bytes += memory_held_bytes(&e->cards[i].memory);
            memory_drop(&e->cards[i].memory);
            if (e->store)
                store_remove(e->store, i);
        }
    return bytes;
}

uint64_t engines_press(struct engines *e, bool give_back, bool put_off) {
    const uint64_t bytes = give_back ? drop_kept(e) : 0;
    e->put_off.on = put_off;
    say(e, give_back);
    if (!put_off && e->put_off.owed) {
        e->put_off.owed = false;
        engines_use_cards(e, e->put_off.why);
    }
    return bytes;
}

void line_use_cards_in_time(struct engines *e, const char *why) {
    struct event told = {.kind = "pressure", .card = -1, .generation = e->number, .seconds = -1};
    if (!e->put_off.on || e->state != ENGINES_SERVING) {
        engines_use_cards(e, why);
        return;
    }
    e->put_off.owed = true;
    snprintf(e->put_off.why, sizeof e->put_off.why, "%s", why);
    line_event(e, &told, "put off while memory is short on the host: %s", why);
    log_notice("put off while memory is short on the host: %s", why);
}
