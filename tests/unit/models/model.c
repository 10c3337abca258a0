/* SPDX-License-Identifier: Apache-2.0 */
#include "octarc/model.h"

#include <errno.h>
#include <math.h>

#include "models/gguf.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/gguf_model.h"

/* A llama of two layers, F32, whose keys and tensors a test may change before it is written. */
static void good_model(void) {
    n_keys = n_tensors = 0;
    set_string("general.architecture", "llama");
    set_string("general.name", "tiny");
    set_u32("llama.block_count", 2);
    set_u32("llama.context_length", 512);
    set_u32("llama.embedding_length", 64);
    set_u32("llama.feed_forward_length", 96);
    set_u32("llama.attention.head_count", 4);
    set_u32("llama.attention.head_count_kv", 2);
    set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    set_tensor("token_embd.weight", TENSOR_F32, 64, 40);
    set_tensor("output.weight", TENSOR_F32, 64, 40);
    set_tensor("output_norm.weight", TENSOR_F32, 64, 0);
    for (int layer = 0; layer < 2; layer++) {
        layer_tensor(layer, "attn_norm.weight", 64, 0);
        layer_tensor(layer, "attn_q.weight", 64, 64);
        layer_tensor(layer, "attn_k.weight", 64, 32);
        layer_tensor(layer, "attn_v.weight", 64, 32);
        layer_tensor(layer, "attn_output.weight", 64, 64);
        layer_tensor(layer, "ffn_norm.weight", 64, 0);
        layer_tensor(layer, "ffn_gate.weight", 64, 96);
        layer_tensor(layer, "ffn_up.weight", 64, 96);
        layer_tensor(layer, "ffn_down.weight", 96, 64);
    }
}

static void hyper_parameters_are_read_with_their_defaults(void) {
    good_model();
    struct model m = read_good();
    const struct model_params *p = &m.params;
    CHECK(!strcmp(p->arch, "llama") && !strcmp(p->name, "tiny"));
    CHECK(p->n_layers == 2 && p->n_embd == 64 && p->n_heads == 4 && p->n_kv_heads == 2);
    CHECK(p->head_dim == 16 && p->n_ff == 96 && p->n_vocab == 40 && p->n_ctx_train == 512);
    CHECK(p->norm_eps == 1e-5f && !p->tied);
    CHECK(p->rope.dims == 16 && !p->rope.neox && p->rope.freq_base == 10000);
    CHECK(p->rope.scaling == ROPE_NONE && p->rope.factor == 1 && p->rope.attn_factor == 1);
    CHECK(!p->rope.has_freqs && p->rope.ext_factor == 0);
    model_finish(&m);
}

static void operations_name_the_tensors_they_use(void) {
    good_model();
    struct model m = read_good();
    CHECK_EQ(m.n_tensors, n_tensors);
    CHECK_EQ(m.n_ops, 6);
    static const char *const want[6][5] = {
        {"token_embd.weight"},
        {"blk.0.attn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
         "blk.0.attn_v.weight", "blk.0.attn_output.weight"},
        {"blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
         "blk.0.ffn_down.weight"},
        {"blk.1.attn_norm.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight",
         "blk.1.attn_v.weight", "blk.1.attn_output.weight"},
        {"blk.1.ffn_norm.weight", "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight",
         "blk.1.ffn_down.weight"},
        {"output_norm.weight", "output.weight"}};
    static const enum model_op_kind kinds[] = {MODEL_EMBED,     MODEL_ATTENTION, MODEL_FFN,
                                               MODEL_ATTENTION, MODEL_FFN,       MODEL_HEAD};
    static const int layers[] = {-1, 0, 0, 1, 1, -1};
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ(m.ops[i].kind, kinds[i]);
        CHECK_EQ(m.ops[i].layer, layers[i]);
        for (size_t s = 0; s < 8; s++) {
            if (s >= 5 || !want[i][s]) {
                CHECK_EQ(m.ops[i].tensor[s], NO_TENSOR);
                continue;
            }
            const struct model_tensor *t = &m.tensors[m.ops[i].tensor[s]];
            CHECK(!strcmp(t->name, want[i][s]));
            CHECK_EQ(t->layer, layers[i]);
            CHECK_EQ(t->bytes, t->rows * t->cols * 4);
        }
    }
    const struct model_tensor *down = &m.tensors[m.ops[4].tensor[3]];
    CHECK(down->role == ROLE_FFN_DOWN && down->cut == CUT_FFN_LANES);
    CHECK(down->rows == 64 && down->cols == 96);
    CHECK_EQ(down->file_offset + down->bytes, m.file_bytes); /* the last tensor of the file */
    model_finish(&m);
}

