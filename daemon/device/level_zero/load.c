/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - programs -> kernels to launch, each with a description in its card's memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/launches.h"
#include "daemon/device/level_zero/marks.h"
#include "daemon/device/pack.h"
#include "octarc/error.h"

#define DESCRIPTION_ALIGN 64

/* What grows while the programs are translated; the first failure stays. */
struct loading {
    struct device *device;
    struct ze_launch *launches;
    size_t n, room;
    char *described[CARDS_MAX]; /* host memory */
    char *apart[CARDS_MAX];     /* device memory, for products of different types */
    uint64_t bytes[CARDS_MAX], capacity[CARDS_MAX];
    struct err *err;
    int rc;
};

/* ---- addresses ------------------------------------------------------------------------------ */

static u64 at(struct loading *l, uint32_t card, enum area area, uint64_t offset, uint64_t bytes) {
    char *address = NULL;
    const int rc = level_zero_stretch(l->device, card, area, offset, bytes, &address);
    if (rc && !l->rc)
        l->rc = err_set(l->err, rc, "card %u: area %d has no bytes %llu to %llu", card, area,
                        (unsigned long long)offset, (unsigned long long)(offset + bytes));
    return (u64)(uintptr_t)address;
}

static struct ze_rows rows_at(struct loading *l, uint32_t card, struct rows rows) {
    const uint64_t bytes = (uint64_t)l->device->max_rows * rows.stride * 4;
    return (struct ze_rows){at(l, card, AREA_SCRATCH, rows.offset, bytes), rows.stride};
}

/* The logits have rows of their own, fewer of them: the end of the scratch memory bounds them. */
static struct ze_rows some_rows_at(struct loading *l, uint32_t card, struct rows rows) {
    return (struct ze_rows){at(l, card, AREA_SCRATCH, rows.offset, (uint64_t)rows.stride * 4),
                            rows.stride};
}

static struct ze_act act_at(struct loading *l, uint32_t card, const struct activation *a) {
    const uint64_t n = (uint64_t)l->device->max_rows * a->cols, atoms = n / ATOM;
    struct ze_act act = {.forms = a->forms, .cols = a->cols};
    if (a->forms & FORM_Q8) {
        act.q8 = at(l, card, AREA_SCRATCH, a->q8, n);
        act.scale = at(l, card, AREA_SCRATCH, a->scale, atoms * 4);
        act.sum = at(l, card, AREA_SCRATCH, a->sum, atoms * 4);
    }
    if (a->forms & FORM_F32)
        act.f32 = at(l, card, AREA_SCRATCH, a->f32, n * 4);
    return act;
}

static struct ze_matrix matrix_at(struct loading *l, uint32_t card, const struct matrix *w) {
    if (w->fetched && !l->rc)
        l->rc = err_set(l->err, -ENOTSUP, "real cards read no weights from host memory yet");
    return (struct ze_matrix){
        at(l, card, AREA_WEIGHTS, w->offset, pack_bytes(w->type, false, w->rows, w->cols)), w->rows,
        w->cols};
}

static u64 floats_at(struct loading *l, uint32_t card, uint64_t offset, uint64_t n) {
    return at(l, card, AREA_WEIGHTS, offset, n * 4);
}

/* From the card's first head on; 0: the layer has none. */
static u64 vector_at(struct loading *l, uint32_t card, struct vector v, uint64_t n) {
    return v.offset ? floats_at(l, card, v.offset + (uint64_t)v.begin * 4, n) : 0;
}

static struct ze_planes planes_at(struct loading *l, uint32_t card, struct planes p) {
    const uint64_t bytes = (uint64_t)l->device->max_rows * p.stride * 4;
    return (struct ze_planes){at(l, card, AREA_SCRATCH, p.offset, bytes), bytes};
}

static struct ze_part part_of(struct row_part part) {
    return (struct ze_part){part.index, part.count};
}

static struct ze_kv kv_at(struct loading *l, uint32_t card, const struct kv_place *kv) {
    return (struct ze_kv){at(l, card, AREA_KV, kv->offset, kv->page_bytes), kv->page_bytes,
                          kv->slot_bytes, kv->type, 0};
}

/* ---- launches ------------------------------------------------------------------------------- */

