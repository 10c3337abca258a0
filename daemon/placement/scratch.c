/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/scratch.h"

static uint64_t take(uint64_t *end, uint64_t bytes) {
    const uint64_t at = *end;
    *end += (bytes + 63) / 64 * 64;
    return at;
}

static struct rows take_rows(uint64_t *end, uint64_t n_rows, uint32_t n) {
    const uint32_t stride = (n + 15) / 16 * 16;
    return (struct rows){.offset = take(end, n_rows * stride * 4), .stride = stride};
}

static struct planes take_planes(uint64_t *end, uint64_t n, uint64_t n_rows, uint32_t width) {
    const struct rows rows = take_rows(end, n * n_rows, width);
    return (struct planes){rows.offset, rows.stride};
}

static struct activation take_activation(uint64_t *end, uint64_t n_rows, uint32_t n,
                                         uint32_t forms) {
    const uint32_t cols = (n + ATOM - 1) / ATOM * ATOM;
    struct activation act = {.forms = forms, .cols = cols};
    if (forms & FORM_Q8) {
        act.q8 = take(end, n_rows * cols);
        act.scale = take(end, n_rows * (cols / ATOM) * 4);
        act.sum = take(end, n_rows * (cols / ATOM) * 4);
    }
    if (forms & FORM_F32)
        act.f32 = take(end, n_rows * cols * 4);
    return act;
}

uint32_t scratch_form(uint32_t tensor_type) {
    return tensor_type == TENSOR_F32 || tensor_type == TENSOR_F16 || tensor_type == TENSOR_BF16
               ? FORM_F32
               : FORM_Q8;
}

_Static_assert(ROLE_COUNT <= 64, "a bit for each role");

static uint64_t bit(enum tensor_role role) {
    return (uint64_t)1 << role;
}

/* Forms of an activation: what the matrices of these roles read, over all layers. */
static uint32_t forms_of(const struct model *model, uint64_t roles) {
    uint32_t forms = 0;
    for (size_t i = 0; i < model->n_tensors; i++)
        if (roles & bit(model->tensors[i].role))
            forms |= scratch_form(model->tensors[i].type);
    return forms;
}

static bool has_role(const struct model *model, uint64_t roles) {
    for (size_t i = 0; i < model->n_tensors; i++)
        if (roles & bit(model->tensors[i].role))
            return true;
    return false;
}

/* A layer's tensors of the two roles are of different types. */
static bool types_differ(const struct model *model, enum tensor_role a, enum tensor_role b) {
    uint32_t type[LAYERS_MAX] = {0}; /* and one: 0 is a type */
    for (size_t i = 0; i < model->n_tensors; i++)
        if (model->tensors[i].role == a)
            type[model->tensors[i].layer] = model->tensors[i].type + 1;
    for (size_t i = 0; i < model->n_tensors; i++)
        if (model->tensors[i].role == b &&
            model->tensors[i].type + 1 != type[model->tensors[i].layer])
            return true;
    return false;
}

uint32_t scratch_nodes(uint32_t lane_begin, uint32_t lane_end, uint8_t nodes[LANES]) {
    uint32_t n = 0;
    while (lane_begin < lane_end) {
        /* Grow the subtree while it starts at its own left edge and stays inside. */
        uint32_t width = 1;
        while (lane_begin % (2 * width) == 0 && lane_begin + 2 * width <= lane_end &&
               2 * width <= LANES)
            width *= 2;
        nodes[n++] = (uint8_t)((LANES + lane_begin) / width);
        lane_begin += width;
    }
    return n;
}

static uint32_t count_slots(const struct plan *plan, uint32_t card) {
    uint32_t n_slots = 0;
    uint8_t nodes[LANES];
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        const struct plan_card *other = &plan->cards[c];
        if (other->layer_begin < other->layer_end &&
            other->layer_begin == plan->cards[card].layer_begin)
            n_slots += scratch_nodes(other->lane_begin, other->lane_end, nodes);
    }
    return n_slots;
}

struct scratch_forms scratch_forms(const struct model *model) {
    return (struct scratch_forms){
        .norm = forms_of(model, bit(ROLE_ATTN_Q) | bit(ROLE_ATTN_K) | bit(ROLE_ATTN_V) |
                                    bit(ROLE_FFN_GATE) | bit(ROLE_FFN_UP) | bit(ROLE_OUTPUT) |
                                    bit(ROLE_ROUTER) | bit(ROLE_EXPERT_GATE) | bit(ROLE_EXPERT_UP) |
                                    bit(ROLE_SHARED_GATE) |
                                    (model->params.tied ? bit(ROLE_TOKEN_EMBD) : 0)),
        .attention = forms_of(model, bit(ROLE_ATTN_OUT)),
        .ffn = forms_of(model, bit(ROLE_FFN_DOWN)),
        .experts = forms_of(model, bit(ROLE_EXPERT_DOWN)),
        .post_norms = has_role(model, bit(ROLE_ATTN_POST) | bit(ROLE_FFN_POST)),
        .ffn_apart = types_differ(model, ROLE_FFN_GATE, ROLE_FFN_UP),
        .experts_apart = types_differ(model, ROLE_EXPERT_GATE, ROLE_EXPERT_UP)};
}

