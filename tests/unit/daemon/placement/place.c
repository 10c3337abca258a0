/* SPDX-License-Identifier: Apache-2.0 */
/* Overrides: what they say, and that they are kept or refused, with nothing faster left undone. */
#include "daemon/placement/place.h"

#include <stdarg.h>

#include "daemon/placement/share.h"
#include "tests/brute.h"

#define ANY CARDS_MAX

static struct boxed b;
static struct places places;
static struct err err;

/* What was asked for, by construction: the card of each layer, of the output matrix, of the
 * embedding. */
static struct wish { uint32_t layer[LAYERS_MAX], head, embd; } wish;

static void place(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void place(const char *fmt, ...) {
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (places_add(&places, text, &err) < 0)
        printf("# %s\n", err.text);
    CHECK_EQ(places.n > 0 && places.of[places.n - 1].pattern[0], true);
}

/* --- text --- */

static void a_pattern_and_a_card_are_read(void) {
    struct places p = {0};
    CHECK_EQ(places_add(&p, "blk.[0-9].* = card 0", &err), 0);
    CHECK_EQ(places_add(&p, "  output.weight=card\t7 ", &err), 0);
    CHECK_EQ(places_add(&p, "a=b = card 3", &err), 0);
    CHECK_EQ(p.n, 3);
    CHECK(!strcmp(p.of[0].pattern, "blk.[0-9].*") && p.of[0].card == 0);
    CHECK(!strcmp(p.of[1].pattern, "output.weight") && p.of[1].card == 7);
    CHECK(!strcmp(p.of[2].pattern, "a=b") && p.of[2].card == 3);
}

static void what_is_neither_is_refused_with_the_form(void) {
    static const char *const bad[] = {"",
                                      "blk.*",
                                      "blk.* =",
                                      "= card 0",
                                      "  = card 0",
                                      "blk.* = 0",
                                      "blk.* = card",
                                      "blk.* = card 8",
                                      "blk.* = card -1",
                                      "blk.* = card 01",
                                      "blk.* = card0",
                                      "blk.* = card 1 x",
                                      "blk.* = cards 1",
                                      "blk.* = card 0 = "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct places p = {0}, before = p;
        CHECK_EQ(places_add(&p, bad[i], &err), -EINVAL);
        CHECK(strstr(err.text, bad[i]) && strstr(err.text, "PATTERN = card N"));
        CHECK(!memcmp(&p, &before, sizeof p));
    }
}

static void each_limit_has_an_error(void) {
    char text[300] = "";
    memset(text, 'x', PLACE_PATTERN_MAX - 1);
    memcpy(text + PLACE_PATTERN_MAX - 1, " = card 1", 10);
    CHECK_EQ(places_add(&places, text, &err), 0);
    memset(text, 'x', PLACE_PATTERN_MAX);
    memcpy(text + PLACE_PATTERN_MAX, " = card 1", 10);
    CHECK_EQ(places_add(&places, text, &err), -EINVAL);
    CHECK(strstr(err.text, "96 bytes, 95 are allowed"));
    while (places.n < PLACES_MAX)
        place("* = card 0");
    CHECK_EQ(places_add(&places, "* = card 0", &err), -E2BIG);
    CHECK(strstr(err.text, "there are 64 before it"));
    CHECK_EQ(places_all(&places), UINT64_MAX);
}

/* --- boxes --- */

static void start(uint32_t seed, uint32_t n_cards, enum split split) {
    random_state = seed * 2654435761u + 1;
    b = (struct boxed){.model = {.params = random_shape()}};
    b.model.params.n_layers = 1 + draw(6);
    toy_model(&b.model, TENSOR_Q8_0);
    b.in = tight_input(&b.model, n_cards, split, 32 * (1 + draw(16)));
    b.in.max_sequences = 1;
    b.in.places = &places;
    boxed_rates(&b, seed % 3 ? 4 : 0);
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        b.in.capacity_bytes[i] *= 1 + draw(3);
    places.n = 0;
    wish.head = wish.embd = ANY;
    for (uint32_t l = 0; l < LAYERS_MAX; l++)
        wish.layer[l] = ANY;
}

static void finish(struct plan *plan) {
    plan_finish(plan);
    boxed_finish(&b);
}

/* One override, in one of the ways to name the same thing. */
static void draw_place(void) {
    static const char *const parts[] = {"*", "q", "ffn_norm", "[d]own", "?", "ffn_n*"};
    const uint32_t card = draw(b.in.n_cards), n_layers = b.model.params.n_layers;
    const uint32_t first = draw(n_layers), last = first + draw(n_layers - first);
    switch (draw(4)) {
    case 0:
        place(draw(2)               ? "output_norm = card %u"
              : b.model.params.tied ? "token_e* = card %u"
                                    : "output = card %u",
              card);
        wish.head = card;
        break;
    case 1:
        place("*_embd = card %u", card);
        *(b.model.params.tied ? &wish.head : &wish.embd) = card;
        break;
    default:
        place("%s.[%u-%u] = card %u", parts[draw(6)], first, last, card);
        for (uint32_t l = first; l <= last; l++)
            wish.layer[l] = card;
    }
}

static void draw_places(void) {
    for (uint32_t n = 1 + draw(3); n > 0; n--)
        draw_place();
}

static bool may(uint32_t wanted, uint32_t card) {
    return wanted == ANY || wanted == card;
}

static void check_kept(const struct plan *plan) {
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        const struct model_tensor *t = &b.model.tensors[r->tensor];
        if (t->layer >= 0)
            CHECK(may(wish.layer[t->layer], r->card));
        else if (t->role == ROLE_TOKEN_EMBD && !b.model.params.tied)
            CHECK(may(wish.embd, r->card));
        else
            CHECK(may(wish.head, r->card));
    }
}