static uint64_t describe(struct loading *l, uint32_t card, const void *what, size_t bytes) {
    const uint64_t end =
        l->bytes[card] + (bytes + DESCRIPTION_ALIGN - 1) / DESCRIPTION_ALIGN * DESCRIPTION_ALIGN;
    if (end > l->capacity[card] && !l->rc) {
        const uint64_t more = 2 * end;
        char *grown = realloc(l->described[card], more);
        if (!grown) {
            l->rc = err_set(l->err, -ENOMEM, "no memory for the programs of card %u", card);
        } else {
            memset(grown + l->capacity[card], 0, more - l->capacity[card]);
            l->described[card] = grown;
            l->capacity[card] = more;
        }
    }
    if (l->rc)
        return 0;
    const uint64_t begin = l->bytes[card];
    memcpy(l->described[card] + begin, what, bytes);
    l->bytes[card] = end;
    return begin;
}

static struct ze_launch *add(struct loading *l, const struct ze_launch *launch) {
    if (l->n == l->room && !l->rc) {
        const size_t more = l->room ? 2 * l->room : 256;
        struct ze_launch *grown = realloc(l->launches, more * sizeof *grown);
        if (!grown) {
            l->rc = err_set(l->err, -ENOMEM, "no memory for %zu kernels", more);
        } else {
            l->launches = grown;
            l->room = more;
        }
    }
    if (l->rc)
        return NULL;
    l->launches[l->n] = *launch;
    l->launches[l->n].order = (uint32_t)l->n;
    return &l->launches[l->n++];
}

static void launch(struct loading *l, uint32_t card, const struct op *op, enum kernel_name name,
                   uint32_t type, const void *what, size_t bytes, uint32_t groups, enum ze_by by) {
    struct ze_launch one = {.card = card, .phase = op->phase, .op = op, .groups = groups, .by = by};
    if (!l->rc)
        l->rc = modules_kernel(l->device, card, name, type, &one.kernel, l->err);
    one.description = describe(l, card, what, bytes);
    add(l, &one);
}

static void launch_part(struct loading *l, uint32_t card, const struct op *op,
                        enum kernel_name name, const void *what, size_t bytes, uint32_t groups,
                        struct row_part part) {
    launch(l, card, op, name, 0, what, bytes, groups, BY_PART);
    if (!l->rc)
        l->launches[l->n - 1].part = part;
}

static void load_embed(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_embed e = {.w = matrix_at(l, card, &op->embed.embd),
                               .hidden = rows_at(l, card, op->embed.hidden),
                               .vocab_begin = op->embed.vocab_begin,
                               .vocab_end = op->embed.vocab_end,
                               .scale = op->embed.scale};
    launch(l, card, op, KERNEL_EMBED, op->embed.embd.type, &e, sizeof e, 0, BY_ROW);
}

static void load_norm(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_norm n = {.hidden = rows_at(l, card, op->norm.hidden),
                              .act = act_at(l, card, &op->norm.act),
                              .part = part_of(op->norm.part),
                              .weight = floats_at(l, card, op->norm.weight, op->norm.n),
                              .n = op->norm.n,
                              .outputs = op->norm.outputs,
                              .eps = op->norm.eps};
    if (op->norm.outputs)
        launch(l, card, op, KERNEL_NORM, 0, &n, sizeof n, 0, BY_OUTPUT);
    else
        launch_part(l, card, op, KERNEL_NORM, &n, sizeof n, 0, op->norm.part);
}

static void load_add_norm(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_norm n = {.hidden = rows_at(l, card, op->add_norm.hidden),
                              .sum = rows_at(l, card, op->add_norm.sum),
                              .part = part_of(op->add_norm.part),
                              .weight = floats_at(l, card, op->add_norm.weight, op->add_norm.n),
                              .n = op->add_norm.n,
                              .eps = op->add_norm.eps};
    launch_part(l, card, op, KERNEL_ADD_NORM, &n, sizeof n, 0, op->add_norm.part);
}

static void load_qkv(struct loading *l, uint32_t card, const struct op *op) {
    const struct matrix *parts[] = {&op->qkv.q, &op->qkv.k, &op->qkv.v};
    const struct ze_act act = act_at(l, card, &op->qkv.act);
    uint32_t before = 0;
    for (int i = 0; i < 3; before += parts[i++]->rows) {
        struct ze_matmul m = {.act = act, .out = rows_at(l, card, op->qkv.out)};
        if (parts[i]->rows == 0)
            continue;
        m.w = matrix_at(l, card, parts[i]);
        m.out.at += (u64)before * 4;
        launch(l, card, op, KERNEL_MATMUL, parts[i]->type, &m, sizeof m, tiles_of(parts[i]->rows),
               BY_ROW_BLOCK);
    }
}

