/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/prove.h"

#include <errno.h>

#include "daemon/engine/behind.h"

static bool is_cancelled(const struct runner_options *o) {
    return o->cancelled && atomic_load(o->cancelled);
}

int prove_digest(const struct runner_options *o, struct device *device, const struct plan_range *r,
                 uint64_t *digest) {
    uint64_t sum = 0;
    for (uint64_t at = 0; at < r->bytes; at += PROVE_PIECE_BYTES) {
        const uint64_t left = r->bytes - at;
        uint64_t part = 0;
        const int rc =
            is_cancelled(o)
                ? -ECANCELED
                : o->backend->digest_part(device, r->card, r->offset + at,
                                          left < PROVE_PIECE_BYTES ? left : PROVE_PIECE_BYTES,
                                          at / DIGEST_LEAF_BYTES, &part);
        if (rc)
            return rc;
        sum += part;
        behind_pause();
    }
    *digest = device_digest_close(sum, r->bytes);
    return 0;
}

/* -ENODEV: of a lost card nothing is left that could be harmed. */
static int prove_range(const struct runner_options *o, size_t i, bool *whole) {
    const struct plan_range *r = &runner_options(o->before)->plan->ranges[i];
    uint64_t digest = 0;
    const int rc = prove_digest(o, runner_device(o->before), r, &digest);
    *whole = rc || digest == runner_digests(o->before)[i];
    return rc == -ENODEV ? 0 : rc;
}

struct work {
    const struct runner_options *options;
    _Atomic bool harmed;
    _Atomic int rc;
};

static bool prove_one(void *user, size_t i, enum behind_worker by) {
    struct work *w = user;
    bool whole = true;
    (void)by;
    const int rc = prove_range(w->options, i, &whole);
    if (rc)
        atomic_store(&w->rc, rc);
    if (!whole)
        atomic_store(&w->harmed, true);
    return !rc && whole;
}

int prove_left(const struct runner_options *o, bool *whole) {
    struct work w = {.options = o};
    const struct behind behind = {
        .n = runner_options(o->before)->plan->n_ranges, .slice = prove_one, .user = &w};
    behind_run(&behind);
    *whole = !atomic_load(&w.harmed);
    return atomic_load(&w.rc);
}
