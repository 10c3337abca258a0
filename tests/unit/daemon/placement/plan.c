/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/plan.h"

#include "daemon/placement/scratch.h"
#include "tests/planned.h"

static void any_model_on_any_cards_is_held_once_and_fits(void) {
    for (int round = 0; round < 400; round++) {
        struct model m = {.params = random_shape()};
        struct plan plan = {0};
        struct err err;
        toy_model(&m, TENSOR_Q8_0);
        struct plan_input in =
            input_for(&m, 1 + draw(8), 8 * MIB, draw(2) ? SPLIT_LAYER : SPLIT_TENSOR);
        for (uint32_t i = 0; i < in.n_cards; i++)
            in.capacity_bytes[i] += draw(64) * MIB;
        if (in.n_cards > 1)
            in.online[draw(in.n_cards)] = false;
        const int rc = plan_build(&plan, &in, &err);
        if (rc == 0) {
            check_coverage(&m, &plan);
            check_capacity(&plan);
        } else {
            CHECK_EQ(rc, -ENOSPC);
            CHECK(strstr(err.text, "short"));
            CHECK_EQ(plan.n_ranges, 0);
        }
        plan_finish(&plan);
        model_finish(&m);
    }
}

static void query_heads_and_their_keys_stay_together(void) {
    for (int round = 0; round < 200; round++) {
        struct model m = {.params = random_shape()};
        struct plan plan = {0};
        toy_model(&m, TENSOR_Q8_0);
        struct plan_input in = input_for(&m, 1 + draw(8), 4096 * MIB, SPLIT_TENSOR);
        CHECK_EQ(plan_build(&plan, &in, NULL), 0);
        uint32_t head = 0, owned = 0;
        const uint32_t per_kv = m.params.n_heads / m.params.n_kv_heads;
        for (uint32_t c = 0; c < plan.n_cards; c++) {
            const struct plan_card *card = &plan.cards[c];
            if (card->head_begin == card->head_end)
                continue;
            CHECK_EQ(card->head_begin, head);
            head = card->head_end;
            CHECK(card->kv_begin <= card->head_begin / per_kv);
            CHECK(card->kv_end > (card->head_end - 1) / per_kv);
            if (card->own_begin < card->own_end) {
                CHECK_EQ(card->own_begin, owned);
                owned = card->own_end;
            }
        }
        CHECK_EQ(head, m.params.n_heads);
        CHECK_EQ(owned, m.params.n_kv_heads);
        plan_finish(&plan);
        model_finish(&m);
    }
}

static void layers_go_where_there_is_room(void) {
    struct model m = {.params = toy_smollm2()};
    struct plan plan = {0};
    toy_model(&m, TENSOR_Q8_0);
    struct plan_input in = input_for(&m, 3, 400 * MIB, SPLIT_LAYER);
    in.capacity_bytes[1] = 800 * MIB;
    in.context = 1024;
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    const uint32_t n0 = plan.cards[0].layer_end - plan.cards[0].layer_begin;
    const uint32_t n1 = plan.cards[1].layer_end - plan.cards[1].layer_begin;
    CHECK(n1 > n0);
    CHECK_EQ(plan.cards[2].layer_end, 30);
    CHECK(plan.cards[2].vocab_end == 49152);
    plan_finish(&plan);
    model_finish(&m);
}

static void bad_input_is_named(void) {
    struct model m = {.params = toy_smollm2()};
    struct plan plan = {0};
    struct err err;
    toy_model(&m, TENSOR_Q8_0);
    struct plan_input in = input_for(&m, 8, 1024 * MIB, SPLIT_AUTO);
    in.n_cards = 9;
    CHECK_EQ(plan_build(&plan, &in, &err), -EINVAL);
    CHECK(strstr(err.text, "9 cards"));
    in.n_cards = 2;
    in.online[0] = in.online[1] = false;
    CHECK_EQ(plan_build(&plan, &in, &err), -EINVAL);
    in.online[1] = true;
    in.context = 9000;
    CHECK_EQ(plan_build(&plan, &in, &err), -EINVAL);
    CHECK(strstr(err.text, "9000") && strstr(err.text, "8192"));
    model_finish(&m);
}

