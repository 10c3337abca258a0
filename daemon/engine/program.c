/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/program.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/spills.h"
#include "daemon/placement/scratch.h"
#include "octarc/error.h"

struct compiler {
    const struct model *model;
    const struct plan *plan;
    struct program *programs;
    size_t capacity[CARDS_MAX];
    struct scratch scratch[CARDS_MAX];
    const struct plan_range **ranges; /* [card][tensor], NULL: nothing held */
    struct spills spills[CARDS_MAX];
    uint32_t phase;
    bool phase_used;
    uint32_t holders; /* bit per card: each has its part of the hidden rows up to date */
    uint32_t attention_lanes[LANES + 1], ffn_lanes[LANES + 1];
    struct err *err;
    int rc; /* the first failure */
};

/* Add an operation to a card's program in the current phase. */
static struct op *emit(struct compiler *c, uint32_t card, enum op_kind kind, int32_t layer) {
    static struct op
        spare; /* written and forgotten after a failure, so that callers need no check */
    struct program *p = &c->programs[card];
    if (p->n_ops == c->capacity[card] && !c->rc) {
        const size_t more = c->capacity[card] ? 2 * c->capacity[card] : 64;
        struct op *ops = realloc(p->ops, more * sizeof *ops);
        if (!ops) {
            c->rc = err_set(c->err, -ENOMEM, "no memory for a program of %zu operations", more);
        } else {
            p->ops = ops;
            c->capacity[card] = more;
        }
    }
    if (c->rc)
        return &spare;
    struct op *op = &p->ops[p->n_ops++];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    op->phase = c->phase;
    op->layer = layer;
    c->phase_used = true;
    return op;
}

/* What follows waits for what was emitted so far. */
static void next_phase(struct compiler *c) {
    c->phase += c->phase_used;
    c->phase_used = false;
}

static bool has(const struct compiler *c, uint32_t card, uint32_t tensor) {
    return c->ranges[card * c->model->n_tensors + tensor] != NULL;
}

/* A card's range of a tensor as a matrix; rows 0 when it holds nothing of it. */
static struct matrix matrix_of(const struct compiler *c, uint32_t card, uint32_t tensor) {
    const struct plan_range *r = c->ranges[card * c->model->n_tensors + tensor];
    if (!r)
        return (struct matrix){.type = c->model->tensors[tensor].type};
    return (struct matrix){.offset = r->offset,
                           .type = c->model->tensors[tensor].type,
                           .rows = (uint32_t)(r->row_end - r->row_begin),
                           .cols = (uint32_t)(r->col_end - r->col_begin),
                           .fetched = plan_spilled(c->plan, r),
                           .landing = spills_landing(&c->spills[card], r->offset)};
}

/* The offset of a small tensor that the card must have whole. */
static uint64_t vector_of(struct compiler *c, uint32_t card, uint32_t tensor) {
    const struct plan_range *r = c->ranges[card * c->model->n_tensors + tensor];
    if (!r) {
        if (!c->rc)
            c->rc = err_set(c->err, -EINVAL, "the plan gives card %u no '%s', which it needs", card,
                            c->model->tensors[tensor].name);
        return 0;
    }
    return r->offset;
}

static uint32_t form_of(const struct compiler *c, uint32_t tensor) {
    return scratch_form(c->model->tensors[tensor].type);
}

static struct activation with_forms(struct activation act, uint32_t forms) {
    act.forms &= forms;
    return act;
}

static uint32_t group_of(const struct compiler *c, int32_t layer) {
    uint32_t group = 0;
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (c->plan->cards[i].layer_begin <= (uint32_t)layer &&
            (uint32_t)layer < c->plan->cards[i].layer_end)
            group |= 1u << i;
    return group;
}

static const struct row_part all_rows = {0, 1};

/* The rows that a card of a group works on where the work is a row's own. */
static struct row_part part_of(uint32_t group, uint32_t card) {
    return (struct row_part){(uint8_t)__builtin_popcount(group & ((1u << card) - 1)),
                             (uint8_t)__builtin_popcount(group)};
}

