/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/bounds.h"

#include <string.h>

#include "daemon/placement/place.h"

/* The card that override number k (from 1 on) names, as a bit of the box. */
static uint8_t card_of(const struct plan_input *in, uint8_t k, const uint32_t *card, uint32_t n) {
    for (uint32_t i = 0; i < n && k; i++)
        if (card[i] == in->places->of[k - 1].card)
            return (uint8_t)(1u << i);
    return BOUNDS_FREE;
}

static void bound_layers(struct bounds *b, const uint8_t *cards, uint32_t n_layers) {
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        b->stop[i][n_layers] = (uint16_t)n_layers;
        for (uint32_t l = n_layers; l-- > 0;) {
            b->stop[i][l] = cards[l] >> i & 1 ? b->stop[i][l + 1] : (uint16_t)l;
            if (cards[l] == 1u << i) {
                b->bound |= (uint8_t)(1u << i);
                b->first[i] = (uint16_t)l;
            }
        }
    }
}

void bounds_open(struct bounds *b, const struct plan *plan, const struct plan_input *in,
                 const uint32_t *card, uint32_t n) {
    const uint32_t n_layers = in->model->params.n_layers;
    struct places_decided decided;
    uint8_t cards[LAYERS_MAX];
    b->any = in->places && in->places->n && places_all(in->places) & ~plan->dropped_places;
    b->head = b->embd = b->lanes = BOUNDS_FREE;
    if (!b->any)
        return;
    places_decide(&decided, in->places, in->model, plan->dropped_places);
    b->bound = 0;
    b->head = card_of(in, decided.head, card, n);
    b->embd = card_of(in, decided.embd, card, n);
    for (uint32_t l = 0; l < n_layers; l++) {
        cards[l] = card_of(in, decided.layer[l], card, n);
        b->lanes &= cards[l];
    }
    bound_layers(b, cards, n_layers);
}

bool bounds_allow(const struct bounds *b, uint32_t cards, uint32_t begin, uint32_t end) {
    for (uint32_t i = 0; i < CARDS_MAX && b->any; i++)
        if (cards >> i & 1 && b->stop[i][begin] < end)
            return false;
    return true;
}

/* The card behind `before` (CARDS_MAX: none yet) in the order of what is bound. */
static uint32_t next_bound(const struct bounds *b, uint32_t done) {
    uint32_t next = CARDS_MAX;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (b->bound >> i & 1 && !(done >> i & 1) &&
            (next == CARDS_MAX || b->first[i] < b->first[next]))
            next = i;
    return next;
}

bool bounds_order(const struct bounds *b, uint32_t n, uint32_t positions,
                  uint8_t order[CARDS_MAX]) {
    const uint32_t bound = b->any ? b->bound : 0;
    uint32_t done = 0, free_card = 0;
    if (__builtin_popcount(positions) != __builtin_popcount(bound))
        return false;
    for (uint32_t at = 0; at < n; at++) {
        uint32_t i;
        if (positions >> at & 1) {
            i = next_bound(b, done);
        } else {
            while (bound >> free_card & 1)
                free_card++;
            i = free_card++;
        }
        done |= 1u << i;
        order[at] = (uint8_t)i;
    }
    return true;
}
