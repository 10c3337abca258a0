/* SPDX-License-Identifier: Apache-2.0 */
/* params.c - hyper-parameters that several architectures share, each within written limits. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/arch/arch.h"
#include "models/gguf.h"
#include "octarc/error.h"

#define EXPERT_ROWS                                                                                \
    16u /* those of an expert begin and end with a tile of rows, as they are packed */

/* "llama.rope.scaling.yarn_attn_factor"; both parts are this program's own and short. */
struct key_name {
    char text[96];
};

static struct key_name key_name(const struct model_params *p, const char *suffix) {
    struct key_name name;
    snprintf(name.text, sizeof name.text, "%s.%s", p->arch, suffix);
    return name;
}

bool arch_has(const struct model_params *p, const struct gguf *gguf, const char *suffix) {
    return gguf_has(gguf, key_name(p, suffix).text);
}

int arch_u32(const struct model_params *p, const struct gguf *gguf, const char *suffix,
             uint32_t min, uint32_t max, uint32_t *value, struct err *err) {
    const struct key_name key = key_name(p, suffix);
    uint32_t read;
    const int rc = gguf_u32(gguf, key.text, &read, err);
    if (rc)
        return rc;
    if (read < min || read > max)
        return err_set(err, -EINVAL, "%s: key '%s' is %" PRIu32 ", not %" PRIu32 " to %" PRIu32,
                       gguf_name(gguf), key.text, read, min, max);
    *value = read;
    return 0;
}

int arch_u32_optional(const struct model_params *p, const struct gguf *gguf, const char *suffix,
                      uint32_t min, uint32_t max, uint32_t *value, struct err *err) {
    if (arch_has(p, gguf, suffix))
        return arch_u32(p, gguf, suffix, min, max, value, err);
    if (*value < min || *value > max)
        return err_set(err, -EINVAL,
                       "%s: key '%s' is missing and would be %" PRIu32 ", not %" PRIu32
                       " to %" PRIu32,
                       gguf_name(gguf), key_name(p, suffix).text, *value, min, max);
    return 0;
}

int arch_f32_optional(const struct model_params *p, const struct gguf *gguf, const char *suffix,
                      float min, float max, float *value, struct err *err) {
    const struct key_name key = key_name(p, suffix);
    float read = *value;
    const int rc = gguf_has(gguf, key.text) ? gguf_f32(gguf, key.text, &read, err) : 0;
    if (rc)
        return rc;
    if (!(read >= min && read <= max)) /* false for a NaN too */
        return err_set(err, -EINVAL, "%s: key '%s' is %g, not %g to %g", gguf_name(gguf), key.text,
                       (double)read, (double)min, (double)max);
    *value = read;
    return 0;
}

int arch_f32(const struct model_params *p, const struct gguf *gguf, const char *suffix, float min,
             float max, float *value, struct err *err) {
    if (!arch_has(p, gguf, suffix))
        return err_set(err, -ENOENT, "%s: key '%s' is missing", gguf_name(gguf),
                       key_name(p, suffix).text);
    return arch_f32_optional(p, gguf, suffix, min, max, value, err);
}

int arch_soft_cap(const struct model_params *p, const struct gguf *gguf, const char *suffix,
                  float *value, struct err *err) {
    float cap = *value;
    const int rc = arch_f32_optional(p, gguf, suffix, 0.0f, ARCH_SOFT_CAP_MAX, &cap, err);
    if (rc)
        return rc;
    if (cap > 0.0f && cap < ARCH_SOFT_CAP_MIN)
        return err_set(err, -EINVAL, "%s: key '%s' is %g, not 0 or %g to %g", gguf_name(gguf),
                       key_name(p, suffix).text, (double)cap, (double)ARCH_SOFT_CAP_MIN,
                       (double)ARCH_SOFT_CAP_MAX);
    *value = cap;
    return 0;
}

