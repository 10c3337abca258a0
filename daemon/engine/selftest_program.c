/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/selftest_program.h"

#include <math.h>
#include <string.h>

#include "daemon/placement/plan.h"
#include "daemon/placement/scratch.h"

#define FF  256u /* of an expert */
#define EPS 1e-5f

struct maker {
    struct trial_program *p;
    uint32_t phase, card; /* of p */
    const struct device_ops *backend;
    const struct trial_layer *layer;
    struct rows hidden, qkv, sum, logits;
    struct planes slots;
    struct activation norm, attention, ffn, experts;
    struct routes routes;
    struct hits hits;
    uint64_t apart, places;
    struct kv_place kv;
    bool in_host; /* matrices that are laid out lie there */
};

static const struct row_part all = {0, 1};

/* ---- where things lie ----------------------------------------------------------------------- */

static uint64_t take(struct maker *m, enum area area, uint64_t bytes) {
    const uint64_t at = m->p->bytes[area];
    m->p->bytes[area] += (bytes + 63) / 64 * 64;
    return at;
}

static struct matrix matrix(struct maker *m, uint32_t type, uint32_t rows, uint32_t cols) {
    const uint64_t bytes = m->backend->packed_bytes(type, false, rows, cols);
    struct matrix made = {.type = type, .rows = rows, .cols = cols, .fetched = m->in_host};
    if (m->in_host) {
        made.landing = take(m, AREA_LANDING, bytes);
        made.offset = m->layer->host_at + made.landing;
    } else {
        made.offset = take(m, AREA_WEIGHTS, bytes);
    }
    m->p->tensors[m->p->n_tensors++] = (struct trial_tensor){made, false};
    return made;
}

/* An offset of 0 would be none: a matrix comes first. */
static struct vector vector(struct maker *m, uint32_t n) {
    const struct matrix made = {
        .offset = take(m, AREA_WEIGHTS, m->backend->packed_bytes(TENSOR_F32, true, 1, n)),
        .type = TENSOR_F32,
        .rows = 1,
        .cols = n};
    m->p->tensors[m->p->n_tensors++] = (struct trial_tensor){made, true};
    return (struct vector){.offset = made.offset};
}

static struct rows rows(struct maker *m, uint64_t n, uint32_t width) {
    const uint32_t stride = (width + 15) / 16 * 16;
    return (struct rows){take(m, AREA_SCRATCH, n * stride * 4), stride};
}

/* In both forms: a router is of floats, whatever the rest is of. */
static struct activation activation(struct maker *m, uint64_t n, uint32_t cols) {
    return (struct activation){.forms = FORM_Q8 | FORM_F32,
                               .cols = cols,
                               .q8 = take(m, AREA_SCRATCH, n * cols),
                               .scale = take(m, AREA_SCRATCH, n * cols / ATOM * 4),
                               .sum = take(m, AREA_SCRATCH, n * cols / ATOM * 4),
                               .f32 = take(m, AREA_SCRATCH, n * cols * 4)};
}

static void lay_out(struct maker *m) {
    const uint64_t n = TRIAL_ROWS, most = n * TRIAL_USED;
    m->hidden = rows(m, n, TRIAL_COLS);
    m->sum = rows(m, n, TRIAL_COLS);
    m->qkv = rows(m, n, (TRIAL_HEADS + 2 * TRIAL_KV_HEADS) * TRIAL_HEAD_DIM);
    m->logits = rows(m, n, TRIAL_VOCAB);
    m->slots = (struct planes){rows(m, n, TRIAL_COLS).offset, TRIAL_COLS};
    m->norm = activation(m, n, TRIAL_COLS);
    m->attention = activation(m, n, TRIAL_COLS);
    m->ffn = activation(m, n, TRIAL_COLS);
    m->routes = (struct routes){rows(m, n, routes_width(TRIAL_USED)), TRIAL_USED};
    m->hits = (struct hits){.n_experts = TRIAL_EXPERTS, .n_rows = (uint32_t)most};
    m->hits.offset = take(m, AREA_SCRATCH, hits_bytes(m->hits));
    m->experts = activation(m, most, FF);
    m->apart = take(m, AREA_SCRATCH, 2 * most * TRIAL_COLS * 4);
    m->places = take(m, AREA_SCRATCH, most * 4);
    m->kv.type = m->layer->kv;
    m->kv.slot_bytes = plan_kv_slot_bytes(m->layer->kv, TRIAL_HEAD_DIM);
    m->kv.page_bytes = TRIAL_KV_HEADS * m->kv.slot_bytes;
    take(m, AREA_KV, TRIAL_PAGES * m->kv.page_bytes);
}

/* ---- operations ----------------------------------------------------------------------------- */

