/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/times.h"

#include <string.h>

#include "daemon/placement/scratch.h"
#include "daemon/placement/topology.h"

/* What counts for a card or link of which nothing is known; the same for each, so that only the
 * number of exchanges and what is read decide. */
#define ALIKE_BYTES_PER_S      4e11
#define ALIKE_LINK_BYTES_PER_S 2e10
#define ALIKE_LATENCY_S        1e-5

static double longer(double a, double b) {
    return a > b ? a : b;
}

/* --- rates --- */

static bool is_known(const struct box *box) {
    const struct topology *t = box->input->topology;
    for (uint32_t a = 0; a < box->n && t; a++) {
        if (!t->cards[box->card[a]].bytes_per_s)
            return false;
        for (uint32_t b = 0; b < box->n; b++)
            if (a != b && !t->links[box->card[a]][box->card[b]].bytes_per_s)
                return false;
    }
    return t != NULL;
}

static void fill_rates(struct times *t, const struct topology *box) {
    for (uint32_t a = 0; a < t->box->n; a++) {
        const uint32_t card = t->box->card[a];
        t->bytes_per_s[a] = t->known ? (double)box->cards[card].bytes_per_s : ALIKE_BYTES_PER_S;
        t->int8_ops_per_s[a] = t->known ? (double)box->cards[card].int8_ops_per_s : 0;
        t->f16_flops_per_s[a] = t->known ? (double)box->cards[card].f16_flops_per_s : 0;
        for (uint32_t b = 0; b < t->box->n; b++) {
            const struct peer_link *link = t->known ? &box->links[card][t->box->card[b]] : NULL;
            const double rate = link ? (double)link->bytes_per_s : ALIKE_LINK_BYTES_PER_S;
            t->row_s[a][b] = a == b ? 0 : t->row_bytes / rate;
            t->kv_s[a][b] = a == b ? 0 : t->kv_bytes / rate;
            t->latency_s[a][b] = link ? (double)link->latency_ns * 1e-9 : ALIKE_LATENCY_S;
        }
    }
}

/* --- kinds of layers --- */

static const struct model_op *op_of(const struct model *model, int32_t layer,
                                    enum model_op_kind kind) {
    for (size_t i = 0; i < model->n_ops; i++)
        if (model->ops[i].layer == layer && model->ops[i].kind == kind)
            return &model->ops[i];
    return NULL;
}

/* What a layer reads: tensors, and in which phase of it. */
#define LAYER_MATRICES 11
enum { PHASE_QKV, PHASE_OUT, PHASE_GATE_UP, PHASE_DOWN, PHASES };

struct reads {
    uint32_t n, tensors[LAYER_MATRICES];
    uint8_t phase[LAYER_MATRICES];
    uint32_t tokens; /* of the cache, by a query that has some before it */
};

/* Slots [first, last] of an operation, those that are there. */
static void add_reads(struct reads *reads, const struct model_op *op, uint32_t first, uint32_t last,
                      uint8_t phase) {
    for (uint32_t slot = first; slot <= last; slot++)
        if (op->tensor[slot] != NO_TENSOR) {
            reads->phase[reads->n] = phase;
            reads->tensors[reads->n++] = op->tensor[slot];
        }
}

static bool reads_of(const struct model *model, int32_t layer, uint32_t tokens,
                     struct reads *reads) {
    const struct model_op *attention = op_of(model, layer, MODEL_ATTENTION);
    const struct model_op *ffn = op_of(model, layer, MODEL_FFN);
    const struct model_op *experts = op_of(model, layer, MODEL_EXPERTS);
    if (!attention || (!ffn && !experts))
        return false;
    reads->n = 0;
    add_reads(reads, attention, ATTENTION_Q, ATTENTION_V, PHASE_QKV);
    add_reads(reads, attention, ATTENTION_OUT, ATTENTION_OUT, PHASE_OUT);
    if (ffn) {
        add_reads(reads, ffn, FFN_GATE, FFN_UP, PHASE_GATE_UP);
        add_reads(reads, ffn, FFN_DOWN, FFN_DOWN, PHASE_DOWN);
    } else {
        add_reads(reads, experts, EXPERTS_ROUTER, EXPERTS_UP, PHASE_GATE_UP);
        add_reads(reads, experts, EXPERTS_DOWN, EXPERTS_DOWN, PHASE_DOWN);
        add_reads(reads, experts, EXPERTS_FFN_GATE, EXPERTS_FFN_UP, PHASE_GATE_UP);
        add_reads(reads, experts, EXPERTS_FFN_DOWN, EXPERTS_FFN_DOWN, PHASE_DOWN);
    }
    reads->tokens = model_seen(&model->params, (uint32_t)layer, tokens);
    return true;
}

static bool are_alike(const struct model *model, const struct reads *a, const struct reads *b) {
    if (a->tokens != b->tokens || a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct model_tensor *x = &model->tensors[a->tensors[i]];
        const struct model_tensor *y = &model->tensors[b->tensors[i]];
        if (x->type != y->type || x->rows != y->rows || x->cols != y->cols)
            return false;
    }
    return true;
}

