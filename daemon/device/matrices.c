/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/matrices.h"

uint32_t op_matrices(const struct op *op, const struct matrix *out[OP_MATRICES_MAX]) {
    switch (op->kind) {
    case OP_QKV:
        out[0] = &op->qkv.q;
        out[1] = &op->qkv.k;
        out[2] = &op->qkv.v;
        return 3;
    case OP_LANES:
        out[0] = &op->lanes.w;
        return 1;
    case OP_GATE_UP:
        out[0] = &op->gate_up.gate;
        out[1] = &op->gate_up.up;
        return 2;
    case OP_LOGITS:
        out[0] = &op->logits.w;
        return 1;
    case OP_ROUTE:
        out[0] = &op->route.router;
        return 1;
    case OP_EXPERT_GATE_UP:
        out[0] = &op->expert_gate_up.gate;
        out[1] = &op->expert_gate_up.up;
        return 2;
    case OP_EXPERT_DOWN:
        out[0] = &op->expert_down.w;
        out[1] = &op->expert_down.shared;
        return 2;
    default:
        return 0;
    }
}
