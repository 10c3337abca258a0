/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/costs.h"

#include <string.h>

#include "daemon/placement/scratch.h"

/* A plan of one card, for asking what a share would cost. */
static struct plan trial_plan(const struct plan *like) {
    struct plan trial = *like;
    trial.n_cards = 1;
    trial.ranges = NULL;
    trial.n_ranges = 0;
    trial.cards[0] = (struct plan_card){.online = true};
    return trial;
}

static uint64_t bytes_of(const struct plan *trial, const struct plan_input *in, uint32_t tensor) {
    struct plan_range r;
    if (!share_range(trial, in->model, 0, tensor, &r))
        return 0;
    return share_packed_bytes(in, &r);
}

/* Sum the tensors beside the layers. */
static uint64_t sum_beside(struct plan *trial, const struct plan_input *in,
                           const struct share *share) {
    uint64_t bytes = 0;
    share_apply(&trial->cards[0], &in->model->params, share);
    for (uint32_t t = 0; t < in->model->n_tensors; t++)
        if (in->model->tensors[t].layer < 0)
            bytes += bytes_of(trial, in, t);
    return bytes;
}

/* Of tensors of one role the bytes are the same where type and shape are. */
static uint64_t bytes_like(const struct plan *trial, const struct plan_input *in, uint32_t tensor,
                           const struct model_tensor *last[ROLE_COUNT],
                           uint64_t bytes[ROLE_COUNT]) {
    const struct model_tensor *t = &in->model->tensors[tensor], *like = last[t->role];
    if (!like || like->type != t->type || like->rows != t->rows || like->cols != t->cols ||
        like->cut != t->cut)
        bytes[t->role] = bytes_of(trial, in, tensor);
    last[t->role] = t;
    return bytes[t->role];
}

/* sums[l]: of the tensors of layers 0 .. l - 1. */
static void sum_layers(struct plan *trial, const struct plan_input *in, const struct share *share,
                       uint64_t sums[LAYERS_MAX + 1]) {
    const uint32_t n_layers = in->model->params.n_layers;
    const struct model_tensor *last[ROLE_COUNT] = {NULL};
    uint64_t bytes[ROLE_COUNT];
    share_apply(&trial->cards[0], &in->model->params, share);
    for (uint32_t l = 0; l <= n_layers; l++)
        sums[l] = 0;
    for (uint32_t t = 0; t < in->model->n_tensors; t++)
        if (in->model->tensors[t].layer >= 0)
            sums[in->model->tensors[t].layer + 1] += bytes_like(trial, in, t, last, bytes);
    for (uint32_t l = 0; l < n_layers; l++)
        sums[l + 1] += sums[l];
}

static void sum_matrices(struct plan *trial, const struct plan_input *in, uint64_t *matrices) {
    const struct share all = {.layer_end = in->model->params.n_layers, .lane_end = LANES};
    share_apply(&trial->cards[0], &in->model->params, &all);
    for (uint32_t t = 0; t < in->model->n_tensors; t++)
        if (in->model->tensors[t].layer >= 0 && !model_tensor_is_vector(&in->model->tensors[t]))
            matrices[in->model->tensors[t].layer] += bytes_of(trial, in, t);
}

void costs_weights(struct costs *costs, const struct plan_input *in) {
    const uint32_t n_layers = in->model->params.n_layers;
    struct plan trial = trial_plan(&(struct plan){0});

    costs->n_layers = n_layers;
    for (uint32_t b = 0; b <= LANES; b++)
        for (uint32_t e = b; e <= LANES; e++) {
            uint8_t nodes[LANES];
            costs->nodes[b][e] = (uint8_t)scratch_nodes(b, e, nodes);
            const struct share lanes = {.layer_end = n_layers, .lane_begin = b, .lane_end = e};
            const struct share head = {.vocab_begin = b, .vocab_end = e};
            const struct share embd = {.embd_begin = b, .embd_end = e};
            if (b < e)
                sum_layers(&trial, in, &lanes, costs->lanes[b][e]);
            costs->head[b][e] = sum_beside(&trial, in, &head);
            costs->embd[b][e] = sum_beside(&trial, in, &embd);
        }
    memcpy(costs->layers, costs->lanes[0][LANES], sizeof costs->layers);
    memset(costs->matrices, 0, sizeof costs->matrices);
    sum_matrices(&trial, in, costs->matrices);
}

