/* SPDX-License-Identifier: Apache-2.0 */
/* arch.h - what an architecture must answer: its hyper-parameters, its tensors and how each may be
 * cut, and a layer as fused operations.
 *
 * An architecture is one file beside this one: a struct arch, made of tables and one function.
 * models/model.c does the rest: finds the tensors, checks every shape, lays out the operations.
 * To add one, write the file and name its struct in the table of model.c. */
#ifndef OCTARC_MODELS_ARCH_ARCH_H
#define OCTARC_MODELS_ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "octarc/model.h"

struct err;
struct gguf;

#define ARCH_DIM_MAX      (1u << 20) /* of every dimension; more is an error */
#define ARCH_CONTEXT_MAX  (1u << 28) /* trained positions */
#define ARCH_SOFT_CAP_MIN 1e-6f      /* what is less has no reciprocal */
#define ARCH_SOFT_CAP_MAX 1e6f

/* A side of a tensor, in the words of struct model_params. */
enum arch_dim {
    DIM_ONE,
    DIM_VOCAB,
    DIM_EMBD,
    DIM_HEADS,     /* n_heads * head_dim */
    DIM_EACH_HEAD, /* n_heads */
    DIM_KV_HEADS,  /* n_kv_heads * head_dim */
    DIM_HEAD,      /* head_dim */
    DIM_FF,
    DIM_ROPE_PAIRS, /* rope.dims / 2 */
    DIM_EXPERTS,
    DIM_FF_EXPERT,
};

/* Lines of one name are parts of one tensor of the file: the rows of the first, then those of the
 * next. */
struct arch_tensor {
    const char *name; /* "output.weight"; of a layer without its prefix: "attn_q.weight" */
    enum tensor_role role;
    enum tensor_cut cut;
    enum arch_dim rows, cols;
    bool in_layer; /* once a layer, named "blk.N.…" */
    bool optional;
    bool each_expert; /* one such matrix after another (ne[2]), as many as there are experts */
};

/* An operation of every layer; slot i is the tensor of role[i] in that layer. */
struct arch_op {
    enum model_op_kind kind;
    uint32_t n;
    enum tensor_role role[MODEL_OP_SLOTS];
};

struct arch {
    const char *name; /* the value of general.architecture, and the prefix of its keys */
    bool experts;     /* of files with experts; there may be another of the same name without */
    /* Fill everything but arch, name, tied and rope.has_freqs, which model.c knows.  -EINVAL,
     * -ENOENT (a key is missing), -ENOTSUP (a variant this build cannot run). */
    int (*read_params)(struct model_params *p, const struct gguf *gguf, struct err *err);
    const struct arch_tensor *tensors;
    size_t n_tensors;
    const struct arch_op *layer; /* in order of execution */
    size_t n_layer;
};

extern const struct arch arch_gemma2, arch_gemma3, arch_gpt_oss, arch_llama, arch_llama_experts,
    arch_mistral3, arch_phi3, arch_qwen2, arch_qwen2moe, arch_qwen3, arch_qwen3moe;

/* --- For read_params (params.c).  p->arch is set before it is called. --------------------------
 *
 * Read "ARCH.suffix" within [min, max].  The optional forms leave *value alone where the key is
 * absent, so the caller sets the default first; the value is checked either way. */
int arch_u32(const struct model_params *p, const struct gguf *gguf, const char *suffix,
             uint32_t min, uint32_t max, uint32_t *value, struct err *err);
int arch_u32_optional(const struct model_params *p, const struct gguf *gguf, const char *suffix,
                      uint32_t min, uint32_t max, uint32_t *value, struct err *err);
int arch_f32(const struct model_params *p, const struct gguf *gguf, const char *suffix, float min,
             float max, float *value, struct err *err);
int arch_f32_optional(const struct model_params *p, const struct gguf *gguf, const char *suffix,
                      float min, float max, float *value, struct err *err);
bool arch_has(const struct model_params *p, const struct gguf *gguf, const char *suffix);
/* 0, which is none, or ARCH_SOFT_CAP_MIN to ARCH_SOFT_CAP_MAX. */
int arch_soft_cap(const struct model_params *p, const struct gguf *gguf, const char *suffix,
                  float *value, struct err *err);

/* The keys that decoder architectures share: layers, widths, heads, context, vocabulary, epsilon.
 */
int arch_read_common(struct model_params *p, const struct gguf *gguf, struct err *err);
/* The rotation of positions and its scalings, old and new keys; `neox` is the architecture's. */
int arch_read_rope(struct model_params *p, const struct gguf *gguf, bool neox, struct err *err);
/* Layers of which all but the last of each `period` have a sliding window: its size (p->window is
 * what it is where the file names none; 0: it must), the period where the file names one, and the
 * rotation of those layers, which is never scaled.  The model's own rotation is read before. */
int arch_read_windows(struct model_params *p, const struct gguf *gguf, uint32_t period,
                      struct err *err);
/* The keys of experts, after the common ones: how many, how many a token uses, and their width,
 * which is what p->n_ff_expert is where the file names none; 0: it must; and whether the weights of
 * those used add up to 1, as p->experts_normed where the file does not say.  Sets p->n_ff to 0.
 * -ENOTSUP where an expert's rows do not fill whole tiles. */
int arch_read_experts(struct model_params *p, const struct gguf *gguf, struct err *err);
/* Common keys and rotation, for architectures that turn the halves of a head against each other and
 * add nothing. */
int arch_read_dense(struct model_params *p, const struct gguf *gguf, struct err *err);

#endif
