/* SPDX-License-Identifier: Apache-2.0 */
/* Where the plan comes from: a model that fits in any way is not refused, and a refusal advises
 * only what was found to be enough. */
#include "daemon/placement/search.h"

#include <time.h>

#include "daemon/placement/scratch.h"
#include "tests/planned.h"

static struct model model;
static struct err err;

static void start(struct model_params params) {
    model = (struct model){.params = params};
    toy_model(&model, TENSOR_Q8_0);
}

static int builds(const struct plan_input *in) {
    struct plan plan = {0};
    const int rc = plan_build(&plan, in, &err);
    if (rc == 0) {
        check_coverage(&model, &plan);
        check_capacity(&plan);
    } else {
        CHECK_EQ(rc, -ENOSPC);
        CHECK(strstr(err.text, "MiB short"));
    }
    plan_finish(&plan);
    return rc;
}

static bool fits(const struct plan_input *in) {
    return builds(in) == 0;
}

/* --- exactness, by looking at every way --- */

struct brute {
    const struct plan_input *in;
    struct plan plan;
    struct share shares[CARDS_MAX];
};

static bool holds(struct brute *b) {
    for (uint32_t i = 0; i < b->in->n_cards; i++)
        share_apply(&b->plan.cards[i], &model.params, &b->shares[i]);
    for (uint32_t i = 0; i < b->in->n_cards; i++)
        if (share_weights_bytes(&b->plan, b->in, i) + share_scratch_bytes(&b->plan, &model, i) +
                share_context_pages(&b->plan) * share_page_bytes(&b->plan, &model.params, i) >
            b->in->capacity_bytes[i])
            return false;
    return true;
}

/* Cut the ranges of cards i .. in every way, one kind of range after the other. */
static bool any_cut(struct brute *b, int kind, uint32_t i, uint32_t begin) {
    const bool tensor = b->in->split == SPLIT_TENSOR;
    const uint32_t all = kind == 0 && !tensor ? model.params.n_layers : LANES;
    if (i == b->in->n_cards) {
        if (begin != all)
            return false;
        return kind == 2 || (kind == 1 && (tensor || model.params.tied))
                   ? holds(b)
                   : any_cut(b, kind + 1, 0, 0);
    }
    for (uint32_t end = begin; end <= all; end++) {
        struct share *s = &b->shares[i];
        if (kind == 0) {
            s->layer_begin = tensor ? 0 : begin;
            s->layer_end = tensor ? (begin < end) * model.params.n_layers : end;
            s->lane_begin = tensor && begin < end ? begin : 0;
            s->lane_end = begin == end ? 0 : tensor ? end : LANES;
        } else if (kind == 1) {
            s->vocab_begin = begin;
            s->vocab_end = end;
        }
        if (kind == 2 || (kind == 1 && tensor)) {
            s->embd_begin = begin;
            s->embd_end = end;
        }
        if (any_cut(b, kind, i + 1, end))
            return true;
    }
    return false;
}

static void what_fits_in_any_way_is_not_refused(void) {
    uint32_t n_fit = 0, n_not = 0;
    random_state = 11;
    for (int round = 0; round < 150; round++) {
        struct model_params p = random_shape();
        p.n_layers = 1 + draw(4);
        const uint32_t n_cards = p.tied || round % 25 == 0 ? 1 + draw(3) : 1 + draw(2);
        start(p);
        struct plan_input in =
            tight_input(&model, n_cards, draw(2) ? SPLIT_LAYER : SPLIT_TENSOR, 32 * (1 + draw(8)));
        struct brute b = {.in = &in, .plan = {.n_cards = n_cards, .max_sequences = 4}};
        share_context(&b.plan, &in, in.context);
        for (uint32_t i = 0; i < n_cards; i++)
            b.plan.cards[i].online = true;
        const bool any = any_cut(&b, 0, 0, 0);
        CHECK_EQ(fits(&in), any);
        n_fit += any;
        n_not += !any;
        model_finish(&model);
    }
    CHECK(n_fit > 30 && n_not > 30);
}

/* --- the optimum, by looking at every way --- */

/* How full the fullest card is with the brute's shares; 1 is full. */
static double brute_fullest(struct brute *b) {
    double most = 0;
    for (uint32_t i = 0; i < b->in->n_cards; i++)
        share_apply(&b->plan.cards[i], &model.params, &b->shares[i]);
    for (uint32_t i = 0; i < b->in->n_cards; i++) {
        const uint64_t bytes =
            share_weights_bytes(&b->plan, b->in, i) + share_scratch_bytes(&b->plan, &model, i) +
            share_context_pages(&b->plan) * share_page_bytes(&b->plan, &model.params, i);
        const double full = (double)bytes / (double)b->in->capacity_bytes[i];
        most = full > most ? full : most;
    }
    return most;
}

