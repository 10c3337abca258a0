/* SPDX-License-Identifier: Apache-2.0 */
/* What architectures with experts read of their files, and what they refuse. */
#include "tests/gguf_model.h"

static char arch_name[16], key_names[24][64];

/* "ARCH.suffix", kept: keys borrow their names. */
static const char *of_arch(const char *suffix) {
    static uint32_t n;
    char *name = key_names[n++ % 24];
    snprintf(name, sizeof *key_names, "%s.%s", arch_name, suffix);
    return name;
}

static void begin(const char *arch) {
    n_keys = n_tensors = 0;
    snprintf(arch_name, sizeof arch_name, "%s", arch);
    set_string("general.architecture", arch_name);
    set_u32(of_arch("block_count"), 1);
    set_u32(of_arch("context_length"), 512);
    set_u32(of_arch("embedding_length"), 64);
    set_u32(of_arch("feed_forward_length"), 96);
    set_u32(of_arch("attention.head_count"), 4);
    set_u32(of_arch("attention.head_count_kv"), 2);
    set_f32(of_arch("attention.layer_norm_rms_epsilon"), 1e-6);
    set_tensor("token_embd.weight", TENSOR_F32, 64, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 64, 0);
    layer_tensor(0, "attn_norm.weight", 64, 0);
    layer_tensor(0, "attn_q.weight", 64, 64);
    layer_tensor(0, "attn_k.weight", 64, 32);
    layer_tensor(0, "attn_v.weight", 64, 32);
    layer_tensor(0, "attn_output.weight", 64, 64);
    layer_tensor(0, "ffn_norm.weight", 64, 0);
}

static void experts(uint32_t n, uint32_t n_used, uint64_t ff) {
    set_u32(of_arch("expert_count"), n);
    set_u32(of_arch("expert_used_count"), n_used);
    layer_tensor(0, "ffn_gate_inp.weight", 64, n);
    layer_stack(0, "ffn_gate_exps.weight", 64, ff, n);
    layer_stack(0, "ffn_up_exps.weight", 64, ff, n);
    layer_stack(0, "ffn_down_exps.weight", ff, 64, n);
}

/* --- qwen3moe --- */

static void qwen3moe(void) {
    begin("qwen3moe");
    experts(10, 3, 48);
    set_u32(of_arch("expert_feed_forward_length"), 48);
    layer_tensor(0, "attn_q_norm.weight", 16, 0);
    layer_tensor(0, "attn_k_norm.weight", 16, 0);
}

static void qwen3moe_has_experts_one_after_another(void) {
    qwen3moe();
    struct model m = read_good();
    const struct model_params *p = &m.params;
    CHECK(p->n_experts == 10 && p->n_experts_used == 3 && p->n_ff_expert == 48 && p->n_ff == 0);
    CHECK(p->experts_normed && p->gate == GATE_SILU && p->rope.neox);
    const struct model_op *op = &m.ops[2];
    CHECK_EQ(op->kind, MODEL_EXPERTS);
    const struct model_tensor *router = &m.tensors[op->tensor[EXPERTS_ROUTER]];
    const struct model_tensor *gate = &m.tensors[op->tensor[EXPERTS_GATE]];
    const struct model_tensor *down = &m.tensors[op->tensor[EXPERTS_DOWN]];
    CHECK(router->rows == 10 && router->cols == 64 && router->cut == CUT_COPY);
    CHECK(gate->rows == 480 && gate->cols == 64 && gate->cut == CUT_EXPERT_ROWS);
    CHECK(down->rows == 640 && down->cols == 48 && down->cut == CUT_EXPERT_ROWS);
    CHECK(gate->bytes == 480 * 64 * 4 && model_used(p, gate) == 0.3 && model_used(p, router) == 1);
    for (int slot = EXPERTS_SHARED_GATE; slot <= EXPERTS_FFN_DOWN; slot++)
        CHECK_EQ(op->tensor[slot], NO_TENSOR);
    model_finish(&m);
}

