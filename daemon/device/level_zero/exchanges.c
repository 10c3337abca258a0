/* SPDX-License-Identifier: Apache-2.0 */
/* exchanges.c - what one card takes from another.  All that a card takes in a phase by one way is
 * one launch, with a description of each; where the link is staged, what a card sends is one, too,
 * and goes before. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/device/level_zero/loading.h"
#include "octarc/error.h"

/* ---- what the operations ask for ------------------------------------------------------------ */

static void add(struct loading *l, uint32_t card, const struct op *op, const struct ze_exchange *x,
                enum area area) {
    const bool to_host = op->exchange.kind == EXCHANGE_LOGITS;
    if (l->n_exchanges == l->exchange_room && !l->rc) {
        const size_t more = l->exchange_room ? 2 * l->exchange_room : 64;
        struct ze_taking *grown = realloc(l->exchanges, more * sizeof *grown);
        if (!grown) {
            l->rc = err_set(l->err, -ENOMEM, "no memory for %zu exchanges", more);
        } else {
            l->exchanges = grown;
            l->exchange_room = more;
        }
    }
    if (l->rc)
        return;
    l->exchanges[l->n_exchanges++] =
        (struct ze_taking){.x = *x,
                           .op = op,
                           .phase = op->phase,
                           .card = card,
                           .sender = op->exchange.src,
                           .area = area,
                           .way = to_host                                     ? WAY_HOST
                                  : l->device->direct[card][op->exchange.src] ? WAY_DIRECT
                                                                              : WAY_STAGED,
                           .order = (uint32_t)l->n_exchanges};
}

static struct ze_exchange exchange_of(const struct op *op) {
    return (struct ze_exchange){.from = op->exchange.src_offset,
                                .to = op->exchange.dst_offset,
                                .from_stride = op->exchange.src_stride_bytes,
                                .to_stride = op->exchange.dst_stride_bytes,
                                .row_bytes = op->exchange.row_bytes,
                                .from_part = loading_part(op->exchange.from),
                                .to_part = loading_part(op->exchange.to),
                                .kind = op->exchange.kind,
                                .size = 4,
                                .words = (u32)(op->exchange.row_bytes / 4),
                                .vocab_begin = op->exchange.vocab_begin,
                                .vocab_end = op->exchange.vocab_end};
}

static void load_form(struct loading *l, uint32_t card, const struct op *op, uint64_t from,
                      uint64_t to, uint64_t row_bytes) {
    struct ze_exchange x = exchange_of(op);
    x.from = from;
    x.to = to;
    x.from_stride = x.to_stride = row_bytes;
    x.words = (u32)(row_bytes / 4);
    add(l, card, op, &x, AREA_SCRATCH);
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
    x.words = 2 * (from->type == KV_Q8_0 ? dim + dim / ATOM * 2 : dim);
    add(l, card, op, &x, AREA_KV);
}

void load_exchange(struct loading *l, uint32_t card, const struct op *op) {
    struct ze_exchange x = exchange_of(op);
    switch (op->exchange.kind) {
    case EXCHANGE_LOGITS:
        x.to = (uint64_t)op->exchange.vocab_begin * 4;
        add(l, op->exchange.src, op, &x, AREA_SCRATCH);
        break;
    case EXCHANGE_KV:
        load_kv(l, card, op);
        break;
    case EXCHANGE_ACTIVATION:
        load_activation(l, card, op);
        break;
    default:
        add(l, card, op, &x, AREA_SCRATCH);
    }
}

/* ---- launches ------------------------------------------------------------------------------- */

static int by_number(uint64_t a, uint64_t b) {
    return (a > b) - (a < b);
}

/* What becomes one launch lies side by side; whose launch it is, `card` says. */
static int by_launch(const void *a, const void *b) {
    const struct ze_taking *x = a, *y = b;
    int c = by_number(x->phase, y->phase);
    c = c ? c : by_number(x->card, y->card);
    c = c ? c : by_number(x->area, y->area);
    c = c ? c : by_number(x->way, y->way);
    return c ? c : by_number(x->order, y->order);
}

static bool is_one_launch(const struct ze_taking *x, const struct ze_taking *y) {
    return x->phase == y->phase && x->card == y->card && x->area == y->area && x->way == y->way;
}

static u64 base(const struct device *d, uint32_t card, enum area area) {
    return (u64)(uintptr_t)d->cards[card].areas[area].at;
}

static struct ze_exchange describe(const struct loading *l, const struct ze_taking *t) {
    struct ze_exchange x = t->x;
    const struct device *d = l->device;
    x.outward = t->way == WAY_HOST || t->sends;
    x.argument = t->way == WAY_DIRECT ? t->sender : IN_STAGE;
    x.named =
        t->way == WAY_DIRECT ? base(d, t->sender, t->area) : (u64)(uintptr_t)d->exchange_stage;
    *(x.outward ? &x.from : &x.to) += base(d, t->card, t->area);
    return x;
}