static struct op *emit_exchange(struct compiler *c, enum exchange_kind kind, uint32_t src,
                                uint32_t dst, int32_t layer) {
    struct op *op = emit(c, dst, OP_EXCHANGE, layer);
    op->exchange.kind = kind;
    op->exchange.src = (uint8_t)src;
    op->exchange.dst = (uint8_t)dst;
    op->exchange.from = op->exchange.to = all_rows;
    return op;
}

/* Rows of n_embd values. */
static struct op *emit_exchange_rows(struct compiler *c, enum exchange_kind kind, uint32_t src,
                                     uint32_t dst, int32_t layer, struct rows from,
                                     struct rows to) {
    struct op *op = emit_exchange(c, kind, src, dst, layer);
    op->exchange.src_offset = from.offset;
    op->exchange.dst_offset = to.offset;
    op->exchange.row_bytes = (uint64_t)c->model->params.n_embd * 4;
    op->exchange.src_stride_bytes = (uint64_t)from.stride * 4;
    op->exchange.dst_stride_bytes = (uint64_t)to.stride * 4;
    return op;
}

/* Bring to every card of the group the hidden rows of its part. */
static void move_hidden(struct compiler *c, uint32_t group, int32_t layer) {
    if (c->holders == group)
        return;
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && c->holders >> src & 1 && src != dst) {
                struct op *op = emit_exchange_rows(c, EXCHANGE_ROWS, src, dst, layer,
                                                   c->scratch[src].hidden, c->scratch[dst].hidden);
                op->exchange.from = part_of(c->holders, src);
                op->exchange.to = part_of(group, dst);
            }
    next_phase(c);
    c->holders = group;
}

static void emit_norm(struct compiler *c, uint32_t card, int32_t layer, uint32_t tensor,
                      uint32_t forms, struct row_part part, bool outputs) {
    const uint64_t weight = vector_of(c, card, tensor);
    struct op *op = emit(c, card, OP_NORM, layer);
    op->norm.hidden = c->scratch[card].hidden;
    op->norm.weight = weight;
    op->norm.n = c->model->params.n_embd;
    op->norm.eps = c->model->params.norm_eps;
    op->norm.outputs = outputs;
    op->norm.part = part;
    op->norm.act = with_forms(c->scratch[card].norm, forms);
}

/* Every card of the group has normed its part of the rows and pulls the others'. */
static void share_norm(struct compiler *c, uint32_t group, int32_t layer, uint32_t forms) {
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && group >> src & 1 && src != dst) {
                struct op *op = emit_exchange(c, EXCHANGE_ACTIVATION, src, dst, layer);
                op->exchange.from = part_of(group, src);
                op->exchange.act_from = with_forms(c->scratch[src].norm, forms);
                op->exchange.act_to = with_forms(c->scratch[dst].norm, forms);
            }
    next_phase(c);
}

/* The norm in front of a layer's operation. */
static void norm_group(struct compiler *c, uint32_t group, int32_t layer, uint32_t tensor,
                       uint32_t forms) {
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1)
            emit_norm(c, i, layer, tensor, forms, part_of(group, i), false);
    next_phase(c);
    share_norm(c, group, layer, forms);
}

static void compile_embed(struct compiler *c, const struct model_op *op) {
    const uint32_t table = op->tensor[0];
    const uint32_t readers = group_of(c, 0);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (has(c, i, table)) {
            struct op *e = emit(c, i, OP_EMBED, -1);
            e->embed.embd = matrix_of(c, i, table);
            e->embed.vocab_begin = (uint32_t)c->plan->cards[i].embd_begin;
            e->embed.vocab_end = (uint32_t)c->plan->cards[i].embd_end;
            e->embed.hidden = c->scratch[i].hidden;
            e->embed.scale = c->model->params.embd_scale;
        }
    next_phase(c);
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (readers >> dst & 1 && src != dst && has(c, src, table)) {
                struct op *e = emit_exchange_rows(c, EXCHANGE_TOKENS, src, dst, -1,
                                                  c->scratch[src].hidden, c->scratch[dst].hidden);
                e->exchange.to = part_of(readers, dst);
                e->exchange.vocab_begin = (uint32_t)c->plan->cards[src].embd_begin;
                e->exchange.vocab_end = (uint32_t)c->plan->cards[src].embd_end;
            }
    next_phase(c);
    c->holders = readers;
}

