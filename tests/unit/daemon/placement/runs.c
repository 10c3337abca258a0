/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of layers on groups of cards: what fits so is found, whatever split is asked for that may
 * have them, and before anything is spilled. */
#include "daemon/placement/search.h"

#include <stdarg.h>

#include "daemon/placement/place.h"
#include "tests/boxes.h"

#define ANY CARDS_MAX

static struct boxed b;
static struct places places;

/* What overrides ask for, by construction: the card of each layer, of the output matrix, of the
 * embedding. */
static struct wish { uint32_t layer[LAYERS_MAX], head, embd; } wish;

/* A small box; one link in `staged` is no direct one, and where `known`, its speeds are. */
static void start(uint32_t seed, uint32_t n_cards, uint32_t staged, bool known) {
    random_state = seed * 2654435761u + 1;
    b = (struct boxed){.model = {.params = random_shape()}};
    b.model.params.n_layers = 1 + draw(4);
    toy_model(&b.model, TENSOR_Q8_0);
    b.in = tight_input(&b.model, n_cards, SPLIT_AUTO, 32 * (1 + draw(16)));
    boxed_rates(&b, staged);
    if (!known)
        b.box.cards[0].bytes_per_s = 0;
    places.n = 0;
    wish.head = wish.embd = ANY;
    for (uint32_t l = 0; l < LAYERS_MAX; l++)
        wish.layer[l] = ANY;
}

