/* SPDX-License-Identifier: Apache-2.0 */
/* From plan to plan in random boxes: what is kept keeps its place, nothing lies on anything else,
 * and what is said of the bytes is what a map of the card's memory shows. */
#include "daemon/placement/layout.h"

#include "tests/boxes.h"

#define BOXES 400u
#define PLANS 6 /* one after the other on the same cards */

/* Bytes of the card's memory, in units of 64, that either plan's ranges or the header take. */
static uint64_t map_bytes(const struct plan *const plans[], int n_plans, uint32_t card) {
    uint64_t end = PLAN_WEIGHTS_HEADER, bytes = 0;
    for (int p = 0; p < n_plans; p++)
        if (layout_end(plans[p], card) > end)
            end = layout_end(plans[p], card);
    bool *map = calloc(end / 64 + 1, sizeof *map);
    bool any = false;
    for (int p = 0; p < n_plans; p++)
        for (size_t i = 0; i < plans[p]->n_ranges; i++) {
            const struct plan_range *r = &plans[p]->ranges[i];
            CHECK_EQ(r->offset % 64, 0);
            for (uint64_t at = 0; r->card == card && at < r->bytes; at += 64)
                map[(r->offset + at) / 64] = any = true;
        }
    for (uint64_t i = 0; i < PLAN_WEIGHTS_HEADER / 64; i++) {
        CHECK(!map[i]);
        map[i] = any;
    }
    for (uint64_t i = 0; i < end / 64; i++)
        bytes += map[i] ? 64 : 0;
    free(map);
    return bytes;
}

/* No two of a plan's own ranges lie on each other. */
static void check_alone(const struct plan *plan) {
    for (uint32_t c = 0; c < plan->n_cards; c++)
        CHECK_EQ(map_bytes(&plan, 1, c), plan->cards[c].weights_bytes);
}

static const struct plan_range *find(const struct plan *plan, const struct plan_range *as) {
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (plan->ranges[i].card == as->card && layout_same_values(&plan->ranges[i], as))
            return &plan->ranges[i];
    return NULL;
}

static void check_kept(const struct plan *now, const struct plan *then, uint32_t card) {
    for (size_t i = 0; i < then->n_ranges; i++) {
        const struct plan_range *was = find(now, &then->ranges[i]);
        CHECK(then->ranges[i].card != card || !was || was->offset == then->ranges[i].offset);
    }
}

/* Layers and heads of K and V that are in either plan, counted one by one. */
static uint64_t count_kv(const struct model *m, const struct plan *now, const struct plan *then,
                         uint32_t card) {
    const struct plan_card *a = &now->cards[card], *b = &then->cards[card];
    const bool same = layout_keeps_kv(now, then, card);
    uint64_t n = 0;
    for (uint32_t layer = 0; layer < m->params.n_layers; layer++)
        for (uint32_t head = 0; head < m->params.n_kv_heads; head++) {
            const bool in_a = layer >= a->layer_begin && layer < a->layer_end &&
                              head >= a->kv_begin && head < a->kv_end;
            const bool in_b = layer >= b->layer_begin && layer < b->layer_end &&
                              head >= b->kv_begin && head < b->kv_end;
            n += same ? in_a || in_b : (uint64_t)in_a + in_b;
        }
    return n * now->n_pages * plan_kv_slot_bytes(now->kv_type, m->params.head_dim);
}

static void check_bytes(const struct model *m, const struct plan *now, const struct plan *then) {
    for (uint32_t c = 0; c < now->n_cards; c++) {
        const struct plan *const both[] = {now, then};
        const uint64_t weights = map_bytes(both, 2, c);
        CHECK_EQ(layout_weights_bytes(now, then, c), weights);
        if (now->n_pages != then->n_pages)
            continue;
        CHECK_EQ(layout_kv_bytes(now, then, c), count_kv(m, now, then, c));
        CHECK_EQ(layout_peak_bytes(now, then, c), weights + count_kv(m, now, then, c) +
                                                      now->cards[c].scratch_bytes +
                                                      then->cards[c].scratch_bytes);
    }
}

/* A plan for other cards of the same box: 0, or it does not fit. */
static int other_plan(struct boxed *b, struct plan *plan) {
    for (uint32_t i = 0; i < b->in.n_cards; i++)
        b->in.online[i] = draw(4) != 0;
    b->in.split = (enum split)draw(3);
    return plan_build(plan, &b->in, NULL);
}

