/* SPDX-License-Identifier: Apache-2.0 */
/* exchanges.c - what one card takes from another, as launches of who takes it; where the link is
 * staged, of who sends it, too. */
#include "daemon/device/level_zero/loading.h"

static void stage_exchange(struct loading *l, struct ze_launch *one, const struct ze_exchange *x) {
    one->stage_bytes = ((uint64_t)l->device->max_rows * one->words * x->size + 63) / 64 * 64;
    if (!l->rc)
        l->rc = modules_kernel(l->device, one->sender, KERNEL_EXCHANGE, 0, &one->send, l->err);
    one->send_description = loading_describe(l, one->sender, x, sizeof *x);
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
    one.description = loading_describe(l, card, x, sizeof *x);
    if (!l->device->direct[card][op->exchange.src])
        stage_exchange(l, &one, x);
    loading_add(l, &one);
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

void load_exchange(struct loading *l, uint32_t card, const struct op *op) {
    const struct ze_exchange x = exchange_of(op);
    switch (op->exchange.kind) {
    case EXCHANGE_LOGITS:
        loading_add(l, &(struct ze_launch){.card = op->exchange.src, .phase = op->phase, .op = op});
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
