/* SPDX-License-Identifier: Apache-2.0 */
/* trial.c - an engine ended and nobody knows by which card or link: the next one tries them first.
 *
 * A driver ends the process that asks a dying card, and so would the next generation's, and the
 * next. What a simulated card does is known. */
#include <stdio.h>

#include "daemon/service/line.h"

bool line_is_puzzled(const struct engines *e) {
    return e->backend->probe && (e->ending == ENDING_UNSEEN || e->refused);
}

void line_tried(struct engines *e, const struct msg_tried *msg) {
    char why[CARD_WHY_MAX];
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (!(msg->cards >> i & 1))
            continue;
        snprintf(why, sizeof why, "tried by itself: %s", msg->why[i]);
        line_apply(e, i, CARD_LOSE, why, NULL);
        e->lost_here[i] = true;
        snprintf(e->why, sizeof e->why, "card %u: %s", i, msg->why[i]);
    }
    line_tried_links(e, msg);
    line_refuse_held(e, msg);
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (msg->memory >> i & 1)
            snprintf(e->why, sizeof e->why, "card %u does not take over the weights that it holds",
                     i);
    if (!msg->cards && !msg->memory)
        snprintf(e->why, sizeof e->why, "a link between cards cannot be used");
    e->ending = ENDING_DEAF;
    if (e->current)
        process_kill(e->current);
}
