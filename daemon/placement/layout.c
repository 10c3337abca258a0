/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Addresses that are taken. */
struct stretch {
    uint64_t begin, end;
};

bool layout_same_values(const struct plan_range *a, const struct plan_range *b) {
    return a->tensor == b->tensor && a->row_begin == b->row_begin && a->row_end == b->row_end &&
           a->col_begin == b->col_begin && a->col_end == b->col_end && a->bytes == b->bytes;
}

uint64_t layout_room(const struct plan *plan, uint32_t card) {
    const uint64_t bytes = plan->cards[card].weights_bytes; /* whole blocks of what is fetched */
    const uint64_t end = layout_end(plan, card), least = end > bytes ? end : bytes;
    const uint64_t room = LAYOUT_ROOM_FACTOR * plan->cards[card].capacity_bytes;
    return !plan->dense && room > least ? room : least;
}

uint64_t layout_end(const struct plan *plan, uint32_t card) {
    size_t n;
    const struct plan_range *ranges = plan_card_ranges(plan, card, &n);
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++)
        if (ranges[i].offset + ranges[i].bytes > end)
            end = ranges[i].offset + ranges[i].bytes;
    return end;
}

static const struct plan_range *find_same(const struct plan_range *ranges, size_t n,
                                          const struct plan_range *as) {
    for (size_t i = 0; i < n; i++)
        if (layout_same_values(&ranges[i], as))
            return &ranges[i];
    return NULL;
}

/* --- places --- */

static int by_begin(const void *a, const void *b) {
    const struct stretch *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* The first place of so many bytes between what is taken; 0: there is none. */
static uint64_t find_hole(const struct stretch *taken, size_t n, uint64_t bytes, uint64_t room) {
    uint64_t at = PLAN_WEIGHTS_HEADER;
    for (size_t i = 0; i < n; i++) {
        if (taken[i].begin >= at && taken[i].begin - at >= bytes)
            return at;
        at = taken[i].end > at ? taken[i].end : at;
    }
    return at <= room && bytes <= room - at ? at : 0;
}

/* It stays in the order of where each begins. */
static void take(struct stretch *taken, size_t *n, uint64_t begin, uint64_t bytes) {
    size_t at = *n;
    while (at > 0 && taken[at - 1].begin > begin)
        at--;
    memmove(taken + at + 1, taken + at, (*n - at) * sizeof *taken);
    taken[at] = (struct stretch){begin, begin + bytes};
    ++*n;
}

/* Of what is held: all that is in use, else what is kept. */
static size_t take_held(struct stretch *taken, const struct plan_range *held, size_t n_held,
                        const struct plan_range *wanted, size_t n_wanted, bool in_use) {
    size_t n = 0;
    for (size_t i = 0; i < n_held; i++)
        if (in_use || find_same(wanted, n_wanted, &held[i]))
            taken[n++] = (struct stretch){held[i].offset, held[i].offset + held[i].bytes};
    qsort(taken, n, sizeof *taken, by_begin);
    return n;
}

static int lay_out(struct plan *plan, uint32_t card, const struct plan_range *held, size_t n_held,
                   bool in_use, const uint64_t *borders, size_t n_borders, uint64_t room) {
    size_t n;
    struct plan_range *ranges = (struct plan_range *)plan_card_ranges(plan, card, &n);
    struct stretch *taken = malloc((n + n_held + n_borders + 1) * sizeof *taken);
    uint64_t *places = malloc((n + 1) * sizeof *places);
    int rc = taken && places ? 0 : -ENOMEM;
    size_t n_taken = rc ? 0 : take_held(taken, held, n_held, ranges, n, in_use);
    for (size_t i = 0; i < n_borders && !rc; i++)
        take(taken, &n_taken, borders[i], 0);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct plan_range *kept = find_same(held, n_held, &ranges[i]);
        places[i] = kept ? kept->offset : find_hole(taken, n_taken, ranges[i].bytes, room);
        if (places[i] == 0)
            rc = -ENOSPC;
        else if (!kept)
            take(taken, &n_taken, places[i], ranges[i].bytes);
    }
    for (size_t i = 0; i < n && !rc; i++)
        ranges[i].offset = places[i];
    free(taken);
    free(places);
    return rc;
}