static struct op *emit(struct maker *m, enum op_kind kind) {
    struct op *op = &m->p->ops[m->p->n_ops];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    op->phase = m->phase++;
    m->p->n_ops++;
    op->layer = -1;
    return op;
}

static void norm(struct maker *m, bool outputs) {
    const uint64_t weight = vector(m, TRIAL_COLS).offset;
    struct op *op = emit(m, OP_NORM);
    op->norm.hidden = m->hidden;
    op->norm.weight = weight;
    op->norm.n = TRIAL_COLS;
    op->norm.eps = EPS;
    op->norm.outputs = outputs;
    op->norm.part = all;
    op->norm.act = m->norm;
}

/* All lanes are this card's, so one slot takes the whole tree. */
static void one_slot(int8_t slot[TREE_NODES]) {
    memset(slot, NO_SLOT, TREE_NODES);
    slot[1] = 0;
}

static void lanes(struct maker *m, const struct activation *act) {
    const struct matrix w = matrix(m, m->layer->type, TRIAL_COLS, TRIAL_COLS);
    struct op *op = emit(m, OP_LANES);
    op->lanes.act = *act;
    op->lanes.w = w;
    op->lanes.lane_end = LANES;
    for (uint32_t l = 0; l <= LANES; l++)
        op->lanes.col[l] = l * TRIAL_COLS / LANES;
    one_slot(op->lanes.slot);
    op->lanes.slots = m->slots;
}

static void add_norm(struct maker *m) {
    const uint64_t weight = vector(m, TRIAL_COLS).offset;
    struct op *op = emit(m, OP_ADD_NORM);
    op->add_norm.hidden = m->hidden;
    op->add_norm.sum = m->sum;
    op->add_norm.weight = weight;
    op->add_norm.n = TRIAL_COLS;
    op->add_norm.eps = EPS;
    op->add_norm.part = all;
}

/* Added to the hidden rows; or kept apart, normed, and then added. */
static void combine(struct maker *m, bool alone) {
    const struct vector bias = vector(m, TRIAL_COLS);
    struct op *op = emit(m, OP_COMBINE);
    op->combine.out = alone ? m->sum : m->hidden;
    op->combine.alone = alone;
    op->combine.slots = m->slots;
    one_slot(op->combine.slot);
    op->combine.n = TRIAL_COLS;
    op->combine.bias = bias;
    op->combine.part = all;
    if (alone)
        add_norm(m);
}

static void embed(struct maker *m) {
    const struct matrix table = matrix(m, m->layer->type, TRIAL_VOCAB, TRIAL_COLS);
    struct op *op = emit(m, OP_EMBED);
    op->embed.embd = table;
    op->embed.vocab_end = TRIAL_VOCAB;
    op->embed.hidden = m->hidden;
}

static void qkv(struct maker *m) {
    const uint32_t type = m->layer->type, kv_rows = TRIAL_KV_HEADS * TRIAL_HEAD_DIM;
    const struct matrix q = matrix(m, type, TRIAL_HEADS * TRIAL_HEAD_DIM, TRIAL_COLS);
    const struct matrix k = matrix(m, type, kv_rows, TRIAL_COLS);
    const struct matrix v = matrix(m, type, kv_rows, TRIAL_COLS);
    struct op *op = emit(m, OP_QKV);
    op->qkv.act = m->norm;
    op->qkv.q = q;
    op->qkv.k = k;
    op->qkv.v = v;
    op->qkv.out = m->qkv;
}

static void rope(struct maker *m) {
    const struct vector head = vector(m, TRIAL_HEADS * TRIAL_HEAD_DIM);
    struct op *op = emit(m, OP_ROPE_STORE);
    op->rope.qkv = m->qkv;
    op->rope.n_heads = TRIAL_HEADS;
    op->rope.n_kv = TRIAL_KV_HEADS;
    op->rope.head_dim = op->rope.rope_dims = TRIAL_HEAD_DIM;
    op->rope.neox = m->layer->experts;
    op->rope.rope_table = ROPE_ALL;
    op->rope.kv = m->kv;
    op->rope.q_bias = op->rope.k_bias = op->rope.v_bias = head;
    op->rope.q_norm = op->rope.k_norm = head;
    op->rope.eps = EPS;
}

static void attention(struct maker *m) {
    const struct vector sinks = vector(m, TRIAL_HEADS);
    struct op *op = emit(m, OP_ATTENTION);
    op->attention.q = m->qkv;
    op->attention.n_heads = TRIAL_HEADS;
    op->attention.head_dim = TRIAL_HEAD_DIM;
    op->attention.heads_per_kv = TRIAL_HEADS / TRIAL_KV_HEADS;
    op->attention.scale = 1.0f / sqrtf((float)TRIAL_HEAD_DIM);
    op->attention.soft_cap = m->layer->soft_cap;
    op->attention.window = m->layer->window;
    op->attention.sinks = sinks;
    op->attention.kv = m->kv;
    op->attention.act = m->attention;
}