/* The rows of the embedding are the vocabulary; the tokenizer's list says how many there must be,
 * so that a wrong matrix is found by its shape. */
static int read_vocab(struct model_params *p, const struct gguf *gguf, struct err *err) {
    uint64_t n = 0;
    const struct gguf_tensor *embd = gguf_find_tensor(gguf, "token_embd.weight");
    if (!gguf_array_length(gguf, "tokenizer.ggml.tokens", &n)) {
        uint32_t rows = embd && embd->ne[1] <= ARCH_DIM_MAX ? (uint32_t)embd->ne[1] : 0;
        const int rc = arch_u32_optional(p, gguf, "vocab_size", 1, ARCH_DIM_MAX, &rows, err);
        n = rows;
        if (rc)
            return rc;
    }
    if (n == 0 || n > ARCH_DIM_MAX)
        return err_set(err, -EINVAL,
                       "%s: key 'tokenizer.ggml.tokens' has %" PRIu64 " elements, not 1 to %u",
                       gguf_name(gguf), n, ARCH_DIM_MAX);
    p->n_vocab = (uint32_t)n;
    return 0;
}

static int read_heads(struct model_params *p, const struct gguf *gguf, struct err *err) {
    int rc = arch_u32(p, gguf, "attention.head_count", 1, ARCH_DIM_MAX, &p->n_heads, err);
    if (rc)
        return rc;
    p->n_kv_heads = p->n_heads;
    rc = arch_u32_optional(p, gguf, "attention.head_count_kv", 1, p->n_heads, &p->n_kv_heads, err);
    if (rc)
        return rc;
    if (p->n_heads % p->n_kv_heads)
        return err_set(err, -EINVAL, "%s: %u query heads cannot share %u KV heads evenly",
                       gguf_name(gguf), p->n_heads, p->n_kv_heads);

    if (!arch_has(p, gguf, "attention.key_length") && p->n_embd % p->n_heads)
        return err_set(err, -EINVAL,
                       "%s: %u values do not divide into %u heads, and key "
                       "'%s.attention.key_length' is missing",
                       gguf_name(gguf), p->n_embd, p->n_heads, p->arch);
    p->head_dim = p->n_embd / p->n_heads;
    rc = arch_u32_optional(p, gguf, "attention.key_length", 1, ARCH_DIM_MAX / p->n_heads,
                           &p->head_dim, err);
    if (rc)
        return rc;
    uint32_t value_length = p->head_dim;
    rc = arch_u32_optional(p, gguf, "attention.value_length", 1, ARCH_DIM_MAX, &value_length, err);
    if (rc)
        return rc;
    if (value_length != p->head_dim)
        return err_set(err, -ENOTSUP,
                       "%s: keys of %u values and values of %u are not supported, only equal ones",
                       gguf_name(gguf), p->head_dim, value_length);
    return 0;
}

int arch_read_common(struct model_params *p, const struct gguf *gguf, struct err *err) {
    int rc = arch_u32(p, gguf, "block_count", 1, LAYERS_MAX, &p->n_layers, err);
    if (!rc)
        rc = arch_u32(p, gguf, "embedding_length", 1, ARCH_DIM_MAX, &p->n_embd, err);
    if (!rc)
        rc = arch_u32(p, gguf, "feed_forward_length", 1, ARCH_DIM_MAX, &p->n_ff, err);
    if (!rc)
        rc = arch_u32(p, gguf, "context_length", 1, ARCH_CONTEXT_MAX, &p->n_ctx_train, err);
    if (!rc)
        rc = read_heads(p, gguf, err);
    if (!rc)
        rc = read_vocab(p, gguf, err);
    return rc ? rc
              : arch_f32(p, gguf, "attention.layer_norm_rms_epsilon", 1e-20f, 1.0f, &p->norm_eps,
                         err);
}