struct kv_place program_kv_place(const struct model *model, const struct plan *plan, uint32_t card,
                                 uint32_t layer) {
    const struct plan_card *pc = &plan->cards[card];
    const uint64_t slot = plan_kv_slot_bytes(plan->kv_type, model->params.head_dim);
    const uint64_t of_page = (pc->kv_end - pc->kv_begin) * slot;
    return (struct kv_place){
        .page_bytes = of_page,
        .offset = (uint64_t)layer * plan->n_pages * of_page,
        .slot_bytes = slot,
        .type = plan->kv_type,
    };
}

static struct kv_place kv_place_of(const struct compiler *c, uint32_t card, int32_t layer) {
    return program_kv_place(c->model, c->plan, card, (uint32_t)layer);
}

static void emit_qkv(struct compiler *c, uint32_t card, const struct model_op *op) {
    const uint32_t q = op->tensor[ATTENTION_Q], k = op->tensor[ATTENTION_K];
    const uint32_t v = op->tensor[ATTENTION_V];
    struct op *e = emit(c, card, OP_QKV, op->layer);
    e->qkv.act = with_forms(c->scratch[card].norm, form_of(c, q) | form_of(c, k) | form_of(c, v));
    e->qkv.q = matrix_of(c, card, q);
    e->qkv.k = matrix_of(c, card, k);
    e->qkv.v = matrix_of(c, card, v);
    e->qkv.out = c->scratch[card].qkv;
}

/* One that a layer may lack, from the card's own heads on. */
static struct vector part_of_vector(struct compiler *c, uint32_t card, uint32_t tensor,
                                    uint32_t head) {
    if (tensor == NO_TENSOR)
        return (struct vector){0};
    return (struct vector){vector_of(c, card, tensor), head * c->model->params.head_dim};
}

static void emit_rope(struct compiler *c, uint32_t card, const struct model_op *op) {
    const struct model_params *p = &c->model->params;
    const struct plan_card *pc = &c->plan->cards[card];
    const uint32_t *t = op->tensor;
    struct op *e = emit(c, card, OP_ROPE_STORE, op->layer);
    e->rope.qkv = c->scratch[card].qkv;
    e->rope.n_heads = pc->head_end - pc->head_begin;
    e->rope.n_kv = pc->own_end - pc->own_begin;
    e->rope.head_dim = p->head_dim;
    e->rope.rope_dims = p->rope.dims;
    e->rope.neox = p->rope.neox;
    e->rope.rope_table = model_windowed(p, (uint32_t)op->layer) ? ROPE_WINDOW : ROPE_ALL;
    e->rope.kv = kv_place_of(c, card, op->layer);
    e->rope.kv_slot = pc->own_begin - pc->kv_begin;
    e->rope.q_bias = part_of_vector(c, card, t[ATTENTION_Q_BIAS], pc->head_begin);
    e->rope.k_bias = part_of_vector(c, card, t[ATTENTION_K_BIAS], pc->own_begin);
    e->rope.v_bias = part_of_vector(c, card, t[ATTENTION_V_BIAS], pc->own_begin);
    e->rope.q_norm = part_of_vector(c, card, t[ATTENTION_Q_NORM], 0);
    e->rope.k_norm = part_of_vector(c, card, t[ATTENTION_K_NORM], 0);
    e->rope.eps = p->norm_eps;
}

/* K and V rows are computed once, by the owner, and copied to the cards that read them. */
static void emit_kv_copies(struct compiler *c, uint32_t group, uint32_t card, int32_t layer) {
    const struct plan_card *pc = &c->plan->cards[card];
    for (uint32_t g = pc->kv_begin; g < pc->kv_end; g++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++) {
            const struct plan_card *from = &c->plan->cards[src];
            if (!(group >> src & 1) || src == card || g < from->own_begin || g >= from->own_end)
                continue;
            struct op *e = emit_exchange(c, EXCHANGE_KV, src, card, layer);
            e->exchange.src_kv = kv_place_of(c, src, layer);
            e->exchange.dst_kv = kv_place_of(c, card, layer);
            e->exchange.src_slot = g - from->kv_begin;
            e->exchange.dst_slot = g - pc->kv_begin;
            e->exchange.head_dim = c->model->params.head_dim;
        }
}

