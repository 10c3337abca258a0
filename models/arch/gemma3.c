/* SPDX-License-Identifier: Apache-2.0 */
/* gemma3.c - the architecture "gemma3", its text half.
 *
 * Of six layers five see a sliding window only, and rotate by a base of their own.  Heads of Q and
 * K are normed before the rotation; what attention and feed-forward add is normed too; the gate is
 * GELU; a token's row is scaled.  The files hold norm weights as they are multiplied (1 + w). */
#include <math.h>

#include "models/arch/arch.h"

#define WINDOW_PERIOD    6u
#define WINDOW_FREQ_BASE 10000.0f
#define LAYERS_27B       62u /* whose scores are scaled by the width, not by the head's */

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    int rc = arch_read_dense(p, gguf, err);
    if (!rc)
        rc = arch_read_windows(p, gguf, WINDOW_PERIOD, err);
    p->window_rope.freq_base = WINDOW_FREQ_BASE;
    if (!rc)
        rc = arch_f32_optional(p, gguf, "rope.freq_base_swa", 1.0f, 1e12f,
                               &p->window_rope.freq_base, err);
    if (!rc)
        rc = arch_soft_cap(p, gguf, "final_logit_softcapping", &p->logit_soft_cap, err);
    if (rc)
        return rc;
    p->gate = GATE_GELU;
    p->embd_scale = sqrtf((float)p->n_embd);
    if (p->n_layers == LAYERS_27B)
        p->attn_scale = 1.0f / sqrtf((float)p->n_embd / (float)p->n_heads);
    return 0;
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",          ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"attn_norm.weight",           ROLE_ATTN_NORM,   CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_q.weight",              ROLE_ATTN_Q,      CUT_HEAD_ROWS,  DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_k.weight",              ROLE_ATTN_K,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_v.weight",              ROLE_ATTN_V,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_q_norm.weight",         ROLE_ATTN_Q_NORM, CUT_COPY,       DIM_ONE, DIM_HEAD, .in_layer = true},
    {"attn_k_norm.weight",         ROLE_ATTN_K_NORM, CUT_COPY,       DIM_ONE, DIM_HEAD, .in_layer = true},
    {"attn_output.weight",         ROLE_ATTN_OUT,    CUT_HEAD_LANES, DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"post_attention_norm.weight", ROLE_ATTN_POST,   CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_norm.weight",            ROLE_FFN_NORM,    CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_gate.weight",            ROLE_FFN_GATE,    CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_up.weight",              ROLE_FFN_UP,      CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_down.weight",            ROLE_FFN_DOWN,    CUT_FFN_LANES,  DIM_EMBD, DIM_FF, .in_layer = true},
    {"post_ffw_norm.weight",       ROLE_FFN_POST,    CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"output_norm.weight",         ROLE_OUTPUT_NORM, CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",              ROLE_OUTPUT,      CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 11, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT,
                           ROLE_NONE, ROLE_NONE, ROLE_NONE, ROLE_ATTN_Q_NORM, ROLE_ATTN_K_NORM,
                           ROLE_ATTN_POST}},
    {MODEL_FFN,        5, {ROLE_FFN_NORM, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN,
                           ROLE_FFN_POST}},
};
/* clang-format on */

const struct arch arch_gemma3 = {
    .name = "gemma3",
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
