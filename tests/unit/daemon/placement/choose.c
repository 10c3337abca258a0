/* SPDX-License-Identifier: Apache-2.0 */
/* What is chosen where the box states how fast it is: nothing is predicted to be faster. */
#include "daemon/placement/choose.h"

#include "daemon/placement/share.h"
#include "tests/brute.h"

static struct boxed b;

/* A small box with rates; one sequence, so that there is one measure of what fits. */
static void start(uint32_t seed, uint32_t n_cards, enum split split, uint32_t staged) {
    random_state = seed * 2654435761u + 1;
    b = (struct boxed){.model = {.params = random_shape()}};
    b.model.params.n_layers = 1 + draw(6);
    toy_model(&b.model, TENSOR_Q8_0);
    b.in = tight_input(&b.model, n_cards, split, 32 * (1 + draw(16)));
    b.in.max_sequences = 1;
    boxed_rates(&b, staged);
}

/* --- the optimum, by looking at every way --- */

/* Whole layers from `begin` on, over the unused cards in any order; the output matrix anywhere. */
static void look_layers(struct brute *t, uint32_t used, uint32_t begin) {
    if (begin == b.model.params.n_layers) {
        for (uint32_t home = 0; home < b.in.n_cards; home++) {
            t->shares[home].vocab_end = LANES;
            brute_look(t, &b);
            t->shares[home].vocab_end = 0;
        }
        return;
    }
    for (uint32_t i = 0; i < b.in.n_cards; i++)
        for (uint32_t end = begin + 1; end <= b.model.params.n_layers && !(used >> i & 1); end++) {
            t->shares[i] = (struct share){begin, end, 0, LANES, 0, 0, 0, begin == 0 ? LANES : 0, 0};
            look_layers(t, used | 1u << i, end);
            t->shares[i] = (struct share){0};
        }
}

/* Lanes by any counts, the card with the most first. */
static void look_lanes(struct brute *t, uint32_t *counts, uint32_t i, uint32_t left) {
    if (i + 1 < b.in.n_cards) {
        for (counts[i] = 0; counts[i] <= left; counts[i]++)
            look_lanes(t, counts, i + 1, left - counts[i]);
        return;
    }
    uint32_t lane = 0;
    counts[i] = left;
    memset(t->shares, 0, sizeof t->shares);
    for (uint32_t count = LANES; count > 0; count--)
        for (uint32_t c = 0; c < b.in.n_cards; c++)
            if (counts[c] == count) {
                t->shares[c] = (struct share){0,    b.model.params.n_layers,
                                              lane, lane + count,
                                              lane, lane + count,
                                              lane, lane + count,
                                              0};
                lane += count;
            }
    for (uint32_t x = 0; x < b.in.n_cards; x++)
        for (uint32_t y = 0; y < b.in.n_cards; y++)
            if (x != y && counts[x] && counts[y] && b.box.links[x][y].mode == LINK_STAGED)
                return;
    brute_look(t, &b);
}

static double brute_best(enum split split) {
    struct brute t = {.plan = {.n_cards = b.in.n_cards, .max_sequences = 1}};
    uint32_t counts[CARDS_MAX];
    share_context(&t.plan, &b.in, b.in.context);
    for (uint32_t i = 0; i < b.in.n_cards; i++)
        t.plan.cards[i].online = true;
    if (split == SPLIT_LAYER)
        look_layers(&t, 0, 0);
    else
        look_lanes(&t, counts, 0, LANES);
    return t.best;
}

