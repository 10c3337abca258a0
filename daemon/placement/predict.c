/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/predict.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/placement/scratch.h"

#define ROW_VALUE_BYTES 4 /* of the residual stream and of lane sums */

/* A step of n rows, on a sequence of which so many tokens are there when its middle row runs. */
struct step {
    const struct plan *plan;
    const struct model *model;
    const struct topology *box;
    const struct plan_range **ranges; /* [card][tensor]; NULL: nothing held */
    uint32_t n_rows, tokens;
    double own_seconds[CARDS_MAX]; /* of the layers of a card alone */
    uint32_t holders;              /* bit per card: its residual stream is up to date */
    double seconds, exchange_seconds;
    char *lacks; /* what is not stated, the first that was missed; empty: all is */
};

#define LACKS_MAX sizeof(((struct prediction *)0)->decode_lacks)

/* --- what one card or link takes --- */

__attribute__((format(printf, 2, 3))) static double missing(const struct step *s, const char *fmt,
                                                            ...) {
    if (!s->lacks[0]) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(s->lacks, LACKS_MAX, fmt, args);
        va_end(args);
    }
    return 0;
}

static double read_seconds(const struct step *s, uint32_t card, double bytes) {
    const uint64_t rate = s->box->cards[card].bytes_per_s;
    if (bytes <= 0)
        return 0;
    return rate ? bytes / (double)rate : missing(s, "the memory bandwidth of card %u", card);
}

/* For one row reading decides, so that a box without rates of arithmetic still has a prediction. */
static double count_seconds(const struct step *s, uint32_t card, double ops, bool int8) {
    const struct topology_card *c = &s->box->cards[card];
    const uint64_t rate = int8 ? c->int8_ops_per_s : c->f16_flops_per_s;
    if (rate)
        return ops / (double)rate;
    return s->n_rows == 1 || ops <= 0
               ? 0
               : missing(s, "the rate of %s arithmetic of card %u", int8 ? "int8" : "f16", card);
}

static double longer(double a, double b) {
    return a > b ? a : b;
}

static double matrix_seconds(const struct step *s, uint32_t card, uint32_t tensor,
                             uint32_t n_rows) {
    const struct plan_range *r =
        tensor == NO_TENSOR ? NULL : s->ranges[card * s->model->n_tensors + tensor];
    if (!r)
        return 0;
    const struct model_tensor *t = &s->model->tensors[tensor];
    const double weights =
        (double)(r->row_end - r->row_begin) * (double)(r->col_end - r->col_begin);
    const double used = model_used(&s->model->params, t), read = used * n_rows;
    return longer(
        read_seconds(s, card, (double)r->bytes * (read < 1 ? read : 1)),
        count_seconds(s, card, 2 * weights * used * n_rows, scratch_form(t->type) == FORM_Q8));
}

/* Of `from` to `to`, without the latency. */
static double link_seconds(const struct step *s, uint32_t from, uint32_t to, double bytes) {
    const uint64_t rate = s->box->links[from][to].bytes_per_s;
    return rate ? bytes / (double)rate
                : missing(s, "the bandwidth of the link from card %u to card %u", from, to);
}

static double latency_of(const struct step *s, uint32_t from, uint32_t to) {
    return (double)s->box->links[from][to].latency_ns * 1e-9;
}

static double row_bytes(const struct step *s) {
    return (double)s->model->params.n_embd * ROW_VALUE_BYTES;
}

/* --- phases --- */

static bool in(uint32_t group, uint32_t card) {
    return group >> card & 1;
}

/* All cards read and multiply their parts of these tensors at once. */
static void pass_matrices(struct step *s, uint32_t group, const uint32_t *tensors, uint32_t n,
                          uint32_t n_rows) {
    double slowest = 0;
    for (uint32_t c = 0; c < s->plan->n_cards; c++) {
        double mine = 0;
        for (uint32_t i = 0; i < n && in(group, c); i++)
            mine += matrix_seconds(s, c, tensors[i], n_rows);
        slowest = longer(slowest, mine);
    }
    s->seconds += slowest;
}

static void exchange(struct step *s, double seconds) {
    s->seconds += seconds;
    s->exchange_seconds += seconds;
}

/* Bring the residual stream to every card of the group. */
static void move_hidden(struct step *s, uint32_t group) {
    const uint32_t missing_cards = group & ~s->holders;
    const uint32_t from = (uint32_t)__builtin_ctz(s->holders);
    double slowest = 0;
    for (uint32_t to = 0; to < s->plan->n_cards; to++)
        if (in(missing_cards, to))
            slowest = longer(slowest, latency_of(s, from, to) +
                                          link_seconds(s, from, to, row_bytes(s) * s->n_rows));
    if (missing_cards) {
        exchange(s, slowest);
        s->holders = group;
    }
}