static void load_rope(struct loading *l, uint32_t card, const struct op *op) {
    const uint64_t dim = op->rope.head_dim, q = op->rope.n_heads * dim, kv = op->rope.n_kv * dim;
    const struct ze_rope r = {.qkv = rows_at(l, card, op->rope.qkv),
                              .kv = kv_at(l, card, &op->rope.kv),
                              .q_bias = vector_at(l, card, op->rope.q_bias, q),
                              .k_bias = vector_at(l, card, op->rope.k_bias, kv),
                              .v_bias = vector_at(l, card, op->rope.v_bias, kv),
                              .q_norm = vector_at(l, card, op->rope.q_norm, dim),
                              .k_norm = vector_at(l, card, op->rope.k_norm, dim),
                              .n_heads = op->rope.n_heads,
                              .n_kv = op->rope.n_kv,
                              .head_dim = op->rope.head_dim,
                              .rope_dims = op->rope.rope_dims,
                              .neox = op->rope.neox,
                              .rope_table = op->rope.rope_table,
                              .kv_slot = op->rope.kv_slot,
                              .eps = op->rope.eps};
    launch(l, card, op, KERNEL_ROPE_STORE, 0, &r, sizeof r, op->rope.n_heads + 2 * op->rope.n_kv,
           BY_ROW);
}

/* Heads that end on whole atoms together. */
static uint32_t unit_of(uint32_t head_dim) {
    uint32_t n = 1;
    while (n * head_dim % ATOM && n < ATOM)
        n++;
    return n;
}

#define UNIT_VALUES_MAX 1024 /* UNIT_MAX of attention.cl */
#define HEAD_VALUES_MAX 512  /* DIM_MAX */

static void load_attention(struct loading *l, uint32_t card, const struct op *op) {
    const uint32_t dim = op->attention.head_dim, unit = unit_of(dim);
    const struct ze_attention a = {.q = rows_at(l, card, op->attention.q),
                                   .kv = kv_at(l, card, &op->attention.kv),
                                   .act = act_at(l, card, &op->attention.act),
                                   .n_heads = op->attention.n_heads,
                                   .head_dim = dim,
                                   .head_begin = op->attention.head_begin,
                                   .heads_per_kv = op->attention.heads_per_kv,
                                   .kv_begin = op->attention.kv_begin,
                                   .window = op->attention.window,
                                   .unit = unit,
                                   .scale = op->attention.scale,
                                   .soft_cap = op->attention.soft_cap};
    if ((dim > HEAD_VALUES_MAX || unit * dim > UNIT_VALUES_MAX) && !l->rc)
        l->rc = err_set(l->err, -ENOTSUP, "heads of %u values are too wide for the cards' kernels",
                        dim);
    launch(l, card, op, KERNEL_ATTENTION, 0, &a, sizeof a,
           (op->attention.n_heads + unit - 1) / unit, BY_ROW);
}

static void load_lanes(struct loading *l, uint32_t card, const struct op *op) {
    struct ze_lanes w = {.act = act_at(l, card, &op->lanes.act),
                         .w = matrix_at(l, card, &op->lanes.w),
                         .slots = planes_at(l, card, op->lanes.slots)};
    for (uint32_t lane = 0; lane <= LANES; lane++)
        w.col[lane] = op->lanes.col[lane < op->lanes.lane_begin ? op->lanes.lane_begin
                                    : lane > op->lanes.lane_end ? op->lanes.lane_end
                                                                : lane];
    memcpy(w.slot, op->lanes.slot, sizeof w.slot);
    launch(l, card, op, KERNEL_LANES, op->lanes.w.type, &w, sizeof w, tiles_of(op->lanes.w.rows),
           BY_ROW_BLOCK);
}

static void load_combine(struct loading *l, uint32_t card, const struct op *op) {
    struct ze_combine c = {.out = rows_at(l, card, op->combine.out),
                           .slots = planes_at(l, card, op->combine.slots),
                           .part = part_of(op->combine.part),
                           .n = op->combine.n,
                           .alone = op->combine.alone};
    memcpy(c.slot, op->combine.slot, sizeof c.slot);
    launch_part(l, card, op, KERNEL_COMBINE, &c, sizeof c, tiles_of(op->combine.n),
                op->combine.part);
}

static bool is_apart(const struct op *op) {
    return op->kind == OP_GATE_UP && op->gate_up.gate.type != op->gate_up.up.type;
}

