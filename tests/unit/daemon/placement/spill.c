/* SPDX-License-Identifier: Apache-2.0 */
/* What stays in host memory: the promises of such plans on random boxes, and the least of it. */
#include "daemon/placement/spill.h"

#include "tests/boxes.h"

#define SMALL 600
#define FULL  24

static void boxes_that_are_too_small_keep_every_promise(void) {
    uint32_t n_spill = 0;
    for (uint32_t seed = 1; seed <= SMALL; seed++) {
        struct boxed b;
        boxed_small(&b, seed);
        boxed_layers(&b, 1 + draw(24));
        boxed_shrink(&b, 4);
        n_spill += boxed_check_spilled(&b);
        boxed_finish(&b);
    }
    printf("# %u of %u spill\n", n_spill, SMALL);
    CHECK(n_spill > SMALL / 20);
}

static void full_size_boxes_that_are_too_small_keep_every_promise(void) {
    uint32_t n_spill = 0;
    for (uint32_t seed = 1; seed <= FULL; seed++) {
        struct boxed b;
        boxed_full(&b, seed);
        boxed_shrink(&b, 1);
        n_spill += boxed_check_spilled(&b);
        boxed_finish(&b);
    }
    printf("# %u of %u spill\n", n_spill, FULL);
    CHECK(n_spill > 1);
}

/* --- the least, found by trying all --- */

struct trial {
    struct model model;
    struct plan_input in;
    struct plan plan;
    uint64_t less;  /* bytes that every card leaves free */
    uint64_t least; /* in host memory, of all that fit */
};

/* The bytes of the shares that are set, as a plan counts them. */
static void weigh(struct trial *t) {
    struct plan *plan = &t->plan;
    free(plan->ranges);
    CHECK_EQ(share_ranges(plan, &t->in), 0);
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        struct plan_card *c = &plan->cards[i];
        c->kv_bytes = share_context_pages(plan) * share_page_bytes(plan, &t->model.params, i);
        if (plan_card_bytes(c) && plan_card_bytes(c) + t->less > t->in.capacity_bytes[i])
            return;
    }
    if (plan_host_bytes(plan) < t->least)
        t->least = plan_host_bytes(plan);
}

/* All ways to lay the layers from `begin` on over the cards from i on; the output matrix is on card
 * `head`. */
static void try_all(struct trial *t, uint32_t i, uint32_t begin, uint32_t head) {
    const uint32_t n_layers = t->model.params.n_layers;
    if (i == t->in.n_cards) {
        if (begin == n_layers)
            weigh(t);
        return;
    }
    for (uint32_t end = begin; end <= n_layers; end++)
        for (uint32_t n = 0; n <= end - begin; n += n ? 1 : 3) {
            const struct share share = {.layer_begin = begin,
                                        .layer_end = end,
                                        .lane_end = begin < end ? LANES : 0,
                                        .vocab_begin = i > head ? LANES : 0,
                                        .vocab_end = i >= head ? LANES : 0,
                                        .n_spilled = n};
            share_apply(&t->plan.cards[i], &t->model.params, &share);
            try_all(t, i + 1, end, head);
        }
}

static uint64_t least_of(struct trial *t, uint64_t less) {
    t->less = less;
    t->least = UINT64_MAX;
    t->plan = (struct plan){.n_cards = t->in.n_cards, .max_sequences = t->in.max_sequences};
    share_context(&t->plan, &t->in, t->in.context);
    for (uint32_t i = 0; i < t->in.n_cards; i++)
        t->plan.cards[i].online = true;
    for (uint32_t head = 0; head < t->in.n_cards; head++)
        try_all(t, 0, 0, head);
    free(t->plan.ranges);
    return t->least;
}

/* The search leaves a block of a card free that trying finds a use for. */
static void as_little_is_spilled_as_can_be(void) {
    uint32_t n_spill = 0;
    for (uint32_t seed = 1; seed < 400 && n_spill < 12; seed++) {
        struct trial t = {0};
        struct plan plan = {0};
        random_state = seed * 2654435761u + 1;
        t.model.params = random_shape();
        t.model.params.tied = true;
        t.model.params.n_layers = 5 + draw(3);
        toy_model(&t.model, TENSOR_Q8_0);
        t.in = tight_input(&t.model, 1 + draw(2), SPLIT_LAYER, 32 + draw(64));
        t.in.host_spill = UINT64_C(1) << 40;
        if (plan_build(&plan, &t.in, NULL) == 0 && plan_host_bytes(&plan)) {
            bool cut = false;
            for (uint32_t i = 0; i < plan.n_cards; i++)
                cut |= plan.cards[i].vocab_begin < plan.cards[i].vocab_end &&
                       plan.cards[i].vocab_end - plan.cards[i].vocab_begin < t.model.params.n_vocab;
            if (!cut) {
                CHECK(plan_host_bytes(&plan) >= least_of(&t, 0));
                CHECK(plan_host_bytes(&plan) <= least_of(&t, LANDING_BLOCK));
                n_spill++;
            }
        }
        plan_finish(&plan);
        model_finish(&t.model);
    }
    CHECK_EQ(n_spill, 12);
}

