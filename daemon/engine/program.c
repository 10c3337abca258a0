/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/program.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/compiler.h"
#include "daemon/engine/experts.h"
#include "daemon/placement/layout.h"
#include "octarc/error.h"

static void compile_embed(struct compiler *c, const struct model_op *op) {
    const uint32_t table = op->tensor[0];
    const uint32_t readers = compiler_group_of(c, 0);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (compiler_has(c, i, table)) {
            struct op *e = compiler_emit(c, i, OP_EMBED, -1);
            e->embed.embd = compiler_matrix_of(c, i, table);
            e->embed.vocab_begin = (uint32_t)c->plan->cards[i].embd_begin;
            e->embed.vocab_end = (uint32_t)c->plan->cards[i].embd_end;
            e->embed.hidden = c->scratch[i].hidden;
            e->embed.scale = c->model->params.embd_scale;
        }
    compiler_next_phase(c);
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (readers >> dst & 1 && src != dst && compiler_has(c, src, table)) {
                struct op *e =
                    compiler_emit_exchange_rows(c, EXCHANGE_TOKENS, src, dst, -1,
                                                c->scratch[src].hidden, c->scratch[dst].hidden);
                e->exchange.to = compiler_part_of(readers, dst);
                e->exchange.vocab_begin = (uint32_t)c->plan->cards[src].embd_begin;
                e->exchange.vocab_end = (uint32_t)c->plan->cards[src].embd_end;
            }
    compiler_next_phase(c);
    c->holders = readers;
}

struct kv_place program_kv_place(const struct model *model, const struct plan *plan, uint32_t card,
                                 uint32_t layer) {
    const struct plan_card *pc = &plan->cards[card];
    const uint64_t slot = plan_kv_slot_bytes(plan->kv_type, model->params.head_dim);
    const uint64_t of_page = (pc->kv_end - pc->kv_begin) * slot;
    return (struct kv_place){
        .page_bytes = of_page,
        .offset = layout_kv_at(plan, &model->params, card, layer),
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
    struct op *e = compiler_emit(c, card, OP_QKV, op->layer);
    e->qkv.act =
        compiler_with_forms(c->scratch[card].norm, compiler_form_of(c, q) | compiler_form_of(c, k) |
                                                       compiler_form_of(c, v));
    e->qkv.q = compiler_matrix_of(c, card, q);
    e->qkv.k = compiler_matrix_of(c, card, k);
    e->qkv.v = compiler_matrix_of(c, card, v);
    e->qkv.out = c->scratch[card].qkv;
}

/* Of a vector of heads, from the card's own on. */
static struct vector heads_of(struct compiler *c, uint32_t card, uint32_t tensor, uint32_t head) {
    return compiler_vector_from(c, card, tensor, head * c->model->params.head_dim);
}

static void emit_rope(struct compiler *c, uint32_t card, const struct model_op *op) {
    const struct model_params *p = &c->model->params;
    const struct plan_card *pc = &c->plan->cards[card];
    const uint32_t *t = op->tensor;
    struct op *e = compiler_emit(c, card, OP_ROPE_STORE, op->layer);
    e->rope.qkv = c->scratch[card].qkv;
    e->rope.n_heads = pc->head_end - pc->head_begin;
    e->rope.n_kv = pc->own_end - pc->own_begin;
    e->rope.head_dim = p->head_dim;
    e->rope.rope_dims = p->rope.dims;
    e->rope.neox = p->rope.neox;
    e->rope.rope_table = model_windowed(p, (uint32_t)op->layer) ? ROPE_WINDOW : ROPE_ALL;
    e->rope.kv = kv_place_of(c, card, op->layer);
    e->rope.kv_slot = pc->own_begin - pc->kv_begin;
    e->rope.q_bias = heads_of(c, card, t[ATTENTION_Q_BIAS], pc->head_begin);
    e->rope.k_bias = heads_of(c, card, t[ATTENTION_K_BIAS], pc->own_begin);
    e->rope.v_bias = heads_of(c, card, t[ATTENTION_V_BIAS], pc->own_begin);
    e->rope.q_norm = heads_of(c, card, t[ATTENTION_Q_NORM], 0);
    e->rope.k_norm = heads_of(c, card, t[ATTENTION_K_NORM], 0);
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
            struct op *e = compiler_emit_exchange(c, EXCHANGE_KV, src, card, layer);
            e->exchange.src_kv = kv_place_of(c, src, layer);
            e->exchange.dst_kv = kv_place_of(c, card, layer);
            e->exchange.src_slot = g - from->kv_begin;
            e->exchange.dst_slot = g - pc->kv_begin;
            e->exchange.head_dim = c->model->params.head_dim;
        }
}

static void emit_attention(struct compiler *c, uint32_t card, const struct model_op *op) {
    const struct model_params *p = &c->model->params;
    const struct plan_card *pc = &c->plan->cards[card];
    const int32_t layer = op->layer;
    const struct vector sinks =
        compiler_vector_from(c, card, op->tensor[ATTENTION_SINKS], pc->head_begin);
    struct op *e = compiler_emit(c, card, OP_ATTENTION, layer);
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
    e->attention.sinks = sinks;
    e->attention.act = compiler_with_forms(c->scratch[card].attention,
                                           compiler_form_of(c, op->tensor[ATTENTION_OUT]));
}