enum cut { CUT_MAIN, CUT_VOCAB, CUT_EMBD, CUTS };

static void set_cut(struct brute *b, enum cut cut, uint32_t i, uint32_t begin, uint32_t end) {
    const bool tensor = b->in->split == SPLIT_TENSOR;
    struct share *s = &b->shares[i];
    if (cut == CUT_MAIN && tensor) {
        s->layer_end = begin < end ? model.params.n_layers : 0;
        s->lane_begin = begin < end ? begin : 0;
        s->lane_end = begin < end ? end : 0;
    } else if (cut == CUT_MAIN) {
        s->layer_begin = begin;
        s->layer_end = end;
        s->lane_end = begin < end ? LANES : 0;
    } else if (cut == CUT_VOCAB) {
        s->vocab_begin = begin;
        s->vocab_end = end;
    }
    if (cut == CUT_EMBD || (cut == CUT_VOCAB && tensor)) {
        s->embd_begin = begin;
        s->embd_end = end;
    }
}

/* The least that any way of cutting can reach.  `step`: of the eighths; LANES: whole matrices. */
static double least_fullest(struct brute *b, enum cut cut, uint32_t step, uint32_t i,
                            uint32_t begin) {
    const bool tensor = b->in->split == SPLIT_TENSOR;
    const uint32_t all = cut == CUT_MAIN && !tensor ? model.params.n_layers : LANES;
    const enum cut last = tensor || model.params.tied ? CUT_VOCAB : CUT_EMBD;
    double least = 1e9;
    if (i == b->in->n_cards)
        return begin != all  ? 1e9
               : cut == last ? brute_fullest(b)
                             : least_fullest(b, (enum cut)(cut + 1), step, 0, 0);
    for (uint32_t end = begin; end <= all; end += cut == CUT_MAIN ? 1 : step) {
        set_cut(b, cut, i, begin, end);
        const double full = least_fullest(b, cut, step, i + 1, end);
        least = full < least ? full : least;
    }
    return least;
}

static double chosen_fullest(struct brute *b, struct box *box, enum way way) {
    memset(b->shares, 0, sizeof b->shares);
    return box_choose(box, way, b->shares) ? brute_fullest(b) : 1e9;
}

static void the_fullest_card_is_the_least_full_that_it_can_be(void) {
    uint32_t n_of[WAY_COUNT] = {0};
    random_state = 16;
    for (int round = 0; round < 240; round++) {
        const enum way way = (enum way)(round % WAY_COUNT);
        if (way == WAY_LANES || way == WAY_GROUPS)
            continue; /* on every card, and head and lanes alike: the next has more; tests in runs.c
                       */
        struct model_params p = random_shape();
        p.n_layers = 1 + draw(way == WAY_LAYERS ? 12 : 4);
        start(p);
        const bool many = p.tied || way != WAY_LAYERS_CUT_HEAD;
        struct plan_input in =
            tight_input(&model, 1 + draw(many ? 4 : 2),
                        way == WAY_LANES_CUT_HEAD ? SPLIT_TENSOR : SPLIT_LAYER, 32 * (1 + draw(8)));
        struct brute b = {.in = &in, .plan = {.n_cards = in.n_cards, .max_sequences = 4}};
        struct box box;
        share_context(&b.plan, &in, in.context);
        for (uint32_t i = 0; i < in.n_cards; i++)
            b.plan.cards[i].online = true;
        box_open(&box, &b.plan, &in);
        const double chosen = chosen_fullest(&b, &box, way);
        memset(b.shares, 0, sizeof b.shares);
        const double least = least_fullest(&b, CUT_MAIN, way == WAY_LAYERS ? LANES : 1, 0, 0);
        CHECK_EQ(chosen <= 1, least <= 1);
        if (least <= 1) {
            CHECK(chosen <= least + 2.0 / FACTOR_ONE && chosen >= least);
            n_of[way]++;
        }
        model_finish(&model);
    }
    CHECK(n_of[WAY_LAYERS] > 10 && n_of[WAY_LAYERS_CUT_HEAD] > 10 && n_of[WAY_LANES_CUT_HEAD] > 10);
}

