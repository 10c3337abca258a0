/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/choose.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/pipeline.h"
#include "daemon/placement/predict.h"
#include "daemon/placement/refuse.h"
#include "daemon/placement/spill.h"
#include "octarc/error.h"

/* What a split comes to. */
struct candidate {
    enum split split;
    bool found, by_speed;
    const char *balance; /* what the shares are good for */
    struct share shares[CARDS_MAX];
    uint32_t n_contexts;    /* whose KV has room */
    double decode, prefill; /* tokens per second; 0: unknown */
};

struct chooser {
    struct box box;
    struct times times;
    struct candidate of[SPLITS]; /* by split; SPLIT_AUTO unused */
};

static void apply(struct plan *plan, const struct box *box, const struct share *shares) {
    for (uint32_t k = 0; k < box->n; k++)
        share_apply(&plan->cards[box->card[k]], &box->input->model->params, &shares[k]);
}

/* --- one split --- */

static const char balance_alike[] = "were all cards and links alike, decoding were fastest so";

static int find_fastest(struct chooser *c, struct candidate *a, double seconds) {
    times_fill(&c->times);
    if (a->split != SPLIT_TENSOR)
        return pipeline_find(&c->times, a->split == SPLIT_LAYER, seconds, a->shares);
    return groups_find(&c->times, a->shares);
}

/* With room for the KV of so many sequences at full length, in less than so many seconds a token.
 */
static int find_with(struct chooser *c, struct candidate *a, uint32_t n_contexts, double seconds) {
    a->n_contexts = n_contexts;
    box_contexts(&c->box, n_contexts);
    box_limit(&c->box);
    const int rc = box_may_fit(&c->box) ? find_fastest(c, a, seconds) : 0;
    box_contexts(&c->box, 1);
    a->found = a->by_speed = rc > 0;
    return rc < 0 ? rc : 0;
}

/* Of all sequences where that can be, else of one. */
static int find_by_speed(struct chooser *c, struct candidate *a) {
    const uint32_t all = c->box.input->max_sequences;
    const int rc = find_with(c, a, all, INFINITY);
    return rc < 0 || a->found || all == 1 ? rc : find_with(c, a, 1, INFINITY);
}

static void find_by_bytes(struct chooser *c, struct candidate *a) {
    enum way ways[WAY_COUNT];
    const uint32_t n = box_ways(a->split, ways);
    for (uint32_t i = 0; i < n && !a->found; i++)
        a->found = box_choose(&c->box, ways[i], a->shares);
}

typedef int predictor(struct prediction *prediction, const struct plan *plan,
                      const struct model *model, const struct topology *topology);

static int rate(const struct plan *plan, const struct chooser *c, struct candidate *a,
                predictor *how) {
    const struct plan_input *in = c->box.input;
    struct prediction prediction;
    struct plan trial = *plan;
    apply(&trial, &c->box, a->shares);
    int rc = share_ranges(&trial, in);
    if (rc == 0)
        rc = how(&prediction, &trial, in->model, in->topology);
    free(trial.ranges);
    if (rc < 0)
        return rc;
    a->decode = prediction.decode_tokens_per_s;
    a->prefill = prediction.prefill_tokens_per_s;
    return 0;
}

/* As fast but for the rounding of the sums. */
static int compare_rates(double a, double b) {
    return a > b * (1 + 1e-9) ? 1 : b > a * (1 + 1e-9) ? -1 : 0;
}

/* Prefill, which takes longer to predict, only where decoding is as fast by another split. */
static int measure(const struct plan *plan, struct chooser *c, struct candidate *a) {
    int rc = rate(plan, c, a, predict_decode);
    for (int split = SPLIT_LAYER; split < SPLITS && rc == 0; split++) {
        struct candidate *b = &c->of[split];
        if (b == a || !b->found || compare_rates(a->decode, b->decode))
            continue;
        rc = a->prefill > 0 ? 0 : rate(plan, c, a, predict);
        if (rc == 0 && b->prefill <= 0)
            rc = rate(plan, c, b, predict);
    }
    return rc;
}

/* Of what is bound to cards, orders and places that the search by bytes does not look at. */
static int find_alike(struct chooser *c, struct candidate *a) {
    a->balance = balance_alike;
    return find_by_speed(c, a);
}

static int consider(const struct plan *plan, struct chooser *c, enum split split) {
    struct candidate *a = &c->of[split];
    const bool hybrid = split == SPLIT_HYBRID;
    int rc = 0;
    a->split = split;
    if (hybrid ? box_fits_way(&c->box, WAY_GROUPS) : c->times.known)
        rc = find_by_speed(c, a);
    a->balance = c->times.known ? "decoding is then predicted to be fastest" : balance_alike;
    if (rc == 0 && !a->found) {
        find_by_bytes(c, a);
        a->n_contexts = 1;
        a->balance = "the fullest card is then the least full";
        if (!a->found && c->box.bounds.any && !c->times.known && !hybrid)
            rc = find_alike(c, a);
    }
    return rc < 0 || !a->found || !c->times.known ? rc : measure(plan, c, a);
}

/* --- between them --- */

/* The first of those that are alike: it sends the least between cards. */
static const struct candidate *fastest(const struct chooser *c) {
    const struct candidate *best = NULL;
    for (int split = SPLIT_LAYER; split < SPLITS; split++) {
        const struct candidate *a = &c->of[split];
        if (!a->found)
            continue;
        const int decode = best ? compare_rates(a->decode, best->decode) : 1;
        if (decode > 0 || (decode == 0 && compare_rates(a->prefill, best->prefill) > 0))
            best = a;
    }
    return best;
}

