/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/marks.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/device/level_zero/launches.h"
#include "octarc/error.h"

/* The marks of a step: two around each phase that crosses cards. */
static int find_marks(struct device *d, struct err *err) {
    d->mark_cards = calloc(2 * d->n_launches + 1, sizeof *d->mark_cards);
    if (!d->mark_cards)
        return err_set(err, -ENOMEM, "no memory for the marks of %zu kernels", d->n_launches);
    for (size_t i = 0, n; i < d->n_launches; i += n) {
        uint32_t cards = 0;
        for (n = 0; i + n < d->n_launches && d->launches[i + n].phase == d->launches[i].phase; n++)
            cards |= launch_meets(d, &d->launches[i + n]);
        if (cards) {
            d->mark_cards[d->n_marks++] = cards;
            d->mark_cards[d->n_marks++] = cards;
        }
    }
    return 0;
}

static int make_events(struct device *d, struct err *err) {
    const uint32_t n = marks_events(d);
    ze_device_handle_t handles[CARDS_MAX];
    const uint32_t n_handles = level_zero_handles(d, handles);
    const ze_event_pool_desc_t pool = {.stype = ZE_STRUCTURE_TYPE_EVENT_POOL_DESC,
                                       .flags = ZE_EVENT_POOL_FLAG_HOST_VISIBLE,
                                       .count = n};
    int rc = ze_failed(d->api->zeEventPoolCreate(d->context, &pool, n_handles, handles, &d->pool),
                       "zeEventPoolCreate", err);
    if (rc)
        return rc;
    d->events = calloc(n, sizeof *d->events);
    if (!d->events)
        return err_set(err, -ENOMEM, "no memory for %u events", n);
    for (uint32_t i = 0; i < n && !rc; i++) {
        const ze_event_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_EVENT_DESC,
                                      .index = i,
                                      .signal = ZE_EVENT_SCOPE_FLAG_HOST,
                                      .wait = ZE_EVENT_SCOPE_FLAG_HOST};
        rc = ze_failed(d->api->zeEventCreate(d->pool, &desc, &d->events[i]), "zeEventCreate", err);
    }
    return rc;
}

int marks_make(struct device *d, struct err *err) {
    const int rc = find_marks(d, err);
    return rc ? rc : make_events(d, err);
}

void marks_free(struct device *d) {
    for (uint32_t i = 0; d->events && i < marks_events(d); i++)
        if (d->events[i])
            d->api->zeEventDestroy(d->events[i]);
    free(d->events);
    if (d->pool)
        d->api->zeEventPoolDestroy(d->pool);
    free(d->mark_cards);
    d->pool = NULL;
    d->events = NULL;
    d->mark_cards = NULL;
    d->n_marks = 0;
}
