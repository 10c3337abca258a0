/* SPDX-License-Identifier: Apache-2.0 */
/* What each architecture reads of its file beside what llama does (model.c), and what it refuses.
 */
#include <math.h>

#include "tests/gguf_model.h"

/* --- gemma3 --- */

static void gemma_layer(int layer, uint64_t embd, uint64_t q, uint64_t kv, uint64_t ff) {
    layer_tensor(layer, "attn_norm.weight", embd, 0);
    layer_tensor(layer, "attn_q.weight", embd, q);
    layer_tensor(layer, "attn_k.weight", embd, kv);
    layer_tensor(layer, "attn_v.weight", embd, kv);
    layer_tensor(layer, "attn_output.weight", q, embd);
    layer_tensor(layer, "post_attention_norm.weight", embd, 0);
    layer_tensor(layer, "ffn_norm.weight", embd, 0);
    layer_tensor(layer, "ffn_gate.weight", embd, ff);
    layer_tensor(layer, "ffn_up.weight", embd, ff);
    layer_tensor(layer, "ffn_down.weight", ff, embd);
    layer_tensor(layer, "post_ffw_norm.weight", embd, 0);
}

static void gemma3(void) {
    n_keys = n_tensors = 0;
    set_string("general.architecture", "gemma3");
    set_u32("gemma3.block_count", 1);
    set_u32("gemma3.context_length", 512);
    set_u32("gemma3.embedding_length", 64);
    set_u32("gemma3.feed_forward_length", 96);
    set_u32("gemma3.attention.head_count", 4);
    set_u32("gemma3.attention.head_count_kv", 1);
    set_u32("gemma3.attention.key_length", 32);
    set_u32("gemma3.attention.value_length", 32);
    set_f32("gemma3.attention.layer_norm_rms_epsilon", 1e-6);
    set_f32("gemma3.rope.freq_base", 1e6);
    set_u32("gemma3.attention.sliding_window", 16);
    set_tensor("token_embd.weight", TENSOR_F32, 64, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 64, 0);
    gemma_layer(0, 64, 128, 32, 96);
    layer_tensor(0, "attn_q_norm.weight", 32, 0);
    layer_tensor(0, "attn_k_norm.weight", 32, 0);
}

static void gemma3_has_windows_and_a_rotation_for_them(void) {
    gemma3();
    struct model m = read_good();
    const struct model_params *p = &m.params;
    CHECK(p->tied && p->gate == GATE_GELU && p->embd_scale == 8.0f && p->attn_scale == 0.0f);
    CHECK(p->attn_soft_cap == 0.0f && p->logit_soft_cap == 0.0f);
    CHECK(p->window == 16 && p->window_period == 6);
    CHECK(p->rope.neox && p->rope.freq_base == 1e6f && p->window_rope.neox);
    CHECK(p->window_rope.freq_base == 1e4f && p->window_rope.dims == 32);
    for (uint32_t layer = 0; layer < 18; layer++)
        CHECK_EQ(model_windowed(p, layer), layer % 6 != 5);
    CHECK(model_seen(p, 0, 15) == 15 && model_seen(p, 0, 400) == 16 &&
          model_seen(p, 5, 400) == 400);
    const struct model_op *attention = &m.ops[1], *ffn = &m.ops[2];
    CHECK(!strcmp(m.tensors[attention->tensor[ATTENTION_POST]].name,
                  "blk.0.post_attention_norm.weight"));
    CHECK(!strcmp(m.tensors[ffn->tensor[FFN_POST]].name, "blk.0.post_ffw_norm.weight"));
    CHECK_EQ(attention->tensor[ATTENTION_Q_BIAS], NO_TENSOR);
    model_finish(&m);
}

/* The windows' own rotation is never scaled. */
static void gemma3_scales_the_rotation_of_whole_layers_only(void) {
    gemma3();
    set_string("gemma3.rope.scaling.type", "linear");
    set_f32("gemma3.rope.scaling.factor", 8);
    set_u32("gemma3.attention.sliding_window_pattern", 2);
    set_f32("gemma3.rope.freq_base_swa", 2e4);
    set_f32("gemma3.final_logit_softcapping", 30);
    struct model m = read_good();
    const struct model_params *p = &m.params;
    CHECK(p->rope.scaling == ROPE_LINEAR && p->rope.factor == 8);
    CHECK(p->window_rope.scaling == ROPE_NONE && p->window_rope.freq_base == 2e4f);
    CHECK(p->window_period == 2 && p->logit_soft_cap == 30.0f);
    model_finish(&m);
}

