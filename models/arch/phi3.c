/* SPDX-License-Identifier: Apache-2.0 */
/* phi3.c - the architecture "phi3": Phi 3, 3.5 and 4.
 *
 * As llama, with halves of a head turned against each other (its front only in some); Q, K and V
 * are rows of one tensor, gate and up of another.  Models of a long context have two lists of
 * divisors of the frequencies, and the context that is served says which one counts.  A sliding
 * window is not applied: the files name one where their models have none. */
#include <errno.h>

#include "models/arch/arch.h"
#include "models/gguf.h"
#include "octarc/error.h"

static int read_params(struct model_params *p, const struct gguf *gguf, struct err *err) {
    static const char *const divisors[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    const bool has[] = {gguf_find_tensor(gguf, divisors[0]) != NULL,
                        gguf_find_tensor(gguf, divisors[1]) != NULL};
    const int rc = arch_read_dense(p, gguf, err);
    if (!rc && has[0] != has[1])
        return err_set(err, -EINVAL, "%s: tensor '%s' is missing, and '%s' is there",
                       gguf_name(gguf), divisors[has[0]], divisors[has[1]]);
    return rc;
}

/* clang-format off */
static const struct arch_tensor tensors[] = {
    {"token_embd.weight",         ROLE_TOKEN_EMBD,  CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .in_layer = false},
    {"rope_factors_short.weight", ROLE_ROPE_SHORT,  CUT_COPY,       DIM_ONE, DIM_ROPE_PAIRS, .optional = true},
    {"rope_factors_long.weight",  ROLE_ROPE_LONG,   CUT_COPY,       DIM_ONE, DIM_ROPE_PAIRS, .optional = true},
    {"attn_norm.weight",          ROLE_ATTN_NORM,   CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"attn_qkv.weight",           ROLE_ATTN_Q,      CUT_HEAD_ROWS,  DIM_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_qkv.weight",           ROLE_ATTN_K,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_qkv.weight",           ROLE_ATTN_V,      CUT_KV_ROWS,    DIM_KV_HEADS, DIM_EMBD, .in_layer = true},
    {"attn_output.weight",        ROLE_ATTN_OUT,    CUT_HEAD_LANES, DIM_EMBD, DIM_HEADS, .in_layer = true},
    {"ffn_norm.weight",           ROLE_FFN_NORM,    CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = true},
    {"ffn_up.weight",             ROLE_FFN_GATE,    CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_up.weight",             ROLE_FFN_UP,      CUT_FFN_ROWS,   DIM_FF, DIM_EMBD, .in_layer = true},
    {"ffn_down.weight",           ROLE_FFN_DOWN,    CUT_FFN_LANES,  DIM_EMBD, DIM_FF, .in_layer = true},
    {"output_norm.weight",        ROLE_OUTPUT_NORM, CUT_COPY,       DIM_ONE, DIM_EMBD, .in_layer = false},
    {"output.weight",             ROLE_OUTPUT,      CUT_VOCAB_ROWS, DIM_VOCAB, DIM_EMBD, .optional = true},
};

static const struct arch_op layer[] = {
    {MODEL_ATTENTION, 5, {ROLE_ATTN_NORM, ROLE_ATTN_Q, ROLE_ATTN_K, ROLE_ATTN_V, ROLE_ATTN_OUT}},
    {MODEL_FFN,       4, {ROLE_FFN_NORM, ROLE_FFN_GATE, ROLE_FFN_UP, ROLE_FFN_DOWN}},
};
/* clang-format on */

const struct arch arch_phi3 = {
    .name = "phi3",
    .read_params = read_params,
    .tensors = tensors,
    .n_tensors = sizeof tensors / sizeof *tensors,
    .layer = layer,
    .n_layer = sizeof layer / sizeof *layer,
};