static uint64_t apart_bytes(const struct device *d, const struct op *op) {
    return 2 * (uint64_t)d->max_rows * tiles_of(op->gate_up.gate.rows) * TILE * sizeof(float);
}

/* One product after the other, into memory of the backend's own. */
static void load_gate_apart(struct loading *l, uint32_t card, const struct op *op,
                            const struct ze_gate_up *g) {
    const uint32_t stride = tiles_of(g->gate.rows) * TILE;
    const u64 at = (u64)(uintptr_t)l->apart[card];
    const struct ze_matmul gate = {.act = g->act, .w = g->gate, .out = {at, stride}};
    const struct ze_matmul up = {
        .act = g->act, .w = g->up, .out = {at + apart_bytes(l->device, op) / 2, stride}};
    const struct ze_apart both = {
        .gate = gate.out, .up = up.out, .out = g->out, .n = g->gate.rows, .function = g->function};
    launch(l, card, op, KERNEL_MATMUL, op->gate_up.gate.type, &gate, sizeof gate,
           tiles_of(g->gate.rows), BY_ROW_BLOCK);
    launch(l, card, op, KERNEL_MATMUL, op->gate_up.up.type, &up, sizeof up, tiles_of(g->up.rows),
           BY_ROW_BLOCK);
    launch(l, card, op, KERNEL_GATE_APART, 0, &both, sizeof both, (g->gate.rows + ATOM - 1) / ATOM,
           BY_ROW);
    if (!l->rc)
        l->launches[l->n - 1].waits = true;
}

static void load_gate_up(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_gate_up g = {.act = act_at(l, card, &op->gate_up.act),
                                 .out = act_at(l, card, &op->gate_up.out),
                                 .gate = matrix_at(l, card, &op->gate_up.gate),
                                 .up = matrix_at(l, card, &op->gate_up.up),
                                 .function = op->gate_up.function};
    if (is_apart(op)) {
        load_gate_apart(l, card, op, &g);
        return;
    }
    launch(l, card, op, KERNEL_GATE_UP, op->gate_up.gate.type, &g, sizeof g,
           (op->gate_up.gate.rows + ATOM - 1) / ATOM, BY_ROW_BLOCK);
}

static void load_logits(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_matmul m = {.act = act_at(l, card, &op->logits.act),
                                .w = matrix_at(l, card, &op->logits.w),
                                .out = some_rows_at(l, card, op->logits.out),
                                .outputs = 1,
                                .soft_cap = op->logits.soft_cap};
    launch(l, card, op, KERNEL_MATMUL, op->logits.w.type, &m, sizeof m, tiles_of(op->logits.w.rows),
           BY_OUTPUT_BLOCK);
}

/* ---- exchanges ------------------------------------------------------------------------------ */

static void stage_exchange(struct loading *l, struct ze_launch *one, const struct ze_exchange *x) {
    one->stage_bytes = ((uint64_t)l->device->max_rows * one->words * x->size + 63) / 64 * 64;
    if (!l->rc)
        l->rc = modules_kernel(l->device, one->sender, KERNEL_EXCHANGE, 0, &one->send, l->err);
    one->send_description = describe(l, one->sender, x, sizeof *x);
}

static void add_exchange(struct loading *l, uint32_t card, const struct op *op,
                         const struct ze_exchange *x, enum area area, uint32_t words) {
    struct ze_launch one = {.card = card,
                            .phase = op->phase,
                            .op = op,
                            .groups = (words + SUB_GROUP - 1) / SUB_GROUP,
                            .by = op->exchange.kind == EXCHANGE_OUTPUTS ? BY_OUTPUT : BY_ROW,
                            .sender = op->exchange.src,
                            .area = area,
                            .words = words};
    if (!l->rc)
        l->rc = modules_kernel(l->device, card, KERNEL_EXCHANGE, 0, &one.kernel, l->err);
    one.description = describe(l, card, x, sizeof *x);
    if (!l->device->direct[card][op->exchange.src])
        stage_exchange(l, &one, x);
    add(l, &one);
}

static struct ze_exchange exchange_of(const struct op *op) {
    return (struct ze_exchange){.from = op->exchange.src_offset,
                                .to = op->exchange.dst_offset,
                                .from_stride = op->exchange.src_stride_bytes,
                                .to_stride = op->exchange.dst_stride_bytes,
                                .row_bytes = op->exchange.row_bytes,
                                .from_part = part_of(op->exchange.from),
                                .to_part = part_of(op->exchange.to),
                                .kind = op->exchange.kind,
                                .size = 4,
                                .vocab_begin = op->exchange.vocab_begin,
                                .vocab_end = op->exchange.vocab_end};
}

