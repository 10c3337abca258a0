/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/hints.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/placement/layout.h"
#include "daemon/placement/scratch.h"

#define SCRATCH_PARTS 5 /* hidden, norm, what is the card's own, slots, logits */

/* Bit per card that reads a card's scratch, besides itself. */
struct readers {
    uint32_t hidden, norm, slots;
};

/* The cards that compute a layer. */
static uint32_t group_of(const struct plan *plan, uint32_t layer) {
    uint32_t group = 0;
    for (uint32_t c = 0; c < plan->n_cards; c++)
        if (plan->cards[c].layer_begin <= layer && layer < plan->cards[c].layer_end)
            group |= 1u << c;
    return group;
}

/* The cards `to` take hidden rows from the cards `from`. */
static void add_hidden(struct readers readers[CARDS_MAX], uint32_t from, uint32_t to) {
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        if (from >> c & 1)
            readers[c].hidden |= to;
}

/* Hidden rows go from the embedding to the first layer, from group to group, and to the output
 * matrix; sums of lanes and norms go round in a group. */
static void find_readers(const struct model *model, const struct plan *plan,
                         struct readers readers[CARDS_MAX]) {
    uint32_t embd = 0, vocab = 0, group = 0;
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        embd |= (uint32_t)(plan->cards[c].embd_begin < plan->cards[c].embd_end) << c;
        vocab |= (uint32_t)(plan->cards[c].vocab_begin < plan->cards[c].vocab_end) << c;
    }
    for (uint32_t layer = 0; layer < model->params.n_layers; layer++) {
        const uint32_t before = layer ? group : embd;
        group = group_of(plan, layer);
        if (group != before || layer == 0)
            add_hidden(readers, before, group);
        for (uint32_t c = 0; c < plan->n_cards; c++)
            if (group >> c & 1) {
                readers[c].norm |= group;
                readers[c].slots |= group;
            }
    }
    add_hidden(readers, group, vocab);
}

/* A head is computed on one card and copied to those that keep it too. */
static uint32_t kv_readers(const struct plan *plan, uint32_t card) {
    const struct plan_card *c = &plan->cards[card];
    uint32_t readers = 1u << card;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        const struct plan_card *o = &plan->cards[i];
        if (c->own_begin < c->own_end && o->layer_begin == c->layer_begin &&
            o->layer_end == c->layer_end && o->kv_begin < c->own_end && c->own_begin < o->kv_end)
            readers |= 1u << i;
    }
    return readers;
}

static uint64_t kv_begin(const struct model *model, const struct plan *plan, uint32_t card) {
    return layout_kv_at(plan, &model->params, card, plan->cards[card].layer_begin);
}

static void add(struct hints *h, const struct device_advice *hint) {
    if (hint->bytes)
        h->all[h->n++] = *hint;
}

static uint64_t activation_begin(const struct activation *act) {
    return act->forms & FORM_Q8 ? act->q8 : act->f32;
}

/* From where a part begins to where the next does, in the order of scratch_layout(). */
static void add_scratch(struct hints *h, const struct model *model, const struct plan *plan,
                        uint32_t card, const struct readers *readers) {
    struct scratch s;
    scratch_layout(&s, model, plan, card);
    const struct plan_card *c = &plan->cards[card];
    const bool layers = c->layer_begin < c->layer_end, head = c->vocab_begin < c->vocab_end;
    const uint32_t self = 1u << card;
    const uint64_t logits = head ? s.logits.offset : s.bytes;
    const uint64_t slots = layers ? s.slots.offset : logits;
    const uint64_t own = layers ? s.qkv.offset : slots;
    const uint64_t norm = layers || head ? activation_begin(&s.norm) : own;
    const uint64_t begin[SCRATCH_PARTS + 1] = {s.hidden.offset, norm, own, slots, logits, s.bytes};
    const uint32_t of[SCRATCH_PARTS] = {self | readers->hidden, self | readers->norm, self,
                                        self | readers->slots, self | READER_HOST};
    for (int i = 0; i < SCRATCH_PARTS; i++)
        add(h, &(struct device_advice){.home = card,
                                       .area = AREA_SCRATCH,
                                       .offset = begin[i],
                                       .bytes = begin[i + 1] - begin[i],
                                       .readers = of[i]});
}

static int by_place(const void *a, const void *b) {
    const struct device_advice *x = a, *y = b;
    if (x->home != y->home)
        return x->home < y->home ? -1 : 1;
    if (x->area != y->area)
        return x->area < y->area ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

int hints_build(struct hints *hints, const struct model *model, const struct plan *plan) {
    struct readers readers[CARDS_MAX] = {{0}};
    struct hints made = {0};
    made.all = calloc(plan->n_ranges + (2 + SCRATCH_PARTS) * CARDS_MAX, sizeof *made.all);
    if (!made.all)
        return -ENOMEM;
    find_readers(model, plan, readers);
    for (uint32_t c = 0, i = 0; c < plan->n_cards; c++) {
        for (; i < plan->n_ranges && plan->ranges[i].card == c; i++)
            add(&made, &(struct device_advice){.home = c,
                                               .area = AREA_WEIGHTS,
                                               .offset = plan->ranges[i].offset,
                                               .bytes = plan->ranges[i].bytes,
                                               .readers = 1u << c,
                                               .read_mostly = true,
                                               .in_host = plan_spilled(plan, &plan->ranges[i])});
        add(&made, &(struct device_advice){.home = c,
                                           .area = AREA_KV,
                                           .offset = kv_begin(model, plan, c),
                                           .bytes = plan->cards[c].kv_bytes,
                                           .readers = kv_readers(plan, c)});
        if (plan->cards[c].scratch_bytes)
            add_scratch(&made, model, plan, c, &readers[c]);
        add(&made, &(struct device_advice){.home = c,
                                           .area = AREA_LANDING,
                                           .bytes = plan->cards[c].landing_bytes,
                                           .readers = 1u << c});
    }
    qsort(made.all, made.n, sizeof *made.all, by_place);
    *hints = made;
    return 0;
}

void hints_finish(struct hints *hints) {
    free(hints->all);
    *hints = (struct hints){0};
}