/* --- what must never make it worse --- */

static void another_card_or_more_bytes_or_less_context_never_hurts(void) {
    uint32_t n_fit = 0;
    random_state = 12;
    for (int round = 0; round < 120; round++) {
        start(random_shape());
        struct plan_input in =
            tight_input(&model, 1 + draw(7), (enum split)draw(SPLITS), 32 * (2 + draw(10)));
        if (fits(&in)) {
            n_fit++;
            struct plan_input more = in;
            more.context -= PAGE_TOKENS;
            CHECK(fits(&more));
            more = in;
            more.capacity_bytes[draw(in.n_cards)] += draw(1 << 20);
            CHECK(fits(&more));
            /* In any place, of any size. */
            const uint32_t at = draw(in.n_cards + 1);
            more = in;
            more.n_cards++;
            memmove(more.capacity_bytes + at + 1, more.capacity_bytes + at,
                    (in.n_cards - at) * sizeof *more.capacity_bytes);
            more.capacity_bytes[at] = 1 + draw(1 << draw(24));
            more.online[in.n_cards] = true;
            CHECK(fits(&more));
        }
        model_finish(&model);
    }
    CHECK(n_fit > 30);
}

/* How full the fullest card is with these shares and one context. */
static double fullest(const struct box *box, const struct share *shares) {
    double most = 0;
    uint8_t nodes[LANES];
    for (uint32_t i = 0; i < box->n; i++) {
        uint32_t n_slots = 0; /* of the cards with the same layers */
        for (uint32_t k = 0; k < box->n; k++)
            if (shares[k].layer_begin == shares[i].layer_begin)
                n_slots += scratch_nodes(shares[k].lane_begin, shares[k].lane_end, nodes);
        const double full =
            (double)costs_of(&box->costs, &shares[i], n_slots) / (double)box->capacity[i];
        most = full > most ? full : most;
    }
    CHECK(most <= 1);
    return most;
}

static void more_context_never_frees_a_byte_of_the_fullest_card(void) {
    uint32_t n_compared = 0;
    random_state = 15;
    for (int round = 0; round < 60; round++) {
        start(random_shape());
        const struct plan_input in =
            tight_input(&model, 1 + draw(8), SPLIT_AUTO, 32 * (1 + draw(10)));
        struct plan plan = {.n_cards = in.n_cards, .max_sequences = in.max_sequences};
        struct share less[CARDS_MAX], more[CARDS_MAX];
        struct box box;
        share_context(&plan, &in, in.context);
        box_open(&box, &plan, &in);
        for (int way = 0; way < WAY_COUNT; way++) {
            share_context(&plan, &in, in.context);
            box_context(&box);
            if (!box_choose(&box, (enum way)way, less))
                continue;
            const double before = fullest(&box, less);
            share_context(&plan, &in, in.context + PAGE_TOKENS);
            box_context(&box);
            if (!box_choose(&box, (enum way)way, more))
                continue;
            CHECK(fullest(&box, more) >= before - 1.0 / FACTOR_ONE);
            n_compared++;
        }
        model_finish(&model);
    }
    CHECK(n_compared > 30);
}

static void auto_takes_the_first_split_that_fits(void) {
    static const char *const reasons[SPLITS] = {"", "least to send", "whole layers do not fit",
                                                "neither whole layers nor lanes"};
    uint32_t n_of[SPLITS] = {0};
    random_state = 13;
    for (int round = 0; round < 400; round++) {
        start(random_shape());
        struct plan_input in = tight_input(&model, 1 + draw(8), SPLIT_AUTO, 32 * (2 + draw(10)));
        struct plan plan = {0};
        enum split first = SPLIT_LAYER;
        for (; first < SPLITS; first++) {
            struct plan_input named = in;
            named.split = first;
            if (fits(&named))
                break;
        }
        if (plan_build(&plan, &in, &err) == 0) {
            CHECK_EQ(plan.split, first);
            CHECK(strstr(plan.reason, reasons[first]));
            n_of[plan.split]++;
        } else {
            CHECK_EQ(first, SPLITS);
            n_of[0]++;
        }
        plan_finish(&plan);
        model_finish(&model);
    }
    printf("# layer %u, tensor %u, hybrid %u, refused %u\n", n_of[SPLIT_LAYER], n_of[SPLIT_TENSOR],
           n_of[SPLIT_HYBRID], n_of[0]);
    CHECK(n_of[SPLIT_LAYER] > 10 && n_of[SPLIT_TENSOR] > 1 && n_of[SPLIT_HYBRID] > 1);
    CHECK(n_of[0] > 10);
}

