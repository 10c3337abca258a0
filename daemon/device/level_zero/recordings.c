/* SPDX-License-Identifier: Apache-2.0 */
/* recordings.c - kept recordings, and how the launches of the programs become one.
 *
 * On a card's list a barrier ends a phase.  Where a phase crosses cards, all of those that take
 * part have ended the phase before when it begins: each signals an event of its own (a mark), and
 * waits for the others'.  They have ended it, too, when the next one begins, where a sender might
 * else write too soon what is read of it.  No card ends a step before all others have come to its
 * end: one that is lost while it is read is noticed so. */
#include "daemon/device/level_zero/recordings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/landing.h"
#include "daemon/device/level_zero/marks.h"

#define EXACT_ROWS 8 /* shapes of so many rows have just those */

struct recorder {
    struct device *device;
    struct ze_recording *to;
    uint32_t mark;
    uint32_t card; /* that was spoken to last: a failure is its */
    int rc;
};

static void check(struct recorder *r, uint32_t card, ze_result_t result, const char *call) {
    if (r->rc || result == ZE_RESULT_SUCCESS)
        return;
    r->card = card;
    r->rc = ze_failed(result, call, NULL);
}

/* ---- shapes --------------------------------------------------------------------------------- */

/* Up to the next quarter of a power of two. */
static uint32_t rounded(uint32_t n) {
    if (n <= EXACT_ROWS)
        return n;
    const uint32_t part = 1u << (29 - __builtin_clz(n));
    return (n + part - 1) / part * part;
}

struct ze_shape recordings_shape(uint32_t n_rows, uint32_t n_outputs, uint64_t bytes,
                                 uint32_t turn) {
    uint64_t room = 4096;
    while (room < bytes)
        room *= 2;
    return (struct ze_shape){rounded(n_rows), rounded(n_outputs), turn, room};
}

static uint32_t part_rows(struct row_part part, uint32_t n_rows) {
    if (part.count == 0)
        return 0;
    return n_rows <= EXACT_ROWS ? row_part_end(part, n_rows) - row_part_begin(part, n_rows)
                                : (n_rows + part.count - 1) / part.count;
}

ze_group_count_t recordings_groups(const struct ze_launch *l, const struct ze_shape *shape) {
    const uint32_t n_rows = shape->n_rows, n_outputs = shape->n_outputs;
    const uint32_t of_part = part_rows(l->part, n_rows);
    const uint32_t of_hits = l->n_used < l->n_experts ? l->n_used : l->n_experts;
    const uint64_t routed = (uint64_t)l->n_used * n_rows;
    const uint32_t counts[] = {
        [BY_ROW] = n_rows,
        [BY_ROW_BLOCK] = (n_rows + ROW_BLOCK - 1) / ROW_BLOCK,
        [BY_OUTPUT] = n_outputs,
        [BY_OUTPUT_BLOCK] = (n_outputs + ROW_BLOCK - 1) / ROW_BLOCK,
        [BY_PART] = of_part,
        [BY_PART_BLOCK] = (of_part + ROW_BLOCK - 1) / ROW_BLOCK,
        [BY_HIT] = routed < l->n_experts ? (uint32_t)routed : l->n_experts,
        [BY_HIT_ROW] = n_rows * of_hits,
        [BY_ONE] = 1,
    };
    const uint32_t n = counts[l->by];
    return l->groups ? (ze_group_count_t){l->groups, n, l->n_numbers} : (ze_group_count_t){n, 1, 1};
}

/* ---- commands ------------------------------------------------------------------------------- */

static ze_command_list_handle_t list_of(const struct recorder *r, uint32_t card) {
    return r->to->lists[card];
}

static void barrier(struct recorder *r, uint32_t card, ze_event_handle_t signal, uint32_t n,
                    ze_event_handle_t *waits) {
    check(r, card, r->device->api->zeCommandListAppendBarrier(list_of(r, card), signal, n, waits),
          "zeCommandListAppendBarrier");
}

static void copy(struct recorder *r, uint32_t card, void *to, const void *from, uint64_t n) {
    check(
        r, card,
        r->device->api->zeCommandListAppendMemoryCopy(list_of(r, card), to, from, n, NULL, 0, NULL),
        "zeCommandListAppendMemoryCopy");
}