/* What is read of the sender: of the last page, too, where it is K and V. */
static void note_read(const struct loading *l, struct ze_launch *one, const struct ze_taking *t) {
    const struct ze_exchange *x = &t->x;
    const uint64_t row = x->kind == EXCHANGE_PLANE ? x->row_bytes : x->from_stride;
    const uint64_t end = t->area == AREA_KV
                             ? UINT64_MAX
                             : x->from + (l->device->max_rows - 1) * row + (uint64_t)x->words * 4;
    const uint64_t begin = t->area == AREA_KV ? 0 : x->from;
    const bool first = !(one->meets >> t->sender & 1);
    one->meets |= 1u << t->card | 1u << t->sender;
    if (first || begin < one->reads[t->sender].begin)
        one->reads[t->sender].begin = begin;
    if (first || end > one->reads[t->sender].end)
        one->reads[t->sender].end = end;
}

/* Those of one launch. */
static void launch(struct loading *l, const struct ze_taking *t, uint32_t n) {
    struct ze_exchange *all = calloc(n, sizeof *all);
    struct ze_launch one = {.card = t->card,
                            .phase = t->phase,
                            .op = t->op,
                            .by = BY_OUTPUT,
                            .n_numbers = n,
                            .area = t->area,
                            .staged = t->way == WAY_STAGED,
                            .sends = t->sends,
                            .to_host = t->way == WAY_HOST};
    uint32_t words = 0;
    if (!all && !l->rc)
        l->rc = err_set(l->err, -ENOMEM, "no memory for %u exchanges", n);
    if (!l->rc)
        l->rc = modules_kernel(l->device, t->card,
                               t->area == AREA_KV ? KERNEL_EXCHANGE_KV : KERNEL_EXCHANGE, 0,
                               &one.kernel, l->err);
    for (uint32_t i = 0; i < n && !l->rc; i++) {
        all[i] = describe(l, &t[i]);
        words = t[i].x.words > words ? t[i].x.words : words;
        if (t[i].x.kind != EXCHANGE_OUTPUTS && t[i].x.kind != EXCHANGE_LOGITS)
            one.by = BY_ROW;
        if (t->way == WAY_DIRECT)
            note_read(l, &one, &t[i]);
    }
    one.groups = (words + SUB_GROUP - 1) / SUB_GROUP;
    one.description = loading_describe(l, t->card, all, n, sizeof *all, &one.number);
    loading_add(l, &one);
    free(all);
}

static void launch_all(struct loading *l) {
    qsort(l->exchanges, l->n_exchanges, sizeof *l->exchanges, by_launch);
    for (size_t i = 0, n; i < l->n_exchanges; i += n) {
        for (n = 1; i + n < l->n_exchanges && is_one_launch(&l->exchanges[i], &l->exchanges[i + n]);
             n++)
            ;
        launch(l, &l->exchanges[i], (uint32_t)n);
    }
}

/* The staged exchanges of a phase lie side by side; the next phase's lie there again.  Returns the
 * bytes of the longest. */
static uint64_t place_stages(const struct loading *l) {
    uint64_t end = 0, most = 0;
    for (size_t i = 0; i < l->n_exchanges; i++) {
        struct ze_taking *t = &l->exchanges[i];
        if (i && t->phase != l->exchanges[i - 1].phase)
            end = 0;
        if (t->way != WAY_STAGED)
            continue;
        t->x.stage_at = end;
        end += ((uint64_t)l->device->max_rows * t->x.words * t->x.size + 63) / 64 * 64;
        most = end > most ? end : most;
    }
    return most;
}

/* The halves of staged ones that their senders do, and nothing else. */
static void keep_sends(struct loading *l) {
    size_t n = 0;
    for (size_t i = 0; i < l->n_exchanges; i++) {
        struct ze_taking t = l->exchanges[i];
        if (t.way != WAY_STAGED)
            continue;
        t.card = t.sender;
        t.sends = true;
        l->exchanges[n++] = t;
    }
    l->n_exchanges = n;
}

void exchanges_launch(struct loading *l) {
    if (l->rc || l->n_exchanges == 0)
        return;
    qsort(l->exchanges, l->n_exchanges, sizeof *l->exchanges, by_launch);
    const uint64_t stage = place_stages(l);
    if (stage)
        l->rc = level_zero_alloc_host(l->device, stage, &l->device->exchange_stage, l->err);
    launch_all(l);
    keep_sends(l);
    launch_all(l);
}