static void nothing_is_predicted_to_be_faster(void) {
    uint32_t n_of[SPLITS] = {0}, n_out_of_order = 0;
    for (uint32_t seed = 1; seed <= 240; seed++) {
        const enum split split = seed % 2 ? SPLIT_LAYER : SPLIT_TENSOR;
        struct plan plan = {0};
        start(seed, 1 + seed % (split == SPLIT_LAYER ? 3 : 4), split, seed % 3 ? 4 : 0);
        const double best = brute_best(split), chosen = boxed_decode(&b, &plan);
        if (best > 0) {
            CHECK(chosen >= best * (1 - 1e-9));
            CHECK(strstr(plan.reason, "predicted to decode fastest"));
            n_of[split]++;
        }
        for (uint32_t i = 1; i < plan.n_cards; i++)
            n_out_of_order += plan.cards[i].layer_begin < plan.cards[i].layer_end &&
                              plan.cards[i].layer_end <= plan.cards[i - 1].layer_begin;
        plan_finish(&plan);
        boxed_finish(&b);
    }
    CHECK(n_of[SPLIT_LAYER] > 30 && n_of[SPLIT_TENSOR] > 30 && n_out_of_order > 5);
}

/* --- what more does --- */

/* Another card, or one thing faster. */
static void add(uint32_t what) {
    const uint32_t a = draw(b.in.n_cards), c = draw(b.in.n_cards);
    switch (b.in.n_cards < CARDS_MAX ? what % 4 : what % 3) {
    case 0:
        b.box.cards[a].bytes_per_s *= 1 + draw(3);
        break;
    case 1:
        b.box.links[a][c].bytes_per_s *= 1 + draw(3);
        break;
    case 2:
        b.box.links[a][c].latency_ns /= 2;
        break;
    default:
        b.in.online[b.in.n_cards] = true;
        b.in.capacity_bytes[b.in.n_cards++] = b.in.capacity_bytes[a];
    }
}

/* Two cases are excepted, and only these: what fits only with the output matrix in parts was not
 * chosen by speed, and room for the KV of all sequences, where there was none before, may cost
 * some. Neither is ever lost again. */
static void another_card_or_a_faster_one_never_lowers_the_prediction(void) {
    uint32_t n_more = 0, n_compared = 0, n_room = 0, n_paid = 0;
    for (uint32_t seed = 1; seed <= 900; seed++) {
        struct plan before = {0}, after = {0};
        start(seed, 1 + draw(8), seed % 2 ? SPLIT_LAYER : SPLIT_TENSOR, seed % 5 ? 6 : 0);
        b.in.max_sequences = 1 + draw(16);
        for (uint32_t i = 0; i < CARDS_MAX; i++)
            b.in.capacity_bytes[i] *= 1 + draw(4) * draw(3);
        const double slow = boxed_decode(&b, &before);
        add(seed / 2);
        const double fast = boxed_decode(&b, &after);
        CHECK(slow == 0 || fast > 0);
        if (slow > 0 && strstr(before.reason, "predicted")) {
            CHECK(strstr(after.reason, "predicted"));
            CHECK(boxed_all_pages(&after) || !boxed_all_pages(&before));
            const bool room = boxed_all_pages(&after) && !boxed_all_pages(&before);
            CHECK(room || fast >= slow * (1 - 1e-9));
            n_compared++;
            n_room += room;
            n_paid += fast < slow * (1 - 1e-9);
            n_more += fast > slow * (1 + 1e-6);
        }
        plan_finish(&before);
        plan_finish(&after);
        boxed_finish(&b);
    }
    printf("# %u compared, %u faster, %u with room for all, of which %u slower\n", n_compared,
           n_more, n_room, n_paid);
    CHECK(n_compared > 300 && n_more > 60 && n_room > 5);
}

static void a_card_that_does_not_help_holds_nothing(void) {
    struct plan plan = {0};
    start(7, 2, SPLIT_TENSOR, 0);
    for (uint32_t i = 0; i < 2; i++)
        b.in.capacity_bytes[i] = UINT64_C(1) << 34;
    b.box.cards[0].bytes_per_s = UINT64_C(1000000000000);
    b.box.cards[1].bytes_per_s = 1000000000; /* even one lane of eight takes longer there */
    CHECK(boxed_decode(&b, &plan) > 0);
    CHECK_EQ(plan.cards[1].weights_bytes + plan.cards[1].kv_bytes + plan.cards[1].scratch_bytes, 0);
    CHECK(strstr(plan.cards[1].reason,
                 "nothing: the other cards hold all of it; decoding is then predicted"));
    plan_finish(&plan);
    boxed_finish(&b);
}

