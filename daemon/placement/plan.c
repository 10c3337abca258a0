/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/placement/share.h"
#include "octarc/error.h"

#define MIB (UINT64_C(1) << 20)

#define CONTEXT_DEFAULT 4096u

const char *plan_split_name(enum split split) {
    static const char *const names[] = {"auto", "layer", "tensor"};
    return names[split];
}

uint64_t plan_kv_slot_bytes(enum kv_type type, uint32_t head_dim) {
    const uint64_t values = 2ull * PAGE_TOKENS * head_dim;
    switch (type) {
    case KV_F16:
        return values * 2;
    case KV_F32:
        return values * 4;
    case KV_Q8_0: /* one f16 scale for 32 values */
        return values + values / ATOM * 2;
    }
    return 0;
}

static int check_input(const struct plan_input *in, struct err *err) {
    const struct model_params *p = &in->model->params;
    uint32_t n_online = 0;
    if (in->n_cards == 0 || in->n_cards > CARDS_MAX)
        return err_set(err, -EINVAL, "%u cards, expected 1 to %d", in->n_cards, CARDS_MAX);
    for (uint32_t i = 0; i < in->n_cards; i++) {
        n_online += in->online[i];
        if (in->online[i] && in->capacity_bytes[i] == 0)
            return err_set(err, -EINVAL, "card %u has no memory", i);
    }
    if (n_online == 0)
        return err_set(err, -EINVAL, "none of the %u cards is online", in->n_cards);
    if (in->context > p->n_ctx_train)
        return err_set(err, -EINVAL, "context of %u tokens: the model was trained with %u",
                       in->context, p->n_ctx_train);
    if (in->max_sequences == 0 || in->max_rows == 0)
        return err_set(err, -EINVAL, "%u sequences of %u rows: at least one of each is needed",
                       in->max_sequences, in->max_rows);
    if (in->kv_type == KV_Q8_0 && p->head_dim % ATOM)
        return err_set(err, -ENOTSUP,
                       "KV type q8_0 needs heads of a multiple of %d values; this model has %u",
                       ATOM, p->head_dim);
    for (size_t i = 0; i < in->model->n_tensors; i++) {
        const struct model_tensor *t = &in->model->tensors[i];
        const struct tensor_type_info *type = tensor_type_info(t->type);
        if (in->backend->packed_bytes(t->type, t->rows, t->cols) == 0)
            return err_set(err, -ENOTSUP, "tensor '%s': the %s backend cannot run type %s", t->name,
                           in->backend->name, type ? type->name : "unknown");
    }
    return 0;
}

static void start_plan(struct plan *plan, const struct plan_input *in) {
    const uint32_t trained = in->model->params.n_ctx_train;
    *plan = (struct plan){
        .split = in->split == SPLIT_AUTO ? SPLIT_LAYER : in->split,
        .n_cards = in->n_cards,
        .context = in->context                 ? in->context
                   : trained < CONTEXT_DEFAULT ? trained
                                               : CONTEXT_DEFAULT,
        .max_sequences = in->max_sequences,
        .max_rows = in->max_rows,
        .max_outputs = in->max_sequences > PLAN_OUTPUTS_MIN ? in->max_sequences : PLAN_OUTPUTS_MIN,
        .kv_type = in->kv_type,
    };
    if (plan->max_outputs > plan->max_rows)
        plan->max_outputs = plan->max_rows;
    for (uint32_t i = 0; i < in->n_cards; i++) {
        plan->cards[i].online = in->online[i];
        plan->cards[i].capacity_bytes = in->online[i] ? in->capacity_bytes[i] : 0;
    }
    snprintf(plan->reason, sizeof plan->reason, "%s split: %s", plan_split_name(plan->split),
             in->split == SPLIT_AUTO
                 ? "chosen because a layer boundary is the least to send between cards"
                 : "as configured");
}

static int make_ranges(struct plan *plan, const struct plan_input *in, struct err *err) {
    const size_t most = in->model->n_tensors * plan->n_cards;
    plan->ranges = calloc(most ? most : 1, sizeof *plan->ranges);
    if (!plan->ranges)
        return err_set(err, -ENOMEM, "no memory for a plan of %zu ranges", most);
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        uint64_t at = PLAN_WEIGHTS_HEADER;
        for (uint32_t t = 0; t < in->model->n_tensors; t++) {
            struct plan_range r;
            if (!share_range(plan, in->model, c, t, &r))
                continue;
            r.offset = at;
            r.bytes = in->backend->packed_bytes(in->model->tensors[t].type, r.row_end - r.row_begin,
                                                r.col_end - r.col_begin);
            at += r.bytes;
            plan->ranges[plan->n_ranges++] = r;
        }
        plan->cards[c].weights_bytes = plan->cards[c].online ? at : 0;
        plan->cards[c].scratch_bytes = share_scratch_bytes(plan, in->model, c);
    }
    return 0;
}