int layout_card(struct plan *plan, uint32_t card, const struct plan_range *held, size_t n_held,
                bool in_use, uint64_t room) {
    return lay_out(plan, card, held, n_held, in_use, NULL, 0, room);
}

int layout_card_in_pieces(struct plan *plan, uint32_t card, const struct plan_range *held,
                          size_t n_held, const uint64_t *borders, size_t n) {
    return lay_out(plan, card, held, n_held, false, borders, n, UINT64_MAX / 2);
}

uint64_t layout_kept_end(const struct plan *plan, uint32_t card, const struct plan_range *held,
                         size_t n_held) {
    size_t n;
    const struct plan_range *wanted = plan_card_ranges(plan, card, &n);
    uint64_t end = 0;
    for (size_t i = 0; i < n_held; i++)
        if (held[i].offset + held[i].bytes > end && find_same(wanted, n, &held[i]))
            end = held[i].offset + held[i].bytes;
    return end;
}

/* --- what it takes --- */

uint64_t layout_kept_bytes(const struct plan *now, const struct plan *then, uint32_t card) {
    size_t n_now, n_then;
    const struct plan_range *a = plan_card_ranges(now, card, &n_now);
    const struct plan_range *b = plan_card_ranges(then, card, &n_then);
    uint64_t bytes = 0;
    for (size_t i = 0; i < n_then; i++)
        bytes += find_same(a, n_now, &b[i]) ? b[i].bytes : 0;
    return bytes;
}

bool layout_in_place(const struct plan *now, const struct plan *then, uint32_t card) {
    const struct plan_card *a = &now->cards[card], *b = &then->cards[card];
    return a->weights_bytes && b->weights_bytes && !a->spilled_bytes && !b->spilled_bytes &&
           !now->dense;
}

uint64_t layout_weights_bytes(const struct plan *now, const struct plan *then, uint32_t card) {
    const uint64_t a = now->cards[card].weights_bytes - now->cards[card].spilled_bytes;
    const uint64_t b = then->cards[card].weights_bytes - then->cards[card].spilled_bytes;
    if (!layout_in_place(now, then, card))
        return a + b;
    return a + b - PLAN_WEIGHTS_HEADER - layout_kept_bytes(now, then, card);
}

bool layout_keeps_kv(const struct plan *now, const struct plan *then, uint32_t card) {
    const struct plan_card *a = &now->cards[card], *b = &then->cards[card];
    return a->kv_bytes && b->kv_bytes && a->kv_begin == b->kv_begin && a->kv_end == b->kv_end &&
           now->n_pages == then->n_pages && now->kv_type == then->kv_type && !now->dense;
}

void layout_kv(const struct plan *plan, struct kv_layout *layout) {
    memset(layout, 0, sizeof *layout);
    layout->n_pages = plan->n_pages;
    layout->type = plan->kv_type;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        const struct plan_card *c = &plan->cards[i];
        if (!c->online || !c->kv_bytes)
            continue;
        layout->cards[i].layer_begin = c->layer_begin;
        layout->cards[i].layer_end = c->layer_end;
        layout->cards[i].kv_begin = c->kv_begin;
        layout->cards[i].kv_end = c->kv_end;
        layout->cards[i].bytes = c->kv_bytes;
    }
}

bool layout_same_kv(const struct kv_layout *a, const struct kv_layout *b) {
    return !memcmp(a, b, sizeof *a);
}

uint64_t layout_kv_room(const struct plan *plan, const struct model_params *p, uint32_t card) {
    const uint32_t layers =
        plan->dense ? plan->cards[card].layer_end - plan->cards[card].layer_begin : p->n_layers;
    return layers * layout_kv_of_layer(plan, p, card);
}

