/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/logits.h"
#include "daemon/engine/philox.h"

#define FIRST_CUT 128u /* tokens that top_p looks at first */
#define SCALE_MAX 1e6f /* of a temperature near 0 */

struct candidate {
    float logit;
    int32_t token;
};

struct sampler {
    uint32_t n_vocab;
    struct candidate *candidates; /* [n_vocab] */
    float *kept;                  /* [n_vocab]: the logits of the candidates, then weights */
    double *sums;                 /* [chunks] */
    uint32_t *counts;             /* [n_vocab], zero between calls */
};

int sampler_create(struct sampler **out, uint32_t n_vocab) {
    struct sampler *s = calloc(1, sizeof *s);
    if (s) {
        s->n_vocab = n_vocab;
        s->candidates = malloc(n_vocab * sizeof *s->candidates);
        s->kept = malloc(n_vocab * sizeof *s->kept);
        s->sums = malloc(logits_chunks(n_vocab) * sizeof *s->sums);
        s->counts = calloc(n_vocab, sizeof *s->counts);
    }
    if (!s || !s->candidates || !s->kept || !s->sums || !s->counts) {
        sampler_destroy(s);
        return -ENOMEM;
    }
    *out = s;
    return 0;
}

void sampler_destroy(struct sampler *s) {
    if (!s)
        return;
    free(s->candidates);
    free(s->kept);
    free(s->sums);
    free(s->counts);
    free(s);
}

static void penalise(struct sampler *s, float *logits, const struct sampler_input *in) {
    const struct sampling *p = in->sampling;
    const bool off =
        p->repeat_penalty == 1.0f && p->frequency_penalty == 0.0f && p->presence_penalty == 0.0f;
    uint32_t n = p->penalty_last_n < 0 ? in->n_tokens : (uint32_t)p->penalty_last_n;
    if (off || n == 0)
        return;
    n = n < in->n_tokens ? n : in->n_tokens;
    const int32_t *last = in->tokens + in->n_tokens - n;
    for (uint32_t i = 0; i < n; i++)
        s->counts[last[i]]++;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t count = s->counts[last[i]];
        float *logit = &logits[last[i]];
        if (count == 0)
            continue; /* done at its first place */
        *logit = *logit > 0 ? *logit / p->repeat_penalty : *logit * p->repeat_penalty;
        *logit -= (float)count * p->frequency_penalty + p->presence_penalty;
        s->counts[last[i]] = 0;
    }
}

static void apply_bias(float *logits, uint32_t n_vocab, const struct sampler_input *in) {
    for (uint32_t i = 0; i < in->sampling->n_bias; i++) {
        const struct logit_bias *b = &in->sampling->bias[i];
        if (b->token >= 0 && (uint32_t)b->token < n_vocab)
            logits[b->token] += b->bias;
    }
    for (uint32_t i = 0; in->sampling->ignore_eos && i < in->n_eog; i++)
        if (in->eog[i] >= 0 && (uint32_t)in->eog[i] < n_vocab)
            logits[in->eog[i]] = -INFINITY;
}

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static int compare(const void *a, const void *b) {
    return before(a, b) ? -1 : 1;
}

/* Keep the k best of the heap's root-is-worst order. */
static void sift(struct candidate *heap, uint32_t n, uint32_t i) {
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n)
            return;
        if (child + 1 < n && before(&heap[child], &heap[child + 1]))
            child++;
        if (before(&heap[child], &heap[i]))
            return;
        const struct candidate t = heap[i];
        heap[i] = heap[child];
        heap[child] = t;
        i = child;
    }
}

/* The k best tokens, sorted.  Nearly O(n): few of n beat the k-th best so far, and of equals the
 * earlier one stays. */
static uint32_t select_top(struct sampler *s, const float *logits, uint32_t k) {
    struct candidate *heap = s->candidates;
    k = k < s->n_vocab ? k : s->n_vocab;
    if (k == 0)
        return 0;
    for (uint32_t i = 0; i < k; i++)
        heap[i] = (struct candidate){logits[i], (int32_t)i};
    for (uint32_t i = k / 2; i-- > 0;)
        sift(heap, k, i);
    for (uint32_t i = k; (i = logits_next_above(logits, i, s->n_vocab, heap[0].logit)) < s->n_vocab;
         i++) {
        heap[0] = (struct candidate){logits[i], (int32_t)i};
        sift(heap, k, 0);
    }
    qsort(heap, k, sizeof *heap, compare);
    return k;
}

/* Weights of the first n candidates, on the distribution of temperature 1, into kept. */
static void weigh(struct sampler *s, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        s->kept[i] = s->candidates[i].logit;
    logits_weights(s->kept, n, s->candidates[0].logit, 1.0f, s->kept);
}

/* How many of n sorted candidates reach the sum `enough`, at least `keep`; n when all do not. */
static uint32_t cut_sum(struct sampler *s, uint32_t n, double enough, uint32_t keep) {
    double sum = 0;
    weigh(s, n);
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)s->kept[i];
        if (sum >= enough && i + 1 >= keep)
            return i + 1;
    }
    return n;
}

