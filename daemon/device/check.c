/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/device/pack.h"
#include "octarc/error.h"

uint32_t check_unit_heads(uint32_t head_dim) {
    for (uint32_t n = 1; n <= UNIT_HEADS_MAX && n * head_dim <= UNIT_VALUES_MAX; n++)
        if (n * head_dim % ATOM == 0)
            return n;
    return 0;
}

#define LIMIT_TEXT_MAX 96

/* The first limit that is passed is told by name; all else that is wrong is a mistake of ours, or
 * of whoever sent the plan. */
struct checker {
    const struct check_box *box;
    uint32_t card;
    bool bad;
    char limit[LIMIT_TEXT_MAX];
};

static void at_most(struct checker *c, const char *what, uint64_t n, uint64_t most) {
    if (n <= most)
        return;
    c->bad = true;
    if (!c->limit[0])
        snprintf(c->limit, sizeof c->limit, "%s: %llu, at most %llu", what, (unsigned long long)n,
                 (unsigned long long)most);
}

static void inside(struct checker *c, uint32_t card, enum area area, uint64_t offset,
                   uint64_t bytes) {
    if (card >= c->box->n_cards) {
        c->bad = true;
        return;
    }
    const uint64_t room = c->box->cards[card].room[area];
    if (room == 0 || offset > room || bytes > room - offset)
        c->bad = true;
}

static void check_matrix(struct checker *c, const struct matrix *w) {
    if (w->rows == 0)
        return;
    const uint64_t bytes = pack_bytes(w->type, false, w->rows, w->cols);
    if (pack_atom_bytes(w->type) == 0 || w->offset % 64)
        c->bad = true;
    inside(c, c->card, AREA_WEIGHTS, w->offset, bytes);
    if (w->fetched) {
        inside(c, c->card, AREA_LANDING, w->landing, bytes);
        if (w->landing > w->offset || (w->offset - w->landing) % LANDING_BLOCK)
            c->bad = true;
    } else if (w->offset + bytes > c->box->cards[c->card].on_card) {
        c->bad = true;
    }
}

static void check_fetch(struct checker *c, const struct op *op) {
    inside(c, c->card, AREA_WEIGHTS, op->fetch.from, op->fetch.bytes);
    inside(c, c->card, AREA_LANDING, op->fetch.to, op->fetch.bytes);
    if (op->fetch.from < c->box->cards[c->card].on_card || op->fetch.from % LANDING_BLOCK ||
        op->fetch.to % LANDING_BLOCK || op->fetch.bytes % LANDING_BLOCK)
        c->bad = true;
}

static void check_vector(struct checker *c, uint32_t card, struct vector v, uint64_t n) {
    if (v.offset)
        inside(c, card, AREA_WEIGHTS, v.offset, (v.begin + n) * sizeof(float));
}

static void check_rows(struct checker *c, struct rows rows, uint64_t n_rows, uint32_t width) {
    if (width > rows.stride)
        c->bad = true;
    inside(c, c->card, AREA_SCRATCH, rows.offset, n_rows * rows.stride * 4);
}

static void check_part(struct checker *c, struct row_part part) {
    if (part.index >= part.count || part.count > CARDS_MAX)
        c->bad = true;
}

static void check_act_rows(struct checker *c, uint32_t card, const struct activation *act,
                           uint32_t cols, uint64_t n_rows) {
    const uint64_t n = n_rows * act->cols;
    if (act->cols % ATOM || cols > act->cols || act->forms == 0)
        c->bad = true;
    if (act->forms & FORM_Q8) {
        inside(c, card, AREA_SCRATCH, act->q8, n);
        inside(c, card, AREA_SCRATCH, act->scale, n / ATOM * 4);
        inside(c, card, AREA_SCRATCH, act->sum, n / ATOM * 4);
    }
    if (act->forms & FORM_F32)
        inside(c, card, AREA_SCRATCH, act->f32, n * 4);
}

static void check_act(struct checker *c, uint32_t card, const struct activation *act,
                      uint32_t cols) {
    check_act_rows(c, card, act, cols, c->box->max_rows);
}

