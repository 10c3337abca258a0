/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/handover.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/program.h"
#include "daemon/engine/stage.h"
#include "daemon/placement/layout.h"

/* Of one layer and KV head: from a card's pages to another's. */
struct kv_move {
    uint32_t from_card, to_card;
    struct kv_place from, to;
    uint32_t from_slot, to_slot;
    bool waits;       /* in the stage, */
    uint64_t wait_at; /* of the page's place there */
};

struct handover {
    const struct runner *from;
    struct runner *to;
    uint64_t page_bytes; /* that a page's moves copy */
    uint64_t wait_bytes; /* of them, to the stage */
    size_t n_moves;
    struct kv_move moves[];
};

static bool holds(const struct plan *plan, uint32_t card, uint32_t layer, uint32_t head) {
    const struct plan_card *c = &plan->cards[card];
    return c->layer_begin <= layer && layer < c->layer_end && c->kv_begin <= head &&
           head < c->kv_end;
}

static bool is_there(const struct runner *from, uint32_t card) {
    struct device *device = runner_device(from);
    return runner_options(from)->backend->copy(device, card, AREA_KV, 0, device, card, 0, 0) == 0;
}

/* A card that has these K and V and is not lost, or CARDS_MAX. */
static uint32_t giver(const struct runner *from, uint32_t layer, uint32_t head) {
    const struct runner_options *o = runner_options(from);
    for (uint32_t c = 0; c < o->plan->n_cards; c++)
        if (holds(o->plan, c, layer, head) && is_there(from, c))
            return c;
    return CARDS_MAX;
}

/* The card's K and V of the layer are the same memory in both. */
static bool stays(const struct handover *h, uint32_t card, uint32_t layer) {
    const struct runner_options *from = runner_options(h->from), *to = runner_options(h->to);
    const struct plan_card *c = &from->plan->cards[card];
    return card < from->plan->n_cards && layout_keeps_kv(from->plan, to->plan, card) &&
           c->layer_begin <= layer && layer < c->layer_end && is_there(h->from, card);
}

static bool same_pages(const struct plan *a, const struct plan *b) {
    return a->kv_type == b->kv_type && a->n_pages == b->n_pages && a->context == b->context;
}

static int add_moves(struct handover *h, uint32_t layer, uint32_t head) {
    const struct runner_options *from = runner_options(h->from), *to = runner_options(h->to);
    const uint32_t src = giver(h->from, layer, head);
    if (src == CARDS_MAX)
        return -ENODATA;
    for (uint32_t dst = 0; dst < to->plan->n_cards; dst++) {
        if (!holds(to->plan, dst, layer, head) || stays(h, dst, layer))
            continue;
        struct kv_move *m = &h->moves[h->n_moves++];
        *m = (struct kv_move){
            .from_card = src,
            .to_card = dst,
            .from = program_kv_place(from->model, from->plan, src, layer),
            .to = program_kv_place(to->model, to->plan, dst, layer),
            .from_slot = head - from->plan->cards[src].kv_begin,
            .to_slot = head - to->plan->cards[dst].kv_begin,
        };
        h->page_bytes += m->to.slot_bytes;
        m->waits = stage_has(to->stage, dst);
        m->wait_at = h->wait_bytes;
        h->wait_bytes += m->waits ? m->to.slot_bytes : 0;
    }
    return 0;
}

int handover_create(struct handover **out, const struct runner *from, struct runner *to) {
    const struct runner_options *old = runner_options(from), *new = runner_options(to);
    const struct model_params *p = &new->model->params;
    const size_t most = (size_t)p->n_layers * p->n_kv_heads * CARDS_MAX;
    if (!same_pages(old->plan, new->plan))
        return -ENODATA;
    struct handover *h = calloc(1, sizeof *h + most * sizeof *h->moves);
    if (!h)
        return -ENOMEM;
    h->from = from;
    h->to = to;
    for (uint32_t layer = 0; layer < p->n_layers; layer++)
        for (uint32_t head = 0; head < p->n_kv_heads; head++) {
            const int rc = add_moves(h, layer, head);
            if (rc) {
                free(h);
                return rc;
            }
        }
    *out = h;
    return 0;
}

void handover_destroy(struct handover *h) {
    free(h);
}

static uint64_t offset_of(const struct kv_place *place, uint32_t slot, uint32_t page) {
    return page * place->page_bytes + place->offset + slot * place->slot_bytes;
}

/* Where the stage is a device of one card. */
static uint64_t waits_at(const struct handover *h, const struct kv_move *m, uint32_t page) {
    return page * h->wait_bytes + m->wait_at;
}

int handover_page(const struct handover *h, uint32_t page) {
    const struct runner_options *to = runner_options(h->to);
    for (size_t i = 0; i < h->n_moves; i++) {
        const struct kv_move *m = &h->moves[i];
        const int rc = to->backend->copy(
            runner_device(h->from), m->from_card, AREA_KV, offset_of(&m->from, m->from_slot, page),
            m->waits ? stage_device(to->stage) : runner_device(h->to), m->waits ? 0 : m->to_card,
            m->waits ? waits_at(h, m, page) : offset_of(&m->to, m->to_slot, page),
            m->to.slot_bytes);
        if (rc)
            return rc;
        runner_note_carried(h->to, m->from_card, m->to_card, m->to.slot_bytes);
    }
    return 0;
}

int handover_bring(const struct handover *h, uint32_t page) {
    const struct runner_options *to = runner_options(h->to);
    int rc = 0;
    for (size_t i = 0; i < h->n_moves && !rc; i++) {
        const struct kv_move *m = &h->moves[i];
        if (m->waits)
            rc = to->backend->copy(stage_device(to->stage), 0, AREA_KV, waits_at(h, m, page),
                                   runner_device(h->to), m->to_card,
                                   offset_of(&m->to, m->to_slot, page), m->to.slot_bytes);
    }
    return rc;
}

int handover_prefetch(const struct handover *h, uint32_t page) {
    const struct device_ops *ops = runner_options(h->to)->backend;
    int rc = 0;
    for (size_t i = 0; i < h->n_moves && !rc; i++) {
        const struct kv_move *m = &h->moves[i];
        if (m->to_slot == 0 && !m->waits) /* a card takes all the heads that it has of a layer */
            rc = ops->prefetch(runner_device(h->to), m->to_card, AREA_KV,
                               offset_of(&m->to, 0, page), m->to.page_bytes);
    }
    return rc;
}

uint64_t handover_page_bytes(const struct handover *h) {
    return h->page_bytes;
}
