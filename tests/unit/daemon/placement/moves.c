/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/moves.h"

#include "tests/planned.h"

static const bool all_cards[CARDS_MAX] = {true, true, true, true, true, true, true, true};

static bool holds(const struct plan *plan, const bool *sources, uint32_t card, uint32_t tensor,
                  uint64_t row, uint64_t col) {
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        if (r->card == card && r->tensor == tensor && sources[card] && row >= r->row_begin &&
            row < r->row_end && col >= r->col_begin && col < r->col_end)
            return true;
    }
    return false;
}

/* How many moves bring this value to this card; *from: whence the last of them. */
static uint32_t count_moves(const struct moves *m, uint32_t card, uint32_t tensor, uint64_t row,
                            uint64_t col, int32_t *from) {
    uint32_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct move *v = &m->moves[i];
        if (v->to == card && v->tensor == tensor && row >= v->row_begin && row < v->row_end &&
            col >= v->col_begin && col < v->col_end) {
            n++;
            *from = v->from;
        }
    }
    return n;
}

/* Every value of the second plan, at some of its places: kept, or brought once, from where it is.
 */
static void check_values(const struct plan *before, const struct plan *after, const bool *sources,
                         const struct moves *m) {
    for (size_t i = 0; i < after->n_ranges; i++) {
        const struct plan_range *r = &after->ranges[i];
        const uint64_t rows = r->row_end - r->row_begin, cols = r->col_end - r->col_begin;
        for (int k = 0; k < 6 && rows && cols; k++) {
            const uint64_t row = k == 0 ? r->row_begin : r->row_begin + draw((uint32_t)rows);
            const uint64_t col = k == 1 ? r->col_end - 1 : r->col_begin + draw((uint32_t)cols);
            int32_t from = -2;
            const uint32_t n = count_moves(m, r->card, r->tensor, row, col, &from);
            const bool kept = holds(before, sources, r->card, r->tensor, row, col);
            CHECK_EQ(n, kept ? 0 : 1);
            bool somewhere = false;
            for (uint32_t c = 0; c < CARDS_MAX; c++)
                somewhere |= holds(before, sources, c, r->tensor, row, col);
            if (!kept && somewhere)
                CHECK(from >= 0 && holds(before, sources, (uint32_t)from, r->tensor, row, col));
            if (!kept && !somewhere)
                CHECK_EQ(from, MOVE_FROM_FILE);
        }
    }
}

static void check_bytes(const struct plan *after, const struct moves *m) {
    uint64_t bytes = 0, of_cards = 0, of_file = 0;
    for (size_t i = 0; i < after->n_ranges; i++)
        bytes += after->ranges[i].bytes;
    for (size_t i = 0; i < m->n; i++)
        *(m->moves[i].from == MOVE_FROM_FILE ? &of_file : &of_cards) += m->moves[i].bytes;
    CHECK_EQ(m->card_bytes, of_cards);
    CHECK_EQ(m->file_bytes, of_file);
    CHECK_EQ(m->card_bytes + m->file_bytes + m->kept_bytes, bytes);
}

static void every_value_is_kept_or_comes_once_from_where_it_is(void) {
    uint32_t with_file = 0, with_cards = 0;
    for (int round = 0; round < 300; round++) {
        struct model m = {.params = random_shape()};
        struct plan before = {0}, after = {0};
        struct moves moves = {0};
        bool sources[CARDS_MAX];
        toy_model(&m, TENSOR_Q8_0);
        const uint32_t n = 1 + draw(8);
        struct plan_input in = input_for(&m, n, 4096 * MIB, draw(2) ? SPLIT_LAYER : SPLIT_TENSOR);
        memcpy(sources, all_cards, sizeof sources);
        if (n > 1 && draw(2))
            in.online[draw(n)] = false;
        CHECK_EQ(plan_build(&before, &in, NULL), 0);
        const uint32_t turned = draw(n);
        in.online[turned] = !in.online[turned];
        if (draw(4) == 0)
            in.split = draw(2) ? SPLIT_LAYER : SPLIT_TENSOR;
        if (draw(2))
            sources[turned] = false;
        if (plan_build(&after, &in, NULL) == 0) {
            CHECK_EQ(moves_between(&moves, &before, &after, sources), 0);
            check_values(&before, &after, sources, &moves);
            check_bytes(&after, &moves);
            with_file += moves.file_bytes > 0;
            with_cards += moves.card_bytes > 0;
        }
        moves_finish(&moves);
        plan_finish(&before);
        plan_finish(&after);
        model_finish(&m);
    }
    CHECK(with_file > 20 && with_cards > 20);
}

static void the_same_plan_moves_nothing(void) {
    struct model m = {.params = random_shape()};
    struct plan plan = {0};
    struct moves moves;
    toy_model(&m, TENSOR_Q8_0);
    struct plan_input in = input_for(&m, 3, 4096 * MIB, SPLIT_TENSOR);
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    CHECK_EQ(moves_between(&moves, &plan, &plan, all_cards), 0);
    CHECK_EQ(moves.n, 0);
    CHECK_EQ(moves.card_bytes + moves.file_bytes, 0);
    check_bytes(&plan, &moves);
    moves_finish(&moves);
    const struct plan none = {0};
    CHECK_EQ(moves_between(&moves, &none, &plan, all_cards), 0);
    CHECK_EQ(moves.card_bytes + moves.kept_bytes, 0);
    moves_finish(&moves);
    plan_finish(&plan);
    model_finish(&m);
}

static void ranges_that_cross_are_cut_into_what_is_missing(void) {
    /* 4 x 4 values, one byte each: the middle of them is there, the left edge is on card 1. */
    struct plan_range had[] = {{.tensor = 0,
                                .card = 0,
                                .row_begin = 1,
                                .row_end = 3,
                                .col_begin = 1,
                                .col_end = 3,
                                .bytes = 4},
                               {.tensor = 0,
                                .card = 1,
                                .row_begin = 0,
                                .row_end = 4,
                                .col_begin = 0,
                                .col_end = 1,
                                .bytes = 4}};
    struct plan_range wanted = {.tensor = 0, .card = 0, .row_end = 4, .col_end = 4, .bytes = 16};
    const struct plan before = {.n_cards = 2, .ranges = had, .n_ranges = 2};
    const struct plan after = {.n_cards = 2, .ranges = &wanted, .n_ranges = 1};
    struct moves moves;
    CHECK_EQ(moves_between(&moves, &before, &after, all_cards), 0);
    CHECK_EQ(moves.kept_bytes, 4);
    CHECK_EQ(moves.card_bytes, 4);
    CHECK_EQ(moves.file_bytes, 8);
    check_values(&before, &after, all_cards, &moves);
    moves_finish(&moves);
}

CHECK_MAIN(T(every_value_is_kept_or_comes_once_from_where_it_is), T(the_same_plan_moves_nothing),
           T(ranges_that_cross_are_cut_into_what_is_missing))