/* --- what fits --- */

static void knowing_how_fast_it_is_never_makes_a_box_too_small(void) {
    uint32_t n_fit = 0;
    for (uint32_t seed = 1; seed <= 300; seed++) {
        struct plan plan = {0};
        start(seed, 1 + seed % 8, (enum split)(seed % 3), 0);
        b.in.topology = NULL;
        const int rc = plan_build(&plan, &b.in, NULL);
        plan_finish(&plan);
        b.in.topology = &b.box;
        CHECK_EQ(plan_build(&plan, &b.in, NULL), rc);
        if (rc == 0) {
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
            n_fit++;
        }
        plan_finish(&plan);
        boxed_finish(&b);
    }
    CHECK(n_fit > 60);
}

static void pages_for_all_sequences_go_before_speed(void) {
    struct plan plan = {0};
    random_state = 3;
    b = (struct boxed){.model = {.params = toy_smollm2()}};
    toy_model(&b.model, TENSOR_Q8_0);
    b.in = input_for(&b.model, 4, 400 * MIB, SPLIT_LAYER);
    b.in.context = 4096;
    b.in.max_sequences = 8;
    boxed_rates(&b, 0);
    CHECK(boxed_decode(&b, &plan) > 0);
    CHECK(boxed_all_pages(&plan)); /* on one card there is room for the model and one of them */
    plan_finish(&plan);
    b.in.max_sequences = 1;
    CHECK(boxed_decode(&b, &plan) > 0);
    uint32_t n_used = 0;
    for (uint32_t i = 0; i < 4; i++)
        n_used += plan.cards[i].weights_bytes > 0;
    CHECK_EQ(n_used, 1);
    plan_finish(&plan);
    boxed_finish(&b);
}

/* --- groups and splits --- */

static void a_staged_pair_is_in_no_group(void) {
    uint32_t n_of[SPLITS] = {0};
    for (uint32_t seed = 1; seed <= 400; seed++) {
        struct plan plan = {0};
        start(seed, 2 + seed % 7, (enum split)(seed % SPLITS), 3);
        if (draw(3) == 0)
            b.box.cards[0].bytes_per_s = 0; /* links are known, speeds are not */
        for (uint32_t i = 0; i < CARDS_MAX; i++)
            b.in.capacity_bytes[i] *= 1 + draw(3);
        if (plan_build(&plan, &b.in, NULL) == 0) {
            check_groups(&plan, &b.box);
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
            n_of[plan.split]++;
        }
        plan_finish(&plan);
        boxed_finish(&b);
    }
    CHECK(n_of[SPLIT_LAYER] > 20 && n_of[SPLIT_TENSOR] > 20);
}

static void auto_takes_the_split_that_is_predicted_to_be_fastest(void) {
    uint32_t n_of[SPLITS] = {0};
    for (uint32_t seed = 1; seed <= 200; seed++) {
        struct plan plan = {0}, other = {0};
        start(seed, 1 + seed % 8, SPLIT_AUTO, 5);
        for (uint32_t i = 0; i < CARDS_MAX; i++) {
            b.in.capacity_bytes[i] *= 2;
            for (uint32_t to = 0; to < CARDS_MAX && seed % 2; to++)
                b.box.links[i][to].latency_ns = 0; /* exchanges cost next to nothing */
        }
        const double chosen = boxed_decode(&b, &plan);
        for (int split = SPLIT_LAYER; split < SPLITS; split++) {
            b.in.split = (enum split)split;
            const double rate = boxed_decode(&b, &other);
            CHECK(chosen == 0 || chosen >= rate * (1 - 1e-9));
            plan_finish(&other);
        }
        n_of[plan.split] += chosen > 0;
        CHECK(chosen == 0 || strstr(plan.reason, "predicted to decode fastest"));
        plan_finish(&plan);
        boxed_finish(&b);
    }
    CHECK(n_of[SPLIT_LAYER] > 20 && n_of[SPLIT_TENSOR] > 20);
}

