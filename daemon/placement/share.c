/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/share.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/placement/scratch.h"

/* The vocabulary is cut where a tile of 16 rows ends; the last eighth has the rest. */
static uint64_t vocab_edge(const struct model_params *p, uint32_t eighth) {
    return eighth == LANES ? p->n_vocab : p->n_vocab / 16 * eighth / LANES * 16;
}

void share_apply(struct plan_card *c, const struct model_params *p, const struct share *s) {
    const uint32_t per_kv = p->n_heads / p->n_kv_heads;
    uint32_t lanes[LANES + 1];

    c->layer_begin = s->layer_begin;
    c->layer_end = s->layer_end;
    c->lane_begin = s->lane_begin;
    c->lane_end = s->lane_end;
    c->n_spilled = s->n_spilled;
    c->vocab_begin = vocab_edge(p, s->vocab_begin);
    c->vocab_end = vocab_edge(p, s->vocab_end);
    /* A tied model looks tokens up where the output matrix lives: one home, and a row of the
     * residual stream travels to the first layer instead of a second copy of the matrix. */
    c->embd_begin = p->tied ? c->vocab_begin : vocab_edge(p, s->embd_begin);
    c->embd_end = p->tied ? c->vocab_end : vocab_edge(p, s->embd_end);

    c->head_begin = c->head_end = c->kv_begin = c->kv_end = c->own_begin = c->own_end = 0;
    if (c->layer_begin == c->layer_end)
        return;
    model_attention_lanes(p, lanes);
    c->head_begin = lanes[c->lane_begin] / p->head_dim;
    c->head_end = lanes[c->lane_end] / p->head_dim;
    if (c->head_begin == c->head_end)
        return;
    c->kv_begin = c->head_begin / per_kv;
    c->kv_end = (c->head_end - 1) / per_kv + 1;
    /* The card with a group's first query head computes its K and V; the others get copies. */
    c->own_begin = (c->head_begin + per_kv - 1) / per_kv;
    c->own_end = c->kv_end;
    if (c->own_begin > c->own_end)
        c->own_begin = c->own_end;
}

/* The first eighth that begins there. */
static uint32_t eighth_at(const struct model_params *p, uint64_t row) {
    uint32_t eighth = 0;
    while (eighth < LANES && vocab_edge(p, eighth) < row)
        eighth++;
    return eighth;
}

void share_taken(struct share *s, const struct plan_card *c, const struct model_params *p) {
    *s = (struct share){.layer_begin = c->layer_begin,
                        .layer_end = c->layer_end,
                        .lane_begin = c->lane_begin,
                        .lane_end = c->lane_end};
    if (c->vocab_begin < c->vocab_end) {
        s->vocab_begin = eighth_at(p, c->vocab_begin);
        s->vocab_end = eighth_at(p, c->vocab_end);
    }
    if (c->embd_begin < c->embd_end) {
        s->embd_begin = eighth_at(p, c->embd_begin);
        s->embd_end = eighth_at(p, c->embd_end);
    }
}

void share_context(struct plan *plan, const struct plan_input *in, uint32_t context) {
    plan->context = context;
    plan->max_rows = in->max_rows < context ? in->max_rows : context;
    plan->max_outputs = in->max_sequences > PLAN_OUTPUTS_MIN ? in->max_sequences : PLAN_OUTPUTS_MIN;
    if (plan->max_outputs > plan->max_rows)
        plan->max_outputs = plan->max_rows;
}

