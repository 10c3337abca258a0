/* SPDX-License-Identifier: Apache-2.0 */
/* gpt_oss.c - the architecture "gpt-oss".
 *
 * Experts with biases and a gate of their own, chosen by a router with a bias, whose weights add up
 * to 1; biases of all four projections of the attention; a sink for each head; a window on every
 * other layer, which rotates as all others do.  What norms the input of the experts bears the name
 * that other families give to a norm of the attention's output. */
#include "models/arch/arch.h"

#define WINDOW_PERIOD 2u

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    int rc = arch_read_dense(p, gguf, err);
    if (!rc)
        rc = arch_read_windows(p, gguf, WINDOW_PERIOD, err);
    p->window_rope = p->rope;
    p->gate = GATE_LIMITED;
    p->experts_normed = true;
    return rc ? rc : arch_read_experts(p, gguf, err);
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",          ROLE_TOKEN_EMBD,       CUT_VOCAB_ROWS,     DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"attn_norm.weight",           ROLE_ATTN_NORM,        CUT_COPY,           DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",              ROLE_ATTN_Q,           CUT_HEAD_ROWS,      DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",              ROLE_ATTN_K,           CUT_KV_ROWS,        DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",              ROLE_ATTN_V,           CUT_KV_ROWS,        DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_q.bias",                ROLE_ATTN_Q_BIAS,      CUT_COPY,           DIM_ONE, DIM_HEADS, .in_layer = true},
    {"attn_k.bias",                ROLE_ATTN_K_BIAS,      CUT_COPY,           DIM_ONE, DIM_KV_HEADS, .in_layer = true},
    {"attn_v.bias",                ROLE_ATTN_V_BIAS,      CUT_COPY,           DIM_ONE, DIM_KV_HEADS, .in_layer = true},
    {"attn_sinks.weight",          ROLE_ATTN_SINKS,       CUT_COPY,           DIM_ONE, DIM_EACH_HEAD, .in_layer = true},
    {"attn_output.weight",         ROLE_ATTN_OUT,         CUT_HEAD_LANES,     DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"attn_output.bias",           ROLE_ATTN_OUT_BIAS,    CUT_COPY,           DIM_ONE, DIM_EMBD, .in_layer = true},
    {"post_attention_norm.weight", ROLE_FFN_NORM,         CUT_COPY,           DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate_inp.weight",        ROLE_ROUTER,           CUT_COPY,           DIM_EXPERTS, DIM_EMBD, .in_layer = true},
    {"ffn_gate_inp.bias",          ROLE_ROUTER_BIAS,      CUT_COPY,           DIM_ONE, DIM_EXPERTS, .in_layer = true},
    {"ffn_gate_exps.weight",       ROLE_EXPERT_GATE,      CUT_EXPERT_ROWS,    DIM_FF_EXPERT, DIM_EMBD, .in_layer = true, .each_expert = true},
    {"ffn_gate_exps.bias",         ROLE_EXPERT_GATE_BIAS, CUT_EXPERT_VECTORS, DIM_EXPERTS, DIM_FF_EXPERT, .in_layer = true},
    {"ffn_up_exps.weight",         ROLE_EXPERT_UP,        CUT_EXPERT_ROWS,    DIM_FF_EXPERT, DIM_EMBD, .in_layer = true, .each_expert = true},
    {"ffn_up_exps.bias",           ROLE_EXPERT_UP_BIAS,   CUT_EXPERT_VECTORS, DIM_EXPERTS, DIM_FF_EXPERT, .in_layer = true},
    {"ffn_down_exps.weight",       ROLE_EXPERT_DOWN,      CUT_EXPERT_ROWS,    DIM_EMBD, DIM_FF_EXPERT, .in_layer = true, .each_expert = true},
    {"ffn_down_exps.bias",         ROLE_EXPERT_DOWN_BIAS, CUT_EXPERT_VECTORS, DIM_EXPERTS, DIM_EMBD, .in_layer = true},
    {"output_norm.weight",         ROLE_OUTPUT_NORM,      CUT_COPY,           DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",              ROLE_OUTPUT,           CUT_VOCAB_ROWS,     DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 13, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT,
                           ROLE_ATTN_Q_BIAS, ROLE_ATTN_K_BIAS, ROLE_ATTN_V_BIAS, ROLE_NONE,
                           ROLE_NONE, ROLE_NONE, ROLE_ATTN_OUT_BIAS, ROLE_ATTN_SINKS}},
    {MODEL_EXPERTS,   13, {ROLE_FFN_NORM, ROLE_ROUTER, ROLE_EXPERT_GATE, ROLE_EXPERT_UP,
                           ROLE_EXPERT_DOWN, ROLE_NONE, ROLE_NONE, ROLE_NONE, ROLE_NONE,
                           ROLE_ROUTER_BIAS, ROLE_EXPERT_GATE_BIAS, ROLE_EXPERT_UP_BIAS,
                           ROLE_EXPERT_DOWN_BIAS}},
};
/* clang-format on */

const struct arch arch_gpt_oss = {
    .name = "gpt-oss",
    .experts = true,
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
