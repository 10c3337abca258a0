/* SPDX-License-Identifier: Apache-2.0 */
/* qwen2moe.c - the architecture "qwen2moe": Qwen 1.5 and 2 with experts.
 *
 * As qwen2, with experts in place of the FFN, whose weights are shares of all there are, and one
 * more that every token uses as much as a gate of its own says. */
#include "models/arch/arch.h"

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    int rc = arch_read_dense(p, gguf, err);
    uint32_t shared = p->n_ff;
    if (!rc)
        rc = arch_read_experts(p, gguf, err);
    if (!rc)
        rc = arch_u32_optional(p, gguf, "expert_shared_feed_forward_length", 1, ARCH_DIM_MAX,
                               &shared, err);
    p->n_ff = shared;
    return rc;
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",         ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS,  DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"attn_norm.weight",          ROLE_ATTN_NORM,   CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",             ROLE_ATTN_Q,      CUT_HEAD_ROWS,   DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",             ROLE_ATTN_K,      CUT_KV_ROWS,     DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",             ROLE_ATTN_V,      CUT_KV_ROWS,     DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_q.bias",               ROLE_ATTN_Q_BIAS, CUT_COPY,        DIM_ONE, DIM_HEADS, .in_layer = true},
    {"attn_k.bias",               ROLE_ATTN_K_BIAS, CUT_COPY,        DIM_ONE, DIM_KV_HEADS, .in_layer = true},
    {"attn_v.bias",               ROLE_ATTN_V_BIAS, CUT_COPY,        DIM_ONE, DIM_KV_HEADS, .in_layer = true},
    {"attn_output.weight",        ROLE_ATTN_OUT,    CUT_HEAD_LANES,  DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"ffn_norm.weight",           ROLE_FFN_NORM,    CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate_inp.weight",       ROLE_ROUTER,      CUT_COPY,        DIM_EXPERTS, DIM_EMBD, .in_layer = true},
    {"ffn_gate_exps.weight",      ROLE_EXPERT_GATE, CUT_EXPERT_ROWS, DIM_FF_EXPERT, DIM_EMBD, .in_layer = true, .each_expert = true},
    {"ffn_up_exps.weight",        ROLE_EXPERT_UP,   CUT_EXPERT_ROWS, DIM_FF_EXPERT, DIM_EMBD, .in_layer = true, .each_expert = true},
    {"ffn_down_exps.weight",      ROLE_EXPERT_DOWN, CUT_EXPERT_ROWS, DIM_EMBD, DIM_FF_EXPERT, .in_layer = true, .each_expert = true},
    {"ffn_gate_inp_shexp.weight", ROLE_SHARED_GATE, CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate_shexp.weight",     ROLE_FFN_GATE,    CUT_FFN_ROWS,    DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_up_shexp.weight",       ROLE_FFN_UP,      CUT_FFN_ROWS,    DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_down_shexp.weight",     ROLE_FFN_DOWN,    CUT_FFN_LANES,   DIM_EMBD, DIM_FF, .in_layer = true},
    {"output_norm.weight",        ROLE_OUTPUT_NORM, CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",             ROLE_OUTPUT,      CUT_VOCAB_ROWS,  DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 8, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT,
                          ROLE_ATTN_Q_BIAS, ROLE_ATTN_K_BIAS, ROLE_ATTN_V_BIAS}},
    {MODEL_EXPERTS,   9, {ROLE_FFN_NORM, ROLE_ROUTER, ROLE_EXPERT_GATE, ROLE_EXPERT_UP,
                          ROLE_EXPERT_DOWN, ROLE_SHARED_GATE, ROLE_FFN_GATE, ROLE_FFN_UP,
                          ROLE_FFN_DOWN}},
};
/* clang-format on */

const struct arch arch_qwen2moe = {
    .name = "qwen2moe",
    .experts = true,
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
