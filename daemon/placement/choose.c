/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/choose.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/pipeline.h"
#include "daemon/placement/predict.h"
#include "daemon/placement/refuse.h"
#include "octarc/error.h"

/* What a split comes to. */
struct candidate {
    enum split split;
    bool found, by_speed;
    struct share shares[CARDS_MAX];
    double decode, prefill; /* tokens per second; 0: unknown */
};

struct chooser {
    struct box box;
    struct times times;
    struct candidate of[SPLITS]; /* by split; SPLIT_AUTO unused */
};

static bool is_asked(const struct plan_input *in, enum split split) {
    return in->split == SPLIT_AUTO || in->split == split;
}

static void apply(struct plan *plan, const struct box *box, const struct share *shares) {
    for (uint32_t k = 0; k < box->n; k++)
        share_apply(&plan->cards[box->card[k]], &box->input->model->params, &shares[k]);
}

/* --- one split --- */

static int find_fastest(struct chooser *c, struct candidate *a) {
    if (a->split != SPLIT_TENSOR)
        return pipeline_find(&c->times, a->split == SPLIT_LAYER, a->shares);
    return groups_find(&c->times, a->shares);
}

/* With room for the KV of all sequences at full length where that can be, else of one. */
static int find_by_speed(struct chooser *c, struct candidate *a) {
    const uint32_t contexts[] = {c->box.input->max_sequences, 1};
    int rc = 0;
    for (uint32_t i = 0; i < 2 && rc == 0; i++) {
        c->box.n_contexts = contexts[i];
        box_context(&c->box);
        box_limit(&c->box);
        rc = box_may_fit(&c->box) ? find_fastest(c, a) : 0;
    }
    c->box.n_contexts = 1;
    box_context(&c->box);
    a->found = a->by_speed = rc > 0;
    return rc < 0 ? rc : 0;
}

static void find_by_bytes(struct chooser *c, struct candidate *a) {
    enum way ways[WAY_COUNT];
    const uint32_t n = box_ways(a->split, ways);
    for (uint32_t i = 0; i < n && !a->found; i++)
        a->found = box_choose(&c->box, ways[i], a->shares);
}

static int measure(const struct plan *plan, const struct chooser *c, struct candidate *a) {
    const struct plan_input *in = c->box.input;
    struct prediction prediction;
    struct plan trial = *plan;
    apply(&trial, &c->box, a->shares);
    int rc = share_ranges(&trial, in);
    if (rc == 0)
        rc = predict(&prediction, &trial, in->model, in->topology);
    free(trial.ranges);
    if (rc < 0)
        return rc;
    a->decode = prediction.decode_tokens_per_s;
    a->prefill = prediction.prefill_tokens_per_s;
    return 0;
}

static int consider(const struct plan *plan, struct chooser *c, enum split split) {
    struct candidate *a = &c->of[split];
    int rc = 0;
    a->split = split;
    if (c->times.known)
        rc = find_by_speed(c, a);
    if (rc == 0 && !a->found)
        find_by_bytes(c, a);
    return rc < 0 || !a->found || !c->times.known ? rc : measure(plan, c, a);
}

/* --- between them --- */

/* As fast but for the rounding of the sums. */
static int compare_rates(double a, double b) {
    return a > b * (1 + 1e-9) ? 1 : b > a * (1 + 1e-9) ? -1 : 0;
}

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

/* What the other splits would be, in words; empty where there is none. */
static void tell_others(char *text, size_t size, const struct chooser *c, enum split chosen) {
    const char *join = ", against ";
    text[0] = '\0';
    for (int split = SPLIT_LAYER; split < SPLITS; split++) {
        const size_t n = strlen(text);
        if (split == (int)chosen)
            continue;
        if (c->of[split].found)
            snprintf(text + n, size - n, "%s%.1f by %s", join, c->of[split].decode,
                     plan_split_name((enum split)split));
        else
            snprintf(text + n, size - n, "; %s does not fit", plan_split_name((enum split)split));
        join = c->of[split].found ? " and " : join;
    }
}

static void give_reason(struct plan *plan, const struct chooser *c, enum split asked) {
    const struct candidate *a = &c->of[plan->split];
    const char *name = plan_split_name(plan->split);
    char others[96];
    tell_others(others, sizeof others, c, plan->split);
    if (asked != SPLIT_AUTO)
        snprintf(plan->reason, sizeof plan->reason, "%s split: as configured%s", name,
                 a->by_speed ? "; of its ways the one predicted to decode fastest" : "");
    else if (c->times.known)
        snprintf(plan->reason, sizeof plan->reason,
                 "%s split: predicted to decode fastest, %.1f tokens/s%s", name, a->decode, others);
    else
        snprintf(plan->reason, sizeof plan->reason, "%s split: chosen because %s", name,
                 plan->split == SPLIT_TENSOR
                     ? "whole layers do not fit these cards"
                     : "a layer boundary is the least to send between cards");
}

static int choose_with(struct chooser *c, struct plan *plan, bool *by_speed, struct err *err) {
    const struct plan_input *in = c->box.input;
    const struct candidate *best = NULL;
    for (int split = SPLIT_LAYER; split < SPLITS; split++) {
        if (!is_asked(in, (enum split)split))
            continue;
        if (consider(plan, c, (enum split)split) < 0)
            return err_set(err, -ENOMEM, "no memory to choose between plans");
        /* Where nothing is known the first that fits is as good as any. */
        if (c->of[split].found && !c->times.known)
            break;
    }
    best = fastest(c);
    if (!best)
        return refuse(&c->box, plan, err);
    apply(plan, &c->box, best->shares);
    plan->split = best->split;
    *by_speed = best->by_speed;
    give_reason(plan, c, in->split);
    return 0;
}

int choose(struct plan *plan, const struct plan_input *in, bool *by_speed, struct err *err) {
    struct chooser *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, -ENOMEM, "no memory to choose between plans");
    box_open(&c->box, plan, in);
    times_open(&c->times, &c->box);
    const int rc = choose_with(c, plan, by_speed, err);
    free(c);
    return rc;
}
