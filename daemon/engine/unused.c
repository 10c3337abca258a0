/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/unused.h"

#include <errno.h>
#include <stdlib.h>

struct stretch {
    uint64_t begin, end;
};

static int by_begin(const void *a, const void *b) {
    const struct stretch *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* What is to stay of a card's memory, behind its header; in the order of the addresses. */
static size_t list_used(const struct runner_options *o, uint32_t card, const bool *kept,
                        bool in_place, struct stretch *used) {
    size_t n_own, n_before = 0, n = 0;
    const struct plan_range *own = plan_card_ranges(o->plan, card, &n_own);
    const struct plan_range *before =
        in_place ? plan_card_ranges(runner_options(o->before)->plan, card, &n_before) : NULL;
    for (size_t i = 0; i < n_own; i++)
        if (!kept || kept[own + i - o->plan->ranges])
            used[n++] = (struct stretch){own[i].offset, own[i].offset + own[i].bytes};
    for (size_t i = 0; i < n_before; i++)
        used[n++] = (struct stretch){before[i].offset, before[i].offset + before[i].bytes};
    qsort(used, n, sizeof *used, by_begin);
    return n;
}

static int clear_card(struct device *device, const struct runner_options *o, uint32_t card,
                      const bool *kept, bool in_place, struct stretch *used) {
    struct device_properties p;
    uint64_t at = PLAN_WEIGHTS_HEADER;
    int rc = o->backend->properties(device, card, &p);
    const size_t n = rc ? 0 : list_used(o, card, kept, in_place, used);
    for (size_t i = 0; i < n && !rc; i++) {
        if (used[i].begin > at)
            rc = o->backend->clear(device, card, AREA_WEIGHTS, at, used[i].begin - at);
        at = used[i].end > at ? used[i].end : at;
    }
    if (!rc && at < p.room_bytes[AREA_WEIGHTS])
        rc = o->backend->clear(device, card, AREA_WEIGHTS, at, p.room_bytes[AREA_WEIGHTS] - at);
    return rc == -ENODEV ? 0 : rc; /* a lost card has nothing to clear */
}

int unused_clear(struct device *device, const struct runner_options *options, const bool *kept,
                 const bool *in_place) {
    const struct plan *plan = options->plan;
    const size_t n_before =
        in_place && options->before ? runner_options(options->before)->plan->n_ranges : 0;
    struct stretch *used = malloc((plan->n_ranges + n_before + 1) * sizeof *used);
    int rc = used ? 0 : -ENOMEM;
    for (uint32_t c = 0; c < plan->n_cards && !rc; c++)
        if (plan->cards[c].weights_bytes)
            rc = clear_card(device, options, c, kept, in_place && in_place[c], used);
    free(used);
    return rc;
}

int unused_clear_card(struct device *device, const struct runner_options *options, uint32_t card) {
    struct stretch *used = malloc((options->plan->n_ranges + 1) * sizeof *used);
    if (!used)
        return -ENOMEM;
    const int rc = clear_card(device, options, card, NULL, false, used);
    free(used);
    return rc;
}