/* Eight cards on two switches, between which there is no direct link, and a model that needs them
 * all: lanes do not fit one side, whole layers leave seven cards idle at any time. */
static void a_pipeline_of_groups_is_taken_where_one_group_is_too_small(void) {
    double rates[SPLITS];
    struct plan plan = {0};
    boxed_full(&b, 5);
    b.in.context = 4096;
    b.in.max_sequences = 1;
    boxed_rates(&b, 0);
    uint64_t bytes = 0;
    for (size_t t = 0; t < b.model.n_tensors; t++)
        bytes += b.model.tensors[t].rows * b.model.tensors[t].cols;
    for (uint32_t i = 0; i < 8; i++) {
        b.in.capacity_bytes[i] = bytes / 5;
        b.box.cards[i].bytes_per_s = UINT64_C(456000000000);
        for (uint32_t to = 0; to < 8; to++) {
            struct peer_link *link = &b.box.links[i][to];
            const bool near = i / 4 == to / 4;
            *link = (struct peer_link){.mode = near ? LINK_DIRECT : LINK_STAGED,
                                       .bytes_per_s = UINT64_C(1000000000) * (near ? 31 : 10),
                                       .latency_ns = near ? 8000 : 24000};
        }
    }
    for (int split = SPLIT_AUTO; split < SPLITS; split++) {
        b.in.split = (enum split)split;
        rates[split] = boxed_decode(&b, &plan);
        if (rates[split] > 0) {
            check_groups(&plan, &b.box);
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
        }
        CHECK(split != SPLIT_AUTO || plan.split == SPLIT_HYBRID);
        plan_finish(&plan);
    }
    CHECK_EQ(rates[SPLIT_TENSOR], 0);
    CHECK(rates[SPLIT_HYBRID] > 2 * rates[SPLIT_LAYER]);
    CHECK_EQ(rates[SPLIT_AUTO], rates[SPLIT_HYBRID]);
    boxed_finish(&b);
}

static void a_hybrid_split_holds_what_layers_or_lanes_would(void) {
    uint32_t n_fit = 0;
    for (uint32_t seed = 1; seed <= 200; seed++) {
        struct plan plan = {0};
        start(seed, 1 + seed % 8, SPLIT_AUTO, 4);
        if (seed % 3 == 0)
            b.in.topology = NULL;
        const bool any = plan_build(&plan, &b.in, NULL) == 0;
        plan_finish(&plan);
        b.in.split = SPLIT_HYBRID;
        const bool hybrid = plan_build(&plan, &b.in, NULL) == 0;
        CHECK(hybrid || !any);
        if (hybrid) {
            CHECK_EQ(plan.split, SPLIT_HYBRID);
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
            if (b.in.topology)
                check_groups(&plan, &b.box);
        }
        n_fit += hybrid;
        plan_finish(&plan);
        boxed_finish(&b);
    }
    CHECK(n_fit > 60);
}

CHECK_MAIN(T(nothing_is_predicted_to_be_faster),
           T(another_card_or_a_faster_one_never_lowers_the_prediction),
           T(a_card_that_does_not_help_holds_nothing),
           T(knowing_how_fast_it_is_never_makes_a_box_too_small),
           T(pages_for_all_sequences_go_before_speed), T(a_staged_pair_is_in_no_group),
           T(auto_takes_the_split_that_is_predicted_to_be_fastest),
           T(a_pipeline_of_groups_is_taken_where_one_group_is_too_small),
           T(a_hybrid_split_holds_what_layers_or_lanes_would))