static void emit_attention(struct compiler *c, uint32_t card, int32_t layer, uint32_t out) {
    const struct model_params *p = &c->model->params;
    const struct plan_card *pc = &c->plan->cards[card];
    struct op *e = emit(c, card, OP_ATTENTION, layer);
    e->attention.q = c->scratch[card].qkv;
    e->attention.n_heads = pc->head_end - pc->head_begin;
    e->attention.head_dim = p->head_dim;
    e->attention.head_begin = pc->head_begin;
    e->attention.heads_per_kv = p->n_heads / p->n_kv_heads;
    e->attention.kv_begin = pc->kv_begin;
    e->attention.scale = p->attn_scale > 0 ? p->attn_scale : 1.0f / sqrtf((float)p->head_dim);
    e->attention.soft_cap = p->attn_soft_cap;
    e->attention.window = model_windowed(p, (uint32_t)layer) ? p->window : 0;
    e->attention.kv = kv_place_of(c, card, layer);
    e->attention.act = with_forms(c->scratch[card].attention, form_of(c, out));
}

/* The slots that each card of a group fills: slot_of[card][node], NO_SLOT elsewhere; all[] is their
 * union.  A node none of whose lanes holds a value is absent. */
static void assign_slots(const struct compiler *c, uint32_t group, const uint32_t *edges,
                         int8_t slot_of[CARDS_MAX][TREE_NODES], int8_t all[TREE_NODES]) {
    int8_t n = 0;
    memset(slot_of, NO_SLOT, sizeof(int8_t) * CARDS_MAX * TREE_NODES);
    memset(all, NO_SLOT, TREE_NODES);
    for (uint32_t i = 0; i < c->plan->n_cards; i++) {
        uint8_t nodes[LANES];
        if (!(group >> i & 1))
            continue;
        const uint32_t n_nodes =
            scratch_nodes(c->plan->cards[i].lane_begin, c->plan->cards[i].lane_end, nodes);
        for (uint32_t k = 0; k < n_nodes; k++) {
            const uint32_t width = LANES >> (31 - __builtin_clz(nodes[k]));
            const uint32_t first = nodes[k] * width - LANES;
            if (edges[first] < edges[first + width])
                slot_of[i][nodes[k]] = all[nodes[k]] = n++;
        }
    }
}

static void emit_lanes(struct compiler *c, uint32_t card, int32_t layer, uint32_t tensor,
                       struct activation act, const uint32_t *edges, const int8_t *slots) {
    const struct plan_card *pc = &c->plan->cards[card];
    struct op *e = emit(c, card, OP_LANES, layer);
    e->lanes.act = with_forms(act, form_of(c, tensor));
    e->lanes.w = matrix_of(c, card, tensor);
    e->lanes.lane_begin = pc->lane_begin;
    e->lanes.lane_end = pc->lane_end;
    for (uint32_t l = pc->lane_begin; l <= pc->lane_end; l++)
        e->lanes.col[l] = edges[l] - edges[pc->lane_begin];
    memcpy(e->lanes.slot, slots, TREE_NODES);
    e->lanes.slots = c->scratch[card].slots;
}

static uint64_t slot_at(const struct compiler *c, uint32_t card, int8_t slot) {
    const struct planes slots = c->scratch[card].slots;
    return slots.offset + (uint64_t)slot * c->plan->max_rows * slots.stride * 4;
}

static void emit_pull(struct compiler *c, uint32_t group, uint32_t src, uint32_t dst, int32_t layer,
                      int8_t slot) {
    struct op *op = emit_exchange(c, EXCHANGE_PLANE, src, dst, layer);
    op->exchange.to = part_of(group, dst);
    op->exchange.src_offset = slot_at(c, src, slot);
    op->exchange.dst_offset = slot_at(c, dst, slot);
    op->exchange.row_bytes = (uint64_t)c->scratch[dst].slots.stride * 4;
}

/* Every card of the group pulls the lane sums of the others, of its part of the rows. */
static void pull_lanes(struct compiler *c, uint32_t group, int32_t layer,
                       int8_t slot_of[CARDS_MAX][TREE_NODES]) {
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            for (uint32_t node = 1; node < TREE_NODES; node++)
                if (group >> dst & 1 && src != dst && slot_of[src][node] != NO_SLOT)
                    emit_pull(c, group, src, dst, layer, slot_of[src][node]);
    next_phase(c);
}