static void go_through_plans(struct boxed *b, uint64_t *kept) {
    struct plan now = {0}, then = {0};
    if (other_plan(b, &now) < 0)
        return;
    for (int step = 0; step < PLANS; step++) {
        if (other_plan(b, &then) < 0)
            continue;
        for (uint32_t c = 0; c < then.n_cards; c++) {
            size_t n;
            const struct plan_range *held = plan_card_ranges(&now, c, &n);
            CHECK_EQ(layout_card(&then, c, held, n, true, UINT64_MAX / 2), 0);
            *kept += layout_kept_bytes(&now, &then, c);
            CHECK(layout_is_beside(&now, &then, c));
            check_kept(&now, &then, c);
        }
        check_alone(&then);
        check_bytes(&b->model, &now, &then);
        plan_finish(&now);
        now = then;
        then = (struct plan){0};
    }
    plan_finish(&now);
}

static void what_is_kept_stays_and_nothing_lies_on_anything(void) {
    uint64_t kept = 0;
    for (uint32_t seed = 1; seed <= BOXES; seed++) {
        struct boxed b;
        boxed_small(&b, seed);
        b.in.topology = NULL;
        for (uint32_t i = 0; i < b.in.n_cards; i++) /* most sets of cards can hold it */
            b.in.capacity_bytes[i] *= 3;
        go_through_plans(&b, &kept);
        boxed_finish(&b);
    }
    CHECK(kept > 0);
}

static void make_two(struct boxed *b, struct plan *now, struct plan *then) {
    random_state = 77;
    b->model = (struct model){.params = random_shape()};
    b->model.params.n_layers = 12;
    toy_model(&b->model, TENSOR_Q8_0);
    b->in = input_for(&b->model, 3, 1024 * MIB, SPLIT_LAYER);
    CHECK_EQ(plan_build(now, &b->in, NULL), 0);
    b->in.online[0] = false;
    CHECK_EQ(plan_build(then, &b->in, NULL), 0);
}

static void the_same_two_plans_have_the_same_places(void) {
    struct boxed b;
    struct plan now = {0}, then = {0}, again = {0};
    make_two(&b, &now, &then);
    CHECK_EQ(plan_build(&again, &b.in, NULL), 0);
    for (uint32_t c = 0; c < 3; c++) {
        size_t n;
        const struct plan_range *held = plan_card_ranges(&now, c, &n);
        CHECK_EQ(layout_card(&then, c, held, n, true, UINT64_MAX / 2), 0);
        CHECK_EQ(layout_card(&again, c, held, n, true, UINT64_MAX / 2), 0);
    }
    for (size_t i = 0; i < then.n_ranges; i++)
        CHECK_EQ(then.ranges[i].offset, again.ranges[i].offset);
    plan_finish(&now);
    plan_finish(&then);
    plan_finish(&again);
    boxed_finish(&b);
}

static void what_has_no_room_is_refused_and_the_plan_left_alone(void) {
    struct boxed b;
    struct plan now = {0}, then = {0};
    make_two(&b, &now, &then);
    for (uint32_t c = 1; c < 3; c++) {
        size_t n, n_then;
        const struct plan_range *held = plan_card_ranges(&now, c, &n);
        const struct plan_range *ranges = plan_card_ranges(&then, c, &n_then);
        const uint64_t first = ranges[0].offset, last = ranges[n_then - 1].offset;
        const uint64_t least = layout_weights_bytes(&now, &then, c);
        CHECK_EQ(layout_card(&then, c, held, n, true, least - 64), -ENOSPC);
        CHECK_EQ(ranges[0].offset, first);
        CHECK_EQ(ranges[n_then - 1].offset, last);
        CHECK_EQ(layout_card(&then, c, held, n, true, 2 * least), 0);
    }
    plan_finish(&now);
    plan_finish(&then);
    boxed_finish(&b);
}