/* --- tables --- */

static double card_seconds(double bytes, double bytes_per_s, double ops, double ops_per_s) {
    return longer(bytes / bytes_per_s, ops_per_s > 0 ? ops / ops_per_s : 0);
}

static void add_matrix(struct times *t, const struct plan *trial, uint32_t tensor,
                       double seconds[CARDS_MAX]) {
    const struct plan_input *in = t->box->input;
    struct plan_range r;
    if (!share_range(trial, in->model, 0, tensor, &r))
        return;
    const double used = model_used(&in->model->params, &in->model->tensors[tensor]);
    const double ops =
        2.0 * used * (double)(r.row_end - r.row_begin) * (double)(r.col_end - r.col_begin);
    const double bytes = used * (double)share_packed_bytes(in, &r);
    const bool int8 = scratch_form(in->model->tensors[tensor].type) == FORM_Q8;
    for (uint32_t i = 0; i < t->box->n; i++)
        seconds[i] += card_seconds(bytes, t->bytes_per_s[i], ops,
                                   int8 ? t->int8_ops_per_s[i] : t->f16_flops_per_s[i]);
}

static void fill_kind(struct times *t, const struct plan *trial, uint32_t kind, uint32_t begin,
                      uint32_t end, const struct reads *reads) {
    const struct plan_card *c = &trial->cards[0];
    const double kv = t->kv_bytes * (c->kv_end - c->kv_begin) * reads->tokens;
    const double ops =
        4.0 * (c->head_end - c->head_begin) * t->box->input->model->params.head_dim * reads->tokens;
    double seconds[PHASES][CARDS_MAX] = {{0}};
    for (uint32_t m = 0; m < reads->n; m++)
        add_matrix(t, trial, reads->tensors[m], seconds[reads->phase[m]]);
    for (uint32_t i = 0; i < t->box->n; i++)
        t->passes[kind][i][begin][end] = (struct pass){
            .qkv = seconds[PHASE_QKV][i],
            .attention = card_seconds(kv, t->bytes_per_s[i], ops, t->f16_flops_per_s[i]),
            .out = seconds[PHASE_OUT][i],
            .gate_up = seconds[PHASE_GATE_UP][i],
            .down = seconds[PHASE_DOWN][i]};
}

static void fill_lanes(struct times *t, struct plan *trial, uint32_t kind,
                       const struct reads *reads) {
    const struct model_params *p = &t->box->input->model->params;
    for (uint32_t b = 0; b < LANES; b++)
        for (uint32_t e = b + 1; e <= LANES; e++) {
            share_apply(&trial->cards[0], p,
                        &(struct share){.layer_end = p->n_layers, .lane_begin = b, .lane_end = e});
            uint8_t nodes[LANES];
            t->n_nodes[b][e] = (uint8_t)scratch_nodes(b, e, nodes);
            t->heads[b][e] = trial->cards[0];
            fill_kind(t, trial, kind, b, e, reads);
        }
}

static void fill_kinds(struct times *t, struct plan *trial) {
    const struct model *model = t->box->input->model;
    const uint32_t tokens = trial->context > 1 ? trial->context / 2 : 1;
    struct reads first[TIMES_KINDS_MAX], reads;
    for (uint32_t l = 0; l < model->params.n_layers; l++) {
        uint32_t kind = 0;
        if (!reads_of(model, (int32_t)l, tokens, &reads))
            continue;
        while (kind < t->n_kinds && !are_alike(model, &first[kind], &reads))
            kind++;
        if (kind == TIMES_KINDS_MAX)
            kind--;
        if (kind == t->n_kinds) {
            first[kind] = reads;
            t->n_kinds++;
            fill_lanes(t, trial, kind, &reads);
        }
        t->kind_of[l] = (uint8_t)kind;
        t->n_of_kind[kind]++;
    }
}

static void fill_head(struct times *t, struct plan *trial) {
    const struct model_params *p = &t->box->input->model->params;
    const struct model_op *op = op_of(t->box->input->model, -1, MODEL_HEAD);
    for (uint32_t b = 0; b < LANES && op; b++)
        for (uint32_t e = b + 1; e <= LANES; e++) {
            double seconds[CARDS_MAX] = {0};
            share_apply(&trial->cards[0], p, &(struct share){.vocab_begin = b, .vocab_end = e});
            add_matrix(t, trial, op->tensor[1], seconds);
            for (uint32_t i = 0; i < t->box->n; i++)
                t->head[i][b][e] = seconds[i];
        }
}

void times_open(struct times *t, const struct box *box) {
    t->box = box;
    t->known = is_known(box);
    t->filled = false;
}

