/* SPDX-License-Identifier: Apache-2.0 */
/* boxes.h - random boxes with a model for them, and what must be true of every plan there.  A seed
 * makes the same box again. */
#ifndef OCTARC_TESTS_BOXES_H
#define OCTARC_TESTS_BOXES_H

#include "daemon/placement/predict.h"
#include "daemon/placement/topology.h"
#include "tests/landed.h"
#include "tests/planned.h"

struct boxed {
    struct model model;
    struct plan_input in;
    struct topology box; /* used where boxed_rates() was called */
};

/* A model of at most 39 tensors (4 layers) on 1 to 8 cards that are about as large as it needs. */
static inline void boxed_small(struct boxed *b, uint32_t seed) {
    random_state = seed * 2654435761u + 1;
    b->model = (struct model){.params = random_shape()};
    b->model.params.n_layers = 1 + draw(4);
    toy_model(&b->model, TENSOR_Q8_0);
    b->in = tight_input(&b->model, 1 + draw(8), (enum split)draw(SPLITS), 32 * (1 + draw(16)));
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
    b->in = tight_input(&b->model, 8, (enum split)draw(SPLITS), 4096 << draw(4));
    b->in.max_rows = 512;
}

/* How fast CARDS_MAX cards are: some alike, some not; one link in `staged` is no direct one. */
static inline void boxed_rates(struct boxed *b, uint32_t staged) {
    static const uint64_t cards[] = {224, 456, 608, 1000}, links[] = {2, 16, 31, 63};
    uint64_t memory[CARDS_MAX] = {0};
    topology_plain(&b->box, CARDS_MAX, memory, 1);
    b->box.n_cards = b->in.n_cards;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        b->box.cards[i].bytes_per_s = cards[draw(4)] * 1000000000;
        b->box.cards[i].int8_ops_per_s = UINT64_C(200000000000000);
        b->box.cards[i].f16_flops_per_s = UINT64_C(100000000000000);
        for (uint32_t to = 0; to < CARDS_MAX; to++) {
            struct peer_link *link = &b->box.links[i][to];
            link->bytes_per_s = links[draw(4)] * 1000000000;
            link->latency_ns = 1000 * draw(25);
            link->mode = staged && draw(staged) == 0 ? LINK_STAGED : LINK_DIRECT;
        }
    }
    b->in.topology = &b->box;
}

/* Tokens per second that are predicted of the plan for the box; 0: there is no plan. */
static inline double boxed_decode(struct boxed *b, struct plan *plan) {
    struct prediction p;
    b->box.n_cards = b->in.n_cards;
    if (plan_build(plan, &b->in, NULL) < 0)
        return 0;
    CHECK_EQ(predict(&p, plan, &b->model, &b->box), 0);
    CHECK(p.decode_tokens_per_s > 0);
    return p.decode_tokens_per_s;
}

/* Room for the KV of all sequences at full length: what goes before speed. */
static inline bool boxed_all_pages(const struct plan *plan) {
    return plan->n_pages >= (plan->context + PAGE_TOKENS - 1) / PAGE_TOKENS * plan->max_sequences;
}

/* Cards that have lanes of the same layer, where these are not all of them, have direct links both
 * ways. */
static inline void check_groups(const struct plan *plan, const struct topology *box) {
    for (uint32_t a = 0; a < plan->n_cards; a++)
        for (uint32_t b = 0; b < plan->n_cards; b++) {
            const struct plan_card *x = &plan->cards[a], *y = &plan->cards[b];
            if (a != b && x->layer_begin < x->layer_end && y->layer_begin < y->layer_end &&
                x->layer_begin < y->layer_end && y->layer_begin < x->layer_end)
                CHECK(box->links[a][b].mode == LINK_DIRECT);
        }
}

/* The same model with so many layers. */
static inline void boxed_layers(struct boxed *b, uint32_t n) {
    const struct model_params params = b->model.params;
    model_finish(&b->model);
    b->model = (struct model){.params = params};
    b->model.params.n_layers = n;
    toy_model(&b->model, TENSOR_Q8_0);
}

/* Cards that are too small for the model more often than not; `times` as large at most. */
static inline void boxed_shrink(struct boxed *b, uint32_t times) {
    for (uint32_t i = 0; i < b->in.n_cards; i++)
        b->in.capacity_bytes[i] =
            (b->in.capacity_bytes[i] / 100 * (20 + draw(80)) + 1) * (1 + draw(times));
    b->in.split = (enum split)draw(SPLITS);
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
    if (rc == 0) {
        check_same_ranges(&plan, &again);
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

/* Of a box with some host memory for weights: they lie there only where no card has room, no more
 * of them than may, and every step finds them fetched.  Returns whether any do. */
static inline bool boxed_check_spilled(struct boxed *b) {
    struct plan without = {0}, plan = {0};
    b->in.host_spill = 0;
    const bool fits = plan_build(&without, &b->in, NULL) == 0;
    b->in.host_spill = UINT64_C(1) << (10 + draw(34));
    CHECK(boxed_check(b) || !fits);
    boxed_check_same(b);
    const bool there = plan_build(&plan, &b->in, NULL) == 0;
    const uint64_t host = plan_host_bytes(&plan);
    const char *why = landed_check(&b->model, &plan);
    if (why)
        printf("# %s\n", why);
    CHECK(!why);
    CHECK(host <= b->in.host_spill);
    CHECK(!there || (host == 0) == fits);
    if (fits)
        check_same_ranges(&plan, &without);
    plan_finish(&without);
    plan_finish(&plan);
    if (there && host) { /* and so it is with more host memory, another card or another byte */
        b->in.host_spill += 1 + draw(1u << draw(31));
        CHECK(boxed_check(b));
        boxed_check_more(b);
    }
    return there && host;
}

#endif
