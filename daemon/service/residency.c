/* SPDX-License-Identifier: Apache-2.0 */
/* residency.c - whether what was prefetched lies on its card, and what has no room on any. */
#include <stdio.h>
#include <string.h>

#include "daemon/service/line.h"
#include "daemon/util/log.h"

static void tell(struct engines *e, uint32_t number, uint64_t away_bytes, uint64_t of_bytes) {
    struct event told = {
        .kind = "residency", .card = (int32_t)number, .generation = e->number, .seconds = -1};
    line_event(
        e, &told,
        "card %u: %llu of %llu KiB that were prefetched do not lie on it; it finds them, late",
        number, (unsigned long long)(away_bytes + 1023) >> 10, (unsigned long long)of_bytes >> 10);
    log_warning("card %u: %llu of %llu bytes that were prefetched do not lie on it", number,
                (unsigned long long)away_bytes, (unsigned long long)of_bytes);
}

void line_tell_residency(struct engines *e) {
    for (uint32_t i = 0; i < e->ready.n_cards; i++) {
        const struct ready_card *card = &e->ready.cards[i];
        const uint64_t there = card->resident_bytes < 0 ? 0 : (uint64_t)card->resident_bytes;
        if (card->resident_bytes >= 0 && there < card->prefetched_bytes)
            tell(e, i, card->prefetched_bytes - there, card->prefetched_bytes);
    }
}

void line_tell_storage(struct engines *e) {
    struct event told = {.kind = "storage", .card = -1, .generation = e->number, .seconds = -1};
    if (!e->ready.storage_why[0] || !strcmp(e->ready.storage_why, e->storage_told))
        return;
    snprintf(e->storage_told, sizeof e->storage_told, "%s", e->ready.storage_why);
    line_event(e, &told, "weights lie in device memory (usm), not in shared virtual memory: %s",
               e->ready.storage_why);
    log_notice("weights lie in device memory (usm), not in shared virtual memory: %s",
               e->ready.storage_why);
}

void line_tell_spilled(struct engines *e) {
    const double mib = (double)plan_host_bytes(&e->plan) / (1 << 20);
    struct event told = {.kind = "spilled", .card = -1, .generation = e->number, .seconds = -1};
    if (mib <= 0)
        return;
    line_event(e, &told,
               "%.1f MiB of weights have no room on the cards; they stay in host memory, and each "
               "step fetches them",
               mib);
    log_warning("%.1f MiB of weights have no room on the cards and stay in host memory", mib);
}
