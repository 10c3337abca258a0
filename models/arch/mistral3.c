/* SPDX-License-Identifier: Apache-2.0 */
/* mistral3.c - the architecture "mistral3": Ministral 3 and later Mistral models without experts.
 *
 * As llama; far positions are reached by yarn, of whose factor a part may be taken back, and by
 * queries that grow with the logarithm of their position. */
#include "models/arch/arch.h"

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    int rc = arch_read_common(p, gguf, err);
    if (!rc)
        rc = arch_read_rope(p, gguf, false, err);
    if (!rc)
        rc = arch_f32_optional(p, gguf, "rope.scaling.yarn_log_multiplier", 0.0f, 1e3f,
                               &p->rope.log_multiplier, err);
    if (!rc)
        rc = arch_f32_optional(p, gguf, "attention.temperature_scale", 0.0f, 1e3f,
                               &p->temperature_scale, err);
    return rc;
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",    ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"attn_norm.weight",     ROLE_ATTN_NORM,   CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",        ROLE_ATTN_Q,      CUT_HEAD_ROWS,  DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",        ROLE_ATTN_K,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",        ROLE_ATTN_V,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_output.weight",   ROLE_ATTN_OUT,    CUT_HEAD_LANES, DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"ffn_norm.weight",      ROLE_FFN_NORM,    CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate.weight",      ROLE_FFN_GATE,    CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_up.weight",        ROLE_FFN_UP,      CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_down.weight",      ROLE_FFN_DOWN,    CUT_FFN_LANES,  DIM_EMBD, DIM_FF, .in_layer = true},
    {"output_norm.weight",   ROLE_OUTPUT_NORM, CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",        ROLE_OUTPUT,      CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 5, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT}},
    {MODEL_FFN,       4, {ROLE_FFN_NORM, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN}},
};
/* clang-format on */

const struct arch arch_mistral3 = {
    .name = "mistral3",
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
