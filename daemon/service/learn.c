/* SPDX-License-Identifier: Apache-2.0 */
/* learn.c - the peer links of real cards, before the first plan: from the state directory, or
 * measured by a process that may be lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/service/box_links.h"
#include "daemon/service/daemon.h"
#include "daemon/service/selftest.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

static uint64_t wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void identify(const struct daemon *d, box_identities identities) {
    for (uint32_t i = 0; i < d->topology.n_cards; i++)
        memcpy(identities[i], d->engines.cards[i].card.identity.text, CARD_IDENTITY_MAX);
}

/* The links of that time of measuring. */
static void keep(struct daemon *d, const char *box, uint64_t measured_ms) {
    box_identities identities;
    struct links_known *known = calloc(1, sizeof *known);
    if (!known)
        return; /* measured again at the next start */
    identify(d, identities);
    memcpy(known->box, box, sizeof known->box);
    known->measured_ms = measured_ms;
    box_links_note(&d->topology, identities, known);
    state_save_links(&d->state_dir, known);
    free(known);
}

static void tell_judged(struct daemon *d) {
    for (uint32_t from = 0; from < d->topology.n_cards; from++)
        for (uint32_t to = 0; to < d->topology.n_cards; to++) {
            const struct peer_link *link = &d->topology.links[from][to];
            struct event told = {.kind = "link", .card = (int32_t)to, .seconds = -1};
            if (from == to || !link->judged)
                continue;
            d->engines.demoted = true;
            snprintf(told.text, sizeof told.text,
                     "card %u takes what card %u has through host memory: %s", to, from,
                     link->reason);
            events_add(&d->events, &told);
            log_warning("%s", told.text);
        }
}

static void measure(struct daemon *d, const char *box) {
    const uint32_t all = d->topology.n_cards * (d->topology.n_cards - 1);
    struct selftest_report *report = calloc(1, sizeof *report);
    struct err err = {"no memory"};
    const uint64_t began = wall_ms();
    uint32_t n = 0;
    if (report && selftest_ask(&d->spawner, false, report, &err) == 0) {
        err_set(&err, 0, "%s", report->links_why[0] ? report->links_why : report->error);
        n = box_links_take(&d->topology, report, wall_ms());
    }
    free(report);
    if (n == 0) {
        log_warning("the peer links are not measured, and plans do without their figures: %s",
                    err.text);
        return;
    }
    log_info("%u of %u peer links were measured, in %.1f s", n, all,
             (double)(wall_ms() - began) / 1000);
    keep(d, box, wall_ms());
}

void daemon_learn_links(struct daemon *d) {
    char box[LINKS_BOX_MAX];
    box_identities identities;
    const struct links_known *known = state_links(&d->state_dir);
    if (!d->backend.ops->probe || d->topology.n_cards < 2)
        return;
    box_links_key(&d->topology, &d->backend.cards, box);
    identify(d, identities);
    const bool same = !strcmp(known->box, box);
    if (d->config.measure_links == MEASURE_ALWAYS ||
        (d->config.measure_links == MEASURE_CHANGED && !(same && known->measured_ms)))
        measure(d, box);
    else if (same && box_links_apply(&d->topology, identities, known))
        log_info("the peer links were measured before, in the same box");
    tell_judged(d);
}

void daemon_note_links(void *user) {
    struct daemon *d = user;
    char box[LINKS_BOX_MAX];
    const struct links_known *known = state_links(&d->state_dir);
    if (!d->backend.ops->probe)
        return;
    box_links_key(&d->topology, &d->backend.cards, box);
    keep(d, box, strcmp(known->box, box) ? 0 : known->measured_ms);
}
