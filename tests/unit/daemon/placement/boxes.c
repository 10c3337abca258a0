/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of every plan, on random boxes.  tests/bench/plan.c does the same a hundred thousand
 * times. */
#include "tests/boxes.h"

#include "daemon/placement/search.h"

#define FULL  200
#define SMALL 2000

static void two_hundred_full_size_boxes_keep_every_promise(void) {
    uint32_t n_fit = 0;
    for (uint32_t seed = 1; seed <= FULL; seed++) {
        struct boxed b;
        boxed_full(&b, seed);
        boxed_check_same(&b);
        if (boxed_check(&b)) {
            boxed_check_more(&b);
            n_fit++;
        }
        boxed_finish(&b);
    }
    printf("# %u of %u fit\n", n_fit, FULL);
    CHECK(n_fit > FULL / 5 && n_fit < FULL);
}

static void small_boxes_keep_every_promise(void) {
    uint32_t n_fit = 0;
    for (uint32_t seed = 1; seed <= SMALL; seed++) {
        struct boxed b;
        boxed_small(&b, seed);
        CHECK(b.model.n_tensors <= 40);
        boxed_check_same(&b);
        if (boxed_check(&b)) {
            boxed_check_more(&b);
            n_fit++;
        }
        boxed_finish(&b);
    }
    CHECK(n_fit > SMALL / 5 && n_fit < SMALL);
}

/* Whatever a card holds, a longer context takes no byte less there. */
static void more_context_never_frees_a_byte_of_any_share(void) {
    for (uint32_t seed = 1; seed <= 200; seed++) {
        struct boxed b;
        struct box box;
        boxed_small(&b, seed);
        struct plan plan = {.n_cards = b.in.n_cards, .max_sequences = b.in.max_sequences};
        share_context(&plan, &b.in, b.in.context);
        box_open(&box, &plan, &b.in);
        const struct costs before = box.costs;
        share_context(&plan, &b.in, b.in.context + 1 + draw(200));
        box_context(&box);
        for (uint32_t n = 0; n < 50; n++) {
            struct share s = {0};
            s.layer_begin = draw(b.model.params.n_layers);
            s.layer_end = s.layer_begin + draw(b.model.params.n_layers - s.layer_begin + 1);
            if (s.layer_begin < s.layer_end)
                s.lane_end = LANES;
            s.vocab_begin = draw(LANES);
            s.vocab_end = s.vocab_begin + draw(LANES - s.vocab_begin + 1);
            CHECK(costs_of(&box.costs, &s, 1) >= costs_of(&before, &s, 1));
            s.layer_begin = 0;
            s.layer_end = b.model.params.n_layers;
            s.lane_begin = draw(LANES);
            s.lane_end = s.lane_begin + 1 + draw(LANES - s.lane_begin);
            CHECK(costs_of(&box.costs, &s, 3) >= costs_of(&before, &s, 3));
        }
        boxed_finish(&b);
    }
}

CHECK_MAIN(T(two_hundred_full_size_boxes_keep_every_promise), T(small_boxes_keep_every_promise),
           T(more_context_never_frees_a_byte_of_any_share))