static void emit_lanes(struct compiler *c, uint32_t card, int32_t layer, uint32_t tensor,
                       struct activation act, const uint32_t *edges, const int8_t *slots) {
    const struct plan_card *pc = &c->plan->cards[card];
    struct op *e = compiler_emit(c, card, OP_LANES, layer);
    e->lanes.act = compiler_with_forms(act, compiler_form_of(c, tensor));
    e->lanes.w = compiler_matrix_of(c, card, tensor);
    e->lanes.lane_begin = pc->lane_begin;
    e->lanes.lane_end = pc->lane_end;
    for (uint32_t l = pc->lane_begin; l <= pc->lane_end; l++)
        e->lanes.col[l] = edges[l] - edges[pc->lane_begin];
    memcpy(e->lanes.slot, slots, TREE_NODES);
    e->lanes.slots = c->scratch[card].slots;
}

/* What the matrices of the operation read. */
static uint32_t forms_read(const struct compiler *c, const struct model_op *op) {
    uint32_t forms = compiler_form_of(c, op->tensor[1]) | compiler_form_of(c, op->tensor[2]);
    if (op->kind == MODEL_ATTENTION)
        forms |= compiler_form_of(c, op->tensor[3]);
    return forms;
}

/* The lane sums of a row meet on the card whose part it is in, which adds the tree to the hidden
 * row, or keeps it apart where it is normed first. */
static void sum_lanes(struct compiler *c, uint32_t group, const struct model_op *op,
                      bool attention) {
    const uint32_t tensor = op->tensor[attention ? (int)ATTENTION_OUT : (int)FFN_DOWN];
    const uint32_t post = op->tensor[attention ? (int)ATTENTION_POST : (int)FFN_POST];
    const uint32_t bias = attention ? op->tensor[ATTENTION_OUT_BIAS] : NO_TENSOR;
    const uint32_t *edges = attention ? c->attention_lanes : c->ffn_lanes;
    int8_t slot_of[CARDS_MAX][TREE_NODES], all[TREE_NODES];
    compiler_assign_slots(c, group, edges, slot_of, all);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && compiler_has(c, i, tensor))
            emit_lanes(c, i, op->layer, tensor,
                       attention ? c->scratch[i].attention : c->scratch[i].ffn, edges, slot_of[i]);
    compiler_next_phase(c);
    compiler_add_lanes(c, group, op->layer, slot_of, all, bias, post);
}

static void compile_attention(struct compiler *c, const struct model_op *op) {
    const uint32_t group = compiler_group_of(c, op->layer), q = op->tensor[ATTENTION_Q];
    compiler_move_hidden(c, group, op->layer);
    compiler_norm_group(c, group, op->layer, op->tensor[0], forms_read(c, op));
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && compiler_has(c, i, q))
            emit_qkv(c, i, op);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && compiler_has(c, i, q))
            emit_rope(c, i, op);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1)
            emit_kv_copies(c, group, i, op->layer);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && compiler_has(c, i, q))
            emit_attention(c, i, op);
    compiler_next_phase(c);
    sum_lanes(c, group, op, true);
}

static void compile_ffn(struct compiler *c, const struct model_op *op) {
    const uint32_t group = compiler_group_of(c, op->layer);
    const uint32_t gate = op->tensor[FFN_GATE], up = op->tensor[FFN_UP],
                   down = op->tensor[FFN_DOWN];
    const uint32_t forms = forms_read(c, op);
    compiler_move_hidden(c, group, op->layer);
    compiler_norm_group(c, group, op->layer, op->tensor[0], forms);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1 && compiler_has(c, i, gate)) {
            struct op *e = compiler_emit(c, i, OP_GATE_UP, op->layer);
            e->gate_up.act = compiler_with_forms(c->scratch[i].norm, forms);
            e->gate_up.gate = compiler_matrix_of(c, i, gate);
            e->gate_up.up = compiler_matrix_of(c, i, up);
            e->gate_up.function = c->model->params.gate;
            e->gate_up.out = compiler_with_forms(c->scratch[i].ffn, compiler_form_of(c, down));
            e->gate_up.apart = c->scratch[i].apart;
        }
    compiler_next_phase(c);
    sum_lanes(c, group, op, false);
}

/* The hidden rows whose logits are wanted, to every card that computes some. */
static void pull_outputs(struct compiler *c, uint32_t group) {
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && c->holders >> src & 1 && src != dst) {
                struct op *op =
                    compiler_emit_exchange_rows(c, EXCHANGE_OUTPUTS, src, dst, -1,
                                                c->scratch[src].hidden, c->scratch[dst].hidden);
                op->exchange.from = compiler_part_of(c->holders, src);
            }
    compiler_next_phase(c);
}

static void compile_head(struct compiler *c, const struct model_op *op) {
    const uint32_t norm = op->tensor[0], output = op->tensor[1],
                   forms = compiler_form_of(c, output);
    uint32_t group = 0;
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (c->plan->cards[i].vocab_begin < c->plan->cards[i].vocab_end)
            group |= 1u << i;
    pull_outputs(c, group);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1)
            compiler_emit_norm(c, i, -1, norm, forms, all_rows, true);
    compiler_next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1) {
            struct op *e = compiler_emit(c, i, OP_LOGITS, -1);
            e->logits.act = compiler_with_forms(c->scratch[i].norm, forms);
            e->logits.w = compiler_matrix_of(c, i, output);
            e->logits.out = c->scratch[i].logits;
            e->logits.soft_cap = c->model->params.logit_soft_cap;
        }
    compiler_next_phase(c);
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1) {
            struct op *e = compiler_emit(c, i, OP_EXCHANGE, -1);
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
    compiler_next_phase(c);
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
        case MODEL_EXPERTS:
            experts_compile(&c, op);
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