/* What a share of the whole model would have as scratch. */
struct trial {
    struct plan plan;
    struct scratch_forms forms;
    const struct model_params *p;
};

static struct scratch scratch_of(struct trial *trial, const struct share *share) {
    struct scratch scratch;
    share_apply(&trial->plan.cards[0], trial->p, share);
    scratch_layout_in(&scratch, &trial->forms, trial->p, &trial->plan, 0);
    return scratch;
}

void costs_context(struct costs *costs, const struct plan *plan, const struct plan_input *in,
                   uint32_t n_contexts) {
    const struct model_params *p = &in->model->params;
    const uint32_t n_layers = p->n_layers;
    struct trial trial = {trial_plan(plan), scratch_forms(in->model), p};
    const struct scratch whole =
        scratch_of(&trial, &(struct share){.layer_end = n_layers, .lane_end = LANES});

    costs->scratch_both =
        whole.routes.rows.offset; /* what every card of a layer or of the head begins with */
    costs->scratch_slot = (uint64_t)plan->max_rows * whole.slots.stride * 4;
    costs->scratch_embd = scratch_of(&trial, &(struct share){.embd_end = LANES}).bytes;
    for (uint32_t b = 0; b <= LANES; b++)
        for (uint32_t e = b; e <= LANES; e++) {
            const struct share head = {.vocab_begin = b, .vocab_end = e};
            const struct share lanes = {.layer_end = n_layers, .lane_begin = b, .lane_end = e};
            costs->scratch_head[b][e] = scratch_of(&trial, &head).bytes;
            costs->lanes_page[b][e] = costs->scratch_lanes[b][e] = 0;
            if (b == e)
                continue;
            const struct scratch s = scratch_of(&trial, &lanes);
            costs->scratch_lanes[b][e] = s.bytes - s.n_slots * costs->scratch_slot;
            costs->lanes_page[b][e] = share_page_bytes(&trial.plan, p, 0) / n_layers;
        }
    costs_contexts(costs, plan, n_contexts);
}

static uint64_t least_lanes(const struct costs *c, uint32_t n) {
    uint64_t least = UINT64_MAX;
    for (uint32_t b = 0; b + n <= LANES; b++) {
        const uint64_t bytes = c->lanes[b][b + n][c->n_layers] +
                               c->n_layers * c->lanes_kv[b][b + n] + c->scratch_lanes[b][b + n];
        least = bytes < least ? bytes : least;
    }
    return PLAN_WEIGHTS_HEADER + least;
}

void costs_contexts(struct costs *costs, const struct plan *plan, uint32_t n_contexts) {
    const uint64_t pages = (uint64_t)share_context_pages(plan) * n_contexts;
    for (uint32_t b = 0; b <= LANES; b++)
        for (uint32_t e = b; e <= LANES; e++)
            costs->lanes_kv[b][e] = pages * costs->lanes_page[b][e];
    costs->layer_kv = costs->lanes_kv[0][LANES];
    for (uint32_t n = 1; n <= LANES; n++)
        costs->least_lanes[n] = least_lanes(costs, n);
}

uint64_t costs_of(const struct costs *c, const struct share *s, uint32_t n_slots) {
    const uint32_t n_layers = s->layer_end - s->layer_begin;
    uint64_t layers = 0, scratch = 0;
    if (n_layers)
        scratch = c->scratch_lanes[s->lane_begin][s->lane_end] + n_slots * c->scratch_slot;
    if (n_layers) {
        const uint64_t *sums = c->lanes[s->lane_begin][s->lane_end];
        layers = sums[s->layer_end] - sums[s->layer_begin] +
                 n_layers * c->lanes_kv[s->lane_begin][s->lane_end];
    }
    return layers +
           costs_beside(c, scratch, s->vocab_begin, s->vocab_end, s->embd_begin, s->embd_end);
}
