/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/stage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "daemon/placement/layout.h"
#include "octarc/error.h"

#define CARD      0u
#define NOT_THERE UINT64_MAX

struct stage {
    const struct device_ops *ops;
    struct device *device;
    bool has[CARDS_MAX];
    uint64_t weights_bytes, kv_bytes; /* that wait, */
    uint64_t room_bytes;              /* and the room for the weights */
    uint64_t offsets[];               /* [n_ranges] */
};

static bool is_kept(const struct plan *before, const struct plan_range *range) {
    size_t n;
    const struct plan_range *held = plan_card_ranges(before, range->card, &n);
    for (size_t i = 0; i < n; i++)
        if (layout_same_values(&held[i], range))
            return true;
    return false;
}

static void find_places(struct stage *s, const struct plan *before, const struct plan *plan) {
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        s->offsets[i] = NOT_THERE;
        if (!s->has[r->card] || is_kept(before, r))
            continue;
        s->offsets[i] = s->weights_bytes;
        s->weights_bytes += r->bytes;
    }
}

static int open_device(struct stage *s, const struct runner_options *o, struct err *err) {
    const struct device_options device = {.n_cards = 1,
                                          .present = {[CARD] = true},
                                          .host_bytes = {[CARD] = s->room_bytes},
                                          .n_threads = 1,
                                          .isa = o->device.isa,
                                          .max_rows = 1};
    int rc = s->ops->open(&s->device, &device, err);
    if (!rc)
        rc = s->ops->reserve(s->device, CARD, AREA_WEIGHTS, s->room_bytes, s->room_bytes, -1, err);
    if (!rc && s->kv_bytes)
        rc = s->ops->reserve(s->device, CARD, AREA_KV, s->kv_bytes, s->kv_bytes, -1, err);
    return rc;
}

int stage_open(struct stage **out, const struct runner_options *o, struct err *err) {
    const struct plan *before = o->before ? runner_options(o->before)->plan : NULL;
    const uint64_t bytes = before && o->stage_most ? layout_staged_bytes(before, o->plan) : 0;
    *out = NULL;
    if (bytes == 0)
        return 0;
    if (bytes > o->stage_most)
        return err_set(err, -ENOSPC,
                       "%" PRIu64 " bytes of what full cards exchange have to wait in host memory, "
                       "at most %" PRIu64 " may",
                       bytes, o->stage_most);
    struct stage *s = calloc(1, sizeof *s + o->plan->n_ranges * sizeof *s->offsets);
    if (!s)
        return err_set(err, -ENOMEM, "no memory for what full cards exchange");
    s->ops = o->backend;
    for (uint32_t c = 0; c < o->plan->n_cards; c++) {
        s->has[c] = layout_is_staged(before, o->plan, c);
        s->kv_bytes += layout_staged_kv(before, o->plan, c);
        s->room_bytes += layout_staged_weights(before, o->plan, c);
    }
    find_places(s, before, o->plan);
    const int rc = open_device(s, o, err);
    if (rc) {
        stage_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void stage_close(struct stage *s) {
    if (s && s->device)
        s->ops->close(s->device);
    free(s);
}

bool stage_has(const struct stage *s, uint32_t card) {
    return s && s->has[card];
}

bool stage_place(const struct stage *s, size_t i, struct plan_range *range) {
    if (!s || s->offsets[i] == NOT_THERE)
        return false;
    range->card = CARD;
    range->offset = s->offsets[i];
    return true;
}

struct device *stage_device(const struct stage *s) {
    return s->device;
}