static void wrong_experts_are_refused_by_name(void) {
    static const struct {
        const char *key;
        uint32_t value;
        const char *text;
    } wrong[] = {{"expert_count", 0, "is 0, not 2 to 512"},
                 {"expert_count", 1, "is 1, not 2 to 512"},
                 {"expert_count", 513, "is 513, not 2 to 512"},
                 {"expert_used_count", 0, "is 0, not 1 to 10"},
                 {"expert_used_count", 11, "is 11, not 1 to 10"},
                 {"expert_feed_forward_length", 0, "is 0, not 1 to"},
                 {"expert_gating_func", 2, "is 2, not 1 to 1"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        qwen3moe();
        set_u32(of_arch(wrong[i].key), wrong[i].value);
        check_refused(-EINVAL, wrong[i].key, wrong[i].text);
    }
    qwen3moe();
    set_u32(of_arch("expert_count"), 100);
    set_u32(of_arch("expert_used_count"), 65);
    check_refused(-EINVAL, "expert_used_count", "is 65, not 1 to 64");
    qwen3moe();
    set_f32(of_arch("expert_weights_scale"), 2.5);
    check_refused(-EINVAL, "expert_weights_scale", "is 2.5, not 1 to 1");
    qwen3moe();
    drop_key(of_arch("expert_count"));
    check_refused(-EINVAL, "qwen3moe.expert_count", "missing");
    qwen3moe();
    drop_key(of_arch("expert_feed_forward_length"));
    check_refused(-EINVAL, "qwen3moe.expert_feed_forward_length", "missing");
}

static void wrong_shapes_of_experts_are_refused_with_both(void) {
    qwen3moe();
    layer_stack(0, "ffn_up_exps.weight", 64, 48, 9);
    check_refused(-EINVAL, "blk.0.ffn_up_exps.weight' has the shape [9, 48, 64]",
                  "[10, 48, 64] was expected (experts, rows, columns)");
    qwen3moe();
    layer_tensor(0, "ffn_down_exps.weight", 48, 640);
    check_refused(-EINVAL, "blk.0.ffn_down_exps.weight' has the shape [640, 48]",
                  "[10, 64, 48] was expected");
    qwen3moe();
    layer_tensor(0, "ffn_gate_inp.weight", 64, 12);
    check_refused(-EINVAL, "blk.0.ffn_gate_inp.weight' has the shape [12, 64]",
                  "[10, 64] was expected (rows, columns)");
    qwen3moe();
    tensor("blk.0.ffn_gate_exps.weight")->cols = 0;
    check_refused(-EINVAL, "blk.0.ffn_gate_exps.weight", "missing");
    begin("qwen3moe");
    experts(10, 3, 40);
    set_u32(of_arch("expert_feed_forward_length"), 40);
    layer_tensor(0, "attn_q_norm.weight", 16, 0);
    layer_tensor(0, "attn_k_norm.weight", 16, 0);
    check_refused(-ENOTSUP, "experts of 40 values that make 64", "multiples of 16");
    check_refused(-ENOTSUP, "key 'qwen3moe.expert_feed_forward_length' is 40", "");
}

/* --- others --- */

static void llama_may_have_experts_as_wide_as_its_ffn(void) {
    begin("llama");
    experts(5, 2, 96);
    struct model m = read_good();
    const struct model_params *p = &m.params;
    CHECK(p->n_experts == 5 && p->n_experts_used == 2 && p->n_ff_expert == 96 && p->n_ff == 0);
    CHECK(p->experts_normed && !p->rope.neox && m.ops[2].kind == MODEL_EXPERTS);
    model_finish(&m);
    set_u32(of_arch("expert_count"), 0); /* it has none, then */
    check_refused(-EINVAL, "blk.0.ffn_gate.weight", "missing");
}

static void qwen2moe(void) {
    begin("qwen2moe");
    experts(6, 2, 32);
    set_u32(of_arch("expert_feed_forward_length"), 32);
    layer_tensor(0, "attn_q.bias", 64, 0);
    layer_tensor(0, "attn_k.bias", 32, 0);
    layer_tensor(0, "attn_v.bias", 32, 0);
    layer_tensor(0, "ffn_gate_inp_shexp.weight", 64, 0);
    layer_tensor(0, "ffn_gate_shexp.weight", 64, 96);
    layer_tensor(0, "ffn_up_shexp.weight", 64, 96);
    layer_tensor(0, "ffn_down_shexp.weight", 96, 64);
}

/* The architecture's way is only what a file means that does not say. */
static void the_file_says_whether_weights_are_normed(void) {
    qwen3moe();
    set_bool(of_arch("expert_weights_norm"), false);
    struct model m = read_good();
    CHECK(!m.params.experts_normed);
    model_finish(&m);
    set_u32(of_arch("expert_weights_norm"), 1);
    check_refused(-EINVAL, "qwen3moe.expert_weights_norm", "bool was expected");
    qwen2moe();
    set_bool(of_arch("expert_weights_norm"), true);
    m = read_good();
    CHECK(m.params.experts_normed);
    model_finish(&m);
}

static void qwen2moe_has_a_shared_expert(void) {
    qwen2moe(); /* which is as wide as the FFN where the file does not say */
    struct model m = read_good();
    CHECK(m.params.n_ff == 96 && m.params.n_ff_expert == 32 && !m.params.experts_normed);
    const struct model_op *op = &m.ops[2];
    const struct model_tensor *gate = &m.tensors[op->tensor[EXPERTS_SHARED_GATE]];
    const struct model_tensor *down = &m.tensors[op->tensor[EXPERTS_FFN_DOWN]];
    CHECK(model_tensor_is_vector(gate) && gate->cols == 64);
    CHECK(down->rows == 64 && down->cols == 96 && down->cut == CUT_FFN_LANES);
    model_finish(&m);
    set_u32(of_arch("expert_shared_feed_forward_length"), 64);
    check_refused(-EINVAL, "blk.0.ffn_gate_shexp.weight' has the shape [96, 64]",
                  "[64, 64] was expected");
    qwen2moe();
    set_u32(of_arch("expert_shared_feed_forward_length"), 0);
    check_refused(-EINVAL, "qwen2moe.expert_shared_feed_forward_length", "is 0, not 1 to");
}

/* --- gpt-oss --- */

static void gpt_oss(void) {
    begin("gpt-oss");
    experts(10, 3, 48);
    set_u32(of_arch("expert_feed_forward_length"), 48);
    set_u32(of_arch("attention.sliding_window"), 16);
    tensor("blk.0.ffn_norm.weight")->cols = 0;
    layer_tensor(0, "post_attention_norm.weight", 64, 0);
    layer_tensor(0, "attn_q.bias", 64, 0);
    layer_tensor(0, "attn_k.bias", 32, 0);
    layer_tensor(0, "attn_v.bias", 32, 0);
    layer_tensor(0, "attn_output.bias", 64, 0);
    layer_tensor(0, "attn_sinks.weight", 4, 0);
    layer_tensor(0, "ffn_gate_inp.bias", 10, 0);
    layer_tensor(0, "ffn_gate_exps.bias", 48, 10);
    layer_tensor(0, "ffn_up_exps.bias", 48, 10);
    layer_tensor(0, "ffn_down_exps.bias", 64, 10);
}

static void gpt_oss_has_sinks_windows_and_biases_of_experts(void) {
    gpt_oss();
    set_string(of_arch("rope.scaling.type"), "yarn");
    set_f32(of_arch("rope.scaling.factor"), 32);
    set_u32(of_arch("rope.scaling.original_context_length"), 128);
    struct model m = read_good();
    const struct model_params *p = &m.params;
    CHECK(p->gate == GATE_LIMITED && p->experts_normed && p->n_ff == 0 && p->rope.neox);
    CHECK(p->window == 16 && model_windowed(p, 0) && !model_windowed(p, 1) && model_windowed(p, 2));
    CHECK(p->rope.scaling == ROPE_YARN && !memcmp(&p->rope, &p->window_rope, sizeof p->rope));
    const struct model_op *attention = &m.ops[1], *op = &m.ops[2];
    const struct model_tensor *sinks = &m.tensors[attention->tensor[ATTENTION_SINKS]];
    const struct model_tensor *bias = &m.tensors[op->tensor[EXPERTS_DOWN_BIAS]];
    CHECK(model_tensor_is_vector(sinks) && sinks->cols == 4);
    CHECK(attention->tensor[ATTENTION_OUT_BIAS] != NO_TENSOR);
    CHECK_EQ(attention->tensor[ATTENTION_POST], NO_TENSOR);
    CHECK(!strcmp(m.tensors[op->tensor[EXPERTS_NORM]].name, "blk.0.post_attention_norm.weight"));
    CHECK(model_tensor_is_vector(bias) && bias->rows == 10 && bias->cols == 64);
    CHECK(bias->cut == CUT_EXPERT_VECTORS && model_used(p, bias) == 0.3);
    CHECK_EQ(m.tensors[op->tensor[EXPERTS_ROUTER_BIAS]].cols, 10);
    for (int slot = EXPERTS_SHARED_GATE; slot <= EXPERTS_FFN_DOWN; slot++)
        CHECK_EQ(op->tensor[slot], NO_TENSOR);
    model_finish(&m);
}

static void gpt_oss_refuses_what_is_wrong_by_name(void) {
    static const char *const vectors[] = {"attn_sinks.weight",  "attn_q.bias",
                                          "attn_k.bias",        "attn_v.bias",
                                          "attn_output.bias",   "ffn_gate_inp.bias",
                                          "ffn_gate_exps.bias", "ffn_up_exps.bias",
                                          "ffn_down_exps.bias", "post_attention_norm.weight"};
    char name[64];
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        snprintf(name, sizeof name, "blk.0.%s", vectors[i]);
        gpt_oss();
        tensor(name)->cols = 0;
        check_refused(-EINVAL, name, "missing");
    }
    gpt_oss();
    layer_tensor(0, "attn_sinks.weight", 5, 0);
    check_refused(-EINVAL, "blk.0.attn_sinks.weight' has the shape [1, 5]", "[1, 4] was expected");
    gpt_oss();
    layer_tensor(0, "ffn_up_exps.bias", 48, 9);
    check_refused(-EINVAL, "blk.0.ffn_up_exps.bias' has the shape [9, 48]",
                  "[10, 48] was expected (rows, columns)");
    gpt_oss();
    tensor("blk.0.ffn_down_exps.bias")->type = TENSOR_Q8_0;
    check_refused(-ENOTSUP, "blk.0.ffn_down_exps.bias' is of type Q8_0", "F32, F16, BF16");
    gpt_oss();
    drop_key(of_arch("attention.sliding_window"));
    check_refused(-EINVAL, "gpt-oss.attention.sliding_window", "missing");
    gpt_oss();
    drop_key(of_arch("expert_count"));
    check_refused(-EINVAL, "gpt-oss.expert_count", "missing");
}

CHECK_MAIN(T(llama_may_have_experts_as_wide_as_its_ffn),
           T(the_file_says_whether_weights_are_normed), T(qwen2moe_has_a_shared_expert),
           T(qwen3moe_has_experts_one_after_another), T(wrong_experts_are_refused_by_name),
           T(wrong_shapes_of_experts_are_refused_with_both),
           T(gpt_oss_has_sinks_windows_and_biases_of_experts),
           T(gpt_oss_refuses_what_is_wrong_by_name))