/* Every card of the group takes in the lane sums of the others. */
static void sum_lanes(struct step *s, uint32_t group) {
    double slowest = 0;
    uint8_t nodes[LANES];
    for (uint32_t to = 0; to < s->plan->n_cards; to++) {
        double mine = 0, latency = 0;
        for (uint32_t from = 0; from < s->plan->n_cards; from++) {
            const struct plan_card *c = &s->plan->cards[from];
            if (from == to || !in(group, to) || !in(group, from))
                continue;
            const uint32_t n = scratch_nodes(c->lane_begin, c->lane_end, nodes);
            mine += link_seconds(s, from, to, n * row_bytes(s) * s->n_rows);
            latency = longer(latency, latency_of(s, from, to));
        }
        slowest = longer(slowest, mine + latency);
    }
    exchange(s, slowest);
}

/* K and V rows go from the card that computes them to those that read them too. */
static void copy_kv(struct step *s, uint32_t group) {
    const double head =
        (double)plan_kv_slot_bytes(s->plan->kv_type, s->model->params.head_dim) / PAGE_TOKENS;
    double slowest = 0;
    for (uint32_t to = 0; to < s->plan->n_cards; to++) {
        const struct plan_card *c = &s->plan->cards[to];
        double mine = 0, latency = 0;
        for (uint32_t from = 0; from < s->plan->n_cards; from++)
            for (uint32_t g = c->kv_begin; g < c->kv_end && from != to; g++) {
                const struct plan_card *owner = &s->plan->cards[from];
                if (!in(group, to) || !in(group, from) || g < owner->own_begin ||
                    g >= owner->own_end)
                    continue;
                mine += link_seconds(s, from, to, head * s->n_rows);
                latency = longer(latency, latency_of(s, from, to));
            }
        slowest = longer(slowest, mine + latency);
    }
    exchange(s, slowest);
}

static void pass_attention(struct step *s, uint32_t group, uint32_t layer) {
    const struct model_params *p = &s->model->params;
    const double slot = (double)plan_kv_slot_bytes(s->plan->kv_type, p->head_dim) / PAGE_TOKENS;
    const uint32_t tokens = model_seen(p, layer, s->tokens);
    double slowest = 0;
    for (uint32_t c = 0; c < s->plan->n_cards; c++) {
        const struct plan_card *card = &s->plan->cards[c];
        if (!in(group, c) || card->head_begin == card->head_end)
            continue;
        const double bytes = slot * (card->kv_end - card->kv_begin) * tokens;
        const double ops =
            4.0 * (card->head_end - card->head_begin) * p->head_dim * (double)tokens * s->n_rows;
        slowest =
            longer(slowest, longer(read_seconds(s, c, bytes), count_seconds(s, c, ops, false)));
    }
    s->seconds += slowest;
}

/* --- operations --- */

static uint32_t group_of(const struct step *s, uint32_t layer) {
    uint32_t group = 0;
    for (uint32_t c = 0; c < s->plan->n_cards; c++)
        if (s->plan->cards[c].layer_begin <= layer && layer < s->plan->cards[c].layer_end)
            group |= 1u << c;
    return group;
}

static uint32_t head_group(const struct step *s) {
    uint32_t group = 0;
    for (uint32_t c = 0; c < s->plan->n_cards; c++)
        if (s->plan->cards[c].vocab_begin < s->plan->cards[c].vocab_end)
            group |= 1u << c;
    return group;
}

/* Rows of the embedding, from wherever they are, to the cards of the first layer. */
static void pass_embedding(struct step *s) {
    const uint32_t readers = group_of(s, 0), n_vocab = s->model->params.n_vocab;
    double slowest = 0;
    for (uint32_t from = 0; from < s->plan->n_cards; from++) {
        const struct plan_card *c = &s->plan->cards[from];
        const double part = (double)(c->embd_end - c->embd_begin) / n_vocab * s->n_rows;
        for (uint32_t to = 0; to < s->plan->n_cards; to++)
            if (part > 0 && from != to && in(readers, to))
                slowest =
                    longer(slowest, latency_of(s, from, to) +
                                        link_seconds(s, from, to, row_bytes(s) * longer(part, 1)));
    }
    exchange(s, slowest);
    s->holders = readers;
}

static void pass_experts(struct step *s, uint32_t group, const struct model_op *op) {
    const uint32_t up[] = {op->tensor[EXPERTS_ROUTER], op->tensor[EXPERTS_GATE],
                           op->tensor[EXPERTS_UP], op->tensor[EXPERTS_FFN_GATE],
                           op->tensor[EXPERTS_FFN_UP]};
    const uint32_t down[] = {op->tensor[EXPERTS_DOWN], op->tensor[EXPERTS_FFN_DOWN]};
    pass_matrices(s, group, up, sizeof up / sizeof *up, s->n_rows);
    pass_matrices(s, group, down, sizeof down / sizeof *down, s->n_rows);
}