static void check_slots(struct checker *c, struct planes slots, const int8_t slot[TREE_NODES],
                        uint32_t n) {
    const struct rows rows = {slots.offset, slots.stride};
    c->bad |= slots.stride % TILE != 0;
    for (int i = 1; i < TREE_NODES; i++)
        if (slot[i] != NO_SLOT)
            check_rows(c, rows, ((uint64_t)slot[i] + 1) * c->box->max_rows, n);
}

static void check_kv(struct checker *c, uint32_t card, const struct kv_place *kv, uint32_t slots) {
    if (slots * kv->slot_bytes > kv->page_bytes)
        c->bad = true;
    inside(c, card, AREA_KV, kv->offset, kv->page_bytes);
}

static void check_exchange(struct checker *c, const struct op *op) {
    const uint64_t n = c->box->max_rows;
    const uint8_t src = op->exchange.src, dst = op->exchange.dst;
    const bool to_host = op->exchange.kind == EXCHANGE_LOGITS;
    check_part(c, op->exchange.from);
    check_part(c, op->exchange.to);
    if (src >= c->box->n_cards || src == dst || (dst >= c->box->n_cards && !to_host)) {
        c->bad = true;
    } else if (op->exchange.kind == EXCHANGE_KV) {
        check_kv(c, src, &op->exchange.src_kv, op->exchange.src_slot + 1);
        check_kv(c, dst, &op->exchange.dst_kv, op->exchange.dst_slot + 1);
    } else if (op->exchange.kind == EXCHANGE_ACTIVATION) {
        const struct activation *from = &op->exchange.act_from, *to = &op->exchange.act_to;
        check_act(c, src, from, to->cols);
        check_act(c, dst, to, from->cols);
        c->bad |= (to->forms & ~from->forms) != 0;
    } else if (op->exchange.kind == EXCHANGE_PLANE) {
        inside(c, src, AREA_SCRATCH, op->exchange.src_offset, n * op->exchange.row_bytes);
        inside(c, dst, AREA_SCRATCH, op->exchange.dst_offset, n * op->exchange.row_bytes);
    } else {
        inside(c, src, AREA_SCRATCH, op->exchange.src_offset,
               (to_host ? 0 : (n - 1) * op->exchange.src_stride_bytes) + op->exchange.row_bytes);
        if (!to_host)
            inside(c, dst, AREA_SCRATCH, op->exchange.dst_offset,
                   (n - 1) * op->exchange.dst_stride_bytes + op->exchange.row_bytes);
    }
}

static void check_routes(struct checker *c, const struct routes *routes) {
    c->bad |= routes->n_used == 0;
    at_most(c, "experts that a row uses", routes->n_used, USED_MAX);
    check_rows(c, routes->rows, c->box->max_rows, routes_width(routes->n_used));
}

/* Rows of a matrix that holds those of each expert. */
static void check_experts(struct checker *c, const struct matrix *w, const struct hits *hits) {
    check_matrix(c, w);
    at_most(c, "experts of a card", hits->n_experts, EXPERTS_MAX);
    if (hits->n_experts == 0 || w->rows % ((uint64_t)hits->n_experts * TILE) || w->rows == 0)
        c->bad = true;
    inside(c, c->card, AREA_SCRATCH, hits->offset, hits_bytes(*hits));
}

static void check_route(struct checker *c, const struct op *op) {
    check_matrix(c, &op->route.router);
    check_act(c, c->card, &op->route.act, op->route.router.cols);
    check_part(c, op->route.part);
    check_routes(c, &op->route.routes);
    check_vector(c, c->card, op->route.shared, op->route.router.cols);
    check_vector(c, c->card, op->route.bias, op->route.router.rows);
    c->bad |= op->route.shared.offset && !(op->route.act.forms & FORM_F32);
    at_most(c, "experts of a layer", op->route.router.rows, EXPERTS_MAX);
    c->bad |= op->route.routes.n_used > op->route.router.rows;
}