/* The kind of scaling.  A file that names none but gives a factor means linear. */
static int read_scaling(struct rope_params *rope, const struct model_params *p,
                        const struct gguf *gguf, struct err *err) {
    struct gguf_string type = {"linear", 6};
    if (arch_has(p, gguf, "rope.scaling.type")) {
        const int rc = gguf_string(gguf, key_name(p, "rope.scaling.type").text, &type, err);
        if (rc)
            return rc;
    }
    static const struct {
        const char *name;
        enum rope_scaling scaling;
    } known[] = {{"none", ROPE_NONE}, {"linear", ROPE_LINEAR}, {"yarn", ROPE_YARN}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (type.n == strlen(known[i].name) && !memcmp(type.bytes, known[i].name, type.n)) {
            rope->scaling = known[i].scaling;
            return 0;
        }
    }
    const bool longrope = type.n == 8 && !memcmp(type.bytes, "longrope", 8);
    if (longrope && gguf_find_tensor(gguf, "rope_factors_long.weight")) {
        rope->scaling = ROPE_NONE; /* all of it is in the divisors */
        return 0;
    }
    return err_set(err, longrope ? -ENOTSUP : -EINVAL,
                   "%s: key '%s.rope.scaling.type' is %s; supported are none, linear, yarn",
                   gguf_name(gguf), p->arch, longrope ? "longrope" : "of an unknown kind");
}

static int read_yarn(struct rope_params *rope, const struct model_params *p,
                     const struct gguf *gguf, struct err *err) {
    /* The ramp divides by the logarithm of the base. */
    if (rope->freq_base == 1.0f)
        return err_set(err, -EINVAL, "%s: key '%s.rope.freq_base' is 1, more with yarn",
                       gguf_name(gguf), p->arch);
    rope->ext_factor = 1.0f;
    int rc = arch_f32_optional(p, gguf, "rope.scaling.yarn_ext_factor", 0.0f, 1.0f,
                               &rope->ext_factor, err);
    if (!rc)
        rc = arch_f32_optional(p, gguf, "rope.scaling.yarn_beta_fast", 1e-3f, 1e6f,
                               &rope->beta_fast, err);
    if (!rc)
        rc = arch_f32_optional(p, gguf, "rope.scaling.yarn_beta_slow", 1e-3f, 1e6f,
                               &rope->beta_slow, err);
    return rc;
}