static void gemma3_refuses_what_is_wrong_by_name(void) {
    gemma3();
    drop_key("gemma3.attention.sliding_window");
    check_refused(-EINVAL, "gemma3.attention.sliding_window", "missing");
    gemma3();
    set_u32("gemma3.attention.sliding_window", 0);
    check_refused(-EINVAL, "gemma3.attention.sliding_window", "not 1 to");
    gemma3();
    set_string("gemma3.attention.sliding_window", "many");
    check_refused(-EINVAL, "gemma3.attention.sliding_window", "");
    gemma3();
    set_u32("gemma3.attention.sliding_window_pattern", 0);
    check_refused(-EINVAL, "gemma3.attention.sliding_window_pattern", "not 1 to");
    gemma3();
    set_f32("gemma3.final_logit_softcapping", NAN);
    check_refused(-EINVAL, "gemma3.final_logit_softcapping", "not 0 to");
    gemma3();
    set_f32("gemma3.rope.freq_base_swa", 0);
    check_refused(-EINVAL, "gemma3.rope.freq_base_swa", "not 1 to");
    gemma3();
    tensor("blk.0.post_ffw_norm.weight")->cols = 0;
    check_refused(-EINVAL, "blk.0.post_ffw_norm.weight", "missing");
    gemma3();
    layer_tensor(0, "attn_q_norm.weight", 64, 0);
    check_refused(-EINVAL, "blk.0.attn_q_norm.weight' has the shape [1, 64]",
                  "[1, 32] was expected");
}

/* --- gemma2 --- */

static void gemma2(void) {
    n_keys = n_tensors = 0;
    set_string("general.architecture", "gemma2");
    set_u32("gemma2.block_count", 1);
    set_u32("gemma2.context_length", 8192);
    set_u32("gemma2.embedding_length", 64);
    set_u32("gemma2.feed_forward_length", 96);
    set_u32("gemma2.attention.head_count", 4);
    set_u32("gemma2.attention.head_count_kv", 1);
    set_u32("gemma2.attention.key_length", 32);
    set_u32("gemma2.attention.value_length", 32);
    set_f32("gemma2.attention.layer_norm_rms_epsilon", 1e-6);
    set_tensor("token_embd.weight", TENSOR_F32, 64, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 64, 0);
    gemma_layer(0, 64, 128, 32, 96);
}

static void gemma2_caps_scores_and_logits(void) {
    gemma2();
    struct model m = read_good();
    CHECK(m.params.attn_soft_cap == 50.0f && m.params.logit_soft_cap == 30.0f);
    CHECK(m.params.window == 4096 && m.params.window_period == 2);
    CHECK(model_windowed(&m.params, 0) && !model_windowed(&m.params, 1));
    CHECK(!memcmp(&m.params.window_rope, &m.params.rope, sizeof m.params.rope));
    CHECK(m.params.gate == GATE_GELU && m.params.embd_scale == 8.0f && m.params.attn_scale == 0);
    model_finish(&m);

    set_u32("gemma2.attention.sliding_window", 7);
    set_f32("gemma2.attn_logit_softcapping", 0); /* none */
    set_f32("gemma2.final_logit_softcapping", 5);
    m = read_good();
    CHECK(m.params.window == 7 && m.params.attn_soft_cap == 0 && m.params.logit_soft_cap == 5);
    model_finish(&m);
    set_f32("gemma2.final_logit_softcapping", 1e-30); /* by which 0 cannot be divided */
    check_refused(-EINVAL, "'gemma2.final_logit_softcapping' is 1e-30", "not 0 or 1e-06 to");
    set_f32("gemma2.final_logit_softcapping", 5);
    set_f32("gemma2.attn_logit_softcapping", 1e-7);
    check_refused(-EINVAL, "'gemma2.attn_logit_softcapping' is 1e-07", "not 0 or 1e-06 to");
}

/* Of the largest model the width counts, 16 over 4 heads, not the head's 2. */
static void the_largest_gemma2_scales_its_scores_otherwise(void) {
    gemma2();
    set_u32("gemma2.block_count", 46);
    set_u32("gemma2.embedding_length", 16);
    set_u32("gemma2.attention.key_length", 2);
    set_u32("gemma2.attention.value_length", 2);
    set_u32("gemma2.feed_forward_length", 4);
    set_tensor("token_embd.weight", TENSOR_F32, 16, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 16, 0);
    for (int layer = 0; layer < 46; layer++)
        gemma_layer(layer, 16, 8, 2, 4);
    struct model m = read_good();
    CHECK(m.params.attn_scale == 0.5f);
    model_finish(&m);
}

