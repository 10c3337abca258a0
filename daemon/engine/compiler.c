/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/compiler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"

/* Add an operation to a card's program in the current phase. */
struct op *compiler_emit(struct compiler *c, uint32_t card, enum op_kind kind, int32_t layer) {
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
void compiler_next_phase(struct compiler *c) {
    c->phase += c->phase_used;
    c->phase_used = false;
}

bool compiler_has(const struct compiler *c, uint32_t card, uint32_t tensor) {
    return c->ranges[card * c->model->n_tensors + tensor] != NULL;
}

/* A card's range of a tensor as a matrix; rows 0 when it holds nothing of it. */
struct matrix compiler_matrix_of(const struct compiler *c, uint32_t card, uint32_t tensor) {
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
uint64_t compiler_vector_of(struct compiler *c, uint32_t card, uint32_t tensor) {
    const struct plan_range *r = c->ranges[card * c->model->n_tensors + tensor];
    if (!r) {
        if (!c->rc)
            c->rc = err_set(c->err, -EINVAL, "the plan gives card %u no '%s', which it needs", card,
                            c->model->tensors[tensor].name);
        return 0;
    }
    return r->offset;
}

struct vector compiler_vector_from(struct compiler *c, uint32_t card, uint32_t tensor,
                                   uint32_t begin) {
    if (tensor == NO_TENSOR)
        return (struct vector){0};
    return (struct vector){compiler_vector_of(c, card, tensor), begin};
}

uint32_t compiler_form_of(const struct compiler *c, uint32_t tensor) {
    return scratch_form(c->model->tensors[tensor].type);
}

struct activation compiler_with_forms(struct activation act, uint32_t forms) {
    act.forms &= forms;
    return act;
}

uint32_t compiler_group_of(const struct compiler *c, int32_t layer) {
    uint32_t group = 0;
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (c->plan->cards[i].layer_begin <= (uint32_t)layer &&
            (uint32_t)layer < c->plan->cards[i].layer_end)
            group |= 1u << i;
    return group;
}

/* The rows that a card of a group works on where the work is a row's own. */
struct row_part compiler_part_of(uint32_t group, uint32_t card) {
    return (struct row_part){(uint8_t)__builtin_popcount(group & ((1u << card) - 1)),
                             (uint8_t)__builtin_popcount(group)};
}

struct op *compiler_emit_exchange(struct compiler *c, enum exchange_kind kind, uint32_t src,
                                  uint32_t dst, int32_t layer) {
    struct op *op = compiler_emit(c, dst, OP_EXCHANGE, layer);
    op->exchange.kind = kind;
    op->exchange.src = (uint8_t)src;
    op->exchange.dst = (uint8_t)dst;
    op->exchange.from = op->exchange.to = all_rows;
    return op;
}

/* Rows of n_embd values. */
struct op *compiler_emit_exchange_rows(struct compiler *c, enum exchange_kind kind, uint32_t src,
                                       uint32_t dst, int32_t layer, struct rows from,
                                       struct rows to) {
    struct op *op = compiler_emit_exchange(c, kind, src, dst, layer);
    op->exchange.src_offset = from.offset;
    op->exchange.dst_offset = to.offset;
    op->exchange.row_bytes = (uint64_t)c->model->params.n_embd * 4;
    op->exchange.src_stride_bytes = (uint64_t)from.stride * 4;
    op->exchange.dst_stride_bytes = (uint64_t)to.stride * 4;
    return op;
}

/* Bring to every card of the group the hidden rows of its part. */
void compiler_move_hidden(struct compiler *c, uint32_t group, int32_t layer) {
    if (c->holders == group)
        return;
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && c->holders >> src & 1 && src != dst) {
                struct op *op =
                    compiler_emit_exchange_rows(c, EXCHANGE_ROWS, src, dst, layer,
                                                c->scratch[src].hidden, c->scratch[dst].hidden);
                op->exchange.from = compiler_part_of(c->holders, src);
                op->exchange.to = compiler_part_of(group, dst);
            }
    compiler_next_phase(c);
    c->holders = group;
}

void compiler_emit_norm(struct compiler *c, uint32_t card, int32_t layer, uint32_t tensor,
                        uint32_t forms, struct row_part part, bool outputs) {
    const uint64_t weight = compiler_vector_of(c, card, tensor);
    struct op *op = compiler_emit(c, card, OP_NORM, layer);
    op->norm.hidden = c->scratch[card].hidden;
    op->norm.weight = weight;
    op->norm.n = c->model->params.n_embd;
    op->norm.eps = c->model->params.norm_eps;
    op->norm.outputs = outputs;
    op->norm.part = part;
    op->norm.act = compiler_with_forms(c->scratch[card].norm, forms);
}

/* Every card of the group has normed its part of the rows and pulls the others'. */
void compiler_emit_shared_norm(struct compiler *c, uint32_t group, int32_t layer, uint32_t forms) {
    for (uint32_t dst = 0; dst < c->plan->n_cards; dst++)
        for (uint32_t src = 0; src < c->plan->n_cards; src++)
            if (group >> dst & 1 && group >> src & 1 && src != dst) {
                struct op *op = compiler_emit_exchange(c, EXCHANGE_ACTIVATION, src, dst, layer);
                op->exchange.from = compiler_part_of(group, src);
                op->exchange.act_from = compiler_with_forms(c->scratch[src].norm, forms);
                op->exchange.act_to = compiler_with_forms(c->scratch[dst].norm, forms);
            }
}

/* The norm in front of a layer's operation. */
void compiler_norm_group(struct compiler *c, uint32_t group, int32_t layer, uint32_t tensor,
                         uint32_t forms) {
    for (uint32_t i = 0; i < c->plan->n_cards; i++)
        if (group >> i & 1)
            compiler_emit_norm(c, i, layer, tensor, forms, compiler_part_of(group, i), false);
    compiler_next_phase(c);
    compiler_emit_shared_norm(c, group, layer, forms);
    compiler_next_phase(c);
}

/* The slots that each card of a group fills: slot_of[card][node], NO_SLOT elsewhere; all[] is their
 * union.  A node none of whose lanes holds a value is absent. */
void compiler_assign_slots(const struct compiler *c, uint32_t group, const uint32_t *edges,
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

static uint64_t slot_at(const struct compiler *c, uint32_t card, int8_t slot) {
    const struct planes slots = c->scratch[card].slots;
    return slots.offset + (uint64_t)slot * c->plan->max_rows * slots.stride * 4;
}

static void emit_pull(struct compiler *c, uint32_t group, uint32_t src, uint32_t dst, int32_t layer,
                      int8_t slot) {
    struct op *op = compiler_emit_exchange(c, EXCHANGE_PLANE, src, dst, layer);
    op->exchange.to = compiler_part_of(group, dst);
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
    compiler_next_phase(c);
}

/* What was summed is normed and added. */
static void add_norms(struct compiler *c, uint32_t group, int32_t layer, uint32_t tensor) {
    for (uint32_t i = 0; i < c->plan->n_cards; i++) {
        if (!(group >> i & 1))
            continue;
        const uint64_t weight = compiler_vector_of(c, i, tensor);
        struct op *e = compiler_emit(c, i, OP_ADD_NORM, layer);
        e->add_norm.hidden = c->scratch[i].hidden;
        e->add_norm.sum = c->scratch[i].sum;
        e->add_norm.weight = weight;
        e->add_norm.n = c->model->params.n_embd;
        e->add_norm.eps = c->model->params.norm_eps;
        e->add_norm.part = compiler_part_of(group, i);
    }
    compiler_next_phase(c);
}

void compiler_add_lanes(struct compiler *c, uint32_t group, int32_t layer,
                        int8_t slot_of[CARDS_MAX][TREE_NODES], const int8_t all[TREE_NODES],
                        uint32_t bias, uint32_t post) {
    pull_lanes(c, group, layer, slot_of);
    for (uint32_t i = 0; i < c->plan->n_cards; i++) {
        if (!(group >> i & 1))
            continue;
        const struct vector add = compiler_vector_from(c, i, bias, 0);
        struct op *e = compiler_emit(c, i, OP_COMBINE, layer);
        e->combine.out = post == NO_TENSOR ? c->scratch[i].hidden : c->scratch[i].sum;
        e->combine.alone = post != NO_TENSOR;
        e->combine.slots = c->scratch[i].slots;
        memcpy(e->combine.slot, all, TREE_NODES);
        e->combine.n = c->model->params.n_embd;
        e->combine.bias = add;
        e->combine.part = compiler_part_of(group, i);
    }
    compiler_next_phase(c);
    if (post != NO_TENSOR)
        add_norms(c, group, layer, post);
}
