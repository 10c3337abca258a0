/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - makes a struct model from a GGUF header and the table of an architecture.
 *
 * Every tensor of the table is looked up and its shape compared; every tensor of the file must be
 * of the table, because one that is left out (a bias, say) would mean other results than the
 * file's. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/arch/arch.h"
#include "models/gguf.h"
#include "models/shown.h"
#include "octarc/error.h"

static const struct arch *const archs[] = {
    &arch_gemma2, &arch_gemma3, &arch_gpt_oss,  &arch_llama, &arch_llama_experts, &arch_mistral3,
    &arch_phi3,   &arch_qwen2,  &arch_qwen2moe, &arch_qwen3, &arch_qwen3moe};
#define ARCHS (sizeof archs / sizeof *archs)

struct build {
    const struct arch *arch;
    const struct gguf *gguf;
    struct model model;
    bool *used;                 /* by tensor of the file */
    uint32_t index[ROLE_COUNT]; /* by role: in the layer being laid out, or of the whole model */
    struct err *err;
};

/* --- Architecture and name ----------------------------------------------------------------- */

/* What decides between two of one name. */
static bool has_experts(const struct build *b) {
    uint32_t n = 0;
    return arch_has(&b->model.params, b->gguf, "expert_count") &&
           !arch_u32(&b->model.params, b->gguf, "expert_count", 1, UINT32_MAX, &n,
                     &(struct err){{0}});
}

static int find_arch(struct build *b) {
    struct gguf_string name;
    const int rc = gguf_string(b->gguf, "general.architecture", &name, b->err);
    if (rc)
        return rc;
    char known[256] = "";
    size_t at = 0;
    for (size_t i = 0; i < ARCHS; i++) {
        const bool again = i && !strcmp(archs[i]->name, archs[i - 1]->name);
        if (name.n == strlen(archs[i]->name) && !memcmp(name.bytes, archs[i]->name, name.n) &&
            (!b->arch || archs[i]->experts == has_experts(b))) {
            b->arch = archs[i];
            snprintf(b->model.params.arch, sizeof b->model.params.arch, "%s", archs[i]->name);
        }
        if (at < sizeof known && !again)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                                   archs[i]->name);
    }
    if (b->arch)
        return 0;
    return err_set(b->err, -ENOTSUP, "%s: architecture '%s' is not supported; supported: %s",
                   gguf_name(b->gguf), shown(name.bytes, name.n).text, known);
}

static int read_name(struct build *b) {
    const char *slash = strrchr(gguf_name(b->gguf), '/');
    struct gguf_string name = {.bytes = slash ? slash + 1 : gguf_name(b->gguf)};
    name.n = strlen(name.bytes);
    if (gguf_has(b->gguf, "general.name")) {
        const int rc = gguf_string(b->gguf, "general.name", &name, b->err);
        if (rc)
            return rc;
    }
    shown_text(b->model.params.name, sizeof b->model.params.name, name.bytes, name.n);
    return 0;
}

/* --- Tensors ------------------------------------------------------------------------------- */

static uint64_t dim_value(const struct model_params *p, enum arch_dim dim) {
    switch (dim) {
    case DIM_ONE:
        return 1;
    case DIM_VOCAB:
        return p->n_vocab;
    case DIM_EMBD:
        return p->n_embd;
    case DIM_HEADS:
        return (uint64_t)p->n_heads * p->head_dim;
    case DIM_EACH_HEAD:
        return p->n_heads;
    case DIM_KV_HEADS:
        return (uint64_t)p->n_kv_heads * p->head_dim;
    case DIM_HEAD:
        return p->head_dim;
    case DIM_FF:
        return p->n_ff;
    case DIM_ROPE_PAIRS:
        return p->rope.dims / 2;
    case DIM_EXPERTS:
        return p->n_experts;
    case DIM_FF_EXPERT:
        return p->n_ff_expert;
    }
    return 0;
}