static void overrides_are_kept_or_refused(void) {
    uint32_t n_of[SPLITS] = {0}, n_refused = 0;
    for (uint32_t seed = 1; seed <= 400; seed++) {
        struct plan plan = {0};
        start(seed, 1 + seed % 8, (enum split)(seed % SPLITS));
        if (seed % 5 == 0)
            b.in.topology = NULL;
        draw_places();
        const int rc = plan_build(&plan, &b.in, &err);
        if (rc == 0) {
            check_kept(&plan);
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
            if (b.in.topology)
                check_groups(&plan, &b.box);
            CHECK_EQ(plan.dropped_places, 0);
            n_of[plan.split]++;
        } else {
            if (rc != -ENOSPC)
                printf("# %s\n", err.text);
            CHECK_EQ(rc, -ENOSPC);
            n_refused += strstr(err.text, "not as it is placed") != NULL;
        }
        boxed_check_same(&b);
        finish(&plan);
    }
    printf("# layer %u, tensor %u, hybrid %u, refused %u\n", n_of[SPLIT_LAYER], n_of[SPLIT_TENSOR],
           n_of[SPLIT_HYBRID], n_refused);
    CHECK(n_of[SPLIT_LAYER] > 40 && n_of[SPLIT_TENSOR] > 15 && n_of[SPLIT_HYBRID] > 20);
    CHECK(n_refused > 40);
}

/* Also by what is partly in host memory. */
static void overrides_are_kept_where_layers_are_spilled(void) {
    uint32_t n_spilled = 0;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        struct plan plan = {0};
        start(seed, 2, SPLIT_LAYER);
        boxed_finish(&b);
        b.model = (struct model){.params = toy_smollm2()};
        b.model.params.n_layers = 9;
        b.model.params.n_vocab = 8192;
        toy_model(&b.model, TENSOR_Q8_0);
        b.in = input_for(&b.model, 2, (12 + draw(10)) * MIB, SPLIT_LAYER);
        b.in.context = 256;
        b.in.host_spill = UINT64_C(1) << 40;
        b.in.places = &places;
        draw_places();
        if (plan_build(&plan, &b.in, &err) == 0) {
            check_kept(&plan);
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
            n_spilled += plan.cards[0].n_spilled + plan.cards[1].n_spilled > 0;
        }
        finish(&plan);
    }
    CHECK(n_spilled > 10);
}

/* --- the optimum, by looking at every way --- */

/* The output matrix anywhere, where nobody says where. */
static void look_homes(struct brute *t) {
    for (uint32_t home = 0; home < b.in.n_cards; home++)
        if (may(wish.head, home)) {
            t->shares[home].vocab_end = LANES;
            brute_look(t, &b);
            t->shares[home].vocab_end = 0;
        }
}

static void look_layers(struct brute *t, uint32_t used, uint32_t first, uint32_t begin) {
    if (begin == b.model.params.n_layers) {
        const uint32_t embd = wish.embd == ANY ? first : wish.embd;
        t->shares[embd].embd_end = LANES;
        look_homes(t);
        t->shares[embd].embd_end = 0;
        return;
    }
    for (uint32_t i = 0; i < b.in.n_cards; i++)
        for (uint32_t end = begin + 1;
             end <= b.model.params.n_layers && !(used >> i & 1) && may(wish.layer[end - 1], i);
             end++) {
            t->shares[i] = (struct share){begin, end, 0, LANES, 0, 0, 0, 0, 0};
            look_layers(t, used | 1u << i, begin ? first : i, end);
            t->shares[i] = (struct share){0};
        }
}

