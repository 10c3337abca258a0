/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/predict.h"

#include <math.h>

#include "tests/planned.h"

static struct model model;
static struct topology box;
static struct plan plan;

/* A box of equal cards, each pair with the same link. */
static void make_box(uint32_t n, double gb_s, double link_gb_s, double us) {
    uint64_t memory[CARDS_MAX];
    for (uint32_t i = 0; i < n; i++)
        memory[i] = 8192 * MIB;
    topology_plain(&box, n, memory, (uint64_t)(link_gb_s * 1e9));
    for (uint32_t i = 0; i < n; i++) {
        box.cards[i].bytes_per_s = (uint64_t)(gb_s * 1e9);
        box.cards[i].int8_ops_per_s = (uint64_t)1e13;
        box.cards[i].f16_flops_per_s = (uint64_t)5e12;
        for (uint32_t to = 0; to < n; to++)
            box.links[i][to].latency_ns = (uint64_t)(us * 1e3);
    }
}

static void make_plan(enum split split) {
    struct plan_input in = input_for(&model, box.n_cards, 8192 * MIB, split);
    plan_finish(&plan);
    for (uint32_t i = 0; i < box.n_cards; i++)
        in.capacity_bytes[i] = box.cards[i].memory_bytes;
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
}

static struct prediction predicted(void) {
    struct prediction p;
    CHECK_EQ(predict(&p, &plan, &model, &box), 0);
    return p;
}

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-6 * fabs(b);
}

/* Two layers of 64 values, 2 heads of 32, one KV head, 128 in the FFN, a tied vocabulary of 256:
 * small enough to be counted by hand. */
static void start(uint32_t n_layers) {
    model = (struct model){.params = {.n_layers = n_layers,
                                      .n_embd = 64,
                                      .n_heads = 2,
                                      .n_kv_heads = 1,
                                      .head_dim = 32,
                                      .n_ff = 128,
                                      .n_vocab = 256,
                                      .n_ctx_train = 64,
                                      .tied = true,
                                      .rope = {.dims = 32}}};
    toy_model(&model, TENSOR_Q8_0);
}

/* Weights of a layer: q 64x64, k and v 32x64, out 64x64, gate, up and down 128x64 each. */
#define LAYER (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64)
#define HEAD  (256 * 64)

static void one_card_reads_everything_once_for_a_token(void) {
    start(2);
    make_box(1, 1, 1, 5);
    make_plan(SPLIT_LAYER);
    const struct prediction p = predicted();
    /* K and V of 32 tokens, 32 values each of two bytes, in each layer. */
    const double bytes = 2 * LAYER + HEAD + 2 * (32 * 2 * 32 * 2);
    CHECK_EQ(p.tokens, 32);
    CHECK(near(p.decode_tokens_per_s, 1e9 / bytes));
    CHECK(p.exchange_share == 0 && !p.decode_lacks[0] && !p.prefill_lacks[0]);
    model_finish(&model);
}

static void a_layer_with_a_window_reads_no_more_than_that(void) {
    start(4);
    model.params.window = 20;
    model.params.window_period = 2; /* layers 0 and 2 */
    make_box(1, 1, 1, 5);
    make_plan(SPLIT_LAYER);
    const struct prediction p = predicted();
    const double bytes = 4 * LAYER + HEAD + 2 * ((32 + 20) * 2 * 32 * 2);
    CHECK(near(p.decode_tokens_per_s, 1e9 / bytes));
    model_finish(&model);
}

static void of_experts_those_that_are_used_count(void) {
    model = (struct model){.params = {.n_layers = 3,
                                      .n_embd = 64,
                                      .n_heads = 2,
                                      .n_kv_heads = 1,
                                      .head_dim = 32,
                                      .n_ff = 32,
                                      .n_experts = 40,
                                      .n_experts_used = 5,
                                      .n_ff_expert = 96,
                                      .n_vocab = 256,
                                      .n_ctx_train = 64,
                                      .tied = true,
                                      .rope = {.dims = 32}}};
    toy_model(&model, TENSOR_Q8_0);
    make_box(1, 1, 1, 5);
    make_plan(SPLIT_LAYER);
    /* Beside the FFN of 128 that is not there: a router, five experts, and the shared one. */
    const double layer = LAYER - 3 * 128 * 64 + 40 * 64 + 5 * 3 * 96 * 64 + 3 * 32 * 64;
    const double bytes = 3 * layer + HEAD + 3 * (32 * 2 * 32 * 2);
    CHECK(near(predicted().decode_tokens_per_s, 1e9 / bytes));
    /* A prompt reads all of them, but a row multiplies with five; 32 rows, one of which has logits.
     */
    make_box(1, 1000, 1, 5);
    box.cards[0].int8_ops_per_s = 1000000;
    box.cards[0].f16_flops_per_s = UINT64_C(1) << 60;
    CHECK(near(predicted().prefill_tokens_per_s, 32 / ((2.0 * 32 * 3 * layer + 2.0 * HEAD) / 1e6)));
    make_box(1, 0.001, 1, 5);
    const double all = layer + 35 * 3 * 96 * 64;
    CHECK(near(predicted().prefill_tokens_per_s,
               32 / ((3 * all + HEAD + 3 * (16 * 2 * 32 * 2)) / 1e6)));
    model_finish(&model);
}