static void the_same_input_gives_the_same_plan(void) {
    struct model m = {.params = toy_smollm2()};
    struct plan a = {0}, b = {0};
    toy_model(&m, TENSOR_Q8_0);
    struct plan_input in = input_for(&m, 5, 1024 * MIB, SPLIT_TENSOR);
    CHECK_EQ(plan_build(&a, &in, NULL), 0);
    CHECK_EQ(plan_build(&b, &in, NULL), 0);
    check_same_ranges(&a, &b);
    CHECK(!memcmp(a.cards, b.cards, sizeof a.cards));
    plan_finish(&a);
    plan_finish(&b);
    model_finish(&m);
}

static void nodes_are_the_least_whole_subtrees(void) {
    uint8_t nodes[LANES];
    CHECK_EQ(scratch_nodes(0, 8, nodes), 1);
    CHECK_EQ(nodes[0], 1);
    CHECK_EQ(scratch_nodes(3, 6, nodes), 2);
    CHECK_EQ(nodes[0], 11);
    CHECK_EQ(nodes[1], 6);
    CHECK_EQ(scratch_nodes(1, 8, nodes), 3);
    CHECK_EQ(nodes[0], 9);
    CHECK_EQ(nodes[1], 5);
    CHECK_EQ(nodes[2], 3);
    CHECK_EQ(scratch_nodes(4, 4, nodes), 0);
}

/* With an expert that all share, or without. */
static struct model_params random_experts(void) {
    struct model_params p = {.n_heads = 8,
                             .n_kv_heads = 4,
                             .head_dim = 32,
                             .n_embd = 256,
                             .n_vocab = 1000,
                             .n_ctx_train = 512,
                             .rope = {.dims = 32}};
    p.n_layers = 1 + draw(6);
    p.n_experts = draw(2) ? 2 + draw(12) : 2 + draw(130);
    p.n_experts_used = 1 + draw(p.n_experts < USED_MAX ? p.n_experts : USED_MAX);
    p.n_ff_expert = 16 * (1 + draw(7));
    p.n_ff = draw(2) ? 32 * (1 + draw(20)) : 0;
    return p;
}

/* Each expert of a layer is whole, on one card, and in one of its lanes. */
static void experts_go_with_the_lanes_and_are_never_cut(void) {
    uint32_t n_cut = 0;
    for (int round = 0; round < 200; round++) {
        struct model m = {.params = random_experts()};
        struct plan plan = {0};
        uint32_t lanes[LANES + 1];
        toy_model(&m, TENSOR_Q8_0);
        const uint32_t n_cards = 1 + draw(8);
        struct plan_input in = tight_input(&m, n_cards, (enum split)draw(SPLITS), 64);
        if (plan_build(&plan, &in, NULL) == 0) {
            check_coverage(&m, &plan);
            check_capacity(&plan);
            model_expert_lanes(&m.params, lanes);
            for (size_t i = 0; i < plan.n_ranges; i++) {
                const struct plan_range *r = &plan.ranges[i];
                const struct model_tensor *t = &m.tensors[r->tensor];
                const struct plan_card *c = &plan.cards[r->card];
                const uint64_t rows = t->rows / m.params.n_experts;
                if (t->cut != CUT_EXPERT_ROWS && t->cut != CUT_EXPERT_VECTORS)
                    continue;
                CHECK_EQ(r->row_begin, lanes[c->lane_begin] * rows);
                CHECK_EQ(r->row_end, lanes[c->lane_end] * rows);
                CHECK(r->col_begin == 0 && r->col_end == t->cols);
                n_cut += r->row_end - r->row_begin < t->rows;
            }
        }
        plan_finish(&plan);
        model_finish(&m);
    }
    CHECK(n_cut > 100);
}

CHECK_MAIN(T(experts_go_with_the_lanes_and_are_never_cut),
           T(any_model_on_any_cards_is_held_once_and_fits),
           T(query_heads_and_their_keys_stay_together), T(layers_go_where_there_is_room),
           T(bad_input_is_named), T(the_same_input_gives_the_same_plan),
           T(nodes_are_the_least_whole_subtrees))