/* Of n sorted candidates, those that make top_p of their sum. */
static uint32_t cut_top_p(struct sampler *s, uint32_t n, double top_p, uint32_t keep) {
    double total = 0;
    weigh(s, n);
    for (uint32_t i = 0; i < n; i++)
        total += (double)s->kept[i];
    return cut_sum(s, n, top_p * total, keep);
}

/* The same of the whole vocabulary, sorting no more of it than is needed. */
static uint32_t select_top_p(struct sampler *s, const float *logits, float top, double top_p,
                             uint32_t keep) {
    const double enough = top_p * logits_sums(logits, s->n_vocab, top, 1.0f, s->sums);
    for (uint32_t k = FIRST_CUT;; k *= 8) {
        const uint32_t n = select_top(s, logits, k), cut = cut_sum(s, n, enough, keep);
        if (cut < n || n == s->n_vocab)
            return cut;
    }
}

static uint32_t cut_min_p(const struct candidate *c, uint32_t n, float least, uint32_t keep) {
    while (n > keep && n > 1 && c[n - 1].logit < least)
        n--;
    return n;
}

/* All tokens of at least that logit, in the order of the vocabulary. */
static uint32_t select_min_p(struct sampler *s, const float *logits, float least) {
    const float below = nextafterf(least, -INFINITY);
    uint32_t n = 0;
    for (uint32_t i = 0; (i = logits_next_above(logits, i, s->n_vocab, below)) < s->n_vocab; i++)
        s->candidates[n++] = (struct candidate){logits[i], (int32_t)i};
    return n;
}

/* The place that `u` of all weights falls on: its chunk, then its value in the chunk. */
static uint32_t draw_place(struct sampler *s, const float *x, uint32_t n, float top,
                           const struct sampler_input *in) {
    const struct sampling *p = in->sampling;
    const float scale = p->temperature > 1 / SCALE_MAX ? 1 / p->temperature : SCALE_MAX;
    const double total = logits_sums(x, n, top, scale, s->sums);
    double left = philox_uniform(p->seed, p->choice, in->n_tokens, 0) * total;
    float weights[LOGITS_CHUNK];
    uint32_t chunk = 0, last = 0;
    for (uint32_t c = 0; c < logits_chunks(n); c++)
        if (s->sums[c] > 0) {
            chunk = c;
            if (left < s->sums[c])
                break;
            left -= s->sums[c];
        }
    const uint32_t begin = chunk * LOGITS_CHUNK;
    const uint32_t some = n - begin < LOGITS_CHUNK ? n - begin : LOGITS_CHUNK;
    logits_weights(x + begin, some, top, scale, weights);
    for (uint32_t i = 0; i < some; i++) {
        left -= (double)weights[i];
        if (weights[i] > 0) {
            last = i;
            if (left < 0)
                break;
        }
    }
    return begin + last; /* the last possible one where rounding left nothing */
}

static int32_t draw_among(struct sampler *s, uint32_t n, float top,
                          const struct sampler_input *in) {
    for (uint32_t i = 0; i < n; i++)
        s->kept[i] = s->candidates[i].logit;
    return s->candidates[draw_place(s, s->kept, n, top, in)].token;
}

int sampler_draw(struct sampler *s, float *logits, const struct sampler_input *in, int32_t *token) {
    const struct sampling *p = in->sampling;
    const uint32_t keep = p->min_keep ? p->min_keep : 1;
    uint32_t n;
    penalise(s, logits, in);
    apply_bias(logits, s->n_vocab, in);
    const int32_t best = logits_largest(logits, s->n_vocab);
    if (best < 0)
        return -EDOM;
    const float top = logits[best], least = top + logf(p->min_p);
    if (p->temperature <= 0) {
        *token = best;
        return 0;
    }
    if (p->top_k) {
        n = select_top(s, logits, p->top_k > keep ? p->top_k : keep);
        if (p->top_p < 1.0f)
            n = cut_top_p(s, n, (double)p->top_p, keep);
    } else if (p->top_p < 1.0f) {
        n = select_top_p(s, logits, top, (double)p->top_p, keep);
    } else if (p->min_p > 0) {
        n = select_min_p(s, logits, least);
        if (n < keep)
            n = select_top(s, logits, keep);
        *token = draw_among(s, n, top, in);
        return 0;
    } else {
        *token = (int32_t)draw_place(s, logits, s->n_vocab, top, in);
        return 0;
    }
    if (p->min_p > 0)
        n = cut_min_p(s->candidates, n, least, keep);
    *token = draw_among(s, n, top, in);
    return 0;
}

double sampler_log_sum(struct sampler *s, const float *logits) {
    const int32_t best = logits_largest(logits, s->n_vocab);
    if (best < 0)
        return NAN;
    return (double)logits[best] + log(logits_sums(logits, s->n_vocab, logits[best], 1.0f, s->sums));
}

uint32_t sampler_top(struct sampler *s, const float *logits, double log_sum, uint32_t n,
                     struct token_logprob *top) {
    n = select_top(s, logits, n);
    for (uint32_t i = 0; i < n; i++)
        top[i] = (struct token_logprob){s->candidates[i].token,
                                        (float)((double)s->candidates[i].logit - log_sum)};
    return n;
}
