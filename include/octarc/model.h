/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a model as plain values: hyper-parameters, tensors, and a layer as fused operations.
 *
 * models/arch/ makes these from a GGUF file; daemon/placement decides from them who holds what;
 * daemon/engine compiles them, with a plan, into one program per card.  Nothing here touches a
 * card or a file.
 *
 * Shapes are written [rows, cols]: cols is the summed dimension (ggml's ne[0]), rows the outputs
 * (ne[1]).  Sizes are bytes where the name says so, else elements. */
#ifndef OCTARC_MODEL_H
#define OCTARC_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CARDS_MAX      8  /* cards of one engine */
#define LANES          8  /* fixed eighths of a summed dimension; docs/numerics.md */
#define ATOM           32 /* values of the summed dimension that share one activation scale */
#define LAYERS_MAX     512
#define EXPERTS_MAX    512 /* of a layer */
#define USED_MAX       64  /* of them, by one token */
#define MODEL_NAME_MAX 128

/* Numbers of the GGUF format. */
enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q2_K = 10,
    TENSOR_Q3_K = 11,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_IQ4_NL = 20,
    TENSOR_IQ4_XS = 23,
    TENSOR_BF16 = 30,
    TENSOR_MXFP4 = 39,
};

/* What a tensor is for; decides how it may be cut. */
enum tensor_role {
    ROLE_TOKEN_EMBD,       /* [n_vocab, n_embd]; also the output matrix of a tied model */
    ROLE_OUTPUT,           /* [n_vocab, n_embd]; absent in a tied model */
    ROLE_OUTPUT_NORM,      /* [1, n_embd] */
    ROLE_ATTN_NORM,        /* [1, n_embd] */
    ROLE_ATTN_Q,           /* [n_heads * head_dim, n_embd] */
    ROLE_ATTN_K,           /* [n_kv_heads * head_dim, n_embd] */
    ROLE_ATTN_V,           /* [n_kv_heads * head_dim, n_embd] */
    ROLE_ATTN_OUT,         /* [n_embd, n_heads * head_dim] */
    ROLE_ATTN_Q_BIAS,      /* [1, n_heads * head_dim] */
    ROLE_ATTN_K_BIAS,      /* [1, n_kv_heads * head_dim] */
    ROLE_ATTN_V_BIAS,      /* [1, n_kv_heads * head_dim] */
    ROLE_ATTN_Q_NORM,      /* [1, head_dim]: of every query head */
    ROLE_ATTN_K_NORM,      /* [1, head_dim] */
    ROLE_ATTN_POST,        /* [1, n_embd]: norm of what the attention adds */
    ROLE_ATTN_OUT_BIAS,    /* [1, n_embd] */
    ROLE_ATTN_SINKS,       /* [1, n_heads]: a score that every query of a head has besides those of
                            * positions, and that brings no value */
    ROLE_FFN_NORM,         /* [1, n_embd] */
    ROLE_FFN_GATE,         /* [n_ff, n_embd] */
    ROLE_FFN_UP,           /* [n_ff, n_embd] */
    ROLE_FFN_DOWN,         /* [n_embd, n_ff] */
    ROLE_FFN_POST,         /* [1, n_embd]: norm of what the FFN adds */
    ROLE_ROUTER,           /* [n_experts, n_embd] */
    ROLE_EXPERT_GATE,      /* [n_experts * n_ff_expert, n_embd]: one expert after another */
    ROLE_EXPERT_UP,        /* the same */
    ROLE_EXPERT_DOWN,      /* [n_experts * n_embd, n_ff_expert] */
    ROLE_ROUTER_BIAS,      /* [1, n_experts] */
    ROLE_EXPERT_GATE_BIAS, /* [n_experts, n_ff_expert]: a vector of each */
    ROLE_EXPERT_UP_BIAS,   /* the same */
    ROLE_EXPERT_DOWN_BIAS, /* [n_experts, n_embd] */
    ROLE_SHARED_GATE, /* [1, n_embd]: how much the shared expert, whose matrices are those of an
                       * FFN, counts */
    ROLE_ROPE_FREQS,  /* [1, rope_dims / 2]: divisors of the rotation frequencies */
    ROLE_ROPE_SHORT,  /* the same, where a context fits rope.original_context */
    ROLE_ROPE_LONG,   /* and where it does not */
    ROLE_NONE,        /* no tensor: of a slot that an architecture does not use */
    ROLE_COUNT
};

/* How a role is cut when a layer is shared by several cards (tensor split). */
enum tensor_cut {
    CUT_COPY,        /* small: every card of the layer holds all of it (home: the first of them) */
    CUT_VOCAB_ROWS,  /* rows, in runs of whole 16-row tiles */
    CUT_HEAD_ROWS,   /* rows, with the query heads of the card's attention lanes */
    CUT_KV_ROWS,     /* rows, with the KV heads the card owns */
    CUT_HEAD_LANES,  /* columns, by attention lanes */
    CUT_FFN_ROWS,    /* rows, with the atoms of the card's FFN lanes */
    CUT_FFN_LANES,   /* columns, by FFN lanes */
    CUT_EXPERT_ROWS, /* rows, with the whole experts of the card's lanes */
    CUT_EXPERT_VECTORS, /* the same of a vector of each expert */
};

