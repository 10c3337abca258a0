/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/philox.h"

#define CHUNK 1024u /* of the vocabulary; docs/numerics.md rule 4 */
#define FAR   40.0f /* e^-40: such tokens together cannot move a top_p cut */

struct candidate {
    float logit;
    int32_t token;
};

struct sampler {
    uint32_t n_vocab;
    struct candidate *candidates; /* [n_vocab] */
    uint32_t *counts;             /* [n_vocab], zero between calls */
};

int sampler_create(struct sampler **out, uint32_t n_vocab) {
    struct sampler *s = calloc(1, sizeof *s);
    if (s) {
        s->n_vocab = n_vocab;
        s->candidates = malloc(n_vocab * sizeof *s->candidates);
        s->counts = calloc(n_vocab, sizeof *s->counts);
    }
    if (!s || !s->candidates || !s->counts) {
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

/* The largest logit, lowest id on a tie; -1 when there is a NaN or nothing above -infinity. */
static int32_t largest(const float *logits, uint32_t n) {
    int32_t best = -1;
    float top = -INFINITY;
    bool sound = true;
    for (uint32_t i = 0; i < n; i++) {
        sound &= logits[i] == logits[i];
        if (logits[i] > top) {
            top = logits[i];
            best = (int32_t)i;
        }
    }
    return sound && top < INFINITY ? best : -1;
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

/* The k best tokens, sorted.  O(n log k), and nearly O(n): few of n beat the k-th best so far. */
static uint32_t select_top(struct sampler *s, const float *logits, uint32_t k) {
    struct candidate *heap = s->candidates;
    k = k < s->n_vocab ? k : s->n_vocab;
    for (uint32_t i = 0; i < k; i++)
        heap[i] = (struct candidate){logits[i], (int32_t)i};
    for (uint32_t i = k / 2; i-- > 0;)
        sift(heap, k, i);
    for (uint32_t i = k; k && i < s->n_vocab; i++) {
        const struct candidate c = {logits[i], (int32_t)i};
        if (before(&c, &heap[0])) {
            heap[0] = c;
            sift(heap, k, 0);
        }
    }
    qsort(heap, k, sizeof *heap, compare);
    return k;
}

/* Tokens within reach of the best one, sorted. */
static uint32_t select_near(struct sampler *s, const float *logits, float top, float reach) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (logits[i] >= top - reach)
            s->candidates[n++] = (struct candidate){logits[i], (int32_t)i};
    qsort(s->candidates, n, sizeof *s->candidates, compare);
    return n;
}

static uint32_t cut_top_p(const struct candidate *c, uint32_t n, double top_p, uint32_t keep) {
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        total += exp((double)c[i].logit - (double)c[0].logit);
    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)c[i].logit - (double)c[0].logit);
        if (sum >= top_p * total && i + 1 >= keep)
            return i + 1;
    }
    return n;
}

static uint32_t cut_min_p(const struct candidate *c, uint32_t n, double min_p, uint32_t keep) {
    const double least = (double)c[0].logit + log(min_p);
    while (n > keep && n > 1 && (double)c[n - 1].logit < least)
        n--;
    return n;
}

static int32_t draw_among(const struct candidate *c, uint32_t n, const struct sampler_input *in) {
    const struct sampling *p = in->sampling;
    const double u = philox_uniform(p->seed, p->choice, in->n_tokens, 0);
    double top = -INFINITY, total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        top = (double)c[i].logit > top ? (double)c[i].logit : top;
    for (uint32_t i = 0; i < n; i++)
        total += exp(((double)c[i].logit - top) / (double)p->temperature);
    for (uint32_t i = 0; i < n; i++) {
        sum += exp(((double)c[i].logit - top) / (double)p->temperature);
        if (sum > u * total)
            return c[i].token;
    }
    return c[n - 1].token; /* u so near to 1 that rounding left nothing */
}

int sampler_draw(struct sampler *s, float *logits, const struct sampler_input *in, int32_t *token) {
    const struct sampling *p = in->sampling;
    const uint32_t keep = p->min_keep ? p->min_keep : 1;
    uint32_t n;
    penalise(s, logits, in);
    apply_bias(logits, s->n_vocab, in);
    const int32_t best = largest(logits, s->n_vocab);
    if (best < 0)
        return -EDOM;
    if (p->temperature <= 0) {
        *token = best;
        return 0;
    }
    if (p->top_k) {
        n = select_top(s, logits, p->top_k > keep ? p->top_k : keep);
    } else if (p->top_p < 1.0f || p->min_p > 0) {
        /* min_keep may ask for more than are near. */
        n = select_near(s, logits, logits[best], FAR);
        if (n < keep)
            n = select_top(s, logits, keep);
    } else {
        for (n = 0; n < s->n_vocab; n++)
            s->candidates[n] = (struct candidate){logits[n], (int32_t)n};
    }
    if (p->top_p < 1.0f)
        n = cut_top_p(s->candidates, n, (double)p->top_p, keep);
    if (p->min_p > 0)
        n = cut_min_p(s->candidates, n, (double)p->min_p, keep);
    *token = draw_among(s->candidates, n, in);
    return 0;
}

double sampler_log_sum(const float *logits, uint32_t n_vocab) {
    float top = -INFINITY;
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        top = logits[i] > top ? logits[i] : top;
    for (uint32_t at = 0; at < n_vocab; at += CHUNK) {
        const uint32_t end = n_vocab - at < CHUNK ? n_vocab : at + CHUNK;
        double part = 0;
        for (uint32_t i = at; i < end; i++)
            part += exp((double)logits[i] - (double)top);
        sum += part;
    }
    return (double)top + log(sum);
}

uint32_t sampler_top(struct sampler *s, const float *logits, double log_sum, uint32_t n,
                     struct token_logprob *top) {
    n = select_top(s, logits, n);
    for (uint32_t i = 0; i < n; i++)
        top[i] = (struct token_logprob){s->candidates[i].token,
                                        (float)((double)s->candidates[i].logit - log_sum)};
    return n;
}