/* What is laid out from here on is fetched; all at once, for it is little. */
static struct op *fetch(struct maker *m) {
    m->in_host = true;
    return emit(m, OP_FETCH);
}

static void fetch_all(struct maker *m, struct op *op) {
    uint64_t *bytes = &m->p->bytes[AREA_LANDING];
    *bytes = (*bytes + LANDING_BLOCK - 1) / LANDING_BLOCK * LANDING_BLOCK;
    op->fetch.from = m->layer->host_at;
    op->fetch.bytes = *bytes;
    m->in_host = false;
}

static void gate_up(struct maker *m) {
    const struct matrix gate = matrix(m, m->layer->type, TRIAL_COLS, TRIAL_COLS);
    const struct matrix up = matrix(m, m->layer->type, TRIAL_COLS, TRIAL_COLS);
    struct op *op = emit(m, OP_GATE_UP);
    op->gate_up.act = m->norm;
    op->gate_up.gate = gate;
    op->gate_up.up = up;
    op->gate_up.function = m->layer->gate;
    op->gate_up.out = m->ffn;
    op->gate_up.apart = m->apart;
}

static void route(struct maker *m) {
    const struct matrix router = matrix(m, TENSOR_F32, TRIAL_EXPERTS, TRIAL_COLS);
    struct op *op = emit(m, OP_ROUTE);
    op->route.act = m->norm;
    op->route.router = router;
    op->route.normed = true;
    op->route.part = all;
    op->route.routes = m->routes;
    op->route.apart = m->apart;
    op = emit(m, OP_DISPATCH);
    op->dispatch.routes = m->routes;
    op->dispatch.hits = m->hits;
    op->dispatch.places = m->places;
}

static void expert_gate_up(struct maker *m) {
    const struct matrix gate = matrix(m, m->layer->type, TRIAL_EXPERTS * FF, TRIAL_COLS);
    const struct matrix up = matrix(m, m->layer->type, TRIAL_EXPERTS * FF, TRIAL_COLS);
    struct op *op = emit(m, OP_EXPERT_GATE_UP);
    op->expert_gate_up.act = m->norm;
    op->expert_gate_up.gate = gate;
    op->expert_gate_up.up = up;
    op->expert_gate_up.function = m->layer->gate;
    op->expert_gate_up.n_used = TRIAL_USED;
    op->expert_gate_up.hits = m->hits;
    op->expert_gate_up.out = m->experts;
    op->expert_gate_up.apart = m->apart;
}

static void expert_down(struct maker *m) {
    const struct matrix w = matrix(m, m->layer->type, TRIAL_EXPERTS * TRIAL_COLS, FF);
    struct op *op = emit(m, OP_EXPERT_DOWN);
    op->expert_down.act = m->experts;
    op->expert_down.w = w;
    op->expert_down.n = TRIAL_COLS;
    op->expert_down.hits = m->hits;
    op->expert_down.routes = m->routes;
    op->expert_down.apart = m->apart;
    op->expert_down.places = m->places;
    op->expert_down.lane_end = LANES;
    for (uint32_t l = 0; l <= LANES; l++)
        op->expert_down.expert[l] = l * TRIAL_EXPERTS / LANES;
    one_slot(op->expert_down.slot);
    op->expert_down.slots = m->slots;
}

static void logits(struct maker *m) {
    const struct matrix head = matrix(m, m->layer->type, TRIAL_VOCAB, TRIAL_COLS);
    struct op *op = emit(m, OP_LOGITS);
    op->logits.act = m->norm;
    op->logits.w = head;
    op->logits.out = m->logits;
    op->logits.soft_cap = m->layer->soft_cap;
    op = emit(m, OP_EXCHANGE);
    op->exchange.kind = EXCHANGE_LOGITS;
    op->exchange.src = (uint8_t)m->card;
    op->exchange.dst = CARD_HOST;
    op->exchange.from = op->exchange.to = all;
    op->exchange.src_offset = m->logits.offset;
    op->exchange.row_bytes = TRIAL_VOCAB * 4;
    op->exchange.src_stride_bytes = (uint64_t)m->logits.stride * 4;
    op->exchange.vocab_end = TRIAL_VOCAB;
}

void trial_program_make(struct trial_program *program, const struct device_ops *backend,
                        const struct trial_layer *layer) {
    struct maker m = {.p = program, .backend = backend, .layer = layer};
    memset(program, 0, sizeof *program);
    lay_out(&m);
    embed(&m);
    norm(&m, false);
    qkv(&m);
    rope(&m);
    attention(&m);
    lanes(&m, &m.attention);
    combine(&m, true);
    norm(&m, false);
    struct op *fetched = layer->host_at ? fetch(&m) : NULL;
    if (layer->experts) {
        route(&m);
        expert_gate_up(&m);
        expert_down(&m);
    } else {
        gate_up(&m);
        lanes(&m, &m.ffn);
    }
    if (fetched)
        fetch_all(&m, fetched);
    combine(&m, false);
    norm(&m, true);
    logits(&m);
}

