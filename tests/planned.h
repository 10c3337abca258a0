/* SPDX-License-Identifier: Apache-2.0 */
/* planned.h - inputs for plans of toy models, and what must be true of every plan. */
#ifndef OCTARC_TESTS_PLANNED_H
#define OCTARC_TESTS_PLANNED_H

#include <errno.h>

#include "daemon/placement/plan.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/toy_model.h"

#define MIB (UINT64_C(1) << 20)

static inline uint64_t one_byte_a_value(uint32_t type, bool vector, uint64_t rows, uint64_t cols) {
    (void)type, (void)vector;
    return (rows * cols + 63) / 64 * 64;
}

static const struct device_ops counting = {.name = "counting", .packed_bytes = one_byte_a_value};

static uint32_t random_state = 1;
static inline uint32_t draw(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * below >> 32);
}

static inline struct plan_input input_for(const struct model *m, uint32_t n_cards,
                                          uint64_t capacity, enum split split) {
    struct plan_input in = {.model = m,
                            .backend = &counting,
                            .n_cards = n_cards,
                            .split = split,
                            .max_sequences = 4,
                            .max_rows = 64};
    for (uint32_t i = 0; i < n_cards; i++) {
        in.online[i] = true;
        in.capacity_bytes[i] = capacity;
    }
    return in;
}

/* Every value of every tensor has one home; a copy is never the only one. */
static inline void check_coverage(const struct model *m, const struct plan *plan) {
    uint64_t *values = calloc(m->n_tensors, sizeof *values);
    const struct plan_range *(*homes)[CARDS_MAX] = calloc(m->n_tensors, sizeof *homes);
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        if (r->copy)
            continue;
        CHECK(!homes[r->tensor][r->card]);
        homes[r->tensor][r->card] = r;
        values[r->tensor] += (r->row_end - r->row_begin) * (r->col_end - r->col_begin);
        for (uint32_t c = 0; c < r->card; c++) {
            const struct plan_range *o = homes[r->tensor][c];
            CHECK(!o || o->row_end <= r->row_begin || r->row_end <= o->row_begin ||
                  o->col_end <= r->col_begin || r->col_end <= o->col_begin);
        }
    }
    for (uint32_t t = 0; t < m->n_tensors; t++)
        if (!model_tensor_is_rotation(&m->tensors[t]))
            CHECK_EQ(values[t], m->tensors[t].rows * m->tensors[t].cols);
    free(values);
    free(homes);
}

static inline void check_capacity(const struct plan *plan) {
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        const struct plan_card *card = &plan->cards[c];
        uint64_t end = PLAN_WEIGHTS_HEADER;
        CHECK(plan_card_bytes(card) <= card->capacity_bytes);
        for (size_t i = 0; i < plan->n_ranges; i++)
            if (plan->ranges[i].card == c) {
                if (plan_spilled(plan, &plan->ranges[i])) /* each layer begins a block */
                    CHECK(plan->ranges[i].offset - end < LANDING_BLOCK);
                else
                    CHECK_EQ(plan->ranges[i].offset, end);
                end = plan->ranges[i].offset + plan->ranges[i].bytes;
            }
        if (card->spilled_bytes)
            end = (end + LANDING_BLOCK - 1) / LANDING_BLOCK * LANDING_BLOCK;
        CHECK_EQ(end > PLAN_WEIGHTS_HEADER ? end : 0, card->weights_bytes);
        CHECK_EQ(card->spilled_bytes > 0, card->n_spilled > 0);
        CHECK_EQ(card->landing_bytes > 0, card->n_spilled > 0);
        if (card->weights_bytes == 0)
            CHECK_EQ(card->kv_bytes + card->scratch_bytes, 0);
    }
}

static inline void check_same_ranges(const struct plan *a, const struct plan *b) {
    CHECK_EQ(a->n_ranges, b->n_ranges);
    for (size_t i = 0; i < a->n_ranges; i++) {
        const struct plan_range *x = &a->ranges[i], *y = &b->ranges[i];
        CHECK(plan_same_range(x, y) && x->card == y->card && x->copy == y->copy);
    }
}

static inline struct model_params random_shape(void) {
    static const uint32_t dims[] = {16, 32, 64, 80, 128};
    const uint32_t n_kv = 1 + draw(9), head_dim = dims[draw(5)];
    return (struct model_params){.n_layers = 1 + draw(12),
                                 .n_embd = 32 * (1 + draw(20)),
                                 .n_heads = n_kv * (1 + draw(5)),
                                 .n_kv_heads = n_kv,
                                 .head_dim = head_dim,
                                 .n_ff = 32 * (1 + draw(40)),
                                 .n_vocab = 200 + draw(2000),
                                 .n_ctx_train = 512,
                                 .norm_eps = 1e-5f,
                                 .tied = draw(2) != 0,
                                 .rope = {.dims = head_dim}};
}

/* Cards about as large as they must be for this context. */
static inline struct plan_input tight_input(const struct model *m, uint32_t n_cards,
                                            enum split split, uint32_t context) {
    struct plan_input in = input_for(m, 1, UINT64_C(1) << 40, SPLIT_LAYER);
    struct plan plan = {0};
    in.context = context;
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    const struct plan_card *c = &plan.cards[0];
    const uint64_t all = c->weights_bytes + c->scratch_bytes + c->kv_bytes / in.max_sequences;
    plan_finish(&plan);
    in.n_cards = n_cards;
    in.split = split;
    for (uint32_t i = 0; i < n_cards; i++) {
        in.online[i] = true;
        in.capacity_bytes[i] = all / n_cards * (55 + draw(60 + 25 * n_cards)) / 100 + 1;
    }
    return in;
}

#endif