/* --- advice --- */

static uint32_t advised(const char *before) {
    const char *at = strstr(err.text, before);
    return at ? (uint32_t)strtoul(at + strlen(before), NULL, 10) : 0;
}

/* SPLIT_AUTO: none. */
static enum split advised_split(void) {
    for (int split = SPLIT_LAYER; split < SPLITS; split++) {
        char text[40];
        snprintf(text, sizeof text, "with split = %s", plan_split_name((enum split)split));
        if (strstr(err.text, text))
            return (enum split)split;
    }
    return SPLIT_AUTO;
}

/* The first of the other splits that fits; SPLIT_AUTO: none. */
static enum split first_other(const struct plan_input *in) {
    const struct err said = err;
    enum split first = SPLIT_AUTO;
    for (int split = SPLITS - 1; split >= SPLIT_LAYER; split--) {
        struct plan_input other = *in;
        other.split = (enum split)split;
        if (fits(&other))
            first = other.split;
    }
    err = said;
    return first;
}

static void check_context(struct plan_input in, uint32_t context) {
    const uint32_t wanted = in.context;
    in.context = context;
    CHECK(fits(&in));
    in.context = context + PAGE_TOKENS < wanted ? context + PAGE_TOKENS : wanted;
    CHECK(!fits(&in));
}

static void every_advice_is_true_and_none_is_kept_back(void) {
    uint32_t n_context = 0, n_card = 0, n_split = 0, n_hybrid = 0, n_none = 0;
    random_state = 14;
    for (int round = 0; round < 400; round++) {
        start(random_shape());
        struct plan_input in =
            tight_input(&model, 1 + draw(8), (enum split)draw(SPLITS), 32 * (1 + draw(16)));
        if (!fits(&in)) {
            const struct err said = err;
            const uint32_t context = advised("context of ");
            const bool card = advised("another card of ") > 0;
            const enum split split = advised_split();
            const uint32_t missing = advised("has to save "), spill = advised("host_spill = ");
            struct plan_input other = in;
            n_context += context > 0;
            if (context)
                check_context(in, context);
            other.context = PAGE_TOKENS;
            CHECK_EQ(fits(&other) && in.context > PAGE_TOKENS, context > 0);

            CHECK_EQ(first_other(&in), split);
            n_split += split == SPLIT_LAYER || split == SPLIT_TENSOR;
            n_hybrid += split == SPLIT_HYBRID;

            other = in;
            if (in.n_cards < CARDS_MAX) {
                for (uint32_t i = 0; i < in.n_cards; i++)
                    if (in.capacity_bytes[i] > other.capacity_bytes[in.n_cards])
                        other.capacity_bytes[in.n_cards] = in.capacity_bytes[i];
                other.online[other.n_cards++] = true;
                CHECK_EQ(fits(&other), card);
            } else {
                CHECK(!card);
            }
            n_card += card;

            other = in;
            other.host_spill = spill * MIB;
            CHECK(!spill || fits(&other));

            CHECK_EQ(missing > 0, !context && !card && !split && !spill);
            if (missing) {
                other = in;
                for (uint32_t i = 0; i < in.n_cards; i++)
                    other.capacity_bytes[i] += missing * MIB;
                CHECK(fits(&other));
                n_none++;
            }
            CHECK(strstr(said.text, "model 'toy'") && strstr(said.text, "weights ") &&
                  strstr(said.text, "KV ") && strstr(said.text, "scratch "));
        }
        model_finish(&model);
    }
    printf("# hybrid %u of %u splits\n", n_hybrid, n_hybrid + n_split);
    CHECK(n_context > 10 && n_card > 10 && n_split > 5 && n_hybrid > 3 && n_none > 10);
}

static void a_refusal_leaves_the_plan_alone(void) {
    start(toy_smollm2());
    struct plan_input in = input_for(&model, 1, 160 * MIB, SPLIT_LAYER);
    struct plan plan = {.n_ranges = 7};
    CHECK_EQ(plan_build(&plan, &in, &err), -ENOSPC);
    CHECK(strstr(err.text, "card 0") && strstr(err.text, "another card of 160 MiB"));
    CHECK_EQ(plan.n_ranges, 7);
    model_finish(&model);
}

/* --- places --- */

