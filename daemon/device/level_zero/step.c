/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one step: its description, then the recording of its shape to every card, whose list
 * takes all commands at once and works on them in its own time.  The host waits once, at the end.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "daemon/device/level_zero/describe.h"
#include "daemon/device/level_zero/landing.h"
#include "daemon/device/level_zero/marks.h"
#include "daemon/device/level_zero/receipts.h"
#include "daemon/device/level_zero/recordings.h"

#define WAIT_NS    UINT64_C(20000000) /* at a time, so that a lost card is noticed */
#define ASK_ROUNDS 10                 /* of waiting, after which a card is asked how it is */
#define DRAIN_NS   UINT64_C(200000000)

struct running {
    struct device *device;
    uint32_t turn;
    uint32_t card; /* that was spoken to last: a failure is its */
    int rc;
};

static void check(struct running *r, uint32_t card, ze_result_t result, const char *call) {
    if (r->rc || result == ZE_RESULT_SUCCESS)
        return;
    r->card = card;
    r->rc = ze_failed(result, call, NULL);
}

static void submit(struct running *r, struct ze_recording *recording) {
    const struct device *d = r->device;
    for (uint32_t i = 0; i < d->n_cards && !r->rc; i++)
        if (d->needed >> i & 1)
            check(r, i,
                  d->api->zeCommandQueueExecuteCommandLists(d->cards[i].queue, 1,
                                                            &recording->lists[i], NULL),
                  "zeCommandQueueExecuteCommandLists");
}

/* By turns: a lost card says so only to who waits for itself, and others wait for it; and Intel's
 * driver only to who waits for half a second at once, or asks. */
static void wait_for_all(struct running *r) {
    const struct device *d = r->device;
    uint32_t left = d->needed;
    for (uint32_t round = 1; left && !r->rc; round++)
        for (uint32_t i = 0; i < d->n_cards && !r->rc; i++) {
            if (!(left >> i & 1))
                continue;
            const ze_result_t result =
                d->api->zeEventHostSynchronize(marks_event(d, r->turn, d->n_marks, i), WAIT_NS);
            if (result != ZE_RESULT_NOT_READY) {
                left &= ~(1u << i);
                check(r, i, result, "zeEventHostSynchronize");
            } else if (round % ASK_ROUNDS == 0) {
                check(r, i, d->api->zeDeviceGetStatus(d->cards[i].handle), "zeDeviceGetStatus");
            }
        }
}

/* After a failure: the others wait for what will not come.  They are let go, and waited for, so
 * that nothing is in use when it is freed. */
static void let_go(struct device *d, uint32_t turn) {
    uint64_t waits = DRAIN_NS / WAIT_NS; /* of all of them together */
    for (uint32_t i = 0; i < d->n_cards; i++)
        for (uint32_t mark = 0; mark <= d->n_marks; mark++)
            d->api->zeEventHostSignal(marks_event(d, turn, mark, i));
    for (uint32_t i = 0; i < d->n_cards; i++) {
        ze_result_t result = ZE_RESULT_NOT_READY;
        while (d->needed >> i & 1 && !d->cards[i].lost && result == ZE_RESULT_NOT_READY && waits--)
            result = d->api->zeCommandQueueSynchronize(d->cards[i].queue, WAIT_NS);
        if (waits > DRAIN_NS / WAIT_NS)
            waits = 0;
    }
}

/* Made for twice as much, for what is made anew ends all recordings. */
static int make_logits_room(struct device *d, const struct step_params *p) {
    const uint64_t bytes = (uint64_t)p->n_outputs * p->n_vocab * 4;
    if (d->logits_bytes >= bytes)
        return 0;
    level_zero_free(d, d->logits);
    d->logits = NULL;
    d->logits_bytes = 0;
    const int rc = level_zero_alloc_host(d, 2 * bytes, &d->logits, NULL);
    if (!rc)
        d->logits_bytes = 2 * bytes;
    return rc;
}