/* What the matrices of the operation read. */
static uint32_t forms_read(const struct compiler *c, const struct model_op *op) {
    uint32_t forms = form_of(c, op->tensor[1]) | form_of(c, op->tensor[2]);
    if (op->kind == MODEL_ATTENTION)
        forms |= form_of(c, op->tensor[3]);
    return forms;
}

/* What was summed is normed and added. */
static void add_norms(struct compiler *c, uint32_t group, int32_t layer, uint32_t tensor) {
    for (uint32_t i = 0; i < c->plan->n_cards; i++) {
        if (!(group >> i & 1))
            continue;
        const uint64_t weight = vector_of(c, i, tensor);
        struct op *e = emit(c, i, OP_ADD_NORM, layer);
        e->add_norm.hidden = c->scratch[i].hidden;
        e->add_norm.sum = c->scratch[i].sum;
        e->add_norm.weight = weight;
        e->add_norm.n = c->model->params.n_embd;
        e->add_norm.eps = c->model->params.norm_eps;
        e->add_norm.part = part_of(group, i);
    }
    next_phase(c);
}

/* The lane sums of a row meet on the card whose part it is in, which adds the tree to the hidden
 * row, or keeps it apart where it is normed first. */
static void sum_lanes(struct compiler *c, uint32_t group, const struct model_op *op,
                      bool attention) {
    const uint32_t tensor = op->tensor[attention ? (int)ATTENTION_OUT : (int)FFN_DOWN];
    const uint32_t post = op->tensor[attention ? (int)ATTENTION_POST : (int)FFN_POST];
    const uint32_t *edges = attention ? c->attention_lanes : c->ffn_lanes;
    int8_t slot_of[CARDS_MAX][TREE_NODES], all[TREE_NODES];
    assign_slots(c, group, edges, slot_of, all);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && has(c, i, tensor))
            emit_lanes(c, i, op->layer, tensor,
                       attention ? c->scratch[i].attention : c->scratch[i].ffn, edges, slot_of[i]);
    next_phase(c);
    pull_lanes(c, group, op->layer, slot_of);

    for (uint32_t i = 0; i < c->plan->n_cards; i++) {
        if (!(group >> i & 1))
            continue;
        struct op *e = emit(c, i, OP_COMBINE, op->layer);
        e->combine.out = post == NO_TENSOR ? c->scratch[i].hidden : c->scratch[i].sum;
        e->combine.alone = post != NO_TENSOR;
        e->combine.slots = c->scratch[i].slots;
        memcpy(e->combine.slot, all, TREE_NODES);
        e->combine.n = c->model->params.n_embd;
        e->combine.part = part_of(group, i);
    }
    next_phase(c);
    if (post != NO_TENSOR)
        add_norms(c, group, op->layer, post);
}

static void compile_attention(struct compiler *c, const struct model_op *op) {
    const uint32_t group = group_of(c, op->layer), q = op->tensor[ATTENTION_Q],
                   out = op->tensor[ATTENTION_OUT];
    move_hidden(c, group, op->layer);
    norm_group(c, group, op->layer, op->tensor[0], forms_read(c, op));
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && has(c, i, q))
            emit_qkv(c, i, op);
    next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && has(c, i, q))
            emit_rope(c, i, op);
    next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1)
            emit_kv_copies(c, group, i, op->layer);
    next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && has(c, i, q))
            emit_attention(c, i, op->layer, out);
    next_phase(c);
    sum_lanes(c, group, op, true);
}

static void compile_ffn(struct compiler *c, const struct model_op *op) {
    const uint32_t group = group_of(c, op->layer);
    const uint32_t gate = op->tensor[FFN_GATE], up = op->tensor[FFN_UP],
                   down = op->tensor[FFN_DOWN];
    const uint32_t forms = forms_read(c, op);
    move_hidden(c, group, op->layer);
    norm_group(c, group, op->layer, op->tensor[0], forms);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && has(c, i, gate)) {
            struct op *e = emit(c, i, OP_GATE_UP, op->layer);
            e->gate_up.act = with_forms(c->scratch[i].norm, forms);
            e->gate_up.gate = matrix_of(c, i, gate);
            e->gate_up.up = matrix_of(c, i, up);
            e->gate_up.function = c->model->params.gate;
            e->gate_up.out = with_forms(c->scratch[i].ffn, form_of(c, down));
        }
    next_phase(c);
    sum_lanes(c, group, op, false);
}

