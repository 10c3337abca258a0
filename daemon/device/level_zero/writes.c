/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/writes.h"

#include "daemon/device/pack.h"

struct stretch {
    uint64_t begin, end, rows;
};

static bool meets(const struct stretch *s, uint64_t at, uint64_t row_bytes) {
    return at < s->end && s->begin < at + s->rows * row_bytes;
}

static bool rows_meet(const struct stretch *s, struct rows rows) {
    return meets(s, rows.offset, (uint64_t)rows.stride * 4);
}

static bool act_meets(const struct stretch *s, const struct activation *a) {
    const uint64_t atoms = a->cols / ATOM;
    return (a->forms & FORM_Q8 && (meets(s, a->q8, a->cols) || meets(s, a->scale, atoms * 4) ||
                                   meets(s, a->sum, atoms * 4))) ||
           (a->forms & FORM_F32 && meets(s, a->f32, (uint64_t)a->cols * 4));
}

static bool planes_meet(const struct stretch *s, struct planes p, const int8_t slot[TREE_NODES]) {
    const uint64_t row_bytes = (uint64_t)p.stride * 4;
    for (int i = 0; i < TREE_NODES; i++)
        if (slot[i] != NO_SLOT &&
            meets(s, p.offset + (uint64_t)slot[i] * s->rows * row_bytes, row_bytes))
            return true;
    return false;
}

bool writes_any(const struct op *op, uint32_t max_rows, enum area area, uint64_t begin,
                uint64_t end) {
    const struct stretch s = {begin, end, max_rows};
    if (area != AREA_SCRATCH)
        return area != AREA_KV || op->kind == OP_ROPE_STORE;
    switch (op->kind) {
    case OP_EMBED:
        return rows_meet(&s, op->embed.hidden);
    case OP_NORM:
        return act_meets(&s, &op->norm.act);
    case OP_ADD_NORM:
        return rows_meet(&s, op->add_norm.hidden);
    case OP_QKV:
        return rows_meet(&s, op->qkv.out);
    case OP_ROPE_STORE:
        return rows_meet(&s, op->rope.qkv);
    case OP_ATTENTION:
        return act_meets(&s, &op->attention.act);
    case OP_LANES:
        return planes_meet(&s, op->lanes.slots, op->lanes.slot);
    case OP_COMBINE:
        return rows_meet(&s, op->combine.out);
    case OP_GATE_UP: /* where the types differ, both products are kept apart, too */
        return op->gate_up.gate.type != op->gate_up.up.type || act_meets(&s, &op->gate_up.out);
    case OP_FETCH:
        return false;
    default:
        return true;
    }
}