static void give(struct recorder *r, const struct ze_launch *l, uint32_t index,
                 const void *pointer) {
    check(r, l->card, modules_give(r->device, l->kernel, index, pointer),
          "zeKernelSetArgumentValue");
}

/* The areas that an exchange may read, of whichever cards; and its host memory. */
static void give_areas(struct recorder *r, const struct ze_launch *l) {
    const struct device *d = r->device;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        give(r, l, 2 + i, d->direct[l->card][i] ? d->cards[i].areas[l->area].at : NULL);
    give(r, l, 2 + IN_STAGE, l->to_host ? d->logits : d->exchange_stage);
}

static void record_kernel(struct recorder *r, const struct ze_launch *l) {
    const ze_group_count_t groups = recordings_groups(l, &r->to->shape);
    const struct ze_card *c = &r->device->cards[l->card];
    if (groups.groupCountX == 0 || groups.groupCountY == 0)
        return;
    give(r, l, 0, c->descriptions + l->description);
    give(r, l, 1, c->step);
    if (l->op->kind == OP_EXCHANGE)
        give_areas(r, l);
    check(r, l->card,
          r->device->api->zeCommandListAppendLaunchKernel(list_of(r, l->card), l->kernel->handle,
                                                          &groups, NULL, 0, NULL),
          "zeCommandListAppendLaunchKernel");
    memset(r->to->due[l->card] + l->number, 0xff, l->n_numbers * sizeof(uint32_t));
}

static void record_fetch(struct recorder *r, const struct ze_launch *l) {
    const int rc = landing_fetch(r->device, l->card, l->op, list_of(r, l->card));
    r->to->fetched_bytes[l->card] += l->op->fetch.bytes;
    if (rc && !r->rc) {
        r->card = l->card;
        r->rc = rc;
    }
}

static void record_launch(struct recorder *r, const struct ze_launch *l) {
    if (l->op->kind == OP_FETCH) {
        record_fetch(r, l);
        return;
    }
    if (l->waits)
        barrier(r, l->card, NULL, 0, NULL);
    record_kernel(r, l);
}

/* ---- phases --------------------------------------------------------------------------------- */

/* Every one of the cards goes on when all of them have come here. */
static void meet(struct recorder *r, uint32_t cards) {
    const struct device *d = r->device;
    ze_event_handle_t all[CARDS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (cards >> i & 1) {
            all[n] = marks_event(d, r->to->shape.turn, r->mark, i);
            barrier(r, i, all[n++], 0, NULL);
        }
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (cards >> i & 1)
            barrier(r, i, NULL, n, all);
    r->mark++;
}

static void record_phase(struct recorder *r, const struct ze_launch *l, size_t n) {
    const struct device *d = r->device;
    uint32_t cards = 0, meeting = 0;
    for (size_t i = 0; i < n; i++) {
        cards |= 1u << l[i].card;
        meeting |= launch_meets(d, &l[i]);
    }
    for (size_t i = 0; i < n && !r->rc; i++)
        if (l[i].sends)
            record_launch(r, &l[i]);
    if (meeting)
        meet(r, meeting);
    for (size_t i = 0; i < n && !r->rc; i++)
        if (!l[i].sends)
            record_launch(r, &l[i]);
    if (meeting && l->parts)
        meeting = 0;
    if (meeting)
        meet(r, meeting);
    for (uint32_t i = 0; i < d->n_cards; i++)
        if ((cards & ~meeting) >> i & 1)
            barrier(r, i, NULL, 0, NULL);
}

static void record_phases(struct recorder *r) {
    const struct device *d = r->device;
    for (size_t i = 0, n; i < d->n_launches && !r->rc; i += n) {
        for (n = 1; i + n < d->n_launches && d->launches[i + n].phase == d->launches[i].phase; n++)
            ;
        record_phase(r, &d->launches[i], n);
    }
}

/* ---- lists ---------------------------------------------------------------------------------- */

static void open_list(struct recorder *r, uint32_t card) {
    const struct device *d = r->device;
    const struct ze_card *c = &d->cards[card];
    const ze_command_list_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_LIST_DESC,
                                         .commandQueueGroupOrdinal = c->ordinal};
    const uint64_t bytes = c->n_receipts * sizeof(uint32_t);
    if (!r->to->due[card])
        r->to->due[card] = malloc(bytes + 1);
    if (!r->to->due[card] && !r->rc)
        r->rc = -ENOMEM;
    else if (r->to->due[card])
        memset(r->to->due[card], 0, bytes);
    r->to->fetched_bytes[card] = 0;
    if (r->to->lists[card])
        check(r, card, d->api->zeCommandListReset(r->to->lists[card]), "zeCommandListReset");
    else
        check(r, card,
              d->api->zeCommandListCreate(d->context, c->handle, &desc, &r->to->lists[card]),
              "zeCommandListCreate");
}

