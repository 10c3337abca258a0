/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - programs -> kernels to launch, each with a description in its card's memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/check.h"
#include "daemon/device/level_zero/landing.h"
#include "daemon/device/level_zero/loading.h"
#include "daemon/device/level_zero/marks.h"
#include "daemon/device/level_zero/receipts.h"
#include "daemon/device/level_zero/recordings.h"
#include "octarc/error.h"

static void load_fetch(struct loading *l, uint32_t card, const struct op *op) {
    loading_at(l, card, AREA_WEIGHTS, op->fetch.from, op->fetch.bytes);
    loading_at(l, card, AREA_LANDING, op->fetch.to, op->fetch.bytes);
    loading_add(l, &(struct ze_launch){.card = card, .phase = op->phase, .op = op});
}

static void load_op(struct loading *l, uint32_t card, const struct op *op) {
    static void (*const loaders[OP_KINDS])(struct loading * l, uint32_t card,
                                           const struct op *op) = {
        [OP_EMBED] = load_embed,
        [OP_NORM] = load_norm,
        [OP_QKV] = load_qkv,
        [OP_ROPE_STORE] = load_rope,
        [OP_ATTENTION] = load_attention,
        [OP_LANES] = load_lanes,
        [OP_COMBINE] = load_combine,
        [OP_ADD_NORM] = load_add_norm,
        [OP_GATE_UP] = load_gate_up,
        [OP_ROUTE] = load_route,
        [OP_DISPATCH] = load_dispatch,
        [OP_EXPERT_GATE_UP] = load_expert_gate_up,
        [OP_EXPERT_DOWN] = load_expert_down,
        [OP_LOGITS] = load_logits,
        [OP_EXCHANGE] = load_exchange,
        [OP_FETCH] = load_fetch,
    };
    if ((uint32_t)op->kind >= OP_KINDS || !loaders[op->kind]) {
        if (!l->rc)
            l->rc = err_set(l->err, -ENOTSUP,
                            "the cards have no kernels for operation %d of layer %d yet", op->kind,
                            op->layer);
        return;
    }
    loaders[op->kind](l, card, op);
}

static int by_phase(const void *a, const void *b) {
    const struct ze_launch *x = a, *y = b;
    if (x->phase != y->phase)
        return x->phase < y->phase ? -1 : 1;
    if (x->card != y->card)
        return x->card < y->card ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

void level_zero_unload(struct device *d) {
    recordings_free(d);
    marks_free(d);
    receipts_free(d);
    for (uint32_t i = 0; i < d->n_cards; i++) {
        struct ze_card *c = &d->cards[i];
        level_zero_free(d, c->descriptions);
        level_zero_free(d, c->step);
        level_zero_free(d, c->step_stage);
        c->descriptions = c->step = c->step_stage = NULL;
        c->step_bytes = c->description_bytes = 0;
    }
    level_zero_free(d, d->exchange_stage);
    level_zero_free(d, d->logits);
    free(d->launches);
    d->exchange_stage = d->logits = NULL;
    d->logits_bytes = 0;
    d->launches = NULL;
    d->n_launches = 0;
    d->needed = 0;
}

static int place_descriptions(struct loading *l, struct err *err) {
    struct device *d = l->device;
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++)
        if (l->bytes[i]) {
            rc = level_zero_alloc_card(d, i, l->bytes[i], &d->cards[i].descriptions, err);
            d->cards[i].description_bytes = rc ? 0 : l->bytes[i];
            if (!rc)
                rc = level_zero_put(d, i, d->cards[i].descriptions, l->described[i], l->bytes[i]);
            d->cards[i].n_receipts = l->numbers[i];
        }
    return rc ? rc : receipts_make(d, err);
}

int level_zero_check(struct device *d, const struct program *programs, struct err *err) {
    struct check_box box = {.n_cards = d->n_cards, .max_rows = d->max_rows};
    for (uint32_t i = 0; i < d->n_cards; i++) {
        box.cards[i].present = d->cards[i].present;
        box.cards[i].on_card = d->cards[i].areas[AREA_WEIGHTS].split;
        for (int a = 0; a < AREA_COUNT; a++)
            box.cards[i].room[a] = d->cards[i].areas[a].room;
    }
    const int rc = programs_check(&box, programs, err);
    return rc ? rc : landing_prove(d, programs, err);
}

static void find_needed(struct device *d) {
    memset(d->rope_width, 0, sizeof d->rope_width);
    for (size_t i = 0; i < d->n_launches; i++) {
        const struct op *op = d->launches[i].op;
        d->needed |= 1u << d->launches[i].card | d->launches[i].meets;
        if (op->kind == OP_ROPE_STORE)
            d->rope_width[op->rope.rope_table] = op->rope.rope_dims;
    }
}

static int load(struct device *d, const struct program *programs, struct err *err) {
    struct loading l = {.device = d, .err = err};
    l.rc = level_zero_check(d, programs, err);
    for (uint32_t card = 0; card < d->n_cards; card++)
        for (size_t i = 0; i < programs[card].n_ops && !l.rc; i++)
            load_op(&l, card, &programs[card].ops[i]);
    if (!l.rc)
        level_zero_unload(d);
    exchanges_launch(&l);
    int rc = l.rc;
    if (!rc) {
        qsort(l.launches, l.n, sizeof *l.launches, by_phase);
        for (uint32_t i = 0; i < d->n_cards; i++)
            landing_stale(d, i);
        d->launches = l.launches;
        d->n_launches = l.n;
        find_needed(d);
        rc = marks_make(d, err);
        if (!rc)
            rc = place_descriptions(&l, err);
        if (rc)
            level_zero_unload(d);
    } else {
        free(l.launches);
    }
    free(l.exchanges);
    for (uint32_t i = 0; i < d->n_cards; i++)
        free(l.described[i]);
    return rc;
}

int level_zero_load(struct device *d, const struct program *programs, struct err *err) {
    return level_zero_failed(d, load(d, programs, err));
}