/* After a step that failed; else the lists do it. */
static int settle(struct device *d) {
    int rc = 0;
    for (uint32_t i = 0; d->unsettled && i < marks_events(d) && !rc; i++)
        rc = ze_failed(d->api->zeEventHostReset(d->events[i]), "zeEventHostReset", NULL);
    d->unsettled = d->unsettled && rc;
    return rc;
}

static int make_ready(struct device *d, const struct step_params *params, uint32_t *card) {
    if (params->n_rows == 0 || params->n_rows > d->max_rows ||
        params->n_sequences > STEP_SEQUENCES_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (d->needed >> i & 1 && d->cards[i].lost) {
            *card = i;
            return -ENODEV;
        }
    int rc = make_logits_room(d, params);
    if (!rc)
        rc = settle(d);
    if (rc)
        return rc == -ENODEV ? -EIO : rc; /* no card's own */
    rc = landing_ready(d, card);
    if (rc == -ENODEV)
        d->cards[*card].lost = true;
    return rc;
}

/* The recording, with its part of what the step reads written; NULL: r->rc. */
static struct ze_recording *prepare(struct running *r, const struct step_params *params,
                                    uint32_t id) {
    struct ze_recording *found = NULL;
    uint64_t bytes = 0;
    r->rc = describe_step(r->device, params, id, &bytes, &r->card);
    const struct ze_shape shape =
        recordings_shape(params->n_rows, params->n_outputs, bytes, r->turn);
    if (!r->rc)
        r->rc = recordings_find(r->device, &shape, &found, &r->card);
    if (!r->rc)
        found->used = r->device->n_steps;
    return r->rc ? NULL : found;
}

static void run(struct running *r, struct ze_recording *recording, uint32_t id) {
    struct device *d = r->device;
    atomic_store(&d->stepping, true);
    submit(r, recording);
    if (!r->rc)
        wait_for_all(r);
    atomic_store(&d->stepping, false);
    for (uint32_t i = 0; i < d->n_cards; i++)
        d->cards[i].fetched_bytes += recording->fetched_bytes[i];
    if (!r->rc)
        r->rc = receipts_look(d, recording, id, &r->card);
}

int level_zero_step(struct device *d, const struct step_params *params, uint32_t *card) {
    struct running r = {.device = d, .turn = (uint32_t)(d->n_steps + 1) % TURNS};
    const int rc = make_ready(d, params, card);
    if (rc)
        return rc;
    const uint32_t id = (uint32_t)++d->n_steps;
    atomic_store(&d->turn, r.turn);
    struct ze_recording *recording = prepare(&r, params, id);
    if (recording)
        run(&r, recording, id);
    if (r.rc == -ENODEV) {
        d->cards[r.card].lost = true;
        *card = r.card;
    }
    if (r.rc) {
        d->unsettled = true;
        let_go(d, r.turn);
    }
    for (uint32_t i = 0; i < d->n_cards && r.rc; i++)
        landing_stale(d, i);
    if (!r.rc && params->n_outputs)
        memcpy(params->logits, d->logits, (uint64_t)params->n_outputs * params->n_vocab * 4);
    return r.rc;
}

/* ---- what it waits for ---------------------------------------------------------------------- */

/* Cards that have not come to the first mark that not all of those which go there have come to.  A
 * card that takes no part in a mark never signals it: only the end is everyone's. */
void level_zero_pending(struct device *d, struct device_pending *out) {
    *out = (struct device_pending){.needed = d->needed};
    if (!atomic_load(&d->stepping) || !d->events)
        return;
    const uint32_t turn = atomic_load(&d->turn);
    for (uint32_t mark = 0; mark <= d->n_marks; mark++) {
        uint32_t come = 0, missing = 0;
        for (uint32_t i = 0; i < d->n_cards; i++) {
            if (!(d->needed >> i & 1))
                continue;
            if (d->api->zeEventQueryStatus(marks_event(d, turn, mark, i)) == ZE_RESULT_SUCCESS)
                come |= 1u << i;
            else if (mark == d->n_marks || d->mark_cards[mark] >> i & 1)
                missing |= 1u << i;
        }
        out->done += (uint64_t)__builtin_popcount(come);
        if (missing && !out->cards)
            out->cards = missing;
    }
}
