/* SPDX-License-Identifier: Apache-2.0 */
/* llama.c - the architecture "llama": Llama 1 to 3, Mistral, Mixtral, SmolLM and others of that
 * shape.
 *
 * RMS norm before each half of a layer, grouped-query attention with rotated positions, a gated
 * feed-forward with SiLU or experts that are such, no biases.  Its files store Q and K rows
 * permuted so that a rotation turns neighbours (2i, 2i + 1). */
#include <errno.h>

#include "models/arch/arch.h"
#include "models/gguf.h"
#include "octarc/error.h"

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    bool causal = true;
    int rc = 0;
    if (gguf_has(gguf, "llama.attention.causal"))
        rc = gguf_bool(gguf, "llama.attention.causal", &causal, err);
    if (rc)
        return rc;
    if (!causal)
        return err_set(err, -ENOTSUP,
                       "%s: key 'llama.attention.causal' is false; only causal attention is "
                       "supported",
                       gguf_name(gguf));
    rc = arch_read_common(p, gguf, err);
    return rc ? rc : arch_read_rope(p, gguf, false, err);
}

/* Chosen because the file has no experts, or says so in no way that can be read. */
static int read_dense_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    uint32_t experts = 0;
    const int rc = arch_u32_optional(p, gguf, "expert_count", 0, 0, &experts, err);
    return rc ? rc : read_params(p, gguf, err);
}

static int read_expert_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    const int rc = read_params(p, gguf, err);
    p->experts_normed = true;
    p->n_ff_expert = p->n_ff;
    return rc ? rc : arch_read_experts(p, gguf, err);
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",    ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"rope_freqs.weight",    ROLE_ROPE_FREQS,  CUT_COPY,       DIM_ONE, DIM_ROPE_PAIRS, .optional = true},
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

static const struct arch_tensor expert_tensors[] = {
    {"token_embd.weight",    ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS,  DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"rope_freqs.weight",    ROLE_ROPE_FREQS,  CUT_COPY,        DIM_ONE, DIM_ROPE_PAIRS, .optional = true},
    {"attn_norm.weight",     ROLE_ATTN_NORM,   CUT_COPY,        DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",        ROLE_ATTN_Q,      CUT_HEAD_ROWS,   DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",        ROLE_ATTN_K,      CUT_KV_ROWS,     DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",        ROLE_ATTN_V,      CUT_KV_ROWS,     DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
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
    {MODEL_ATTENTION, 5, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT}},
    {MODEL_FFN,       4, {ROLE_FFN_NORM, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN}},
};

static const struct arch_op expert_layer[] = {
    {MODEL_ATTENTION, 5, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT}},
    {MODEL_EXPERTS,   5, {ROLE_FFN_NORM, ROLE_ROUTER, ROLE_EXPERT_GATE, ROLE_EXPERT_UP,
                          ROLE_EXPERT_DOWN}},
};
/* clang-format on */

const struct arch arch_llama = {
    .name = "llama",
    .read_params = read_dense_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};

const struct arch arch_llama_experts = {
    .name = "llama",
    .experts = true,
    .read_params = read_expert_params,
    .tensors = expert_tensors,
    .n_tensors = sizeof expert_tensors / sizeof *expert_tensors,
    .layer = expert_layer,
    .n_layer = sizeof expert_layer / sizeof *expert_layer,
};