/* What the other splits that were looked at to the end would be, in words. */
static void tell_others(char *text, size_t size, const struct chooser *c, enum split chosen) {
    const char *join = ", against ";
    text[0] = '\0';
    for (int split = SPLIT_LAYER; split < SPLITS; split++) {
        const size_t n = strlen(text);
        if (split == (int)chosen || !c->of[split].found)
            continue;
        snprintf(text + n, size - n, "%s%.1f by %s", join, c->of[split].decode,
                 plan_split_name((enum split)split));
        join = " and ";
    }
}

/* Every one of them was. */
static bool links_are_measured(const struct box *box) {
    const struct topology *t = box->input->topology;
    for (uint32_t a = 0; a < box->n; a++)
        for (uint32_t b = 0; b < box->n; b++)
            if (a != b && !t->links[box->card[a]][box->card[b]].measured_ms)
                return false;
    return box->n > 1;
}

static void give_reason(struct plan *plan, const struct chooser *c, enum split asked) {
    const struct candidate *a = &c->of[plan->split];
    const char *name = plan_split_name(plan->split);
    char others[96];
    tell_others(others, sizeof others, c, plan->split);
    if (asked != SPLIT_AUTO)
        snprintf(
            plan->reason, sizeof plan->reason, "%s split: as configured%s", name,
            !a->by_speed || !c->times.known ? ""
            : links_are_measured(&c->box)
                ? "; of its ways the one predicted to decode fastest, with the links as measured"
                : "; of its ways the one predicted to decode fastest");
    else if (c->times.known)
        snprintf(plan->reason, sizeof plan->reason,
                 "%s split: predicted to decode fastest, %.1f tokens/s%s%s", name, a->decode,
                 others, links_are_measured(&c->box) ? ", with the links as measured" : "");
    else
        snprintf(plan->reason, sizeof plan->reason, "%s split: chosen because %s", name,
                 plan->split == SPLIT_LAYER ? "a layer boundary is the least to send between cards"
                 : plan->split == SPLIT_TENSOR
                     ? "whole layers do not fit these cards"
                     : "neither whole layers nor lanes of all of them fit these cards");
}

/* A split that is to be faster than the best so far, or as fast, with no less room for KV; what is
 * slower need not be found. */
static int consider_within(const struct plan *plan, struct chooser *c, enum split split,
                           double slack) {
    const struct candidate *best = fastest(c);
    struct candidate *a = &c->of[split];
    a->split = split;
    a->balance = best->balance;
    const int rc = find_with(c, a, best->n_contexts, (1 + slack) / best->decode);
    if (rc == 0 && !a->found && split == SPLIT_LAYER)
        find_by_bytes(c, a); /* which has other places for the two big matrices */
    return rc < 0 || !a->found ? rc : measure(plan, c, a);
}

/* Lanes take the least time to search; where they are found, layers need only be as fast. */
static int consider_rates(const struct plan *plan, struct chooser *c) {
    int rc = consider(plan, c, SPLIT_TENSOR);
    if (rc == 0)
        rc = c->of[SPLIT_TENSOR].by_speed ? consider_within(plan, c, SPLIT_LAYER, 1e-8)
                                          : consider(plan, c, SPLIT_LAYER);
    if (rc < 0)
        return rc;
    return fastest(c) ? consider_within(plan, c, SPLIT_HYBRID, 0) : consider(plan, c, SPLIT_HYBRID);
}

/* What fits at all is decided by the searches that are exact in bytes.  Where nothing is known of
 * speed the first that fits is as good as any. */
static int consider_all(const struct plan *plan, struct chooser *c) {
    int rc = 0;
    if (c->times.known)
        return consider_rates(plan, c);
    for (int split = SPLIT_LAYER; split < SPLITS && rc == 0 && !fastest(c); split++)
        rc = consider(plan, c, (enum split)split);
    return rc;
}

/* --- what fits nowhere --- */

/* Whole layers, with some of them in host memory. */
static bool spill(struct plan *plan, struct chooser *c) {
    const struct plan_input *in = c->box.input;
    struct share shares[CARDS_MAX];
    if (in->split == SPLIT_TENSOR || !spill_find(&c->box, in->host_spill, shares))
        return false;
    apply(plan, &c->box, shares);
    plan->split = SPLIT_LAYER;
    snprintf(plan->reason, sizeof plan->reason,
             "layer split: the cards have no room for all of it, so %.1f MiB of weights stay in "
             "host memory, from where each step fetches them",
             (double)spill_bytes(&c->box, shares) / (1 << 20));
    return true;
}

static int choose_with(struct chooser *c, struct plan *plan, const char **balance,
                       struct err *err) {
    const struct plan_input *in = c->box.input;
    const struct candidate *best = NULL;
    int rc = 0;
    if (in->split != SPLIT_AUTO)
        rc = consider(plan, c, in->split);
    else
        rc = consider_all(plan, c);
    if (rc < 0)
        return err_set(err, -ENOMEM, "no memory to choose between plans");
    best = fastest(c);
    if (!best && spill(plan, c)) {
        *balance = "then the least has to be fetched in a step";
        return 0;
    }
    if (!best)
        return refuse(&c->box, plan, err);
    apply(plan, &c->box, best->shares);
    plan->split = best->split;
    *balance = best->balance;
    give_reason(plan, c, in->split);
    return 0;
}

int choose(struct plan *plan, const struct plan_input *in, const char **balance, struct err *err) {
    struct chooser *c = malloc(sizeof *c); /* large, and few of its tables are used as a rule */
    if (!c)
        return err_set(err, -ENOMEM, "no memory to choose between plans");
    memset(c->of, 0, sizeof c->of);
    box_open(&c->box, plan, in);
    times_open(&c->times, &c->box);
    const int rc = choose_with(c, plan, balance, err);
    free(c);
    return rc;
}