static void a_tied_model_uses_its_embedding_as_output(void) {
    good_model();
    tensor("output.weight")->cols = 0;
    struct model m = read_good();
    CHECK(m.params.tied);
    CHECK_EQ(m.ops[5].tensor[1], m.ops[0].tensor[0]);
    model_finish(&m);
}

static void rope_keys_old_and_new_are_understood(void) {
    good_model();
    set_f32("llama.rope.scale_linear", 2);
    struct model m = read_good();
    CHECK(m.params.rope.scaling == ROPE_LINEAR && m.params.rope.factor == 2);
    model_finish(&m);

    good_model();
    set_string("llama.rope.scaling.type", "yarn");
    set_f32("llama.rope.scaling.factor", 4);
    set_u32("llama.rope.scaling.original_context_length", 128);
    set_u32("llama.rope.dimension_count", 8);
    set_u32("llama.attention.key_length", 32);
    for (int i = 0; i < 2; i++) {
        layer_tensor(i, "attn_q.weight", 64, 128);
        layer_tensor(i, "attn_k.weight", 64, 64);
        layer_tensor(i, "attn_v.weight", 64, 64);
        layer_tensor(i, "attn_output.weight", 128, 64);
    }
    set_tensor("rope_freqs.weight", TENSOR_F32, 4, 0);
    m = read_good();
    const struct rope_params *r = &m.params.rope;
    CHECK(m.params.head_dim == 32 && r->dims == 8 && r->scaling == ROPE_YARN && r->factor == 4);
    CHECK(r->ext_factor == 1 && r->beta_fast == 32 && r->beta_slow == 1);
    CHECK(r->original_context == 128 && r->attn_factor == 1 && r->has_freqs);
    model_finish(&m);

    set_f32("llama.rope.freq_base", 1);
    check_refused(-EINVAL, "llama.rope.freq_base", "yarn");
    set_string("llama.rope.scaling.type", "none");
    m = read_good();
    CHECK(m.params.rope.scaling == ROPE_NONE && m.params.rope.factor == 1);
    model_finish(&m);
    set_string("llama.rope.scaling.type", "longrope");
    check_refused(-ENOTSUP, "longrope", "none, linear, yarn");
    set_string("llama.rope.scaling.type", "other");
    check_refused(-EINVAL, "llama.rope.scaling.type", "none, linear, yarn");
}

static void what_is_not_supported_is_named(void) {
    good_model();
    set_string("general.architecture", "lla\nma");
    check_refused(-ENOTSUP, "'lla?ma'",
                  "supported: gemma2, gemma3, gpt-oss, llama, mistral3, phi3");
    drop_key("general.architecture");
    check_refused(-EINVAL, "general.architecture", "missing");
    good_model();
    set_string("llama.expert_count", "4");
    check_refused(-EINVAL, "llama.expert_count", "an integer");
    good_model();
    tensor("output.weight")->type = 25;
    check_refused(-ENOTSUP, "'output.weight' is of type I16", "Q4_1");
    good_model();
    tensor("output_norm.weight")->type = TENSOR_Q8_0;
    check_refused(-ENOTSUP, "'output_norm.weight' is of type Q8_0", "F32, F16, BF16");
    good_model();
    set_u32("llama.attention.value_length", 8);
    check_refused(-ENOTSUP, "16", "8");
}

static void a_tensor_that_would_be_ignored_is_refused(void) {
    good_model();
    layer_tensor(1, "attn_q.bias", 64, 0);
    check_refused(-ENOTSUP, "blk.1.attn_q.bias", "llama");
    good_model();
    layer_tensor(2, "attn_norm.weight", 64, 0);
    check_refused(-ENOTSUP, "blk.2.attn_norm.weight", "2 layers");
    good_model();
    layer_tensor(0, "attn_rot_embd.weight", 8, 0);
    struct model m = read_good();
    model_finish(&m);
}

static void missing_and_misshapen_tensors_are_named_with_both_shapes(void) {
    good_model();
    tensor("blk.1.ffn_up.weight")->cols = 0;
    check_refused(-EINVAL, "blk.1.ffn_up.weight", "missing");
    good_model();
    layer_tensor(1, "ffn_up.weight", 96, 64);
    check_refused(-EINVAL, "[64, 96]", "[96, 64] was expected");
    good_model();
    set_tensor("output.weight", TENSOR_F32, 64, 41);
    check_refused(-EINVAL, "[41, 64]", "[40, 64] was expected");
    good_model();
    set_tensor("rope_freqs.weight", TENSOR_F32, 16, 0);
    check_refused(-EINVAL, "[1, 16]", "[1, 8] was expected");
}