/* What would have to change so that the card which is too small holds its part. */
static int refuse(const struct plan *plan, const struct plan_input *in, uint32_t card,
                  uint64_t fixed, uint64_t page, struct err *err) {
    const struct plan_card *c = &plan->cards[card];
    const uint64_t pages = (plan->context + PAGE_TOKENS - 1) / PAGE_TOKENS;
    const uint64_t missing = fixed + pages * page - c->capacity_bytes;
    const uint64_t room =
        c->capacity_bytes > fixed && page ? (c->capacity_bytes - fixed) / page : 0;
    if (room)
        return err_set(err, -ENOSPC,
                       "model '%s' does not fit: card %u is %" PRIu64
                       " MiB short; it would fit with a context of %" PRIu64
                       " tokens instead of %u",
                       in->model->params.name, card, (missing + MIB - 1) / MIB, room * PAGE_TOKENS,
                       plan->context);
    return err_set(err, -ENOSPC,
                   "model '%s' does not fit: card %u is %" PRIu64 " MiB short (weights %" PRIu64
                   " MiB, scratch %" PRIu64 " MiB of %" PRIu64
                   " MiB); it would fit with another card or a smaller quantisation",
                   in->model->params.name, card, (missing + MIB - 1) / MIB, c->weights_bytes / MIB,
                   c->scratch_bytes / MIB, c->capacity_bytes / MIB);
}

/* Pages for every sequence at full length where they fit, else as many as do; one context at
 * least.  A page lies on all cards that keep KV, so the card with the least room decides. */
static int reserve_kv(struct plan *plan, const struct plan_input *in, struct err *err) {
    const uint64_t least = (plan->context + PAGE_TOKENS - 1) / PAGE_TOKENS;
    uint64_t pages = least * plan->max_sequences;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        const struct plan_card *c = &plan->cards[i];
        if (!c->online)
            continue;
        const uint64_t fixed = c->weights_bytes + c->scratch_bytes;
        const uint64_t page = share_page_bytes(plan, &in->model->params, i);
        if (fixed > c->capacity_bytes || (page && (c->capacity_bytes - fixed) / page < least))
            return refuse(plan, in, i, fixed, page, err);
        if (page && (c->capacity_bytes - fixed) / page < pages)
            pages = (c->capacity_bytes - fixed) / page;
    }
    plan->n_pages = pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        plan->cards[i].kv_bytes = plan->n_pages * share_page_bytes(plan, &in->model->params, i);
    return 0;
}

static void give_reasons(struct plan *plan) {
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        struct plan_card *c = &plan->cards[i];
        const bool layers = c->layer_begin < c->layer_end, head = c->vocab_begin < c->vocab_end;
        if (!c->online)
            snprintf(c->reason, sizeof c->reason, "not online");
        else if (!layers && !head)
            snprintf(c->reason, sizeof c->reason, "nothing left: there are more cards than layers");
        else if (plan->split == SPLIT_TENSOR)
            snprintf(c->reason, sizeof c->reason,
                     "lanes %u to %u of every layer: the fullest card is then the least full",
                     c->lane_begin, c->lane_end - 1);
        else if (!layers)
            snprintf(c->reason, sizeof c->reason, "the output matrix alone");
        else
            snprintf(c->reason, sizeof c->reason,
                     "layers %u to %u%s: the fullest card is then the least full", c->layer_begin,
                     c->layer_end - 1, head ? " and the output matrix" : "");
    }
}

int plan_build(struct plan *plan, const struct plan_input *input, struct err *err) {
    struct plan made = {0};
    int rc = check_input(input, err);
    if (rc)
        return rc;
    start_plan(&made, input);
    rc = made.split == SPLIT_TENSOR ? split_tensor(&made, input, err)
                                    : split_layer(&made, input, err);
    if (rc)
        goto fail;
    rc = make_ranges(&made, input, err);
    if (rc)
        goto fail;
    rc = reserve_kv(&made, input, err);
    if (rc)
        goto fail;
    give_reasons(&made);
    *plan = made;
    return 0;

fail:
    plan_finish(&made);
    return rc;
}

void plan_finish(struct plan *plan) {
    free(plan->ranges);
    *plan = (struct plan){0};
}

const struct plan_range *plan_find(const struct plan *plan, uint32_t card, uint32_t tensor) {
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (plan->ranges[i].card == card && plan->ranges[i].tensor == tensor)
            return &plan->ranges[i];
    return NULL;
}
