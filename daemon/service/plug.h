/* SPDX-License-Identifier: Apache-2.0 */
/* plug.h - what an event of the kernel means for a card, and what an operator is to do.
 *
 * A table, and pure: uevents.c hears events and applies what is said here.
 * Threads: no shared state. */
#ifndef OCTARC_SERVICE_PLUG_H
#define OCTARC_SERVICE_PLUG_H

#include "daemon/device/drm/uevent.h"
#include "daemon/service/card.h"

#define PLUG_REMEDY_MAX 400

struct plug_meaning {
    enum card_event event; /* CARD_LOSE, CARD_BREAK or CARD_RETURN */
    char why[CARD_WHY_MAX];
    char remedy[PLUG_REMEDY_MAX]; /* commands, for an operator; empty: there is nothing to do */
};

/* False: it means nothing for a card. */
bool plug_mean(const struct uevent *event, struct plug_meaning *meaning);

#endif