void times_fill(struct times *t) {
    const struct box *box = t->box;
    const struct model_params *p = &box->input->model->params;
    if (t->filled)
        return;
    struct plan trial = *box->plan;
    t->filled = true;
    t->n_kinds = 0;
    memset(t->n_of_kind, 0, sizeof t->n_of_kind);
    memset(t->kind_of, 0, sizeof t->kind_of);
    t->row_bytes = p->n_embd * 4.0;
    t->kv_bytes = (double)plan_kv_slot_bytes(box->plan->kv_type, p->head_dim) / PAGE_TOKENS;
    fill_rates(t, box->input->topology);
    trial.n_cards = 1;
    trial.cards[0] = (struct plan_card){.online = true};
    fill_kinds(t, &trial);
    fill_head(t, &trial);
}

/* --- exchanges --- */

static double hop(const struct times *t, uint32_t from, uint32_t to) {
    return t->latency_s[from][to] + t->row_s[from][to];
}

double times_hop(const struct times *t, uint32_t from, uint32_t cards) {
    double slowest = 0;
    for (uint32_t to = 0; to < t->box->n; to++)
        if (cards >> to & 1 && to != from)
            slowest = longer(slowest, hop(t, from, to));
    return slowest;
}

double times_embed(const struct times *t, uint32_t holders, uint32_t cards) {
    double slowest = 0;
    for (uint32_t from = 0; from < t->box->n; from++)
        if (holders >> from & 1)
            slowest = longer(slowest, times_hop(t, from, cards));
    return slowest;
}

/* The cards of a group, one after the other. */
struct members {
    uint32_t n, card[CARDS_MAX];
};

static struct members members_of(const struct group *g) {
    struct members m = {0};
    for (uint32_t cards = g->cards; cards; cards &= cards - 1)
        m.card[m.n++] = (uint32_t)__builtin_ctz(cards);
    return m;
}

static double sum_seconds(const struct times *t, const struct group *g, const struct members *m) {
    double slowest = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const uint32_t to = m->card[i];
        double mine = 0, latency = 0;
        for (uint32_t k = 0; k < m->n; k++) {
            const uint32_t from = m->card[k];
            if (from == to)
                continue;
            mine += t->n_nodes[g->lane_begin[from]][g->lane_end[from]] * t->row_s[from][to];
            latency = longer(latency, t->latency_s[from][to]);
        }
        slowest = longer(slowest, mine + latency);
    }
    return slowest;
}

static uint32_t common(uint32_t a_begin, uint32_t a_end, uint32_t b_begin, uint32_t b_end) {
    const uint32_t begin = a_begin > b_begin ? a_begin : b_begin;
    const uint32_t end = a_end < b_end ? a_end : b_end;
    return begin < end ? end - begin : 0;
}

static double copy_seconds(const struct times *t, const struct group *g, const struct members *m) {
    double slowest = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const uint32_t to = m->card[i];
        const struct plan_card *reader = &t->heads[g->lane_begin[to]][g->lane_end[to]];
        double mine = 0, latency = 0;
        for (uint32_t k = 0; k < m->n; k++) {
            const uint32_t from = m->card[k];
            const struct plan_card *owner = &t->heads[g->lane_begin[from]][g->lane_end[from]];
            const uint32_t n =
                common(reader->kv_begin, reader->kv_end, owner->own_begin, owner->own_end);
            if (from == to || n == 0)
                continue;
            mine += n * t->kv_s[from][to];
            latency = longer(latency, t->latency_s[from][to]);
        }
        slowest = longer(slowest, mine + latency);
    }
    return slowest;
}

/* --- groups --- */

static double slowest_passes(const struct times *t, const struct group *g, const struct members *m,
                             uint32_t kind) {
    struct pass most = {0};
    for (uint32_t i = 0; i < m->n; i++) {
        const uint32_t card = m->card[i];
        const struct pass *p = &t->passes[kind][card][g->lane_begin[card]][g->lane_end[card]];
        most.qkv = longer(most.qkv, p->qkv);
        most.attention = longer(most.attention, p->attention);
        most.out = longer(most.out, p->out);
        most.gate_up = longer(most.gate_up, p->gate_up);
        most.down = longer(most.down, p->down);
    }
    return most.qkv + most.attention + most.out + most.gate_up + most.down;
}

void times_passes(const struct times *t, struct group *g) {
    const struct members m = members_of(g);
    g->head = g->n_slots = 0;
    for (uint32_t i = 0; i < m.n; i++) {
        const uint32_t card = m.card[i], begin = g->lane_begin[card], end = g->lane_end[card];
        g->n_slots = (uint8_t)(g->n_slots + t->n_nodes[begin][end]);
        g->head = longer(g->head, t->head[card][begin][end]);
    }
    for (uint32_t k = 0; k < t->n_kinds; k++)
        g->layer[k] = slowest_passes(t, g, &m, k);
}

void times_exchanges(const struct times *t, struct group *g) {
    const struct members m = members_of(g);
    const double exchanges = 2 * sum_seconds(t, g, &m) + copy_seconds(t, g, &m);
    for (uint32_t k = 0; k < t->n_kinds; k++)
        g->layer[k] += exchanges;
}
