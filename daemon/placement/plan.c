/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/placement/choose.h"
#include "daemon/placement/place.h"
#include "daemon/placement/refuse.h"
#include "daemon/placement/share.h"
#include "octarc/error.h"

#define CONTEXT_DEFAULT 4096u

const char *plan_split_name(enum split split) {
    static const char *const names[] = {"auto", "layer", "tensor", "hybrid"};
    return names[split];
}

bool plan_same_range(const struct plan_range *a, const struct plan_range *b) {
    return a->tensor == b->tensor && a->row_begin == b->row_begin && a->row_end == b->row_end &&
           a->col_begin == b->col_begin && a->col_end == b->col_end && a->offset == b->offset &&
           a->bytes == b->bytes;
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
        if (in->backend->packed_bytes(t->type, model_tensor_is_vector(t), t->rows, t->cols) == 0)
            return err_set(err, -ENOTSUP, "tensor '%s': the %s backend cannot run type %s", t->name,
                           in->backend->name, type ? type->name : "unknown");
    }
    const int rc = in->places ? places_check_cards(in->places, in->n_cards, err) : 0;
    return rc < 0 || !in->places ? rc : places_check_names(in->places, in->model, err);
}

static void start_plan(struct plan *plan, const struct plan_input *in) {
    const uint32_t trained = in->model->params.n_ctx_train;
    *plan = (struct plan){.n_cards = in->n_cards,
                          .max_sequences = in->max_sequences,
                          .kv_type = in->kv_type,
                          .dense = in->backend->dense,
                          .apart = in->backend->apart};
    plan->dropped_places = places_gone(in);
    share_context(plan, in,
                  in->context                 ? in->context
                  : trained < CONTEXT_DEFAULT ? trained
                                              : CONTEXT_DEFAULT);
    for (uint32_t i = 0; i < in->n_cards; i++) {
        plan->cards[i].online = in->online[i];
        plan->cards[i].capacity_bytes = in->online[i] ? in->capacity_bytes[i] : 0;
    }
}

/* Pages for every sequence at full length where they fit, else as many as do; one context at
 * least, for which the search has left room.  A page lies on all cards that keep KV, so the card
 * with the least room decides. */
static int reserve_kv(struct plan *plan, const struct plan_input *in, struct err *err) {
    const uint64_t least = share_context_pages(plan);
    uint64_t pages = least * plan->max_sequences;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        const struct plan_card *c = &plan->cards[i];
        const uint64_t fixed = plan_card_bytes(c);
        const uint64_t page = share_page_bytes(plan, &in->model->params, i);
        if (fixed > c->capacity_bytes || (page && (c->capacity_bytes - fixed) / page < least))
            return err_set(err, -ENOSPC, "card %u: %" PRIu64 " bytes and KV do not fit %" PRIu64, i,
                           fixed, c->capacity_bytes);
        if (page && (c->capacity_bytes - fixed) / page < pages)
            pages = (c->capacity_bytes - fixed) / page;
    }
    plan->n_pages = pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        plan->cards[i].kv_bytes = plan->n_pages * share_page_bytes(plan, &in->model->params, i);
    return 0;
}

static const char *part_of_rows(uint64_t begin, uint64_t end, const struct model_params *p) {
    return end - begin == p->n_vocab ? "" : "a part of ";
}

/* "lane 7", "lanes 0 to 3" */
static const char *range_text(char out[48], const char *noun, uint32_t begin, uint32_t end) {
    if (begin + 1 == end)
        snprintf(out, 48, "%s %u", noun, begin);
    else
        snprintf(out, 48, "%ss %u to %u", noun, begin, end - 1);
    return out;
}

static void give_reason(struct plan_card *c, const struct plan *plan, const struct model_params *p,
                        const char *balance) {
    const bool layers = c->layer_begin < c->layer_end, head = c->vocab_begin < c->vocab_end;
    const bool embd = !p->tied && c->embd_begin < c->embd_end;
    char with[80] = "", range[48], run[48];
    if (head)
        snprintf(with, sizeof with, "%sthe output matrix",
                 part_of_rows(c->vocab_begin, c->vocab_end, p));
    else if (embd)
        snprintf(with, sizeof with, "%sthe embedding", part_of_rows(c->embd_begin, c->embd_end, p));
    const char *and = layers && with[0] ? " and " : "";
    if (!c->online)
        snprintf(c->reason, sizeof c->reason, "not online");
    else if (!layers && !with[0])
        snprintf(c->reason, sizeof c->reason, "nothing: the other cards hold all of it; %s",
                 balance);
    else if (!layers)
        snprintf(c->reason, sizeof c->reason, "%s alone", with);
    else if (plan->split == SPLIT_TENSOR)
        snprintf(c->reason, sizeof c->reason, "%s of every layer%s%s: %s",
                 range_text(range, "lane", c->lane_begin, c->lane_end), and, with, balance);
    else if (c->lane_end - c->lane_begin < LANES)
        snprintf(c->reason, sizeof c->reason, "%s of %s%s%s: %s",
                 range_text(range, "lane", c->lane_begin, c->lane_end),
                 range_text(run, "layer", c->layer_begin, c->layer_end), and, with, balance);
    else if (c->n_spilled)
        snprintf(c->reason, sizeof c->reason, "%s (%u of them from host memory)%s%s: %s",
                 range_text(range, "layer", c->layer_begin, c->layer_end), c->n_spilled, and, with,
                 balance);
    else
        snprintf(c->reason, sizeof c->reason, "%s%s%s: %s",
                 range_text(range, "layer", c->layer_begin, c->layer_end), and, with, balance);
}

static bool all_online(const struct plan_input *in) {
    for (uint32_t i = 0; i < in->n_cards; i++)
        if (!in->online[i])
            return false;
    return true;
}

/* Choose, without overrides where these leave no plan and a card is gone: whoever placed something
 * did not think of that, and to serve comes first. */
static int choose_placed(struct plan *plan, const struct plan_input *in, const char **balance,
                         struct err *err) {
    struct plan start = *plan;
    struct err why = {{0}};
    const int rc = choose(plan, in, balance, &why);
    const uint64_t all = in->places ? places_all(in->places) : 0;
    if (rc != -ENOSPC || !(all & ~start.dropped_places))
        return rc < 0 ? err_set(err, rc, "%s", why.text) : 0;
    *plan = start;
    plan->dropped_places = all;
    if (choose(plan, in, balance, NULL) < 0)
        return err_set(err, rc, "%s", why.text);
    return all_online(in) ? refuse_places(&start, in, err) : 0;
}

int plan_build(struct plan *plan, const struct plan_input *input, struct err *err) {
    struct plan made = {0};
    const char *balance = "";
    int rc = check_input(input, err);
    if (rc)
        return rc;
    start_plan(&made, input);
    rc = choose_placed(&made, input, &balance, err);
    if (rc)
        goto fail;
    rc = share_ranges(&made, input);
    if (rc) {
        err_set(err, rc, "no memory for the plan's ranges");
        goto fail;
    }
    rc = reserve_kv(&made, input, err);
    if (rc)
        goto fail;
    for (uint32_t i = 0; i < made.n_cards; i++)
        give_reason(&made.cards[i], &made, &input->model->params, balance);
    places_tell(&made, input);
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

const struct plan_range *plan_card_ranges(const struct plan *plan, uint32_t card, size_t *n) {
    size_t begin = 0;
    while (begin < plan->n_ranges && plan->ranges[begin].card != card)
        begin++;
    size_t end = begin;
    while (end < plan->n_ranges && plan->ranges[end].card == card)
        end++;
    *n = end - begin;
    return plan->ranges + begin;
}