static void check_expert_gate_up(struct checker *c, const struct op *op) {
    const struct hits *hits = &op->expert_gate_up.hits;
    check_experts(c, &op->expert_gate_up.gate, hits);
    check_experts(c, &op->expert_gate_up.up, hits);
    check_act(c, c->card, &op->expert_gate_up.act, op->expert_gate_up.gate.cols);
    check_vector(c, c->card, op->expert_gate_up.gate_bias, op->expert_gate_up.gate.rows);
    check_vector(c, c->card, op->expert_gate_up.up_bias, op->expert_gate_up.up.rows);
    c->bad |= op->expert_gate_up.function > GATE_LIMITED;
    if (!c->bad)
        check_act_rows(c, c->card, &op->expert_gate_up.out,
                       op->expert_gate_up.gate.rows / hits->n_experts, hits->n_rows);
}

static void check_expert_down(struct checker *c, const struct op *op) {
    const struct hits *hits = &op->expert_down.hits;
    const uint32_t begin = op->expert_down.lane_begin, end = op->expert_down.lane_end;
    check_routes(c, &op->expert_down.routes);
    if (op->expert_down.w.rows) {
        check_experts(c, &op->expert_down.w, hits);
        check_act_rows(c, c->card, &op->expert_down.act, op->expert_down.w.cols, hits->n_rows);
        check_vector(c, c->card, op->expert_down.bias,
                     (uint64_t)hits->n_experts * op->expert_down.n);
    }
    if (op->expert_down.shared.rows) {
        check_matrix(c, &op->expert_down.shared);
        check_act(c, c->card, &op->expert_down.shared_act, op->expert_down.shared.cols);
    }
    c->bad |= begin >= end || end > LANES || op->expert_down.expert[end] != hits->n_experts ||
              (hits->n_experts == 0) != (op->expert_down.w.rows == 0);
    check_slots(c, op->expert_down.slots, op->expert_down.slot, op->expert_down.n);
}

static void check_expert_op(struct checker *c, const struct op *op) {
    if (op->kind == OP_ROUTE) {
        check_route(c, op);
    } else if (op->kind == OP_EXPERT_GATE_UP) {
        check_expert_gate_up(c, op);
    } else if (op->kind == OP_EXPERT_DOWN) {
        check_expert_down(c, op);
    } else {
        const struct hits *hits = &op->dispatch.hits;
        check_routes(c, &op->dispatch.routes);
        inside(c, c->card, AREA_SCRATCH, hits->offset, hits_bytes(*hits));
        at_most(c, "experts of a card", hits->n_experts, EXPERTS_MAX);
    }
}

static void check_heads(struct checker *c, uint32_t head_dim) {
    at_most(c, "values of a head", head_dim, HEAD_DIM_MAX);
    c->bad |= check_unit_heads(head_dim) == 0;
}

