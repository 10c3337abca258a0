/* SPDX-License-Identifier: Apache-2.0 */
/* sampler.h - logits -> the next token, and the log-probabilities to report.
 *
 * A draw is a function of the logits, the tokens so far, the parameters and the position alone.
 * Steps, in order: repetition, frequency and presence penalties over the last penalty_last_n
 * tokens; logit_bias; ignore_eos; then temperature 0: the largest logit (lowest id on a tie), else
 * top_k, top_p, min_p (on the untempered distribution), temperature, draw. */
#ifndef OCTARC_ENGINE_SAMPLER_H
#define OCTARC_ENGINE_SAMPLER_H

#include "daemon/channel/messages.h"

struct sampler; /* working memory for one vocabulary; one thread */

int sampler_create(struct sampler **sampler, uint32_t n_vocab);
void sampler_destroy(struct sampler *sampler);

struct sampler_input {
    const struct sampling *sampling;
    const int32_t *tokens; /* the sequence so far */
    uint32_t n_tokens;     /* also the position of the token to draw */
    const int32_t *eog;
    uint32_t n_eog;
};

/* Changes logits in place.  -EDOM: no token is possible (a NaN, or every logit is -infinity). */
int sampler_draw(struct sampler *sampler, float *logits, const struct sampler_input *input,
                 int32_t *token);

/* log(sum(exp(logits))), in fixed chunks of 1,024 of the vocabulary; NaN where no token is
 * possible.
 */
double sampler_log_sum(struct sampler *sampler, const float *logits);

/* The n most likely tokens, descending, ties by id; n is cut to the vocabulary.  Returns how many.
 */
uint32_t sampler_top(struct sampler *sampler, const float *logits, double log_sum, uint32_t n,
                     struct token_logprob *top);

#endif