static void a_prompt_costs_its_operations(void) {
    start(2);
    make_box(1, 1000, 1, 5); /* reading costs next to nothing */
    box.cards[0].int8_ops_per_s = 1000000;
    box.cards[0].f16_flops_per_s = UINT64_C(1) << 60;
    make_plan(SPLIT_LAYER);
    const struct prediction p = predicted();
    /* 32 rows at once, but the output matrix is for the last one alone. */
    const double ops = 2.0 * 32 * 2 * LAYER + 2.0 * HEAD;
    CHECK(near(p.prefill_tokens_per_s, 32 / (ops / 1e6)));
    model_finish(&model);
}

static void whole_layers_cost_one_after_the_other_and_a_hop_between(void) {
    start(12);
    make_box(2, 1, 0.5, 5);
    make_plan(SPLIT_LAYER);
    const struct plan_card *c = plan.cards;
    CHECK(c[0].layer_end > 0 && c[1].layer_begin < 12 && c[1].vocab_end == 256);
    const struct prediction p = predicted();
    const double bytes = 12 * LAYER + HEAD + 12 * (32 * 2 * 32 * 2);
    /* The embedding's row to card 0, and the residual stream back to card 1. */
    const double hops = 2 * (5e-6 + 64 * 4 / 0.5e9);
    CHECK(near(1 / p.decode_tokens_per_s, bytes / 1e9 + hops));
    CHECK(near(p.exchange_share, hops / (bytes / 1e9 + hops)));
    model_finish(&model);
}

static void lanes_cost_at_once_and_two_exchanges_a_layer(void) {
    start(2);
    make_box(2, 1, 0.5, 5);
    make_plan(SPLIT_TENSOR);
    CHECK_EQ(plan.cards[0].lane_end, 4);
    const struct prediction p = predicted();
    /* Each card: one query head of two, half of the FFN, half of the head; card 0 computes K and V
     * and copies one row of each, of 32 values of two bytes, to card 1; both read all of the KV. */
    const double q = 32 * 64, kv = 2 * 32 * 64, out = 64 * 32, ffn = 3 * 64 * 64,
                 kv_read = 32 * 2 * 32 * 2;
    const double layer = (q + kv + kv_read + out + ffn) / 1e9;
    const double sums = 5e-6 + 64 * 4 / 0.5e9, copy = 5e-6 + 2 * 32 * 2 / 0.5e9, embd = sums;
    CHECK(near(1 / p.decode_tokens_per_s, 2 * (layer + 2 * sums + copy) + HEAD / 2 / 1e9 + embd));
    model_finish(&model);
}

static void what_the_box_does_not_state_is_named(void) {
    start(2);
    make_box(2, 1, 0.5, 5);
    make_plan(SPLIT_LAYER);
    box.cards[1].int8_ops_per_s = 0;
    struct prediction p = predicted();
    CHECK(p.decode_tokens_per_s > 0 && p.prefill_tokens_per_s == 0);
    CHECK(!p.decode_lacks[0] && strstr(p.prefill_lacks, "int8 arithmetic of card 1"));
    box.links[0][1].bytes_per_s = 0;
    p = predicted();
    CHECK(p.decode_tokens_per_s == 0 && strstr(p.decode_lacks, "link from card 0 to card 1"));
    box.cards[0].bytes_per_s = 0;
    p = predicted();
    CHECK(p.decode_tokens_per_s == 0 && strstr(p.decode_lacks, "bandwidth of card 0"));
    model_finish(&model);
}

/* No rate that grows may make a plan slower. */
static void more_of_anything_never_lowers_the_prediction_of_a_plan(void) {
    uint32_t n_better = 0;
    random_state = 21;
    for (int round = 0; round < 300; round++) {
        model = (struct model){.params = random_shape()};
        toy_model(&model, TENSOR_Q8_0);
        make_box(1 + draw(8), 1 + draw(100), 1 + draw(30), draw(20));
        for (uint32_t i = 0; i < box.n_cards; i++)
            box.cards[i].bytes_per_s += draw(1u << 30) * UINT64_C(20);
        make_plan(draw(2) ? SPLIT_LAYER : SPLIT_TENSOR);
        const struct prediction before = predicted();
        const uint32_t a = draw(box.n_cards), b = draw(box.n_cards);
        switch (draw(4)) {
        case 0:
            box.cards[a].bytes_per_s *= 2;
            break;
        case 1:
            box.cards[a].int8_ops_per_s *= 2;
            break;
        case 2:
            box.links[a][b].bytes_per_s *= 2;
            break;
        default:
            box.links[a][b].latency_ns /= 2;
        }
        const struct prediction after = predicted();
        CHECK(after.decode_tokens_per_s >= before.decode_tokens_per_s * (1 - 1e-12));
        CHECK(after.prefill_tokens_per_s >= before.prefill_tokens_per_s * (1 - 1e-12));
        n_better += after.decode_tokens_per_s > before.decode_tokens_per_s;
        model_finish(&model);
    }
    CHECK(n_better > 50);
}

CHECK_MAIN(T(one_card_reads_everything_once_for_a_token),
           T(a_layer_with_a_window_reads_no_more_than_that),
           T(of_experts_those_that_are_used_count), T(a_prompt_costs_its_operations),
           T(whole_layers_cost_one_after_the_other_and_a_hop_between),
           T(lanes_cost_at_once_and_two_exchanges_a_layer), T(what_the_box_does_not_state_is_named),
           T(more_of_anything_never_lowers_the_prediction_of_a_plan))