static void gemma2_refuses_what_is_wrong_by_name(void) {
    gemma2();
    set_f32("gemma2.attn_logit_softcapping", -1);
    check_refused(-EINVAL, "gemma2.attn_logit_softcapping", "not 0 to");
    gemma2();
    set_u32("gemma2.final_logit_softcapping", 30);
    check_refused(-EINVAL, "gemma2.final_logit_softcapping", "");
    gemma2();
    layer_tensor(0, "attn_q_norm.weight", 32, 0);
    check_refused(-ENOTSUP, "blk.0.attn_q_norm.weight", "gemma2");
    gemma2();
    layer_tensor(0, "post_attention_norm.weight", 32, 0);
    check_refused(-EINVAL, "[1, 32]", "[1, 64] was expected");
}

/* --- phi3 --- */

static void phi3(void) {
    n_keys = n_tensors = 0;
    set_string("general.architecture", "phi3");
    set_u32("phi3.block_count", 1);
    set_u32("phi3.context_length", 4096);
    set_u32("phi3.embedding_length", 64);
    set_u32("phi3.feed_forward_length", 96);
    set_u32("phi3.attention.head_count", 4);
    set_u32("phi3.attention.head_count_kv", 2);
    set_f32("phi3.attention.layer_norm_rms_epsilon", 1e-5);
    set_u32("phi3.rope.dimension_count", 12);
    set_u32("phi3.attention.sliding_window", 2047);
    set_tensor("token_embd.weight", TENSOR_F32, 64, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 64, 0);
    set_tensor("output.weight", TENSOR_F32, 64, 40);
    layer_tensor(0, "attn_norm.weight", 64, 0);
    set_tensor("blk.0.attn_qkv.weight", TENSOR_Q8_0, 64, 128);
    layer_tensor(0, "attn_output.weight", 64, 64);
    layer_tensor(0, "ffn_norm.weight", 64, 0);
    layer_tensor(0, "ffn_up.weight", 64, 192);
    layer_tensor(0, "ffn_down.weight", 96, 64);
}

/* Each part is a tensor of its own behind the one before, so that a plan may cut it by its own
 * rule.
 */
static void phi3_finds_the_parts_of_its_fused_tensors(void) {
    phi3();
    struct model m = read_good();
    const struct model_tensor *q = &m.tensors[m.ops[1].tensor[ATTENTION_Q]];
    const struct model_tensor *k = &m.tensors[m.ops[1].tensor[ATTENTION_K]];
    const struct model_tensor *v = &m.tensors[m.ops[1].tensor[ATTENTION_V]];
    const struct model_tensor *gate = &m.tensors[m.ops[2].tensor[FFN_GATE]];
    const struct model_tensor *up = &m.tensors[m.ops[2].tensor[FFN_UP]];
    CHECK(q->rows == 64 && k->rows == 32 && v->rows == 32 && q->cols == 64 && v->cols == 64);
    CHECK(q->cut == CUT_HEAD_ROWS && k->cut == CUT_KV_ROWS && v->cut == CUT_KV_ROWS);
    CHECK(q->bytes == 64 * 68 && k->bytes == 32 * 68 && v->bytes == 32 * 68);
    CHECK(k->file_offset == q->file_offset + q->bytes &&
          v->file_offset == k->file_offset + k->bytes);
    CHECK(gate->rows == 96 && up->rows == 96 && gate->bytes == 96 * 64 * 4);
    CHECK_EQ(up->file_offset, gate->file_offset + gate->bytes);
    CHECK(!strcmp(q->name, "blk.0.attn_qkv.weight") && !strcmp(v->name, q->name));
    CHECK(m.params.window == 0 && m.params.rope.dims == 12 && m.params.rope.neox);
    model_finish(&m);
}

static void phi3_has_divisors_for_short_and_long_contexts(void) {
    phi3();
    set_tensor("rope_factors_short.weight", TENSOR_F32, 6, 0);
    set_tensor("rope_factors_long.weight", TENSOR_F32, 6, 0);
    set_string("phi3.rope.scaling.type", "longrope");
    set_f32("phi3.rope.scaling.attn_factor", 1.19);
    set_u32("phi3.rope.scaling.original_context_length", 512);
    struct model m = read_good();
    uint32_t n = 0;
    CHECK(m.params.rope.scaling == ROPE_NONE && m.params.rope.attn_factor == 1.19f);
    CHECK_EQ(m.params.rope.original_context, 512);
    for (size_t i = 0; i < m.n_tensors; i++)
        n += model_tensor_is_rotation(&m.tensors[i]);
    CHECK_EQ(n, 2);
    model_finish(&m);
}