static void look_group(struct brute *t, const uint32_t *counts) {
    uint32_t lane = 0;
    memset(t->shares, 0, sizeof t->shares);
    for (uint32_t count = LANES; count > 0; count--)
        for (uint32_t c = 0; c < b.in.n_cards; c++) {
            struct share *s = &t->shares[c];
            if (counts[c] != count)
                continue;
            s->layer_end = b.model.params.n_layers;
            s->lane_begin = s->vocab_begin = s->embd_begin = lane;
            s->lane_end = s->vocab_end = s->embd_end = lane += count;
        }
    for (uint32_t c = 0; c < b.in.n_cards; c++) {
        struct share *s = &t->shares[c];
        if (wish.head != ANY) {
            s->vocab_begin = 0;
            s->vocab_end = wish.head == c ? LANES : 0;
        }
        if (wish.embd != ANY) {
            s->embd_begin = 0;
            s->embd_end = wish.embd == c ? LANES : 0;
        }
    }
    brute_look(t, &b);
}

static void look_lanes(struct brute *t, uint32_t *counts, uint32_t i, uint32_t left) {
    if (i + 1 < b.in.n_cards) {
        for (counts[i] = 0; counts[i] <= left; counts[i]++)
            look_lanes(t, counts, i + 1, left - counts[i]);
        return;
    }
    counts[i] = left;
    for (uint32_t x = 0; x < b.in.n_cards; x++) {
        for (uint32_t l = 0; l < b.model.params.n_layers && counts[x]; l++)
            if (!may(wish.layer[l], x))
                return;
        for (uint32_t y = 0; y < b.in.n_cards; y++)
            if (x != y && counts[x] && counts[y] && b.box.links[x][y].mode == LINK_STAGED)
                return;
    }
    look_group(t, counts);
}

static double brute_best(enum split split) {
    struct brute t = {.plan = {.n_cards = b.in.n_cards, .max_sequences = 1}};
    uint32_t counts[CARDS_MAX];
    share_context(&t.plan, &b.in, b.in.context);
    for (uint32_t i = 0; i < b.in.n_cards; i++)
        t.plan.cards[i].online = true;
    if (split == SPLIT_LAYER)
        look_layers(&t, 0, 0, 0);
    else
        look_lanes(&t, counts, 0, LANES);
    return t.best;
}

static void nothing_that_keeps_them_is_predicted_to_be_faster(void) {
    uint32_t n_of[SPLITS] = {0}, n_none = 0;
    for (uint32_t seed = 1; seed <= 240; seed++) {
        const enum split split = seed % 2 ? SPLIT_LAYER : SPLIT_TENSOR;
        struct plan plan = {0};
        start(seed, 1 + seed / 2 % 4, split);
        if (split == SPLIT_LAYER && b.in.n_cards == 4 && b.model.params.n_layers > 4)
            b.in.n_cards = 3; /* else looking at every way takes too long */
        draw_places();
        const double best = brute_best(split), chosen = boxed_decode(&b, &plan);
        CHECK(chosen >= best * (1 - 1e-9));
        if (best > 0)
            CHECK(strstr(plan.reason, "predicted to decode fastest"));
        n_of[split] += best > 0;
        n_none += chosen == 0;
        finish(&plan);
    }
    CHECK(n_of[SPLIT_LAYER] > 50 && n_of[SPLIT_TENSOR] > 30 && n_none > 50);
}

/* Where nothing is known of speed whole layers are found as well. */
static void what_can_be_kept_is_kept_where_no_speed_is_known(void) {
    uint32_t n_kept = 0;
    for (uint32_t seed = 1; seed <= 200; seed++) {
        struct plan plan = {0};
        start(seed, 1 + seed % 3, SPLIT_LAYER);
        draw_places();
        const bool any = brute_best(SPLIT_LAYER) > 0;
        b.in.topology = NULL;
        const int rc = plan_build(&plan, &b.in, &err);
        CHECK(rc == 0 || !any);
        if (rc == 0)
            check_kept(&plan);
        n_kept += any;
        finish(&plan);
    }
    CHECK(n_kept > 50);
}

/* --- what is refused --- */

static void a_place_that_cannot_be_is_refused_by_name(void) {
    struct plan plan = {.n_ranges = 7};
    start(1, 2, SPLIT_AUTO);
    place("*.0 = card 0");
    place("*.[0-9] = card 5");
    CHECK_EQ(plan_build(&plan, &b.in, &err), -EINVAL);
    CHECK(strstr(err.text, "place = *.[0-9] = card 5") && strstr(err.text, "the last is card 1"));
    places.n = 1;
    place("blk.* = card 1");
    CHECK_EQ(plan_build(&plan, &b.in, &err), -EINVAL);
    CHECK(strstr(err.text, "place = blk.* = card 1 matches no tensor") &&
          strstr(err.text, "token_embd"));
    CHECK_EQ(plan.n_ranges, 7);
    plan = (struct plan){0};
    finish(&plan);
}

