/* SPDX-License-Identifier: Apache-2.0 */
/* links.c - peer links that turn out to be other than the driver says.
 *
 * A verdict holds until the links are measured anew (learn.c), over restarts too.  It moves no
 * weights: the engine that reads wrong bytes over a link goes on through host memory, and plans are
 * made with it from the next one on.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/service/box_links.h"
#include "daemon/service/line.h"
#include "daemon/util/log.h"

static void demote(struct engines *e, uint32_t reader, uint32_t owner, const char *why) {
    struct peer_link *link = &e->topology->links[owner][reader];
    struct event told = {
        .kind = "link", .card = (int32_t)reader, .generation = e->number, .seconds = -1};
    if (link->mode == LINK_STAGED)
        return;
    box_links_demote(link, why);
    e->demoted = true;
    line_event(e, &told, "card %u takes what card %u has through host memory from now on: %s",
               reader, owner, why);
    log_warning("card %u takes what card %u has through host memory from now on: %s", reader, owner,
                why);
    if (e->events.links)
        e->events.links(e->user);
}

static void demote_all(struct engines *e, uint32_t reader, uint32_t owners, const char *why) {
    for (uint32_t i = 0; i < e->n_cards; i++)
        if (owners >> i & 1 && i != reader && reader < e->n_cards)
            demote(e, reader, i, why);
}

void line_judge_links(struct engines *e) {
    for (uint32_t i = 0; i < e->ready.n_cards; i++)
        demote_all(e, i, e->ready.cards[i].misread, "it read wrong bytes when it was tried");
}

void line_tried_links(struct engines *e, const struct msg_tried *msg) {
    char why[TOPOLOGY_REASON_MAX];
    for (uint32_t i = 0; i < e->n_cards; i++) {
        snprintf(why, sizeof why, "tried by itself: %s", msg->why[i]);
        demote_all(e, i, msg->links[i], why);
    }
}

void line_fill_staged(const struct engines *e, uint32_t staged[CARDS_MAX]) {
    memset(staged, 0, CARDS_MAX * sizeof *staged);
    for (uint32_t reader = 0; reader < e->n_cards; reader++)
        for (uint32_t owner = 0; owner < e->n_cards; owner++)
            if (owner != reader && e->topology->links[owner][reader].mode == LINK_STAGED)
                staged[reader] |= 1u << owner;
}
