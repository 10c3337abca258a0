/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a model file: opened, every key asked for in every way, described as a model. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/gguf.h"
#include "octarc/error.h"
#include "octarc/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const keys[] = {"general.architecture",      "general.name",
                                   "general.alignment",         "llama.block_count",
                                   "llama.rope.freq_base",      "tokenizer.ggml.tokens",
                                   "tokenizer.ggml.merges",     "tokenizer.ggml.scores",
                                   "tokenizer.ggml.token_type", "tokenizer.chat_template"};

static void check(bool holds) {
    if (!holds)
        abort();
}

static uint64_t sum; /* so that what is read is used */

static void ask_for(const struct gguf *gguf, const char *key) {
    struct err err;
    uint32_t u;
    float f;
    bool yes;
    struct gguf_string s, *strings;
    int32_t *numbers;
    float *floats;
    size_t count;
    uint64_t length;
    gguf_u32(gguf, key, &u, &err);
    gguf_f32(gguf, key, &f, &err);
    gguf_bool(gguf, key, &yes, &err);
    gguf_array_length(gguf, key, &length);
    if (!gguf_string(gguf, key, &s, &err))
        for (size_t i = 0; i < s.n; i++)
            sum += (uint8_t)s.bytes[i];
    if (!gguf_strings(gguf, key, &strings, &count, &err)) {
        for (size_t i = 0; i < count; i++)
            for (size_t k = 0; k < strings[i].n; k++)
                sum += (uint8_t)strings[i].bytes[k];
        free(strings);
    }
    if (!gguf_i32s(gguf, key, &numbers, &count, &err)) {
        for (size_t i = 0; i < count; i++)
            sum += (uint32_t)numbers[i];
        free(numbers);
    }
    if (!gguf_f32s(gguf, key, &floats, &count, &err))
        free(floats);
}

/* Every field, its first elements and its last. */
static void show_all(const struct gguf *gguf) {
    struct gguf_field field;
    struct gguf_value value;
    for (size_t i = 0; i < gguf_n_fields(gguf); i++) {
        gguf_field(gguf, i, &field);
        check(field.name.n > 0);
        for (uint64_t at = 0; at < field.count;
             at += at < 4 || at + 1 == field.count ? 1 : field.count - 1 - at) {
            gguf_field_value(gguf, i, at, &value);
            for (size_t k = 0; value.type == GGUF_STRING && k < value.string.n; k++)
                sum += (uint8_t)value.string.bytes[k];
        }
    }
}

/* What a model promises to its users. */
static void check_model(const struct model *m) {
    uint32_t begin[LANES + 1];
    model_ffn_lanes(&m->params, begin);
    check(begin[LANES] == m->params.n_ff);
    model_expert_lanes(&m->params, begin);
    check(begin[LANES] == m->params.n_experts && m->params.n_experts <= EXPERTS_MAX);
    check(m->params.n_experts_used <= m->params.n_experts);
    model_attention_lanes(&m->params, begin);
    check(begin[LANES] == m->params.n_heads * m->params.head_dim);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct model_tensor *t = &m->tensors[i];
        const struct tensor_type_info *info = tensor_type_info(t->type);
        check(info && info->readable && t->cols % info->block_values == 0);
        check(t->bytes == t->rows * (t->cols / info->block_values * info->block_bytes));
        check(t->file_offset + t->bytes <= m->file_bytes);
    }
    for (size_t i = 0; i < m->n_ops; i++)
        for (size_t k = 0; k < MODEL_OP_SLOTS; k++)
            check(m->ops[i].tensor[k] == NO_TENSOR || m->ops[i].tensor[k] < m->n_tensors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, n, 0) != (ssize_t)n)
        return 0;
    /* Half of the inputs get tensor data of zeros behind their bytes, as sparse as it can be, so
     * that a mutated header need not carry its weights. */
    if (n && data[n - 1] % 2 == 0 && ftruncate(fd, 1 << 24) < 0)
        return 0;

    struct gguf *gguf;
    struct model model;
    struct err err;
    if (gguf_open(&gguf, fd, "fuzz", &err))
        return 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ask_for(gguf, keys[i]);
    show_all(gguf);
    if (!model_read(&model, gguf, &err)) {
        check_model(&model);
        model_finish(&model);
    }
    gguf_close(gguf);
    return 0;
}