static int read_factors(struct rope_params *rope, const struct model_params *p,
                        const struct gguf *gguf, struct err *err) {
    const char *factor =
        arch_has(p, gguf, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
    int rc = arch_f32_optional(p, gguf, factor, 0.0f, 1e6f, &rope->factor, err);
    if (rc)
        return rc;
    if (rope->factor == 0.0f) /* written by old converters for "no scaling" */
        rope->factor = 1.0f;
    if (rope->factor < 1e-6f)
        return err_set(err, -EINVAL, "%s: key '%s.%s' is %g, not at least 1e-06", gguf_name(gguf),
                       p->arch, factor, (double)rope->factor);
    const char *attn = arch_has(p, gguf, "rope.scaling.attn_factor")
                           ? "rope.scaling.attn_factor"
                           : "rope.scaling.yarn_attn_factor";
    return arch_f32_optional(p, gguf, attn, 1e-6f, 1e6f, &rope->attn_factor, err);
}

int arch_read_rope(struct model_params *p, const struct gguf *gguf, bool neox, struct err *err) {
    struct rope_params rope = {.dims = p->head_dim,
                               .neox = neox,
                               .freq_base = 10000.0f,
                               .factor = 1.0f,
                               .attn_factor = 1.0f,
                               .beta_fast = 32.0f,
                               .beta_slow = 1.0f,
                               .original_context = p->n_ctx_train};
    int rc = arch_u32_optional(p, gguf, "rope.dimension_count", 2, p->head_dim, &rope.dims, err);
    if (!rc && rope.dims % 2)
        rc = err_set(err, -EINVAL,
                     "%s: %u rotated values of a head are odd (key "
                     "'%s.rope.dimension_count')",
                     gguf_name(gguf), rope.dims, p->arch);
    if (!rc)
        rc = arch_f32_optional(p, gguf, "rope.freq_base", 1.0f, 1e12f, &rope.freq_base, err);
    if (!rc)
        rc = arch_u32_optional(p, gguf, "rope.scaling.original_context_length", 1, ARCH_CONTEXT_MAX,
                               &rope.original_context, err);
    if (!rc)
        rc = read_scaling(&rope, p, gguf, err);
    if (!rc)
        rc = read_factors(&rope, p, gguf, err);
    if (!rc && rope.scaling == ROPE_YARN)
        rc = read_yarn(&rope, p, gguf, err);
    if (rc)
        return rc;
    if (rope.scaling == ROPE_NONE || (rope.scaling == ROPE_LINEAR && rope.factor == 1.0f)) {
        rope.scaling = ROPE_NONE;
        rope.factor = 1.0f;
    }
    p->rope = rope;
    return 0;
}

int arch_read_windows(struct model_params *p, const struct gguf *gguf, uint32_t period,
                      struct err *err) {
    int rc = arch_u32_optional(p, gguf, "attention.sliding_window", 1, ARCH_CONTEXT_MAX, &p->window,
                               err);
    p->window_period = period;
    if (!rc)
        rc = arch_u32_optional(p, gguf, "attention.sliding_window_pattern", 1, LAYERS_MAX,
                               &p->window_period, err);
    p->window_rope = (struct rope_params){.dims = p->rope.dims,
                                          .neox = p->rope.neox,
                                          .freq_base = p->rope.freq_base,
                                          .factor = 1.0f,
                                          .attn_factor = 1.0f};
    return rc;
}

int arch_read_experts(struct model_params *p, const struct gguf *gguf, struct err *err) {
    uint32_t softmax = 1; /* how their weights are made: the only way known here */
    float scale = 1.0f;   /* of the weights */
    int rc = arch_u32(p, gguf, "expert_count", 2, EXPERTS_MAX, &p->n_experts, err);
    const uint32_t most = p->n_experts < USED_MAX ? p->n_experts : USED_MAX;
    if (!rc)
        rc = arch_u32(p, gguf, "expert_used_count", 1, most, &p->n_experts_used, err);
    if (!rc)
        rc = arch_u32_optional(p, gguf, "expert_feed_forward_length", 1, ARCH_DIM_MAX,
                               &p->n_ff_expert, err);
    if (!rc)
        rc = arch_u32_optional(p, gguf, "expert_gating_func", 1, 1, &softmax, err);
    if (!rc)
        rc = arch_f32_optional(p, gguf, "expert_weights_scale", 1.0f, 1.0f, &scale, err);
    if (!rc && arch_has(p, gguf, "expert_weights_norm"))
        rc = gguf_bool(gguf, key_name(p, "expert_weights_norm").text, &p->experts_normed, err);
    if (rc)
        return rc;
    p->n_ff = 0;
    const bool wide = p->n_ff_expert % EXPERT_ROWS == 0;
    const char *width = arch_has(p, gguf, "expert_feed_forward_length")
                            ? "expert_feed_forward_length"
                            : "feed_forward_length";
    if (!wide || p->n_embd % EXPERT_ROWS)
        return err_set(err, -ENOTSUP,
                       "%s: key '%s' is %u: experts of %u values that make %u are not supported, "
                       "only multiples of %u",
                       gguf_name(gguf), key_name(p, wide ? "embedding_length" : width).text,
                       wide ? p->n_embd : p->n_ff_expert, p->n_ff_expert, p->n_embd, EXPERT_ROWS);
    return 0;
}

int arch_read_dense(struct model_params *p, const struct gguf *gguf, struct err *err) {
    const int rc = arch_read_common(p, gguf, err);
    return rc ? rc : arch_read_rope(p, gguf, true, err);
}