void scratch_layout(struct scratch *scratch, const struct model *model, const struct plan *plan,
                    uint32_t card) {
    const struct scratch_forms forms = scratch_forms(model);
    scratch_layout_in(scratch, &forms, &model->params, plan, card);
}

static void take_routes(struct scratch *scratch, uint64_t *end, const struct model_params *p,
                        uint64_t n_rows) {
    scratch->routes.n_used = p->n_experts_used;
    scratch->routes.rows =
        take_rows(end, n_rows, p->n_experts ? routes_width(p->n_experts_used) : 0);
}

static void take_experts(struct scratch *scratch, uint64_t *end, const struct model_params *p,
                         const struct plan_card *c, uint64_t n_rows, uint32_t forms) {
    uint32_t lanes[LANES + 1];
    model_expert_lanes(p, lanes);
    const uint32_t n = lanes[c->lane_end] - lanes[c->lane_begin];
    const uint64_t most = n_rows * (n < p->n_experts_used ? n : p->n_experts_used);
    if (!n)
        return;
    scratch->hits = (struct hits){.n_experts = n, .n_rows = (uint32_t)most};
    scratch->hits.offset = take(end, hits_bytes(scratch->hits));
    scratch->experts = take_activation(end, most, p->n_ff_expert, forms);
}

static uint64_t floats(uint64_t rows, uint64_t cols) {
    return rows * ((cols + 15) / 16 * 16) * 4;
}

/* Products that are kept apart.  One phase makes those of the FFN and of the experts, others the
 * rest, so these lie in one place. */
static void take_apart(struct scratch *scratch, uint64_t *end, const struct model_params *p,
                       const struct scratch_forms *forms, uint32_t ffn_cols, uint64_t n_rows) {
    const uint64_t hits = scratch->hits.n_rows;
    const uint64_t ffn = forms->ffn_apart ? (2 * floats(n_rows, ffn_cols) + 63) / 64 * 64 : 0;
    const uint64_t up = ffn + (forms->experts_apart ? 2 * floats(hits, p->n_ff_expert) : 0);
    const uint64_t down = floats(hits, p->n_embd);
    const uint64_t route = p->n_experts ? floats(n_rows, p->n_experts) : 0;
    const uint64_t most = up > down ? up : down;
    scratch->apart = take(end, most > route ? most : route);
    scratch->apart_experts = scratch->apart + ffn;
    scratch->places = take(end, p->n_experts ? n_rows * p->n_experts_used * 4 : 0);
}

void scratch_layout_in(struct scratch *scratch, const struct scratch_forms *forms,
                       const struct model_params *p, const struct plan *plan, uint32_t card) {
    const struct plan_card *c = &plan->cards[card];
    const uint64_t n_rows = plan->max_rows;
    const uint32_t n_heads = c->head_end - c->head_begin, n_own = c->own_end - c->own_begin;
    uint32_t ffn[LANES + 1];
    uint64_t end = 0;

    *scratch = (struct scratch){0};
    const bool layers = c->layer_begin < c->layer_end, head = c->vocab_begin < c->vocab_end;
    if (!c->online || (!layers && !head && c->embd_begin == c->embd_end))
        return;
    model_ffn_lanes(p, ffn);
    scratch->hidden = take_rows(&end, n_rows, p->n_embd);
    if (layers || head)
        scratch->norm = take_activation(&end, n_rows, p->n_embd, forms->norm);
    if (layers) {
        take_routes(scratch, &end, p, n_rows);
        scratch->qkv = take_rows(&end, n_rows, (n_heads + 2 * n_own) * p->head_dim);
        scratch->attention = take_activation(&end, n_rows, n_heads * p->head_dim, forms->attention);
        scratch->ffn =
            take_activation(&end, n_rows, ffn[c->lane_end] - ffn[c->lane_begin], forms->ffn);
        take_experts(scratch, &end, p, c, n_rows, forms->experts);
        if (plan->apart)
            take_apart(scratch, &end, p, forms, ffn[c->lane_end] - ffn[c->lane_begin], n_rows);
        if (forms->post_norms)
            scratch->sum = take_rows(&end, n_rows, p->n_embd);
        scratch->n_slots = count_slots(plan, card);
        scratch->slots = take_planes(&end, scratch->n_slots, n_rows, p->n_embd);
    }
    if (head)
        scratch->logits =
            take_rows(&end, plan->max_outputs, (uint32_t)(c->vocab_end - c->vocab_begin));
    scratch->bytes = end;
}