static void load_form(struct loading *l, uint32_t card, const struct op *op, uint64_t from,
                      uint64_t to, uint64_t row_bytes) {
    struct ze_exchange x = exchange_of(op);
    x.from = from;
    x.to = to;
    x.from_stride = x.to_stride = row_bytes;
    add_exchange(l, card, op, &x, AREA_SCRATCH, (uint32_t)(row_bytes / 4));
}

static void load_activation(struct loading *l, uint32_t card, const struct op *op) {
    const struct activation *from = &op->exchange.act_from, *to = &op->exchange.act_to;
    const uint64_t atoms = to->cols / ATOM;
    if (to->forms & FORM_Q8) {
        load_form(l, card, op, from->q8, to->q8, to->cols);
        load_form(l, card, op, from->scale, to->scale, atoms * 4);
        load_form(l, card, op, from->sum, to->sum, atoms * 4);
    }
    if (to->forms & FORM_F32)
        load_form(l, card, op, from->f32, to->f32, (uint64_t)to->cols * 4);
}

static void load_kv(struct loading *l, uint32_t card, const struct op *op) {
    const struct kv_place *from = &op->exchange.src_kv, *to = &op->exchange.dst_kv;
    const uint32_t dim = op->exchange.head_dim;
    struct ze_exchange x = exchange_of(op);
    x.from = from->offset + op->exchange.src_slot * from->slot_bytes;
    x.to = to->offset + op->exchange.dst_slot * to->slot_bytes;
    x.page_bytes_from = from->page_bytes;
    x.page_bytes_to = to->page_bytes;
    x.row_bytes = from->slot_bytes;
    x.head_dim = dim;
    x.size = from->type == KV_F32 ? 4 : from->type == KV_F16 ? 2 : 1;
    add_exchange(l, card, op, &x, AREA_KV,
                 2 * (from->type == KV_Q8_0 ? dim + dim / ATOM * 2 : dim));
}

static void load_exchange(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_exchange x = exchange_of(op);
    switch (op->exchange.kind) {
    case EXCHANGE_LOGITS:
        add(l, &(struct ze_launch){.card = op->exchange.src, .phase = op->phase, .op = op});
        break;
    case EXCHANGE_KV:
        load_kv(l, card, op);
        break;
    case EXCHANGE_ACTIVATION:
        load_activation(l, card, op);
        break;
    default:
        add_exchange(l, card, op, &x, AREA_SCRATCH, (uint32_t)(op->exchange.row_bytes / 4));
    }
}

/* ---- programs ------------------------------------------------------------------------------- */

/* What an operation may have and its kernel does not; NULL: nothing. */
static const char *lacking(const struct op *op) {
    switch (op->kind) {
    case OP_ATTENTION:
        return op->attention.sinks.offset ? "sinks of attention" : NULL;
    case OP_COMBINE:
        return op->combine.bias.offset ? "a bias of the attention's output" : NULL;
    case OP_ROUTE:
        return op->route.bias.offset ? "a bias of the router" : NULL;
    case OP_EXPERT_GATE_UP:
        return op->expert_gate_up.gate_bias.offset || op->expert_gate_up.up_bias.offset ||
                       op->expert_gate_up.function > GATE_GELU
                   ? "the biases or the gate of these experts"
                   : NULL;
    case OP_EXPERT_DOWN:
        return op->expert_down.bias.offset ? "biases of experts" : NULL;
    case OP_GATE_UP:
        return op->gate_up.function > GATE_GELU ? "the gate of this FFN" : NULL;
    default:
        return NULL;
    }
}

static void load_op(struct loading *l, uint32_t card, const struct op *op) {
    static void (*const loaders[OP_KINDS])(struct loading * l, uint32_t card,
                                           const struct op *op) = {
        [OP_EMBED] = load_embed,     [OP_NORM] = load_norm,           [OP_QKV] = load_qkv,
        [OP_ROPE_STORE] = load_rope, [OP_ATTENTION] = load_attention, [OP_LANES] = load_lanes,
        [OP_COMBINE] = load_combine, [OP_ADD_NORM] = load_add_norm,   [OP_GATE_UP] = load_gate_up,
        [OP_LOGITS] = load_logits,   [OP_EXCHANGE] = load_exchange,
    };
    if ((uint32_t)op->kind >= OP_KINDS || !loaders[op->kind]) {
        if (!l->rc)
            l->rc = err_set(l->err, -ENOTSUP,
                            "the cards have no kernels for operation %d of layer %d yet", op->kind,
                            op->layer);
        return;
    }
    if (lacking(op) && !l->rc)
        l->rc = err_set(l->err, -ENOTSUP, "the cards have no kernels for %s yet (layer %d)",
                        lacking(op), op->layer);
    loaders[op->kind](l, card, op);
}

