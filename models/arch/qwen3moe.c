/* SPDX-License-Identifier: Apache-2.0 */
/* qwen3moe.c - the architecture "qwen3moe".
 *
 * As qwen3, with experts in place of the FFN, whose weights add up to 1. */
#include "models/arch/arch.h"

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    const int rc = arch_read_dense(p, gguf, err);
    p->experts_normed = true;
    return rc ? rc : arch_read_experts(p, gguf, err);
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",    ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS,  DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"attn_norm.weight",     ROLE_ATTN_NORM,   CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",        ROLE_ATTN_Q,      CUT_HEAD_ROWS,   DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",        ROLE_ATTN_K,      CUT_KV_ROWS,     DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",        ROLE_ATTN_V,      CUT_KV_ROWS,     DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_q_norm.weight",   ROLE_ATTN_Q_NORM, CUT_COPY,        DIM_ONE, DIM_HEAD, .in_layer = true},
    {"attn_k_norm.weight",   ROLE_ATTN_K_NORM, CUT_COPY,        DIM_ONE, DIM_HEAD, .in_layer = true},
    {"attn_output.weight",   ROLE_ATTN_OUT,    CUT_HEAD_LANES,  DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"ffn_norm.weight",      ROLE_FFN_NORM,    CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate_inp.weight",  ROLE_ROUTER,      CUT_COPY,        DIM_EXPERTS, DIM_EMBD, .in_layer = true},
    {"ffn_gate_exps.weight", ROLE_EXPERT_GATE, CUT_EXPERT_ROWS, DIM_FF_EXPERT, DIM_EMBD, .in_layer = true, .each_expert = true},
    {"ffn_up_exps.weight",   ROLE_EXPERT_UP,   CUT_EXPERT_ROWS, DIM_FF_EXPERT, DIM_EMBD, .in_layer = true, .each_expert = true},
    {"ffn_down_exps.weight", ROLE_EXPERT_DOWN, CUT_EXPERT_ROWS, DIM_EMBD, DIM_FF_EXPERT, .in_layer = true, .each_expert = true},
    {"output_norm.weight",   ROLE_OUTPUT_NORM, CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",        ROLE_OUTPUT,      CUT_VOCAB_ROWS,  DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 10, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT,
                           ROLE_NONE, ROLE_NONE, ROLE_NONE, ROLE_ATTN_Q_NORM, ROLE_ATTN_K_NORM}},
    {MODEL_EXPERTS,    5, {ROLE_FFN_NORM, ROLE_ROUTER, ROLE_EXPERT_GATE, ROLE_EXPERT_UP,
                           ROLE_EXPERT_DOWN}},
};
/* clang-format on */

const struct arch arch_qwen3moe = {
    .name = "qwen3moe",
    .experts = true,
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