/* A tensor of the file, or rows of one that holds several, one after another. */
struct model_tensor {
    char name[64];
    enum tensor_role role;
    enum tensor_cut cut;
    uint32_t type;        /* enum tensor_type */
    int32_t layer;        /* -1: not of a layer */
    uint64_t rows, cols;  /* cols is a multiple of the type's block */
    uint64_t file_offset; /* of the first byte, in its file */
    uint64_t bytes;       /* in the file, packed as the type says */
    uint32_t part;        /* which file of a split model; 0 in a whole one */
};

/* A norm's weights, for instance, or what is added for each expert: added or multiplied element by
 * element, and kept as plain f32, one such row after another. */
static inline bool model_tensor_is_vector(const struct model_tensor *t) {
    return t->cut == CUT_EXPERT_VECTORS || (t->cut == CUT_COPY && t->rows == 1);
}

/* The host turns it into cos and sin: it lies on no card. */
static inline bool model_tensor_is_rotation(const struct model_tensor *t) {
    return t->role == ROLE_ROPE_FREQS || t->role == ROLE_ROPE_SHORT || t->role == ROLE_ROPE_LONG;
}

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_YARN };

struct rope_params {
    uint32_t dims;   /* rotated values of a head, from its front; even */
    bool neox;       /* pairs (i, i + dims/2); else (2i, 2i + 1) */
    float freq_base; /* theta */
    enum rope_scaling scaling;
    float factor;               /* of the scaling; 1 = none */
    float attn_factor;          /* multiplies sin and cos; 1 = none */
    float beta_fast, beta_slow; /* yarn ramp */
    float ext_factor;           /* yarn mix; 1 with yarn, else 0 */
    float
        log_multiplier; /* yarn: takes back as much of what it multiplies sin and cos by; 0: none */
    uint32_t original_context; /* before the scaling; of yarn, and of ROLE_ROPE_SHORT */
    bool has_freqs;            /* a ROLE_ROPE_FREQS tensor divides the frequencies */
};

/* What the gate of an FFN is passed through before it multiplies the other half; gelu with tanh in
 * it.  GATE_LIMITED: g / (1 + e^(-1.702 g)) with g at most 7, and the other half, within ±7, counts
 * one more than it is. */
enum gate { GATE_SILU, GATE_GELU, GATE_LIMITED };

struct model_params {
    char arch[32];
    char name[MODEL_NAME_MAX]; /* general.name, or the file's name */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim;
    uint32_t n_ff; /* of a layer's FFN; with experts, of the one they share; 0: there is none */
    uint32_t n_vocab;
    /* Experts of a layer, all alike; 0: it has an FFN instead. */
    uint32_t n_experts, n_experts_used, n_ff_expert;
    bool experts_normed; /* the weights of those used by a token add up to 1 */
    uint32_t n_ctx_train;
    float norm_eps;
    bool tied; /* token_embd is the output matrix too */
    enum gate gate;
    float embd_scale;        /* of a token's row; 0: as it is */
    float attn_scale;        /* of a score; 0: 1 / sqrt(head_dim) */
    float temperature_scale; /* of rope_temperature(); 0: none */
    float attn_soft_cap;     /* x = cap * tanh(x / cap) of a scaled score; 0: none */
    float logit_soft_cap;
    struct rope_params rope;
    /* Sliding windows: of each run of `window_period` layers all but the last see `window`
     * positions only, the query's own the last of them.  0: no layer has one. */
    uint32_t window, window_period;
    struct rope_params window_rope; /* of those layers; its dims are those of rope */
};

static inline bool model_windowed(const struct model_params *p, uint32_t layer) {
    return p->window && layer % p->window_period != p->window_period - 1;
}

/* Of `tokens` positions before it, how many a query of the layer sees. */
static inline uint32_t model_seen(const struct model_params *p, uint32_t layer, uint32_t tokens) {
    return model_windowed(p, layer) && tokens > p->window ? p->window : tokens;
}

/* The part of a tensor that a token uses: of a layer's experts, only some. */
static inline double model_used(const struct model_params *p, const struct model_tensor *t) {
    const bool of_experts = t->cut == CUT_EXPERT_ROWS || t->cut == CUT_EXPERT_VECTORS;
    return of_experts ? (double)p->n_experts_used / p->n_experts : 1;
}

#define NO_TENSOR UINT32_MAX

/* One fused operation of the model.  tensor[] indexes struct model.tensors; NO_TENSOR = absent.
 * Which slots an operation uses is written beside it. */