static void phi3_refuses_what_is_wrong_by_name(void) {
    phi3();
    set_tensor("blk.0.attn_qkv.weight", TENSOR_Q8_0, 64, 64);
    check_refused(-EINVAL, "blk.0.attn_qkv.weight' has the shape [64, 64]",
                  "[128, 64] was expected");
    phi3();
    layer_tensor(0, "ffn_up.weight", 64, 96);
    check_refused(-EINVAL, "blk.0.ffn_up.weight' has the shape [96, 64]", "[192, 64] was expected");
    phi3();
    tensor("blk.0.attn_qkv.weight")->cols = 0;
    check_refused(-EINVAL, "blk.0.attn_qkv.weight", "missing");
    phi3();
    set_tensor("rope_factors_long.weight", TENSOR_F32, 6, 0);
    check_refused(-EINVAL, "rope_factors_short.weight' is missing", "rope_factors_long.weight");
    phi3();
    set_string("phi3.rope.scaling.type", "longrope");
    check_refused(-ENOTSUP, "longrope", "none, linear, yarn");
    phi3();
    set_tensor("rope_factors_short.weight", TENSOR_F32, 6, 0);
    set_tensor("rope_factors_long.weight", TENSOR_F32, 8, 0);
    check_refused(-EINVAL, "[1, 8]", "[1, 6] was expected");
    phi3();
    set_u32("phi3.rope.scaling.original_context_length", 0);
    check_refused(-EINVAL, "phi3.rope.scaling.original_context_length", "not 1 to");
}

/* --- mistral3 --- */

static void mistral3(void) {
    n_keys = n_tensors = 0;
    set_string("general.architecture", "mistral3");
    set_u32("mistral3.block_count", 1);
    set_u32("mistral3.context_length", 4096);
    set_u32("mistral3.embedding_length", 64);
    set_u32("mistral3.feed_forward_length", 96);
    set_u32("mistral3.attention.head_count", 4);
    set_u32("mistral3.attention.head_count_kv", 2);
    set_f32("mistral3.attention.layer_norm_rms_epsilon", 1e-5);
    set_string("mistral3.rope.scaling.type", "yarn");
    set_f32("mistral3.rope.scaling.factor", 16);
    set_u32("mistral3.rope.scaling.original_context_length", 256);
    set_tensor("token_embd.weight", TENSOR_F32, 64, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 64, 0);
    layer_tensor(0, "attn_norm.weight", 64, 0);
    layer_tensor(0, "attn_q.weight", 64, 64);
    layer_tensor(0, "attn_k.weight", 64, 32);
    layer_tensor(0, "attn_v.weight", 64, 32);
    layer_tensor(0, "attn_output.weight", 64, 64);
    layer_tensor(0, "ffn_norm.weight", 64, 0);
    layer_tensor(0, "ffn_gate.weight", 64, 96);
    layer_tensor(0, "ffn_up.weight", 64, 96);
    layer_tensor(0, "ffn_down.weight", 96, 64);
}

static void mistral3_has_a_temperature_and_takes_back_a_factor(void) {
    mistral3();
    struct model m = read_good();
    CHECK(m.params.temperature_scale == 0.0f && m.params.rope.log_multiplier == 0.0f);
    CHECK(!m.params.rope.neox && m.params.rope.scaling == ROPE_YARN && m.params.rope.factor == 16);
    CHECK_EQ(m.params.rope.original_context, 256);
    model_finish(&m);
    set_f32("mistral3.attention.temperature_scale", 0.1);
    set_f32("mistral3.rope.scaling.yarn_log_multiplier", 1);
    m = read_good();
    CHECK(m.params.temperature_scale == 0.1f && m.params.rope.log_multiplier == 1.0f);
    model_finish(&m);
}

static void mistral3_refuses_what_is_wrong_by_name(void) {
    mistral3();
    set_f32("mistral3.attention.temperature_scale", -0.1);
    check_refused(-EINVAL, "mistral3.attention.temperature_scale", "not 0 to");
    mistral3();
    set_string("mistral3.rope.scaling.yarn_log_multiplier", "1");
    check_refused(-EINVAL, "mistral3.rope.scaling.yarn_log_multiplier", "");
    mistral3();
    layer_tensor(0, "ffn_gate_exps.weight", 64, 96);
    check_refused(-ENOTSUP, "blk.0.ffn_gate_exps.weight", "mistral3");
    mistral3();
    layer_tensor(0, "attn_k.weight", 64, 64);
    check_refused(-EINVAL, "[64, 64]", "[32, 64] was expected");
}

CHECK_MAIN(T(gemma3_has_windows_and_a_rotation_for_them),
           T(gemma3_scales_the_rotation_of_whole_layers_only),
           T(gemma3_refuses_what_is_wrong_by_name), T(gemma2_caps_scores_and_logits),
           T(the_largest_gemma2_scales_its_scores_otherwise),
           T(gemma2_refuses_what_is_wrong_by_name), T(phi3_finds_the_parts_of_its_fused_tensors),
           T(phi3_has_divisors_for_short_and_long_contexts), T(phi3_refuses_what_is_wrong_by_name),
           T(mistral3_has_a_temperature_and_takes_back_a_factor),
           T(mistral3_refuses_what_is_wrong_by_name))