static int by_phase(const void *a, const void *b) {
    const struct ze_launch *x = a, *y = b;
    if (x->phase != y->phase)
        return x->phase < y->phase ? -1 : 1;
    if (x->card != y->card)
        return x->card < y->card ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* The staged exchanges of a phase lie side by side; the next phase's lie there again.  Returns the
 * bytes of the longest. */
static uint64_t place_stages(struct ze_launch *launches, size_t n) {
    uint64_t end = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && launches[i].phase != launches[i - 1].phase)
            end = 0;
        launches[i].stage_at = end;
        end += launches[i].stage_bytes;
        most = end > most ? end : most;
    }
    return most;
}

void level_zero_unload(struct device *d) {
    marks_free(d);
    for (uint32_t i = 0; i < d->n_cards; i++) {
        struct ze_card *c = &d->cards[i];
        level_zero_free(d, c->descriptions);
        level_zero_free(d, c->step);
        level_zero_free(d, c->step_stage);
        level_zero_free(d, c->apart);
        c->descriptions = c->apart = c->step = c->step_stage = NULL;
        c->step_bytes = 0;
    }
    level_zero_free(d, d->exchange_stage);
    level_zero_free(d, d->logits);
    free(d->launches);
    d->exchange_stage = d->logits = NULL;
    d->logits_bytes = 0;
    d->launches = NULL;
    d->n_launches = 0;
    d->needed = 0;
}

static int place_descriptions(struct loading *l, struct err *err) {
    struct device *d = l->device;
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++)
        if (l->bytes[i]) {
            rc = level_zero_alloc_card(d, i, l->bytes[i], &d->cards[i].descriptions, err);
            if (!rc)
                rc = level_zero_put(d, i, d->cards[i].descriptions, l->described[i], l->bytes[i]);
        }
    const uint64_t stage = place_stages(d->launches, d->n_launches);
    if (!rc && stage)
        rc = level_zero_alloc_host(d, stage, &d->exchange_stage, err);
    return rc;
}

static int make_apart(struct loading *l, const struct program *programs) {
    struct device *d = l->device;
    int rc = 0;
    for (uint32_t card = 0; card < d->n_cards && !rc; card++) {
        uint64_t most = 0;
        for (size_t i = 0; i < programs[card].n_ops; i++) {
            const struct op *op = &programs[card].ops[i];
            if (is_apart(op) && apart_bytes(d, op) > most)
                most = apart_bytes(d, op);
        }
        if (most)
            rc = level_zero_alloc_card(d, card, most, &l->apart[card], l->err);
    }
    return rc;
}

int level_zero_load(struct device *d, const struct program *programs, struct err *err) {
    struct loading l = {.device = d, .err = err};
    l.rc = make_apart(&l, programs);
    for (uint32_t card = 0; card < d->n_cards; card++)
        for (size_t i = 0; i < programs[card].n_ops && !l.rc; i++)
            load_op(&l, card, &programs[card].ops[i]);
    int rc = l.rc;
    if (!rc) {
        level_zero_unload(d);
        for (uint32_t i = 0; i < d->n_cards; i++)
            d->cards[i].apart = l.apart[i];
        qsort(l.launches, l.n, sizeof *l.launches, by_phase);
        d->launches = l.launches;
        d->n_launches = l.n;
        for (size_t i = 0; i < l.n; i++)
            d->needed |= 1u << l.launches[i].card |
                         (launch_crosses(&l.launches[i]) ? 1u << l.launches[i].sender : 0);
        rc = marks_make(d, err);
        if (!rc)
            rc = place_descriptions(&l, err);
        if (rc)
            level_zero_unload(d);
    } else {
        for (uint32_t i = 0; i < d->n_cards; i++)
            level_zero_free(d, l.apart[i]);
        free(l.launches);
    }
    for (uint32_t i = 0; i < d->n_cards; i++)
        free(l.described[i]);
    return rc;
}
