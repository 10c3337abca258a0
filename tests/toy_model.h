/* SPDX-License-Identifier: Apache-2.0 */
/* toy_model.h - a llama-shaped struct model made in memory, with experts or without, for tests of
 * placement and programs. */
#ifndef OCTARC_TESTS_TOY_MODEL_H
#define OCTARC_TESTS_TOY_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/model.h"

#define TOY_PER_LAYER 14

static inline uint32_t toy_tensor(struct model *m, const char *name, enum tensor_role role,
                                  enum tensor_cut cut, int32_t layer, uint64_t rows, uint64_t cols,
                                  uint32_t type) {
    struct model_tensor *t = &m->tensors[m->n_tensors];
    snprintf(t->name, sizeof t->name, layer < 0 ? "%s" : "%s.%d", name, layer);
    t->role = role;
    t->cut = cut;
    t->layer = layer;
    t->rows = rows;
    t->cols = cols;
    t->type = rows == 1 ? TENSOR_F32 : type;
    return (uint32_t)m->n_tensors++;
}

static inline void toy_ffn(struct model *m, uint32_t *of, int32_t l, uint32_t type) {
    const struct model_params *p = &m->params;
    of[0] = toy_tensor(m, "gate", ROLE_FFN_GATE, CUT_FFN_ROWS, l, p->n_ff, p->n_embd, type);
    of[1] = toy_tensor(m, "up", ROLE_FFN_UP, CUT_FFN_ROWS, l, p->n_ff, p->n_embd, type);
    of[2] = toy_tensor(m, "down", ROLE_FFN_DOWN, CUT_FFN_LANES, l, p->n_embd, p->n_ff, type);
}

static inline void toy_experts(struct model *m, struct model_op *f, int32_t l, uint32_t type) {
    const struct model_params *p = &m->params;
    const uint32_t up = p->n_experts * p->n_ff_expert, down = p->n_experts * p->n_embd;
    f->kind = MODEL_EXPERTS;
    f->tensor[EXPERTS_ROUTER] =
        toy_tensor(m, "router", ROLE_ROUTER, CUT_COPY, l, p->n_experts, p->n_embd, type);
    f->tensor[EXPERTS_GATE] =
        toy_tensor(m, "gates", ROLE_EXPERT_GATE, CUT_EXPERT_ROWS, l, up, p->n_embd, type);
    f->tensor[EXPERTS_UP] =
        toy_tensor(m, "ups", ROLE_EXPERT_UP, CUT_EXPERT_ROWS, l, up, p->n_embd, type);
    f->tensor[EXPERTS_DOWN] =
        toy_tensor(m, "downs", ROLE_EXPERT_DOWN, CUT_EXPERT_ROWS, l, down, p->n_ff_expert, type);
    f->tensor[EXPERTS_DOWN_BIAS] = toy_tensor(m, "down biases", ROLE_EXPERT_DOWN_BIAS,
                                              CUT_EXPERT_VECTORS, l, p->n_experts, p->n_embd, type);
}

static inline void toy_layer(struct model *m, int32_t l, uint32_t type) {
    const struct model_params *p = &m->params;
    const uint32_t q = p->n_heads * p->head_dim, kv = p->n_kv_heads * p->head_dim;
    struct model_op *a = &m->ops[m->n_ops++], *f = &m->ops[m->n_ops++];
    *a = (struct model_op){.kind = MODEL_ATTENTION, .layer = l};
    *f = (struct model_op){.kind = MODEL_FFN, .layer = l};
    for (uint32_t i = 0; i < MODEL_OP_SLOTS; i++)
        a->tensor[i] = f->tensor[i] = NO_TENSOR;
    a->tensor[0] = toy_tensor(m, "attn_norm", ROLE_ATTN_NORM, CUT_COPY, l, 1, p->n_embd, type);
    a->tensor[1] = toy_tensor(m, "q", ROLE_ATTN_Q, CUT_HEAD_ROWS, l, q, p->n_embd, type);
    a->tensor[2] = toy_tensor(m, "k", ROLE_ATTN_K, CUT_KV_ROWS, l, kv, p->n_embd, type);
    a->tensor[3] = toy_tensor(m, "v", ROLE_ATTN_V, CUT_KV_ROWS, l, kv, p->n_embd, type);
    a->tensor[4] = toy_tensor(m, "out", ROLE_ATTN_OUT, CUT_HEAD_LANES, l, p->n_embd, q, type);
    f->tensor[0] = toy_tensor(m, "ffn_norm", ROLE_FFN_NORM, CUT_COPY, l, 1, p->n_embd, type);
    if (p->n_experts)
        toy_experts(m, f, l, type);
    if (p->n_ff)
        toy_ffn(m, f->tensor + (p->n_experts ? (int)EXPERTS_FFN_GATE : (int)FFN_GATE), l, type);
}

/* Fill *m from the shapes in m->params; free with model_finish(). */
static inline void toy_model(struct model *m, uint32_t type) {
    const struct model_params *p = &m->params;
    m->tensors = calloc(p->n_layers * TOY_PER_LAYER + 3, sizeof *m->tensors);
    m->ops = calloc(p->n_layers * 2 + 2, sizeof *m->ops);
    snprintf(m->params.name, sizeof m->params.name, "toy");
    const uint32_t embd = toy_tensor(m, "token_embd", ROLE_TOKEN_EMBD, CUT_VOCAB_ROWS, -1,
                                     p->n_vocab, p->n_embd, type);
    m->ops[m->n_ops++] = (struct model_op){.kind = MODEL_EMBED, .layer = -1, .tensor = {embd}};
    for (uint32_t l = 0; l < p->n_layers; l++)
        toy_layer(m, (int32_t)l, type);
    const uint32_t norm =
        toy_tensor(m, "output_norm", ROLE_OUTPUT_NORM, CUT_COPY, -1, 1, p->n_embd, type);
    const uint32_t output = p->tied ? embd
                                    : toy_tensor(m, "output", ROLE_OUTPUT, CUT_VOCAB_ROWS, -1,
                                                 p->n_vocab, p->n_embd, type);
    m->ops[m->n_ops++] =
        (struct model_op){.kind = MODEL_HEAD, .layer = -1, .tensor = {norm, output}};
}

/* The shapes of SmolLM2-135M. */
static inline struct model_params toy_smollm2(void) {
    return (struct model_params){.n_layers = 30,
                                 .n_embd = 576,
                                 .n_heads = 9,
                                 .n_kv_heads = 3,
                                 .head_dim = 64,
                                 .n_ff = 1536,
                                 .n_vocab = 49152,
                                 .n_ctx_train = 8192,
                                 .norm_eps = 1e-5f,
                                 .tied = true,
                                 .rope = {.dims = 64, .freq_base = 1e5f}};
}

#endif