static void begin_list(struct recorder *r, uint32_t card) {
    const struct device *d = r->device;
    const struct ze_card *c = &d->cards[card];
    const uint32_t other = !r->to->shape.turn;
    for (uint32_t mark = 0; mark <= d->n_marks; mark++)
        if (mark == d->n_marks || d->mark_cards[mark] >> card & 1)
            check(r, card,
                  d->api->zeCommandListAppendEventReset(list_of(r, card),
                                                        marks_event(d, other, mark, card)),
                  "zeCommandListAppendEventReset");
    copy(r, card, c->step, c->step_stage, r->to->shape.bytes);
    barrier(r, card, NULL, 0, NULL);
}

/* What is on the list has ended at its last barrier. */
static void end_list(struct recorder *r, uint32_t card) {
    const struct device *d = r->device;
    const struct ze_card *c = &d->cards[card];
    if (c->n_receipts)
        copy(r, card, c->receipts_stage, c->receipts, c->n_receipts * sizeof(uint32_t));
    barrier(r, card, marks_event(d, r->to->shape.turn, d->n_marks, card), 0, NULL);
    check(r, card, d->api->zeCommandListClose(list_of(r, card)), "zeCommandListClose");
}

static int record(struct device *d, struct ze_recording *to, uint32_t *card) {
    struct recorder r = {.device = d, .to = to};
    for (uint32_t i = 0; i < d->n_cards && !r.rc; i++)
        if (d->needed >> i & 1) {
            open_list(&r, i);
            if (!r.rc)
                begin_list(&r, i);
        }
    if (!r.rc)
        record_phases(&r);
    if (!r.rc && r.mark < d->n_marks)
        meet(&r, d->mark_cards[r.mark]);
    for (uint32_t i = 0; i < d->n_cards && !r.rc; i++)
        if (d->needed >> i & 1)
            end_list(&r, i);
    *card = r.card;
    return r.rc;
}

static bool same(const struct ze_shape *a, const struct ze_shape *b) {
    return a->n_rows == b->n_rows && a->n_outputs == b->n_outputs && a->turn == b->turn &&
           a->bytes == b->bytes;
}

int recordings_find(struct device *d, const struct ze_shape *shape, struct ze_recording **found,
                    uint32_t *card) {
    if (!d->recordings)
        d->recordings = calloc(RECORDINGS, sizeof *d->recordings);
    if (!d->recordings)
        return -ENOMEM;
    struct ze_recording *one = d->recordings;
    for (struct ze_recording *r = d->recordings; r < d->recordings + RECORDINGS; r++) {
        if (r->whole && r->as_of == d->n_freed && same(&r->shape, shape)) {
            *found = r;
            return 0;
        }
        if (r->used < one->used)
            one = r;
    }
    one->shape = *shape;
    one->as_of = d->n_freed;
    one->whole = false;
    const int rc = record(d, one, card);
    if (rc)
        return rc;
    one->whole = true;
    *found = one;
    return 0;
}

void recordings_free(struct device *d) {
    for (uint32_t k = 0; d->recordings && k < RECORDINGS; k++)
        for (uint32_t i = 0; i < CARDS_MAX; i++) {
            if (d->recordings[k].lists[i])
                d->api->zeCommandListDestroy(d->recordings[k].lists[i]);
            free(d->recordings[k].due[i]);
        }
    free(d->recordings);
    d->recordings = NULL;
}