uint32_t share_context_pages(const struct plan *plan) {
    return (plan->context + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static void cut_rows(struct plan_range *r, uint64_t begin, uint64_t end) {
    r->row_begin = begin;
    r->row_end = end;
}

bool share_range(const struct plan *plan, const struct model *model, uint32_t card, uint32_t tensor,
                 struct plan_range *range) {
    const struct model_params *p = &model->params;
    const struct model_tensor *t = &model->tensors[tensor];
    const struct plan_card *c = &plan->cards[card];
    struct plan_range r = {.tensor = tensor, .card = card, .row_end = t->rows, .col_end = t->cols};
    uint32_t lanes[LANES + 1];

    if (!c->online || model_tensor_is_rotation(t))
        return false;
    if (t->layer >= 0 &&
        ((uint32_t)t->layer < c->layer_begin || (uint32_t)t->layer >= c->layer_end))
        return false;
    switch (t->cut) {
    case CUT_COPY:
        if (t->layer < 0 && c->vocab_begin == c->vocab_end)
            return false;
        r.copy = t->layer < 0 ? c->vocab_begin > 0 : c->lane_begin > 0;
        break;
    case CUT_VOCAB_ROWS:
        if (t->role == ROLE_OUTPUT || p->tied)
            cut_rows(&r, c->vocab_begin, c->vocab_end);
        else
            cut_rows(&r, c->embd_begin, c->embd_end);
        break;
    case CUT_HEAD_ROWS:
        cut_rows(&r, (uint64_t)c->head_begin * p->head_dim, (uint64_t)c->head_end * p->head_dim);
        break;
    case CUT_KV_ROWS:
        cut_rows(&r, (uint64_t)c->own_begin * p->head_dim, (uint64_t)c->own_end * p->head_dim);
        break;
    case CUT_FFN_ROWS:
        model_ffn_lanes(p, lanes);
        cut_rows(&r, lanes[c->lane_begin], lanes[c->lane_end]);
        break;
    case CUT_EXPERT_ROWS:
    case CUT_EXPERT_VECTORS:
        model_expert_lanes(p, lanes);
        cut_rows(&r, t->rows / p->n_experts * lanes[c->lane_begin],
                 t->rows / p->n_experts * lanes[c->lane_end]);
        break;
    case CUT_HEAD_LANES:
    case CUT_FFN_LANES:
        if (t->cut == CUT_HEAD_LANES)
            model_attention_lanes(p, lanes);
        else
            model_ffn_lanes(p, lanes);
        r.col_begin = lanes[c->lane_begin];
        r.col_end = lanes[c->lane_end];
        break;
    }
    if (r.row_begin >= r.row_end || r.col_begin >= r.col_end)
        return false;
    *range = r;
    return true;
}

uint64_t share_packed_bytes(const struct plan_input *input, const struct plan_range *range) {
    const struct model_tensor *t = &input->model->tensors[range->tensor];
    return input->backend->packed_bytes(t->type, model_tensor_is_vector(t),
                                        range->row_end - range->row_begin,
                                        range->col_end - range->col_begin);
}

uint64_t share_weights_bytes(const struct plan *plan, const struct plan_input *input,
                             uint32_t card) {
    uint64_t bytes = 0;
    struct plan_range r;
    for (uint32_t t = 0; t < input->model->n_tensors; t++)
        if (share_range(plan, input->model, card, t, &r))
            bytes += share_packed_bytes(input, &r);
    return bytes ? PLAN_WEIGHTS_HEADER + bytes : 0;
}

uint64_t share_page_bytes(const struct plan *plan, const struct model_params *p, uint32_t card) {
    const struct plan_card *c = &plan->cards[card];
    return (uint64_t)(c->layer_end - c->layer_begin) * (c->kv_end - c->kv_begin) *
           plan_kv_slot_bytes(plan->kv_type, p->head_dim);
}

uint64_t share_scratch_bytes(const struct plan *plan, const struct model *model, uint32_t card) {
    struct scratch scratch;
    scratch_layout(&scratch, model, plan, card);
    return scratch.bytes;
}

static bool is_spilled(const struct plan_card *c, const struct model_tensor *t) {
    return c->n_spilled && t->layer >= 0 && !model_tensor_is_vector(t) &&
           plan_spills(c, (uint32_t)t->layer);
}

/* The matrices of a layer that is spilled, from `at` on; returns where they end. */
static uint64_t add_spilled(struct plan *plan, const struct plan_input *in, uint32_t card,
                            uint32_t layer, uint64_t at) {
    for (uint32_t t = 0; t < in->model->n_tensors; t++) {
        const struct model_tensor *tensor = &in->model->tensors[t];
        struct plan_range r;
        if (tensor->layer != (int32_t)layer || model_tensor_is_vector(tensor) ||
            !share_range(plan, in->model, card, t, &r))
            continue;
        r.offset = at;
        r.bytes = share_packed_bytes(in, &r);
        at += r.bytes;
        plan->ranges[plan->n_ranges++] = r;
    }
    return at;
}

/* Behind everything that lies on the card, in the order in which it is computed. */
static uint64_t add_all_spilled(struct plan *plan, const struct plan_input *in, uint32_t card,
                                uint64_t at) {
    struct plan_card *c = &plan->cards[card];
    c->spilled_bytes = c->landing_bytes = 0;
    if (!c->n_spilled)
        return at;
    const uint64_t begin = at = share_blocks(at);
    for (uint32_t l = c->layer_begin; l < c->layer_end; l++) {
        if (!plan_spills(c, l))
            continue;
        const uint64_t end = share_blocks(add_spilled(plan, in, card, l, at));
        if (2 * (end - at) > c->landing_bytes)
            c->landing_bytes = 2 * (end - at);
        at = end;
    }
    c->spilled_bytes = at - begin;
    return at;
}

int share_ranges(struct plan *plan, const struct plan_input *in) {
    const size_t most = in->model->n_tensors * plan->n_cards;
    plan->n_ranges = 0;
    plan->ranges = calloc(most ? most : 1, sizeof *plan->ranges);
    if (!plan->ranges)
        return -ENOMEM;
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        const size_t first = plan->n_ranges;
        uint64_t at = PLAN_WEIGHTS_HEADER;
        for (uint32_t t = 0; t < in->model->n_tensors; t++) {
            struct plan_range r;
            if (is_spilled(&plan->cards[c], &in->model->tensors[t]) ||
                !share_range(plan, in->model, c, t, &r))
                continue;
            r.offset = at;
            r.bytes = share_packed_bytes(in, &r);
            at += r.bytes;
            plan->ranges[plan->n_ranges++] = r;
        }
        at = add_all_spilled(plan, in, c, at);
        plan->cards[c].weights_bytes = plan->n_ranges > first ? at : 0;
        plan->cards[c].scratch_bytes = share_scratch_bytes(plan, in->model, c);
    }
    return 0;
}