uint64_t layout_kv_of_layer(const struct plan *plan, const struct model_params *p, uint32_t card) {
    const struct plan_card *c = &plan->cards[card];
    return (uint64_t)plan->n_pages * (c->kv_end - c->kv_begin) *
           plan_kv_slot_bytes(plan->kv_type, p->head_dim);
}

uint64_t layout_kv_at(const struct plan *plan, const struct model_params *p, uint32_t card,
                      uint32_t layer) {
    const uint32_t place = plan->dense ? layer - plan->cards[card].layer_begin : layer;
    return place * layout_kv_of_layer(plan, p, card);
}

uint64_t layout_kv_bytes(const struct plan *now, const struct plan *then, uint32_t card) {
    const struct plan_card *a = &now->cards[card], *b = &then->cards[card];
    const uint64_t both = a->kv_bytes + b->kv_bytes;
    if (!layout_keeps_kv(now, then, card))
        return both;
    const uint32_t begin = a->layer_begin > b->layer_begin ? a->layer_begin : b->layer_begin;
    const uint32_t end = a->layer_end < b->layer_end ? a->layer_end : b->layer_end;
    const uint64_t of_layer = a->kv_bytes / (a->layer_end - a->layer_begin);
    return begin < end ? both - (end - begin) * of_layer : both;
}

static bool is_beside(const struct plan_range *a, const struct plan_range *b) {
    return plan_same_range(a, b) || a->offset + a->bytes <= b->offset ||
           b->offset + b->bytes <= a->offset;
}

bool layout_is_beside(const struct plan *now, const struct plan *then, uint32_t card) {
    size_t n_now, n_then;
    const struct plan_range *a = plan_card_ranges(now, card, &n_now);
    const struct plan_range *b = plan_card_ranges(then, card, &n_then);
    for (size_t i = 0; i < n_now; i++)
        for (size_t k = 0; k < n_then; k++)
            if (!is_beside(&a[i], &b[k]))
                return false;
    return true;
}

uint64_t layout_peak_bytes(const struct plan *now, const struct plan *then, uint32_t card) {
    return layout_weights_bytes(now, then, card) + layout_kv_bytes(now, then, card) +
           now->cards[card].scratch_bytes + then->cards[card].scratch_bytes +
           now->cards[card].landing_bytes + then->cards[card].landing_bytes;
}

static uint64_t own_bytes(const struct plan_card *c) {
    return c->weights_bytes - c->spilled_bytes + c->kv_bytes + c->scratch_bytes + c->landing_bytes;
}

bool layout_is_staged(const struct plan *now, const struct plan *then, uint32_t card) {
    const uint64_t room = then->cards[card].capacity_bytes;
    return layout_in_place(now, then, card) && layout_peak_bytes(now, then, card) > room &&
           own_bytes(&now->cards[card]) <= room && own_bytes(&then->cards[card]) <= room;
}

uint64_t layout_staged_of(uint64_t new_weights) {
    return new_weights > LAYOUT_STAGED_LEAST ? new_weights : LAYOUT_STAGED_LEAST;
}

uint64_t layout_staged_weights(const struct plan *now, const struct plan *then, uint32_t card) {
    return layout_is_staged(now, then, card)
               ? layout_staged_of(layout_weights_bytes(now, then, card) -
                                  now->cards[card].weights_bytes)
               : 0;
}

uint64_t layout_staged_kv(const struct plan *now, const struct plan *then, uint32_t card) {
    return layout_is_staged(now, then, card)
               ? layout_kv_bytes(now, then, card) - now->cards[card].kv_bytes
               : 0;
}

uint64_t layout_staged_bytes(const struct plan *now, const struct plan *then) {
    uint64_t bytes = 0;
    for (uint32_t c = 0; c < then->n_cards; c++)
        bytes += layout_staged_weights(now, then, c) + layout_staged_kv(now, then, c);
    return bytes;
}
