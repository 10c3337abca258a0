/* SPDX-License-Identifier: Apache-2.0 */
/* boxes.h - random boxes with a model for them, and what must be true of every plan there.  A seed
 * makes the same box again. */
#ifndef OCTARC_TESTS_BOXES_H
#define OCTARC_TESTS_BOXES_H

#include "tests/planned.h"

struct boxed {
    struct model model;
    struct plan_input in;
};

/* A model of at most 39 tensors (4 layers) on 1 to 8 cards that are about as large as it needs. */
static inline void boxed_small(struct boxed *b, uint32_t seed) {
    random_state = seed * 2654435761u + 1;
    b->model = (struct model){.params = random_shape()};
    b->model.params.n_layers = 1 + draw(4);
    toy_model(&b->model, TENSOR_Q8_0);
    b->in = tight_input(&b->model, 1 + draw(8), (enum split)draw(3), 32 * (1 + draw(16)));
    if (b->in.n_cards > 1 && draw(4) == 0)
        b->in.online[draw(b->in.n_cards)] = false;
}

/* A model of 7 to 100 billion parameters on 8 cards. */
static inline void boxed_full(struct boxed *b, uint32_t seed) {
    static const uint32_t embd[] = {4096, 5120, 6144, 8192};
    random_state = seed * 2654435761u + 1;
    const uint32_t n_embd = embd[draw(4)];
    b->model = (struct model){.params = {.n_layers = 32 + draw(79),
                                         .n_embd = n_embd,
                                         .n_heads = n_embd / 128,
                                         .n_kv_heads = 8,
                                         .head_dim = 128,
                                         .n_ff = n_embd / 2 * (5 + draw(3)),
                                         .n_vocab = 32000 + draw(5) * 32000,
                                         .n_ctx_train = 131072,
                                         .norm_eps = 1e-5f,
                                         .tied = draw(4) == 0,
                                         .rope = {.dims = 128}}};
    /* Query heads in groups of equal size. */
    b->model.params.n_heads -= b->model.params.n_heads % 8;
    toy_model(&b->model, TENSOR_Q8_0);
    b->in = tight_input(&b->model, 8, (enum split)draw(3), 4096 << draw(4));
    b->in.max_rows = 512;
}

static inline void boxed_finish(struct boxed *b) {
    model_finish(&b->model);
}

/* The promises of every plan; returns whether there is one. */
static inline bool boxed_check(const struct boxed *b) {
    struct plan plan = {0};
    struct err err = {{0}};
    const int rc = plan_build(&plan, &b->in, &err);
    if (rc == 0) {
        check_coverage(&b->model, &plan);
        check_capacity(&plan);
    } else {
        CHECK_EQ(rc, -ENOSPC);
        CHECK(strstr(err.text, "short"));
        CHECK_EQ(plan.n_ranges, 0);
    }
    plan_finish(&plan);
    return rc == 0;
}

/* The same box has the same plan, or the same refusal. */
static inline void boxed_check_same(const struct boxed *b) {
    struct plan plan = {0}, again = {0};
    struct err err = {{0}}, same = {{0}};
    const int rc = plan_build(&plan, &b->in, &err);
    CHECK_EQ(plan_build(&again, &b->in, &same), rc);
    CHECK(!strcmp(err.text, same.text));
    CHECK_EQ(plan.n_ranges, again.n_ranges);
    if (rc == 0) {
        CHECK(!memcmp(plan.ranges, again.ranges, plan.n_ranges * sizeof *plan.ranges));
        CHECK(!memcmp(plan.cards, again.cards, sizeof plan.cards));
    }
    plan_finish(&plan);
    plan_finish(&again);
}

/* Where there is a plan there is one with another card or another byte, too. */
static inline void boxed_check_more(const struct boxed *b) {
    struct plan_input more = b->in;
    struct plan plan = {0};
    if (more.n_cards < CARDS_MAX && draw(2)) {
        more.online[more.n_cards] = true;
        more.capacity_bytes[more.n_cards++] = 1 + draw(1u << draw(31));
    } else {
        more.capacity_bytes[draw(more.n_cards)] += 1 + draw(1u << draw(31));
    }
    CHECK_EQ(plan_build(&plan, &more, NULL), 0);
    plan_finish(&plan);
}

#endif