/* ---- two cards ------------------------------------------------------------------------------ */

/* The programs of the one that makes, and of the one that takes; what is taken has the same place
 * on both. */
enum { OWNER, READER };

struct pair {
    struct maker maker;
    struct trial_program *of;
    uint32_t cards[2];
};

static struct maker *on(struct pair *p, int whose) {
    p->maker.p = &p->of[whose];
    p->maker.card = p->cards[whose];
    return &p->maker;
}

static struct op *take_from(struct pair *p, enum exchange_kind kind) {
    struct op *op = emit(on(p, READER), OP_EXCHANGE);
    op->exchange.kind = kind;
    op->exchange.src = (uint8_t)p->cards[OWNER];
    op->exchange.dst = (uint8_t)p->cards[READER];
    op->exchange.from = op->exchange.to = all;
    return op;
}

static struct op *take_rows(struct pair *p, enum exchange_kind kind, struct rows from,
                            struct rows to, uint32_t width) {
    struct op *op = take_from(p, kind);
    op->exchange.src_offset = from.offset;
    op->exchange.dst_offset = to.offset;
    op->exchange.row_bytes = (uint64_t)width * 4;
    op->exchange.src_stride_bytes = (uint64_t)from.stride * 4;
    op->exchange.dst_stride_bytes = (uint64_t)to.stride * 4;
    return op;
}

/* The reader's own embedding has the first tokens, the owner's all. */
static void take_tokens(struct pair *p) {
    embed(on(p, OWNER));
    embed(on(p, READER));
    p->of[READER].ops[0].embed.vocab_end = TRIAL_VOCAB / 2;
    struct op *op = take_rows(p, EXCHANGE_TOKENS, p->maker.hidden, p->maker.hidden, TRIAL_COLS);
    op->exchange.vocab_begin = TRIAL_VOCAB / 2;
    op->exchange.vocab_end = TRIAL_VOCAB;
}

static void take_activation(struct pair *p) {
    norm(on(p, OWNER), false);
    struct op *op = take_from(p, EXCHANGE_ACTIVATION);
    op->exchange.act_from = op->exchange.act_to = p->maker.norm;
}

/* The reader computes an attention of its own with them. */
static void take_kv(struct pair *p) {
    rope(on(p, OWNER));
    for (uint32_t head = 0; head < TRIAL_KV_HEADS; head++) {
        struct op *op = take_from(p, EXCHANGE_KV);
        op->exchange.src_kv = op->exchange.dst_kv = p->maker.kv;
        op->exchange.src_slot = op->exchange.dst_slot = head;
        op->exchange.head_dim = TRIAL_HEAD_DIM;
    }
}

static void take_plane(struct pair *p) {
    const struct planes slots = p->maker.slots;
    struct op *op = take_from(p, EXCHANGE_PLANE);
    op->exchange.src_offset = op->exchange.dst_offset = slots.offset;
    op->exchange.row_bytes = (uint64_t)slots.stride * 4;
}

void trial_pair_make(struct trial_program of[2], const struct device_ops *backend,
                     const struct trial_layer *layer, uint32_t owner, uint32_t reader) {
    struct pair p = {
        .maker = {.p = of, .backend = backend, .layer = layer}, .of = of, .cards = {owner, reader}};
    const uint32_t qkv_width = (TRIAL_HEADS + 2 * TRIAL_KV_HEADS) * TRIAL_HEAD_DIM;
    memset(of, 0, 2 * sizeof *of);
    lay_out(&p.maker);
    of[READER] = of[OWNER];
    take_tokens(&p);
    take_activation(&p);
    qkv(on(&p, OWNER)); /* rotated and kept by the owner, in place */
    take_kv(&p);
    take_rows(&p, EXCHANGE_ROWS, p.maker.qkv, p.maker.qkv, qkv_width);
    attention(on(&p, READER));
    lanes(on(&p, READER), &p.maker.attention);
    combine(on(&p, READER), false);
    lanes(on(&p, READER), &p.maker.norm); /* what was taken as such */
    combine(on(&p, READER), false);
    lanes(on(&p, OWNER), &p.maker.norm);
    take_plane(&p); /* it is read once, right behind */
    combine(on(&p, READER), false);
    take_rows(&p, EXCHANGE_OUTPUTS, p.maker.hidden, p.maker.sum, TRIAL_COLS);
    add_norm(on(&p, READER));
    norm(on(&p, READER), true);
    logits(on(&p, READER));
}