/* depth: matrices of that shape, one after another. */
static int check_shape(const struct build *b, const struct gguf_tensor *t, uint64_t depth,
                       uint64_t rows, uint64_t cols) {
    if (t->ne[0] == cols && t->ne[1] == rows && t->ne[2] == depth && t->ne[3] == 1)
        return 0;
    char shape[96], matrices[32] = "";
    size_t at = 0;
    for (uint32_t d = t->n_dims > 2 ? t->n_dims : 2; d-- > 0;)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%" PRIu64 "%s", t->ne[d],
                               d ? ", " : "");
    if (depth > 1)
        snprintf(matrices, sizeof matrices, "%" PRIu64 ", ", depth);
    return err_set(b->err, -EINVAL,
                   "%s: tensor '%s' has the shape [%s], [%s%" PRIu64 ", %" PRIu64
                   "] was expected (%srows, columns)",
                   gguf_name(b->gguf), t->name, shape, matrices, rows, cols,
                   depth > 1 ? "experts, " : "");
}

static bool is_float(uint32_t type) {
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

static int check_type(const struct build *b, const struct gguf_tensor *t, bool vector) {
    char known[160] = "";
    size_t at = 0;
    for (uint32_t type = 0; type < 64; type++) {
        const struct tensor_type_info *info = tensor_type_info(type);
        if (!info || !info->readable || (vector && !is_float(type)))
            continue;
        if (type == t->type)
            return 0;
        if (at < sizeof known)
            at +=
                (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "", info->name);
    }
    return err_set(b->err, -ENOTSUP, "%s: tensor '%s' is of type %s; supported here: %s",
                   gguf_name(b->gguf), t->name, tensor_type_info(t->type)->name, known);
}

/* Rows of a tensor of the file that one line of the table means, and where those begin. */
struct part {
    uint64_t begin, rows, of; /* of: rows of the whole */
};

static struct part part_of(const struct build *b, const struct arch_tensor *a) {
    struct part part = {.rows = dim_value(&b->model.params, a->rows)};
    for (size_t i = 0; i < b->arch->n_tensors; i++) {
        const struct arch_tensor *other = &b->arch->tensors[i];
        if (strcmp(other->name, a->name))
            continue;
        part.begin += other < a ? dim_value(&b->model.params, other->rows) : 0;
        part.of += dim_value(&b->model.params, other->rows);
    }
    return part;
}

/* Find one tensor of the table and append it to the model.  layer: -1 outside of the layers. */
static int add_tensor(struct build *b, const struct arch_tensor *a, int32_t layer) {
    char name[GGUF_TENSOR_NAME_MAX + 1];
    if (layer < 0)
        snprintf(name, sizeof name, "%s", a->name);
    else
        snprintf(name, sizeof name, "blk.%d.%s", layer, a->name);

    const struct gguf_tensor *t = gguf_find_tensor(b->gguf, name);
    b->index[a->role] = NO_TENSOR;
    if (!t && a->optional)
        return 0;
    if (!t)
        return err_set(b->err, -EINVAL, "%s: tensor '%s' is missing", gguf_name(b->gguf), name);
    const struct part part = part_of(b, a);
    const uint64_t cols = dim_value(&b->model.params, a->cols);
    const uint64_t depth = a->each_expert ? b->model.params.n_experts : 1;
    int rc = check_shape(b, t, depth, part.of, cols);
    if (!rc)
        rc = check_type(b, t, a->rows == DIM_ONE || a->cut == CUT_EXPERT_VECTORS);
    if (rc)
        return rc;

    struct model_tensor *made = &b->model.tensors[b->model.n_tensors];
    *made = (struct model_tensor){.role = a->role,
                                  .cut = a->cut,
                                  .type = t->type,
                                  .layer = layer,
                                  .rows = depth * part.rows,
                                  .cols = cols,
                                  .file_offset = t->offset + t->bytes / part.of * part.begin,
                                  .bytes = t->bytes / part.of * part.rows,
                                  .part = t->part};
    memcpy(made->name, name, sizeof name);
    b->used[t - gguf_tensor(b->gguf, 0)] = true;
    b->index[a->role] = (uint32_t)b->model.n_tensors++;
    return 0;
}

/* Old converters wrote the rotation's frequencies into every layer; they follow from the keys. */
static bool is_redundant(const char *name) {
    static const char suffix[] = ".attn_rot_embd.weight";
    const size_t n = strlen(name);
    return !strncmp(name, "blk.", 4) && n >= sizeof suffix &&
           !strcmp(name + n - (sizeof suffix - 1), suffix);
}

static int refuse_unknown_tensors(const struct build *b) {
    for (size_t i = 0; i < gguf_n_tensors(b->gguf); i++) {
        const char *name = gguf_tensor(b->gguf, i)->name;
        if (!b->used[i] && !is_redundant(name))
            return err_set(b->err, -ENOTSUP,
                           "%s: tensor '%s' is not one that architecture '%s' with %u layers uses "
                           "here",
                           gguf_name(b->gguf), name, b->arch->name, b->model.params.n_layers);
    }
    return 0;
}

/* --- Operations ---------------------------------------------------------------------------- */

static void add_op(struct build *b, const struct arch_op *a, int32_t layer) {
    struct model_op *op = &b->model.ops[b->model.n_ops++];
    *op = (struct model_op){.kind = a->kind, .layer = layer};
    for (size_t i = 0; i < sizeof op->tensor / sizeof *op->tensor; i++)
        op->tensor[i] = i < a->n ? b->index[a->role[i]] : NO_TENSOR;
}

static int lay_out_layer(struct build *b, int32_t layer) {
    for (size_t i = 0; i < b->arch->n_tensors; i++) {
        const struct arch_tensor *a = &b->arch->tensors[i];
        const int rc = a->in_layer ? add_tensor(b, a, layer) : 0;
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < b->arch->n_layer; i++)
        add_op(b, &b->arch->layer[i], layer);
    return 0;
}

static int lay_out(struct build *b) {
    static const struct arch_op embed = {MODEL_EMBED, 1, {ROLE_TOKEN_EMBD}};
    static const struct arch_op head = {MODEL_HEAD, 2, {ROLE_OUTPUT_NORM, ROLE_OUTPUT}};
    struct model *m = &b->model;
    const size_t layers = m->params.n_layers;
    m->tensors = calloc(b->arch->n_tensors * (layers + 1), sizeof *m->tensors);
    m->ops = calloc(b->arch->n_layer * layers + 2, sizeof *m->ops);
    b->used = calloc(gguf_n_tensors(b->gguf) + 1, sizeof *b->used);
    if (!m->tensors || !m->ops || !b->used)
        return err_set(b->err, -ENOMEM, "%s: no memory for the description of %zu layers",
                       gguf_name(b->gguf), layers);

    for (size_t i = 0; i < b->arch->n_tensors; i++) {
        const struct arch_tensor *a = &b->arch->tensors[i];
        const int rc = a->in_layer ? 0 : add_tensor(b, a, -1);
        if (rc)
            return rc;
    }
    m->params.rope.has_freqs = b->index[ROLE_ROPE_FREQS] != NO_TENSOR;
    m->params.tied = b->index[ROLE_OUTPUT] == NO_TENSOR;
    if (m->params.tied)
        b->index[ROLE_OUTPUT] = b->index[ROLE_TOKEN_EMBD];

    add_op(b, &embed, -1);
    for (size_t layer = 0; layer < layers; layer++) {
        const int rc = lay_out_layer(b, (int32_t)layer);
        if (rc)
            return rc;
    }
    add_op(b, &head, -1);
    return refuse_unknown_tensors(b);
}

int model_read(struct model *model, const struct gguf *gguf, struct err *err) {
    struct build b = {.gguf = gguf, .err = err};
    b.model.file_bytes = gguf_file_bytes(gguf);
    for (size_t i = 0; i < ROLE_COUNT; i++)
        b.index[i] = NO_TENSOR;
    int rc = find_arch(&b);
    if (!rc)
        rc = read_name(&b);
    if (!rc)
        rc = b.arch->read_params(&b.model.params, gguf, err);
    if (!rc)
        rc = lay_out(&b);
    free(b.used);
    if (rc) {
        model_finish(&b.model);
        return rc == -ENOENT ? -EINVAL : rc; /* a key that is missing */
    }
    *model = b.model;
    return 0;
}

void model_finish(struct model *model) {
    free(model->tensors);
    free(model->ops);
    *model = (struct model){0};
}