static void a_card_that_is_too_small_is_passed_over(void) {
    start(toy_smollm2());
    for (int split = SPLIT_AUTO; split <= SPLIT_TENSOR; split++) {
        struct plan_input in = input_for(&model, 3, 400 * MIB, (enum split)split);
        struct plan plan = {0};
        in.context = 1024;
        in.capacity_bytes[1] = MIB;
        CHECK_EQ(plan_build(&plan, &in, NULL), 0);
        const struct plan_card *c = &plan.cards[1];
        CHECK(c->online && c->capacity_bytes == MIB && strstr(c->reason, "nothing"));
        CHECK_EQ(c->weights_bytes + c->kv_bytes + c->scratch_bytes, 0);
        check_coverage(&model, &plan);
        plan_finish(&plan);
        in.online[2] = false; /* the small one is the last now */
        CHECK(fits(&in));
        model.params.tied = true;
    }
    model_finish(&model);
}

static void the_output_matrix_goes_where_there_is_room(void) {
    struct plan plan = {0};
    start(toy_smollm2());
    struct plan_input in = input_for(&model, 3, 90 * MIB, SPLIT_LAYER);
    in.context = 256;
    in.capacity_bytes[1] = in.capacity_bytes[2] = 30 * MIB + 64 * 1024;
    CHECK_EQ(plan_build(&plan, &in, &err), 0);
    CHECK_EQ(plan.cards[0].vocab_end, 49152);
    CHECK_EQ(plan.cards[2].layer_end, 30);
    CHECK(strstr(plan.cards[0].reason, "the output matrix"));
    plan_finish(&plan);

    in = input_for(&model, 8, 30 * MIB, SPLIT_LAYER); /* on no card whole */
    in.context = 256;
    CHECK_EQ(plan_build(&plan, &in, &err), 0);
    CHECK(strstr(plan.cards[7].reason, "a part of the output matrix"));
    check_coverage(&model, &plan);
    plan_finish(&plan);
    model_finish(&model);
}

static void equal_cards_are_filled_evenly_with_the_output_matrix_last(void) {
    static const uint32_t ends[] = {4, 8, 12, 16, 20, 25, 30, 30};
    struct plan plan = {0};
    start(toy_smollm2());
    struct plan_input in = input_for(&model, 8, 1400 * MIB, SPLIT_AUTO);
    in.max_rows = 512;
    in.context = 4096;
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(plan.cards[i].layer_end, ends[i]);
    CHECK_EQ(plan.cards[7].vocab_begin, 0);
    CHECK_EQ(plan.cards[7].vocab_end, 49152);
    plan_finish(&plan);
    model_finish(&model);
}

/* --- speed --- */

/* Of the processor's time, which other programs do not lengthen much. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define PLAN_MS_MAX 1000
#else
#define PLAN_MS_MAX 50
#endif

static double milliseconds(const struct plan_input *in) {
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        struct timespec a, b;
        struct plan plan = {0};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        plan_build(&plan, in, NULL);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        plan_finish(&plan);
        const double ms =
            (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6;
        best = ms < best ? ms : best;
    }
    return best;
}

static void planning_takes_no_time(void) {
    for (int tied = 0; tied < 2; tied++)
        for (int split = SPLIT_AUTO; split < SPLITS; split++) {
            struct model_params p = toy_smollm2();
            p.n_layers = 33; /* 300 tensors */
            p.tied = tied != 0;
            start(p);
            struct plan_input in = input_for(&model, 8, 800 * MIB, (enum split)split);
            in.context = 4096;
            const double roomy = milliseconds(&in);
            for (uint32_t i = 0; i < 8; i++)
                in.capacity_bytes[i] = 20 * MIB;
            const double refused = milliseconds(&in);
            CHECK(roomy < PLAN_MS_MAX && refused < PLAN_MS_MAX);
            model_finish(&model);
        }
}

CHECK_MAIN(T(what_fits_in_any_way_is_not_refused),
           T(the_fullest_card_is_the_least_full_that_it_can_be),
           T(another_card_or_more_bytes_or_less_context_never_hurts),
           T(more_context_never_frees_a_byte_of_the_fullest_card),
           T(auto_takes_the_first_split_that_fits), T(every_advice_is_true_and_none_is_kept_back),
           T(a_refusal_leaves_the_plan_alone), T(a_card_that_is_too_small_is_passed_over),
           T(the_output_matrix_goes_where_there_is_room),
           T(equal_cards_are_filled_evenly_with_the_output_matrix_last), T(planning_takes_no_time))
