/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/plug.h"

#include <stdio.h>
#include <string.h>

#define CLASS_DISPLAY 0x03u
#define DRIVER        "/sys/bus/pci/drivers/xe"

/* The mildest way first: what is known to work is not tried after what may not. */
static const struct {
    uint32_t way;
    enum card_event event;
    const char *why, *remedy; /* with the card's slot in up to three places */
} ways[] = {
    {WEDGED_REBIND, CARD_LOSE, "rebind it",
     "echo %1$s > " DRIVER "/unbind; echo %1$s > " DRIVER "/bind"},
    {WEDGED_BUS_RESET, CARD_LOSE, "reset it on the bus",
     "echo %1$s > " DRIVER "/unbind; echo 1 > /sys/bus/pci/devices/%1$s/reset; "
     "echo %1$s > " DRIVER "/bind"},
    {WEDGED_COLD_RESET, CARD_BREAK, "cut its power",
     "switch the machine off and on, then: octarc online"},
    {WEDGED_VENDOR, CARD_BREAK, "give it new firmware",
     "fwupdmgr update, or the maker's tool; switch the machine off and on, then: octarc online"},
    {WEDGED_NONE, CARD_LOSE, "nothing is asked for",
     "where it does not return by itself: octarcd --probe, then octarc online"},
    {WEDGED_UNKNOWN, CARD_LOSE, "it does not say how it may be mended",
     "try: echo %1$s > " DRIVER "/unbind; echo %1$s > " DRIVER "/bind; else restart the machine"},
};
#define N_WAYS (sizeof ways / sizeof *ways)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void fill_in(char out[PLUG_REMEDY_MAX], const char *remedy, const char *slot) {
    snprintf(out, PLUG_REMEDY_MAX, remedy, slot);
}
#pragma GCC diagnostic pop

/* All ways are named; the first decides. */
static void mean_wedged(const struct uevent *e, struct plug_meaning *m) {
    size_t at = 0;
    while (at + 1 < N_WAYS && !(e->wedged & ways[at].way))
        at++;
    m->event = ways[at].event;
    int n = snprintf(m->why, sizeof m->why, "its driver gave it up: %s", ways[at].why);
    for (size_t i = at + 1; i < N_WAYS; i++)
        if (e->wedged & ways[i].way && n < (int)sizeof m->why)
            n += snprintf(m->why + n, sizeof m->why - (size_t)n, ", else %s", ways[i].why);
    fill_in(m->remedy, ways[at].remedy, e->slot);
}

/* PCI tells of devices of every kind; without a word about its kind it may be a card. */
static bool may_be_card(const struct uevent *e) {
    return e->pci_class == 0 || e->pci_class >> 16 == CLASS_DISPLAY;
}

bool plug_mean(const struct uevent *e, struct plug_meaning *meaning) {
    struct plug_meaning m = {.event = CARD_LOSE};
    if (!e->slot[0] || e->source == UEVENT_ELSEWHERE)
        return false;
    if (e->wedged) {
        mean_wedged(e, &m);
    } else if (e->action == UEVENT_REMOVE && e->source == UEVENT_PCI && may_be_card(e)) {
        snprintf(m.why, sizeof m.why, "it was taken off the bus");
    } else if (e->action == UEVENT_REMOVE && e->source == UEVENT_DRM) {
        snprintf(m.why, sizeof m.why, "its driver let go of it");
    } else if (e->action == UEVENT_ADD && e->source == UEVENT_DRM) {
        /* A device on the bus alone cannot be used: its driver is waited for. */
        m.event = CARD_RETURN;
        snprintf(m.why, sizeof m.why, "its driver has it again");
    } else {
        return false;
    }
    *meaning = m;
    return true;
}