enum model_op_kind {
    MODEL_EMBED,     /* h = token_embd[token]                         {token_embd} */
    MODEL_ATTENTION, /* h += post(out(attention(rope(q, k), v)))      enum attention_slot */
    MODEL_FFN,       /* h += post(down(act(gate(x)) * up(x)))         enum ffn_slot */
    MODEL_EXPERTS,   /* h += a weighted sum of several FFNs           enum experts_slot */
    MODEL_HEAD,      /* logits = output(norm(h)), rows wanted only    {norm, output} */
};

/* Slots of MODEL_ATTENTION.  From the biases on each may be absent: q is q + bias, each head of it
 * normed (RMS) when there is a norm, then rotated. */
enum attention_slot {
    ATTENTION_NORM,
    ATTENTION_Q,
    ATTENTION_K,
    ATTENTION_V,
    ATTENTION_OUT,
    ATTENTION_Q_BIAS,
    ATTENTION_K_BIAS,
    ATTENTION_V_BIAS,
    ATTENTION_Q_NORM,
    ATTENTION_K_NORM,
    ATTENTION_POST, /* RMS norm of the output before it is added */
    ATTENTION_OUT_BIAS,
    ATTENTION_SINKS, /* one more score of each head, of which the softmax takes its share */
};

/* Slots of MODEL_FFN; the last may be absent. */
enum ffn_slot { FFN_NORM, FFN_GATE, FFN_UP, FFN_DOWN, FFN_POST };

/* Slots of MODEL_EXPERTS; those of the shared expert may all be absent, and are where n_ff is 0; so
 * may the biases. */
enum experts_slot {
    EXPERTS_NORM,
    EXPERTS_ROUTER,
    EXPERTS_GATE,
    EXPERTS_UP,
    EXPERTS_DOWN,
    EXPERTS_SHARED_GATE, /* how much it counts is the sigmoid of this times the input */
    EXPERTS_FFN_GATE,
    EXPERTS_FFN_UP,
    EXPERTS_FFN_DOWN,
    EXPERTS_ROUTER_BIAS,
    EXPERTS_GATE_BIAS,
    EXPERTS_UP_BIAS,
    EXPERTS_DOWN_BIAS,
};

#define MODEL_OP_SLOTS 13

struct model_op {
    enum model_op_kind kind;
    int32_t layer; /* -1: before or after the layers */
    uint32_t tensor[MODEL_OP_SLOTS];
};

struct model {
    struct model_params params;
    struct model_tensor *tensors; /* owned */
    size_t n_tensors;
    struct model_op *ops; /* owned; in order of execution */
    size_t n_ops;
    uint64_t file_bytes; /* of the whole file, or of all parts */
};

struct gguf;
struct err;

/* Recognise the architecture of an opened GGUF file and describe it.  On success *model owns its
 * arrays; release with model_finish().  On failure *model is untouched and err names the key or
 * the tensor, with both shapes where a shape is wrong:
 *   -ENOTSUP  unknown architecture or tensor type (err lists what is supported)
 *   -EINVAL   a key or tensor is missing, of the wrong type or shape
 *   -ENOMEM */
int model_read(struct model *model, const struct gguf *gguf, struct err *err);
void model_finish(struct model *model);

/* Of a tensor type: its name, values and bytes of a block.  NULL for a number that the format does
 * not know; `readable` says whether this build can run it. */
struct tensor_type_info {
    const char *name;
    uint32_t block_values, block_bytes;
    bool readable;
};
const struct tensor_type_info *tensor_type_info(uint32_t type);

/* Expand n_blocks blocks of `type` to f32, block after block, exactly as the format defines them
 * (each value within one rounding of the reference).  -ENOTSUP: a type without a definition here
 * (all readable ones have it); the values are untouched. */
int tensor_dequantise(uint32_t type, const void *blocks, size_t n_blocks, float *values);

/* What the sixteen codes of IQ4_NL and IQ4_XS stand for, and twice what those of MXFP4 do. */
extern const int8_t iq4_levels[16], mxfp4_levels[16];

/* The lanes of the summed dimension, fixed by the model alone (docs/numerics.md rule 2).
 * Fills begin[0 .. LANES]: lane l is [begin[l], begin[l + 1]) in values; it may be empty. */
void model_ffn_lanes(const struct model_params *p, uint32_t begin[LANES + 1]);
/* The same for the attention output: values of the concatenated heads; whole heads only unless a
 * head is narrower than an atom, in which case units of lcm(head_dim, ATOM). */
void model_attention_lanes(const struct model_params *p, uint32_t begin[LANES + 1]);
/* The experts of a lane, which are never cut (rule 6): [begin[l], begin[l + 1]), maybe none. */
void model_expert_lanes(const struct model_params *p, uint32_t begin[LANES + 1]);

#endif