static void place(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void place(const char *fmt, ...) {
    char text[PLACE_PATTERN_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    CHECK_EQ(places_add(&places, text, NULL), 0);
    b.in.places = &places;
}

static void draw_places(void) {
    const uint32_t card = draw(b.in.n_cards), layer = draw(b.model.params.n_layers);
    if (draw(2)) {
        place("output_norm = card %u", card);
        wish.head = card;
    }
    if (draw(2) && !b.model.params.tied)
        place("*_embd = card %u", wish.embd = draw(b.in.n_cards));
    if (draw(2))
        place("q.%u = card %u", layer, wish.layer[layer] = draw(b.in.n_cards));
}

static bool fits(enum split split) {
    struct plan plan = {0};
    b.box.n_cards = b.in.n_cards;
    b.in.split = split;
    const int rc = plan_build(&plan, &b.in, NULL);
    if (rc == 0) {
        check_coverage(&b.model, &plan);
        check_capacity(&plan);
        check_groups(&plan, &b.box);
    } else {
        CHECK_EQ(rc, -ENOSPC);
    }
    plan_finish(&plan);
    return rc == 0;
}

static bool only_groups_fit(void) {
    return !fits(SPLIT_LAYER) && !fits(SPLIT_TENSOR) && fits(SPLIT_HYBRID);
}

/* --- exactness, by looking at every way --- */

struct ways {
    struct plan plan;
    struct share shares[CARDS_MAX];
    double least; /* how full the fullest card is in the best way so far */
};

static double fullest_of(struct ways *w, uint32_t cards) {
    double most = 0;
    for (uint32_t i = 0; i < b.in.n_cards; i++)
        share_apply(&w->plan.cards[i], &b.model.params, &w->shares[i]);
    for (uint32_t i = 0; i < b.in.n_cards; i++) {
        if (!(cards >> i & 1))
            continue;
        const uint64_t bytes =
            share_weights_bytes(&w->plan, &b.in, i) + share_scratch_bytes(&w->plan, &b.model, i) +
            share_context_pages(&w->plan) * share_page_bytes(&w->plan, &b.model.params, i);
        const double full = (double)bytes / (double)b.in.capacity_bytes[i];
        most = full > most ? full : most;
    }
    return most;
}

static void look(struct ways *w, uint32_t used, uint32_t begin, double full);

/* What a card holds that has no layer. */
static struct share beside(uint32_t card) {
    return (struct share){.vocab_end = wish.head == card ? LANES : 0,
                          .embd_end = wish.embd == card ? LANES : 0};
}

struct lanes {
    uint32_t group, left; /* cards: all, without lanes yet */
    uint32_t lane, longest;
    uint32_t begin, end; /* layers */
};

/* The cards of the group in any order, no run of lanes longer than the one before. */
static void look_lanes(struct ways *w, uint32_t used, double full, struct lanes l) {
    if (l.left == 0) {
        const double mine = l.lane == LANES ? fullest_of(w, l.group) : w->least;
        if (mine < w->least)
            look(w, used | l.group, l.end, mine > full ? mine : full);
        return;
    }
    for (uint32_t i = 0; i < b.in.n_cards; i++)
        for (uint32_t n = 1; l.left >> i & 1 && n <= l.longest && l.lane + n <= LANES; n++) {
            const uint32_t lane = l.lane + n;
            struct share *share = &w->shares[i];
            share->layer_begin = l.begin;
            share->layer_end = l.end;
            share->lane_begin = l.lane;
            share->lane_end = lane;
            if (wish.head == ANY && l.end == b.model.params.n_layers) {
                share->vocab_begin = l.lane;
                share->vocab_end = lane;
            }
            if (wish.embd == ANY && l.begin == 0) {
                share->embd_begin = l.lane;
                share->embd_end = lane;
            }
            look_lanes(w, used, full,
                       (struct lanes){l.group, l.left & ~(1u << i), lane, n, l.begin, l.end});
            *share = beside(i);
        }
}

static bool may_hold(uint32_t cards, uint32_t begin, uint32_t end) {
    for (uint32_t l = begin; l < end; l++)
        if (wish.layer[l] != ANY && cards != 1u << wish.layer[l])
            return false;
    return true;
}

static bool all_direct(uint32_t cards) {
    for (uint32_t x = 0; x < b.in.n_cards; x++)
        for (uint32_t y = 0; y < b.in.n_cards; y++)
            if (x != y && cards >> x & 1 && cards >> y & 1 && b.box.links[x][y].mode != LINK_DIRECT)
                return false;
    return true;
}

static void look(struct ways *w, uint32_t used, uint32_t begin, double full) {
    if (begin == b.model.params.n_layers) {
        const double all = fullest_of(w, (1u << b.in.n_cards) - 1);
        CHECK(all >= full);
        w->least = all < w->least ? all : w->least;
        return;
    }
    for (uint32_t group = 1; group < 1u << b.in.n_cards; group++)
        for (uint32_t end = begin + 1; end <= b.model.params.n_layers; end++)
            if (!(group & used) && all_direct(group) && may_hold(group, begin, end))
                look_lanes(w, used, full, (struct lanes){group, group, 0, LANES, begin, end});
}

static void open_ways(struct ways *w) {
    *w = (struct ways){.plan = {.n_cards = b.in.n_cards, .max_sequences = b.in.max_sequences},
                       .least = 1 + 1e-12};
    share_context(&w->plan, &b.in, b.in.context);
    for (uint32_t i = 0; i < b.in.n_cards; i++) {
        w->plan.cards[i].online = true;
        w->shares[i] = beside(i);
    }
}

static void the_fullest_card_is_the_least_full_that_it_can_be(void) {
    uint32_t n_fit = 0, n_not = 0, n_many = 0, n_placed = 0;
    for (uint32_t seed = 1; seed <= 400; seed++) {
        struct ways w;
        struct box box;
        start(seed, 1 + seed % 4, seed % 3 ? 4 : 0, false);
        if (seed % 5 < 2)
            draw_places();
        for (uint32_t i = 0; i < b.in.n_cards && b.in.places; i++)
            b.in.capacity_bytes[i] *= 1 + draw(2);
        open_ways(&w);
        look(&w, 0, 0, 0);
        const double least = w.least;
        open_ways(&w);
        box_open(&box, &w.plan, &b.in);
        CHECK_EQ(box_fits_way(&box, WAY_GROUPS), least <= 1);
        CHECK_EQ(box_choose(&box, WAY_GROUPS, w.shares), least <= 1);
        if (least <= 1) {
            const double chosen = fullest_of(&w, (1u << b.in.n_cards) - 1);
            CHECK(chosen >= least && chosen <= least + 2.0 / FACTOR_ONE);
            uint32_t n_runs = 0, n_cards = 0;
            for (uint32_t i = 0; i < b.in.n_cards; i++) {
                n_runs +=
                    w.shares[i].layer_begin < w.shares[i].layer_end && w.shares[i].lane_begin == 0;
                n_cards += w.shares[i].layer_begin < w.shares[i].layer_end;
            }
            n_many += n_runs > 1 && n_cards > n_runs;
            n_placed += b.in.places && n_cards > n_runs;
        }
        n_fit += least <= 1;
        n_not += least > 1;
        boxed_finish(&b);
    }
    printf("# %u fit, %u of them in several groups of several cards, %u in lanes beside what is "
           "placed; %u do not\n",
           n_fit, n_many, n_placed, n_not);
    CHECK(n_fit > 60 && n_not > 60 && n_many > 20 && n_placed > 5);
}

/* --- who looks for them --- */

static void auto_takes_groups_before_it_spills_or_refuses(void) {
    uint32_t n_only = 0, n_known = 0, n_spilled = 0;
    for (uint32_t seed = 1; seed <= 900; seed++) {
        struct plan plan = {0};
        const bool known = seed % 2;
        start(seed, 2 + seed % 7, 3, known);
        const bool only = only_groups_fit(), any = fits(SPLIT_HYBRID);
        b.in.host_spill = UINT64_C(1) << 40;
        b.in.split = SPLIT_AUTO;
        const int rc = plan_build(&plan, &b.in, NULL);
        if (any)
            CHECK(rc == 0 && plan_host_bytes(&plan) == 0);
        if (only) {
            CHECK_EQ(plan.split, SPLIT_HYBRID);
            CHECK(strstr(plan.reason, known ? "predicted to decode fastest" : "neither whole"));
        }
        n_spilled += rc == 0 && plan_host_bytes(&plan) > 0;
        n_only += only;
        n_known += only && known;
        plan_finish(&plan);
        boxed_finish(&b);
    }
    printf("# in groups alone %u, of which speeds are known in %u; %u spill\n", n_only, n_known,
           n_spilled);
    CHECK(n_known > 5 && n_only - n_known > 5 && n_spilled > 5);
}

static void another_card_or_more_bytes_or_less_context_never_hurts(void) {
    uint32_t n_only = 0;
    for (uint32_t seed = 1; seed <= 900; seed++) {
        start(seed, 2 + seed % 6, 3, seed % 2);
        if (only_groups_fit()) {
            const struct plan_input before = b.in;
            b.in.context -= b.in.context > PAGE_TOKENS ? PAGE_TOKENS : 0;
            CHECK(fits(SPLIT_AUTO));
            b.in = before;
            b.in.capacity_bytes[draw(b.in.n_cards)] += draw(1 << 20);
            CHECK(fits(SPLIT_AUTO) && fits(SPLIT_HYBRID));
            b.in = before;
            b.in.online[b.in.n_cards] = true;
            b.in.capacity_bytes[b.in.n_cards++] = 1 + draw(1u << draw(24));
            CHECK(fits(SPLIT_AUTO) && fits(SPLIT_HYBRID));
            n_only++;
        }
        boxed_finish(&b);
    }
    CHECK(n_only > 20);
}

/* Eight cards on two switches, with room for a bit more than the model: lanes of all of it do not
 * fit one side, and a layer is larger than a card. */
static void two_switches_hold_what_neither_layers_nor_lanes_can(void) {
    struct err err;
    struct plan plan = {0};
    start(1, 8, 0, false);
    b.model.params.n_embd = 4096;
    b.model.params.n_ff = 14336;
    b.model.params.n_heads = 32;
    b.model.params.n_kv_heads = 8;
    b.model.params.head_dim = b.model.params.rope.dims = 128;
    b.model.params.n_layers = 2;
    const struct model_params params = b.model.params;
    model_finish(&b.model);
    b.model = (struct model){.params = params};
    toy_model(&b.model, TENSOR_Q8_0);
    for (uint32_t i = 0; i < 8; i++) {
        b.in.capacity_bytes[i] = 100 * MIB;
        for (uint32_t to = 0; to < 8; to++)
            b.box.links[i][to].mode = i / 4 == to / 4 ? LINK_DIRECT : LINK_STAGED;
    }
    for (int split = SPLIT_LAYER; split <= SPLIT_TENSOR; split++) {
        b.in.split = (enum split)split;
        CHECK_EQ(plan_build(&plan, &b.in, &err), -ENOSPC);
        CHECK(strstr(err.text, "it would fit with split = hybrid"));
    }
    b.in.split = SPLIT_AUTO;
    CHECK_EQ(plan_build(&plan, &b.in, &err), 0);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(plan.cards[i].lane_end - plan.cards[i].lane_begin, 2);
    plan_finish(&plan);
    boxed_finish(&b);
}

CHECK_MAIN(T(the_fullest_card_is_the_least_full_that_it_can_be),
           T(auto_takes_groups_before_it_spills_or_refuses),
           T(another_card_or_more_bytes_or_less_context_never_hurts),
           T(two_switches_hold_what_neither_layers_nor_lanes_can))