/* --- by the clock --- */

/* Two cards, one with a way to the host that is eight times as fast. */
static void the_card_with_the_faster_way_spills(void) {
    for (uint32_t fast = 0; fast < 2; fast++) {
        struct model m = {.params = toy_smollm2()};
        struct plan plan = {0};
        struct topology box;
        toy_model(&m, TENSOR_Q8_0);
        m.params.n_vocab = 1024;
        m.tensors[0].rows = 1024;
        struct plan_input in = input_for(&m, 2, 48 * MIB, SPLIT_LAYER);
        topology_plain(&box, 2, in.capacity_bytes, 0);
        for (uint32_t i = 0; i < 2; i++)
            box.cards[i].pcie = (struct pcie){i == fast ? 5 : 3, i == fast ? 16 : 8};
        in.context = 64;
        in.max_rows = 16;
        in.host_spill = UINT64_C(1) << 30;
        in.topology = &box;
        CHECK_EQ(plan_build(&plan, &in, NULL), 0);
        CHECK(plan.cards[fast].spilled_bytes > 0);
        CHECK_EQ(plan.cards[1 - fast].spilled_bytes, 0);
        CHECK(strstr(plan.reason, "host memory") && strstr(plan.cards[fast].reason, "host memory"));
        plan_finish(&plan);
        model_finish(&m);
    }
}

/* What is fetched takes longer than what is computed, and then that is how long a token takes. */
static void the_prediction_counts_what_is_fetched(void) {
    struct model m = {.params = toy_smollm2()};
    struct plan plan = {0};
    struct topology box;
    struct prediction slow, fast;
    toy_model(&m, TENSOR_Q8_0);
    struct plan_input in = input_for(&m, 1, 100 * MIB, SPLIT_LAYER);
    topology_plain(&box, 1, in.capacity_bytes, 0);
    box.cards[0].bytes_per_s = UINT64_C(1000000000000);
    box.cards[0].int8_ops_per_s = box.cards[0].f16_flops_per_s = UINT64_C(1000000000000000);
    box.cards[0].pcie = (struct pcie){1, 1};
    in.context = 64;
    in.host_spill = UINT64_C(1) << 30;
    in.topology = &box;
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    CHECK(plan.cards[0].spilled_bytes > 0);
    CHECK_EQ(predict(&slow, &plan, &m, &box), 0);
    const double want = 250e6 / (double)plan.cards[0].spilled_bytes;
    CHECK(slow.decode_tokens_per_s > want * 0.999 && slow.decode_tokens_per_s < want * 1.001);
    box.cards[0].pcie = (struct pcie){6, 16};
    CHECK_EQ(predict(&fast, &plan, &m, &box), 0);
    CHECK(fast.decode_tokens_per_s > 100 * slow.decode_tokens_per_s);
    box.cards[0].pcie = (struct pcie){0, 0};
    CHECK_EQ(predict(&fast, &plan, &m, &box), 0);
    CHECK(fast.decode_tokens_per_s == 0 && strstr(fast.decode_lacks, "host memory"));
    plan_finish(&plan);
    model_finish(&m);
}

/* --- what is refused --- */

static void a_refusal_names_the_host_memory_that_would_do(void) {
    struct model m = {.params = toy_smollm2()};
    struct plan plan = {0};
    struct err err;
    toy_model(&m, TENSOR_Q8_0);
    struct plan_input in = input_for(&m, 1, 100 * MIB, SPLIT_AUTO);
    in.context = 64;
    in.host_spill = MIB;
    CHECK_EQ(plan_build(&plan, &in, &err), -ENOSPC);
    const char *at = strstr(err.text, "host_spill = ");
    unsigned mib = 0;
    CHECK(at && sscanf(at, "host_spill = %uM instead of 1M", &mib) == 1);
    in.host_spill = mib * MIB;
    CHECK_EQ(plan_build(&plan, &in, &err), 0);
    plan_finish(&plan);
    in.host_spill = (mib - 1) * MIB;
    CHECK_EQ(plan_build(&plan, &in, &err), -ENOSPC);
    in.host_spill = mib * MIB;
    in.split = SPLIT_TENSOR;
    CHECK_EQ(plan_build(&plan, &in, &err), -ENOSPC);
    CHECK(!strstr(err.text, "host_spill"));
    model_finish(&m);
}

CHECK_MAIN(T(boxes_that_are_too_small_keep_every_promise),
           T(full_size_boxes_that_are_too_small_keep_every_promise),
           T(as_little_is_spilled_as_can_be), T(the_card_with_the_faster_way_spills),
           T(the_prediction_counts_what_is_fetched),
           T(a_refusal_names_the_host_memory_that_would_do))
