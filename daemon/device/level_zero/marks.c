/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/marks.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/device/level_zero/launches.h"
#include "daemon/device/level_zero/writes.h"
#include "octarc/error.h"

static size_t phase_of(const struct device *d, size_t first) {
    size_t n = 1;
    while (first + n < d->n_launches && d->launches[first + n].phase == d->launches[first].phase)
        n++;
    return n;
}

static uint32_t meeting(const struct device *d, size_t first, size_t n) {
    uint32_t cards = 0;
    for (size_t i = first; i < first + n; i++)
        cards |= launch_meets(d, &d->launches[i]);
    return cards;
}

static bool may_write(const struct device *d, const struct ze_launch *l, const struct ze_launch *x,
                      uint32_t sender) {
    if (l->op->kind == OP_EXCHANGE)
        return !l->to_host && !l->sends && l->area == x->area;
    return writes_any(l->op, d->max_rows, x->area, x->reads[sender].begin, x->reads[sender].end);
}

/* Whether the sender may write what launch x reads of it before the two meet again, which they do
 * at the end of the step at last. */
static bool is_overtaken(const struct device *d, const struct ze_launch *x, uint32_t sender,
                         size_t next) {
    const uint32_t both = 1u << x->card | 1u << sender;
    for (size_t i = next, n; i < d->n_launches; i += n) {
        n = phase_of(d, i);
        if ((meeting(d, i, n) & both) == both)
            return false;
        for (size_t k = i; k < i + n; k++)
            if (d->launches[k].card == sender && may_write(d, &d->launches[k], x, sender))
                return true;
    }
    return false;
}

/* Behind a phase that crosses cards all may go on when nobody writes what is read too soon.  What
 * goes through host memory, the next one's senders write. */
static bool may_part(const struct device *d, size_t first, size_t n) {
    for (size_t i = first; i < first + n; i++) {
        const struct ze_launch *x = &d->launches[i];
        if (x->staged)
            return false;
        for (uint32_t c = 0; c < d->n_cards; c++)
            if (x->meets >> c & 1 && c != x->card && is_overtaken(d, x, c, first + n))
                return false;
    }
    return true;
}

/* The marks of a step: before each phase that crosses cards, and behind it where that is needed;
 * and at the end one of all cards.  A card that is lost while others still read its memory must not
 * have ended: its end is how the host knows that what they read was there. */
static int find_marks(struct device *d, struct err *err) {
    uint32_t all = 0;
    d->mark_cards = calloc(2 * d->n_launches + 2, sizeof *d->mark_cards);
    if (!d->mark_cards)
        return err_set(err, -ENOMEM, "no memory for the marks of %zu kernels", d->n_launches);
    for (size_t i = 0, n; i < d->n_launches; i += n) {
        n = phase_of(d, i);
        const uint32_t cards = meeting(d, i, n);
        if (!cards)
            continue;
        d->launches[i].parts = may_part(d, i, n);
        d->mark_cards[d->n_marks++] = cards;
        if (!d->launches[i].parts)
            d->mark_cards[d->n_marks++] = cards;
    }
    for (size_t i = 0; i < d->n_launches; i++)
        all |= 1u << d->launches[i].card | launch_meets(d, &d->launches[i]);
    if (all & (all - 1))
        d->mark_cards[d->n_marks++] = all;
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