/* The hidden rows whose logits are wanted, to every card that computes some. */
static void pull_outputs(struct compiler *c, uint32_t group) {
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && c->holders >> src & 1 && src != dst) {
                struct op *op = emit_exchange_rows(c, EXCHANGE_OUTPUTS, src, dst, -1,
                                                   c->scratch[src].hidden, c->scratch[dst].hidden);
                op->exchange.from = part_of(c->holders, src);
            }
    next_phase(c);
}

static void compile_head(struct compiler *c, const struct model_op *op) {
    const uint32_t norm = op->tensor[0], output = op->tensor[1], forms = form_of(c, output);
    uint32_t group = 0;
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (c->plan->cards[i].vocab_begin < c->plan->cards[i].vocab_end)
            group |= 1u << i;
    pull_outputs(c, group);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1)
            emit_norm(c, i, -1, norm, forms, all_rows, true);
    next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1) {
            struct op *e = emit(c, i, OP_LOGITS, -1);
            e->logits.act = with_forms(c->scratch[i].norm, forms);
            e->logits.w = matrix_of(c, i, output);
            e->logits.out = c->scratch[i].logits;
            e->logits.soft_cap = c->model->params.logit_soft_cap;
        }
    next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1) {
            struct op *e = emit(c, i, OP_EXCHANGE, -1);
            e->exchange.kind = EXCHANGE_LOGITS;
            e->exchange.src = (uint8_t)i;
            e->exchange.dst = CARD_HOST;
            e->exchange.from = e->exchange.to = all_rows;
            e->exchange.src_offset = c->scratch[i].logits.offset;
            e->exchange.src_stride_bytes = (uint64_t)c->scratch[i].logits.stride * 4;
            e->exchange.vocab_begin = (uint32_t)c->plan->cards[i].vocab_begin;
            e->exchange.vocab_end = (uint32_t)c->plan->cards[i].vocab_end;
            e->exchange.row_bytes =
                (c->plan->cards[i].vocab_end - c->plan->cards[i].vocab_begin) * 4;
        }
    next_phase(c);
}

int programs_compile(struct program programs[CARDS_MAX], const struct model *model,
                     const struct plan *plan, struct err *err) {
    struct program made[CARDS_MAX] = {{0}};
    struct compiler c = {.model = model, .plan = plan, .programs = made, .err = err};

    c.ranges = calloc(plan->n_cards * model->n_tensors + 1, sizeof *c.ranges);
    if (!c.ranges)
        return err_set(err, -ENOMEM, "no memory for the index of %zu ranges", plan->n_ranges);
    for (size_t i = 0; i < plan->n_ranges; i++)
        c.ranges[plan->ranges[i].card * model->n_tensors + plan->ranges[i].tensor] =
            &plan->ranges[i];
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        scratch_layout(&c.scratch[i], model, plan, i);
        spills_list(&c.spills[i], model, plan, i);
    }
    model_attention_lanes(&model->params, c.attention_lanes);
    model_ffn_lanes(&model->params, c.ffn_lanes);

    for (size_t i = 0; i < model->n_ops && !c.rc; i++) {
        const struct model_op *op = &model->ops[i];
        switch (op->kind) {
        case MODEL_EMBED:
            compile_embed(&c, op);
            break;
        case MODEL_ATTENTION:
            compile_attention(&c, op);
            break;
        case MODEL_FFN:
            compile_ffn(&c, op);
            break;
        case MODEL_HEAD:
            compile_head(&c, op);
            break;
        }
    }
    free(c.ranges);
    if (!c.rc && spills_fetch(c.spills, made, plan->n_cards))
        c.rc = err_set(err, -ENOMEM, "no memory for the programs' fetches");
    if (c.rc) {
        programs_finish(made);
        return c.rc;
    }
    memcpy(programs, made, sizeof made);
    return 0;
}

void programs_finish(struct program programs[CARDS_MAX]) {
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        free(programs[i].ops);
        programs[i] = (struct program){0};
    }
}