/* The override that is named, left out, lets it fit. */
static void what_is_in_the_way_is_named(void) {
    uint32_t n_named = 0, n_all = 0;
    for (uint32_t seed = 1; seed <= 200; seed++) {
        struct plan plan = {0};
        start(seed, 2 + seed % 7, (enum split)(seed % SPLITS));
        draw_places();
        const bool refused =
            plan_build(&plan, &b.in, &err) < 0 && strstr(err.text, "not as it is placed");
        plan_finish(&plan);
        for (uint32_t k = 0; k < places.n && refused; k++) {
            char text[128];
            const struct places all = places;
            const struct err said = err;
            snprintf(text, sizeof text, "without place = %s = card %u", places.of[k].pattern,
                     places.of[k].card);
            if (!strstr(said.text, text))
                continue;
            memmove(places.of + k, places.of + k + 1, (--places.n - k) * sizeof *places.of);
            const int rc = plan_build(&plan, &b.in, NULL);
            CHECK_EQ(rc, 0);
            plan_finish(&plan);
            places = all;
            err = said;
            n_named++;
        }
        if (refused && strstr(err.text, "any of the")) {
            places.n = 0;
            CHECK_EQ(plan_build(&plan, &b.in, NULL), 0);
            n_all++;
        }
        finish(&plan);
    }
    printf("# named %u, all %u\n", n_named, n_all);
    CHECK(n_named > 20);
}

/* --- a card is gone --- */

static void those_of_a_card_that_is_gone_are_dropped(void) {
    uint32_t n_rest = 0, n_all = 0;
    for (uint32_t seed = 1; seed <= 160; seed++) {
        struct plan plan = {0}, bare = {0};
        start(seed, 2 + seed % 7, (enum split)(seed % SPLITS));
        draw_places();
        const uint32_t gone = draw(b.in.n_cards);
        b.in.online[gone] = false;
        b.in.places = NULL;
        const int without = plan_build(&bare, &b.in, NULL);
        b.in.places = &places;
        const int rc = plan_build(&plan, &b.in, &err);
        CHECK_EQ(rc, without); /* to serve comes first */
        if (rc == 0) {
            uint64_t of_gone = 0;
            for (uint32_t k = 0; k < places.n; k++)
                of_gone |= places.of[k].card == gone ? UINT64_C(1) << k : 0;
            CHECK(plan.dropped_places == of_gone || plan.dropped_places == places_all(&places));
            CHECK_EQ(of_gone > 0, strstr(plan.cards[gone].reason, "is dropped") ||
                                      strstr(plan.cards[gone].reason, "more is dropped"));
            if (of_gone != plan.dropped_places) {
                CHECK(strstr(plan.reason, "not as placed: it would not fit then"));
                n_all++;
            }
            n_rest += of_gone && of_gone == plan.dropped_places;
            check_coverage(&b.model, &plan);
            check_capacity(&plan);
        }
        plan_finish(&bare);
        finish(&plan);
    }
    printf("# dropped those of the card %u, all %u\n", n_rest, n_all);
    CHECK(n_rest > 15 && n_all > 15);
}

static void the_reasons_say_what_was_placed(void) {
    struct plan plan = {0};
    start(4, 3, SPLIT_LAYER);
    for (uint32_t i = 0; i < 3; i++)
        b.in.capacity_bytes[i] = UINT64_C(1) << 34;
    place("*.0 = card 2");
    place("output* = card 1");
    place("output_norm = card 1");
    CHECK_EQ(plan_build(&plan, &b.in, &err), 0);
    CHECK(strstr(plan.cards[2].reason, "placed by '*.0'"));
    CHECK(strstr(plan.cards[1].reason, "placed by 'output"));
    CHECK(!strstr(plan.cards[0].reason, "placed by"));
    finish(&plan);
}

CHECK_MAIN(T(a_pattern_and_a_card_are_read), T(what_is_neither_is_refused_with_the_form),
           T(each_limit_has_an_error), T(overrides_are_kept_or_refused),
           T(overrides_are_kept_where_layers_are_spilled),
           T(nothing_that_keeps_them_is_predicted_to_be_faster),
           T(what_can_be_kept_is_kept_where_no_speed_is_known),
           T(a_place_that_cannot_be_is_refused_by_name), T(what_is_in_the_way_is_named),
           T(those_of_a_card_that_is_gone_are_dropped), T(the_reasons_say_what_was_placed))