/* false: it is not; limit: which one it passes, or "". */
static bool op_is_sound(const struct check_box *box, uint32_t card, const struct op *op,
                        char limit[LIMIT_TEXT_MAX]) {
    struct checker c = {.box = box, .card = card};
    const uint64_t n = box->max_rows;
    switch (op->kind) {
    case OP_EMBED:
        check_matrix(&c, &op->embed.embd);
        check_rows(&c, op->embed.hidden, n, op->embed.embd.cols);
        break;
    case OP_NORM:
        check_part(&c, op->norm.part);
        check_rows(&c, op->norm.hidden, n, op->norm.n);
        inside(&c, card, AREA_WEIGHTS, op->norm.weight, (uint64_t)op->norm.n * 4);
        check_act(&c, card, &op->norm.act, op->norm.n);
        break;
    case OP_QKV:
        check_matrix(&c, &op->qkv.q);
        check_matrix(&c, &op->qkv.k);
        check_matrix(&c, &op->qkv.v);
        check_act(&c, card, &op->qkv.act, op->qkv.q.cols);
        check_rows(&c, op->qkv.out, n, op->qkv.q.rows + op->qkv.k.rows + op->qkv.v.rows);
        break;
    case OP_ROPE_STORE:
        check_rows(&c, op->rope.qkv, n, (op->rope.n_heads + 2 * op->rope.n_kv) * op->rope.head_dim);
        check_kv(&c, card, &op->rope.kv, op->rope.kv_slot + op->rope.n_kv);
        check_vector(&c, card, op->rope.q_bias, op->rope.n_heads * op->rope.head_dim);
        check_vector(&c, card, op->rope.k_bias, op->rope.n_kv * op->rope.head_dim);
        check_vector(&c, card, op->rope.v_bias, op->rope.n_kv * op->rope.head_dim);
        check_vector(&c, card, op->rope.q_norm, op->rope.head_dim);
        check_vector(&c, card, op->rope.k_norm, op->rope.head_dim);
        c.bad |= op->rope.rope_dims > op->rope.head_dim || op->rope.rope_table >= ROPE_TABLES_MAX;
        break;
    case OP_ATTENTION:
        check_rows(&c, op->attention.q, n, op->attention.n_heads * op->attention.head_dim);
        check_act(&c, card, &op->attention.act, op->attention.n_heads * op->attention.head_dim);
        check_kv(&c, card, &op->attention.kv, 1);
        check_vector(&c, card, op->attention.sinks, op->attention.n_heads);
        check_heads(&c, op->attention.head_dim);
        break;
    case OP_LANES:
        check_matrix(&c, &op->lanes.w);
        check_act(&c, card, &op->lanes.act, op->lanes.w.cols);
        check_slots(&c, op->lanes.slots, op->lanes.slot, op->lanes.w.rows);
        break;
    case OP_COMBINE:
        check_part(&c, op->combine.part);
        check_rows(&c, op->combine.out, n, op->combine.n);
        check_slots(&c, op->combine.slots, op->combine.slot, op->combine.n);
        check_vector(&c, card, op->combine.bias, op->combine.n);
        break;
    case OP_ADD_NORM:
        check_part(&c, op->add_norm.part);
        check_rows(&c, op->add_norm.hidden, n, op->add_norm.n);
        check_rows(&c, op->add_norm.sum, n, op->add_norm.n);
        inside(&c, card, AREA_WEIGHTS, op->add_norm.weight, (uint64_t)op->add_norm.n * 4);
        break;
    case OP_GATE_UP:
        check_matrix(&c, &op->gate_up.gate);
        check_matrix(&c, &op->gate_up.up);
        check_act(&c, card, &op->gate_up.act, op->gate_up.gate.cols);
        check_act(&c, card, &op->gate_up.out, op->gate_up.gate.rows);
        c.bad |= op->gate_up.function > GATE_LIMITED;
        break;
    case OP_LOGITS:
        check_matrix(&c, &op->logits.w);
        check_act(&c, card, &op->logits.act, op->logits.w.cols);
        check_rows(&c, op->logits.out, 1, op->logits.w.rows);
        break;
    case OP_ROUTE:
    case OP_DISPATCH:
    case OP_EXPERT_GATE_UP:
    case OP_EXPERT_DOWN:
        check_expert_op(&c, op);
        break;
    case OP_EXCHANGE:
        check_exchange(&c, op);
        break;
    case OP_FETCH:
        check_fetch(&c, op);
        break;
    }
    memcpy(limit, c.limit, LIMIT_TEXT_MAX);
    return !c.bad;
}

static int check_op(const struct check_box *box, uint32_t card, const struct program *program,
                    size_t i, struct err *err) {
    const struct op *op = &program->ops[i];
    char limit[LIMIT_TEXT_MAX] = "";
    if (box->cards[card].present && op_is_sound(box, card, op, limit) &&
        (i == 0 || op->phase >= op[-1].phase))
        return 0;
    if (limit[0])
        return err_set(err, -ENOTSUP, "layer %d on card %u: %s", op->layer, card, limit);
    return err_set(err, -EINVAL,
                   "program of card %u: operation %zu (kind %d, layer %d) is not sound", card, i,
                   (int)op->kind, op->layer);
}

int programs_check(const struct check_box *box, const struct program *programs, struct err *err) {
    int rc = 0;
    for (uint32_t card = 0; card < box->n_cards; card++)
        for (size_t i = 0; i < programs[card].n_ops && !rc; i++)
            rc = check_op(box, card, &programs[card], i, err);
    return rc;
}