static void hyper_parameters_out_of_their_limits_are_named(void) {
    static const struct {
        const char *key;
        double wrong;
    } cases[] = {{"llama.block_count", 0},
                 {"llama.block_count", LAYERS_MAX + 1},
                 {"llama.embedding_length", 0},
                 {"llama.embedding_length", 1 << 21},
                 {"llama.feed_forward_length", 0},
                 {"llama.context_length", 0},
                 {"llama.attention.head_count", 0},
                 {"llama.attention.head_count_kv", 0},
                 {"llama.attention.head_count_kv", 5},
                 {"llama.attention.key_length", 1 << 20},
                 {"llama.rope.dimension_count", 18},
                 {"llama.rope.dimension_count", 7},
                 {"llama.rope.dimension_count", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        good_model();
        set_u32(cases[i].key, (uint32_t)cases[i].wrong);
        check_refused(-EINVAL, cases[i].key, "");
    }
    static const char *const floats[] = {"llama.attention.layer_norm_rms_epsilon",
                                         "llama.rope.freq_base", "llama.rope.scaling.factor",
                                         "llama.rope.scaling.attn_factor"};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        static const double wrong[] = {-1, NAN, INFINITY};
        for (size_t k = 0; k < 3; k++) {
            good_model();
            set_f32(floats[i], wrong[k]);
            check_refused(-EINVAL, floats[i], "");
        }
    }
    good_model();
    set_u32("llama.attention.head_count_kv", 3);
    check_refused(-EINVAL, "4 query heads", "3 KV heads");
    good_model();
    set_u32("llama.attention.head_count", 6);
    drop_key("llama.attention.head_count_kv");
    check_refused(-EINVAL, "64 values do not divide into 6 heads", "key_length");
}

static void every_required_key_is_missed_by_name(void) {
    good_model();
    for (size_t i = 2; i < 9; i++) { /* after general.* */
        good_model();
        const char *name = keys[i].name;
        if (!strcmp(name, "llama.attention.head_count_kv"))
            continue; /* would be as many as query heads */
        drop_key(name);
        check_refused(-EINVAL, name, "missing");
    }
}

static void a_name_is_cut_between_characters(void) {
    static char longest[600];
    good_model();
    for (size_t i = 0; i + 3 < sizeof longest; i += 3)
        memcpy(longest + i, "\xe2\x82\xac", 3);
    set_string("general.name", longest);
    struct model m = read_good();
    CHECK_EQ(strlen(m.params.name), 126);
    model_finish(&m);
    set_string("general.name", "a\xff\x01z\xc3");
    m = read_good();
    CHECK(!strcmp(m.params.name, "a??z?"));
    model_finish(&m);
    drop_key("general.name");
    m = read_good();
    CHECK(!strcmp(m.params.name, "test.gguf"));
    model_finish(&m);
}

/* The header of the model that tests/golden/make_tiny.py writes, with zeros for weights. */
static void the_generated_model_is_described(void) {
    static struct gguf_bytes b;
    FILE *f = fopen("tests/fuzz/corpus/gguf/tiny_f32_header", "rb");
    if (!f)
        SKIP("not run from the root of the sources");
    b.n = fread(b.data, 1, sizeof b.data, f);
    fclose(f);
    const int fd = bytes_file(b.data, b.n);
    CHECK_EQ(ftruncate(fd, 1 << 20), 0);
    struct gguf *gguf;
    struct model m;
    CHECK_EQ(gguf_open(&gguf, fd, "tiny", NULL), 0);
    close(fd);
    CHECK_EQ(model_read(&m, gguf, NULL), 0);
    CHECK(m.params.n_layers == 3 && m.params.n_embd == 64 && m.params.n_ff == 160);
    CHECK(m.params.n_vocab == 290 && m.params.head_dim == 16 && !m.params.tied);
    CHECK_EQ(m.n_tensors, 30);
    struct gguf_string *tokens;
    size_t n;
    CHECK_EQ(gguf_strings(gguf, "tokenizer.ggml.tokens", &tokens, &n, NULL), 0);
    CHECK(n == 290 && tokens[1].n == 12 && !memcmp(tokens[1].bytes, "<|im_start|>", 12));
    free(tokens);
    model_finish(&m);
    gguf_close(gguf);
}

CHECK_MAIN(T(hyper_parameters_are_read_with_their_defaults),
           T(operations_name_the_tensors_they_use), T(a_tied_model_uses_its_embedding_as_output),
           T(rope_keys_old_and_new_are_understood), T(what_is_not_supported_is_named),
           T(a_tensor_that_would_be_ignored_is_refused),
           T(missing_and_misshapen_tensors_are_named_with_both_shapes),
           T(hyper_parameters_out_of_their_limits_are_named),
           T(every_required_key_is_missed_by_name), T(a_name_is_cut_between_characters),
           T(the_generated_model_is_described))
