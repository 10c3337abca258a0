/* SPDX-License-Identifier: Apache-2.0 */
/* llama.c - the architecture "llama": Llama 1 to 3, Mistral, SmolLM and others of that shape.
 *
 * RMS norm before each half of a layer, grouped-query attention with rotated positions, a gated
 * feed-forward with SiLU, no biases.  Its files store Q and K rows permuted so that a rotation
 * turns neighbours (2i, 2i + 1). */
#include <errno.h>

#include "models/arch/arch.h"
#include "models/gguf.h"
#include "octarc/error.h"

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    uint32_t experts = 0;
    int rc = arch_u32_optional(p, gguf, "expert_count", 0, UINT32_MAX, &experts, err);
    if (rc)
        return rc;
    if (experts)
        return err_set(err, -ENOTSUP,
                       "%s: key 'llama.expert_count' is %u; llama with experts is not supported",
                       gguf_name(gguf), experts);
    bool causal = true;
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

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 5, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT}},
    {MODEL_FFN,       4, {ROLE_FFN_NORM, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN}},
};
/* clang-format on */

const struct arch arch_llama = {
    .name = "llama",
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