/* Once nobody uses what was held, what is not kept is room. */
static void what_is_not_in_use_is_a_hole(void) {
    struct boxed b;
    struct plan now = {0}, then = {0};
    make_two(&b, &now, &then);
    uint32_t card = 1;
    while (layout_kept_bytes(&now, &then, card) + PLAN_WEIGHTS_HEADER ==
           now.cards[card].weights_bytes)
        CHECK(++card < 3);
    size_t n;
    const struct plan_range *held = plan_card_ranges(&now, card, &n);
    const uint64_t room = 4096 * MIB;
    CHECK_EQ(layout_card(&then, card, held, n, true, room), 0);
    const uint64_t beside = layout_end(&then, card);
    CHECK(beside > layout_end(&now, card));
    CHECK_EQ(layout_card(&then, card, held, n, false, room), 0);
    CHECK(layout_end(&then, card) < beside);
    CHECK(!layout_is_beside(&now, &then, card));
    check_kept(&now, &then, card);
    plan_finish(&now);
    plan_finish(&then);
    boxed_finish(&b);
}

static bool lies_on(const struct plan_range *r, uint64_t border) {
    return r->offset < border && border < r->offset + r->bytes;
}

/* Memory of a real card in the pieces that came one after the other: what is kept stays, and
 * nothing lies on a border. */
static void no_range_lies_on_a_border_of_pieces(void) {
    uint64_t kept = 0;
    for (uint32_t seed = 1; seed <= BOXES; seed++) {
        struct boxed b;
        boxed_small(&b, seed);
        b.in.topology = NULL;
        for (uint32_t i = 0; i < b.in.n_cards; i++)
            b.in.capacity_bytes[i] *= 3;
        struct plan now = {0}, then = {0};
        const bool both = other_plan(&b, &now) == 0 && other_plan(&b, &then) == 0;
        for (uint32_t c = 0; both && c < now.n_cards; c++) {
            size_t n;
            const struct plan_range *held = plan_card_ranges(&now, c, &n);
            const uint64_t end = layout_end(&now, c);
            const uint64_t borders[] = {n ? held[n / 2].offset : 0, end};
            if (n == 0 || borders[0] == 0)
                continue;
            CHECK_EQ(layout_card_in_pieces(&then, c, held, n, borders, 2), 0);
            check_kept(&now, &then, c);
            uint64_t last = 0;
            for (size_t k = 0; k < then.n_ranges; k++) {
                const struct plan_range *r = &then.ranges[k];
                if (r->card != c)
                    continue;
                CHECK(!lies_on(r, borders[0]) && !lies_on(r, end));
                if (find(&now, r) && r->offset + r->bytes > last)
                    last = r->offset + r->bytes;
            }
            CHECK_EQ(layout_kept_end(&then, c, held, n), last);
            kept += last;
        }
        if (both)
            check_alone(&then);
        plan_finish(&now);
        plan_finish(&then);
        boxed_finish(&b);
    }
    CHECK(kept > 0);
}

/* Whatever moves a page of K and V, or what is in it, makes the places other ones. */
static void places_of_k_and_v_are_compared_whole(void) {
    struct plan plan = {.n_cards = 2, .n_pages = 9, .kv_type = KV_F16};
    struct kv_layout want, got;
    plan.cards[0] = (struct plan_card){.online = true, .layer_end = 2, .kv_end = 4, .kv_bytes = 64};
    plan.cards[1] = (struct plan_card){
        .online = true, .layer_begin = 2, .layer_end = 4, .kv_end = 4, .kv_bytes = 64};
    layout_kv(&plan, &want);
    struct plan other = plan;
    other.context = 77; /* and what is not of them */
    other.cards[0].weights_bytes = 5;
    layout_kv(&other, &got);
    CHECK(layout_same_kv(&want, &got));
    for (uint32_t i = 0; i < 8; i++) {
        other = plan;
        struct plan_card *c = &other.cards[1];
        uint32_t *const words[] = {&other.n_pages, &c->layer_begin, &c->layer_end, &c->kv_begin,
                                   &c->kv_end};
        if (i < 5)
            ++*words[i];
        else if (i == 5)
            other.kv_type = KV_F32;
        else if (i == 6)
            c->kv_bytes += 64;
        else
            c->online = false;
        layout_kv(&other, &got);
        CHECK(!layout_same_kv(&want, &got));
    }
}

CHECK_MAIN(T(no_range_lies_on_a_border_of_pieces),
           T(what_is_kept_stays_and_nothing_lies_on_anything),
           T(the_same_two_plans_have_the_same_places),
           T(what_has_no_room_is_refused_and_the_plan_left_alone), T(what_is_not_in_use_is_a_hole),
           T(places_of_k_and_v_are_compared_whole))
