/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/traffic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Rows of which an exchange copies so many bytes each. */
struct carry {
    enum exchange_kind kind; /* says which rows: of the parts, outputs, tokens */
    uint8_t src, dst;
    struct row_part from, to;
    uint32_t vocab_begin, vocab_end;
    uint64_t row_bytes; /* of all exchanges that are like this one */
};

static uint64_t activation_row(const struct activation *act) {
    uint64_t bytes = 0;
    if (act->forms & FORM_Q8)
        bytes += act->cols + (uint64_t)act->cols / ATOM * 8;
    if (act->forms & FORM_F32)
        bytes += (uint64_t)act->cols * 4;
    return bytes;
}

/* A slot is K and V of PAGE_TOKENS positions. */
static uint64_t row_bytes(const struct op *op) {
    switch (op->exchange.kind) {
    case EXCHANGE_KV:
        return op->exchange.src_kv.slot_bytes / PAGE_TOKENS;
    case EXCHANGE_ACTIVATION:
        return activation_row(&op->exchange.act_to);
    default:
        return op->exchange.row_bytes;
    }
}

static struct carry carry_of(const struct op *op) {
    struct carry c;
    memset(&c, 0, sizeof c); /* it is compared as bytes */
    const bool tokens = op->exchange.kind == EXCHANGE_TOKENS;
    const bool picks = tokens || op->exchange.kind == EXCHANGE_OUTPUTS;
    c.kind = picks ? op->exchange.kind : EXCHANGE_ROWS;
    c.src = op->exchange.src;
    c.dst = op->exchange.dst;
    c.from = op->exchange.from;
    c.to = op->exchange.to;
    c.vocab_begin = tokens ? op->exchange.vocab_begin : 0;
    c.vocab_end = tokens ? op->exchange.vocab_end : 0;
    return c;
}

static int add_op(struct traffic *t, const struct op *op) {
    const struct carry like = carry_of(op);
    for (size_t i = 0; i < t->n; i++) {
        struct carry other = t->all[i];
        other.row_bytes = 0;
        if (!memcmp(&other, &like, sizeof like)) {
            t->all[i].row_bytes += row_bytes(op);
            return 0;
        }
    }
    struct carry *more = realloc(t->all, (t->n + 1) * sizeof *more);
    if (!more)
        return -ENOMEM;
    t->all = more;
    t->all[t->n] = like;
    t->all[t->n++].row_bytes = row_bytes(op);
    return 0;
}

int traffic_build(struct traffic *traffic, const struct program programs[CARDS_MAX]) {
    struct traffic made = {0};
    int rc = 0;
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        for (size_t i = 0; i < programs[c].n_ops && !rc; i++) {
            const struct op *op = &programs[c].ops[i];
            if (op->kind == OP_EXCHANGE && op->exchange.kind != EXCHANGE_LOGITS)
                rc = add_op(&made, op);
        }
    if (rc)
        traffic_finish(&made);
    else
        *traffic = made;
    return rc;
}

void traffic_finish(struct traffic *traffic) {
    free(traffic->all);
    *traffic = (struct traffic){0};
}

/* --- a step --- */

static uint64_t count_outputs(const struct step_params *p, uint32_t begin, uint32_t end) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < p->n_outputs; i++)
        n += begin <= p->outputs[i] && p->outputs[i] < end;
    return n;
}

static uint64_t count_tokens(const struct carry *c, const struct step_params *p, uint32_t begin,
                             uint32_t end) {
    uint64_t n = 0;
    for (uint32_t i = begin; i < end; i++)
        n +=
            p->rows[i].token >= (int32_t)c->vocab_begin && p->rows[i].token < (int32_t)c->vocab_end;
    return n;
}

static uint64_t count_rows(const struct carry *c, const struct step_params *p) {
    const uint32_t a = row_part_begin(c->from, p->n_rows), b = row_part_begin(c->to, p->n_rows);
    const uint32_t from_end = row_part_end(c->from, p->n_rows);
    const uint32_t to_end = row_part_end(c->to, p->n_rows);
    const uint32_t begin = a > b ? a : b, end = from_end < to_end ? from_end : to_end;
    if (begin >= end)
        return 0;
    switch (c->kind) {
    case EXCHANGE_OUTPUTS:
        return count_outputs(p, begin, end);
    case EXCHANGE_TOKENS:
        return count_tokens(c, p, begin, end);
    default:
        return end - begin;
    }
}

void traffic_add(const struct traffic *traffic, const struct step_params *params,
                 struct link_bytes *bytes) {
    for (size_t i = 0; i < traffic->n; i++) {
        const struct carry *c = &traffic->all[i];
        bytes->n[c->src][c->dst] += c->row_bytes * count_rows(c, params);
    }
}
