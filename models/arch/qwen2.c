/* SPDX-License-Identifier: Apache-2.0 */
/* qwen2.c - the architecture "qwen2": Qwen 2 and 2.5, their coders, DeepSeek's distilled ones.
 *
 * As llama, with biases of Q, K and V; a rotation turns the halves of a head against each other. */
#include "models/arch/arch.h"

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",    ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"attn_norm.weight",     ROLE_ATTN_NORM,   CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",        ROLE_ATTN_Q,      CUT_HEAD_ROWS,  DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",        ROLE_ATTN_K,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",        ROLE_ATTN_V,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_q.bias",          ROLE_ATTN_Q_BIAS, CUT_COPY,       DIM_ONE, DIM_HEADS, .in_layer = true},
    {"attn_k.bias",          ROLE_ATTN_K_BIAS, CUT_COPY,       DIM_ONE, DIM_KV_HEADS, .in_layer = true},
    {"attn_v.bias",          ROLE_ATTN_V_BIAS, CUT_COPY,       DIM_ONE, DIM_KV_HEADS, .in_layer = true},
    {"attn_output.weight",   ROLE_ATTN_OUT,    CUT_HEAD_LANES, DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"ffn_norm.weight",      ROLE_FFN_NORM,    CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate.weight",      ROLE_FFN_GATE,    CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_up.weight",        ROLE_FFN_UP,      CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_down.weight",      ROLE_FFN_DOWN,    CUT_FFN_LANES,  DIM_EMBD, DIM_FF, .in_layer = true},
    {"output_norm.weight",   ROLE_OUTPUT_NORM, CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",        ROLE_OUTPUT,      CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 8, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT,
                          ROLE_ATTN_Q_BIAS, ROLE_ATTN_K_BIAS, ROLE_ATTN_V_BIAS}},
    {MODEL_FFN,       4, {ROLE_FFN_NORM, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN}},
};
/* clang-format on */

const struct arch arch_qwen2 = {
    .name = "qwen2",
    .read_params = arch_read_dense,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