static void pass_operation(struct step *s, const struct model_op *op) {
    const uint32_t group = op->layer >= 0 ? group_of(s, (uint32_t)op->layer) : head_group(s);
    switch (op->kind) {
    case MODEL_EMBED:
        pass_embedding(s);
        return;
    case MODEL_ATTENTION:
        move_hidden(s, group);
        pass_matrices(s, group, op->tensor + 1, 3, s->n_rows);
        copy_kv(s, group);
        pass_attention(s, group, (uint32_t)op->layer);
        pass_matrices(s, group, op->tensor + 4, 1, s->n_rows);
        sum_lanes(s, group);
        return;
    case MODEL_FFN:
        move_hidden(s, group);
        pass_matrices(s, group, op->tensor + 1, 2, s->n_rows);
        pass_matrices(s, group, op->tensor + 3, 1, s->n_rows);
        sum_lanes(s, group);
        return;
    case MODEL_EXPERTS:
        move_hidden(s, group);
        pass_experts(s, group, op);
        sum_lanes(s, group);
        return;
    case MODEL_HEAD:
        move_hidden(s, group);
        pass_matrices(s, group, op->tensor + 1, 1, 1);
        return;
    }
}

/* What is spilled comes while the card's own layers are computed, and what finds room in the
 * landing before that; it may take longer. */
static void fetch_spilled(struct step *s, double begin) {
    double slowest = 0;
    for (uint32_t c = 0; c < s->plan->n_cards; c++) {
        const struct plan_card *card = &s->plan->cards[c];
        if (!card->spilled_bytes)
            continue;
        const uint64_t rate = topology_fetch_rate(s->box, c);
        if (!rate)
            missing(s, "the way from host memory to card %u", c);
        const double all = rate ? (double)card->spilled_bytes / (double)rate : 0;
        const double ahead = rate ? (double)card->landing_bytes / (double)rate : 0;
        s->seconds += longer(0, all - ahead - s->own_seconds[c]);
        slowest = longer(slowest, all);
    }
    s->seconds = longer(s->seconds, begin + slowest);
}

static void run_step(struct step *s, uint32_t n_rows, uint32_t tokens) {
    const double begin = s->seconds;
    s->n_rows = n_rows;
    s->tokens = tokens;
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        s->own_seconds[c] = 0;
    for (size_t i = 0; i < s->model->n_ops; i++) {
        const struct model_op *op = &s->model->ops[i];
        const uint32_t group = op->layer >= 0 ? group_of(s, (uint32_t)op->layer) : 0;
        const double before = s->seconds;
        pass_operation(s, op);
        if (group)
            s->own_seconds[__builtin_ctz(group)] += s->seconds - before;
    }
    fetch_spilled(s, begin);
}

static void decode(struct step *s, struct prediction *p) {
    s->lacks = p->decode_lacks;
    run_step(s, 1, p->tokens);
    if (!s->lacks[0] && s->seconds > 0) {
        p->decode_tokens_per_s = 1 / s->seconds;
        p->exchange_share = s->exchange_seconds / s->seconds;
    }
}

static void prefill(struct step *s, struct prediction *p) {
    const uint32_t max_rows = s->plan->max_rows;
    s->seconds = 0;
    s->lacks = p->prefill_lacks;
    for (uint32_t at = 0; at < p->tokens; at += s->n_rows) {
        const uint32_t n = p->tokens - at < max_rows ? p->tokens - at : max_rows;
        run_step(s, n, at + (n + 1) / 2);
    }
    if (!s->lacks[0] && s->seconds > 0)
        p->prefill_tokens_per_s = p->tokens / s->seconds;
}

static int predict_both(struct prediction *prediction, const struct plan *plan,
                        const struct model *model, const struct topology *topology,
                        bool with_prefill) {
    struct prediction p = {.tokens = plan->context > 1 ? plan->context / 2 : 1};
    struct step s = {.plan = plan, .model = model, .box = topology};
    s.ranges = calloc(plan->n_cards * model->n_tensors + 1, sizeof *s.ranges);
    if (!s.ranges)
        return -ENOMEM;
    for (size_t i = 0; i < plan->n_ranges; i++)
        s.ranges[plan->ranges[i].card * model->n_tensors + plan->ranges[i].tensor] =
            &plan->ranges[i];
    decode(&s, &p);
    if (with_prefill)
        prefill(&s, &p);
    free(s.ranges);
    *prediction = p;
    return 0;
}

int predict(struct prediction *prediction, const struct plan *plan, const struct model *model,
            const struct topology *topology) {
    return predict_both(prediction, plan, model, topology, true);
}

int predict_decode(struct prediction *prediction, const struct plan *plan,
                   const struct model *model, const struct topology *topology) {
    return predict_both(prediction, plan, model, topology, false);
}
