/* SPDX-License-Identifier: Apache-2.0 */
/* transcript.h - the logits of a fixed run of tokens, to be compared bit by bit. */
#ifndef OCTARC_TESTS_ENGINE_TRANSCRIPT_H
#define OCTARC_TESTS_ENGINE_TRANSCRIPT_H

#include "tests/check.h"
#include "tests/loaded_model.h"

#define N_TOKENS 45u /* crosses a KV page */

static inline int32_t token_at(const struct loaded *l, uint32_t sequence, uint32_t position) {
    return (int32_t)((position * 37 + sequence * 101 + 11) % l->model.params.n_vocab);
}

/* One step over `n` rows of each of the sequences `first_seq ..`, from `position` on; the logits of
 * the last row of each sequence go to out[sequence]. */
static inline void step(struct loaded *l, uint32_t first_seq, uint32_t n_seq, uint32_t position,
                        uint32_t n, float *out) {
    struct step_row rows[MAX_ROWS];
    struct step_sequence sequences[4];
    uint32_t pages[4][4], outputs[4], card = 0, at = 0;
    const uint32_t stride = l->plan.n_pages % 5 ? 5 : 3; /* no page twice, even of four */
    for (uint32_t s = 0; s < n_seq; s++) {
        for (uint32_t p = 0; p < 4; p++) /* pages in no order at all */
            pages[s][p] = (p * stride + (first_seq + s) * 4 + 3) % l->plan.n_pages;
        sequences[s] = (struct step_sequence){.pages = pages[s], .n_pages = 4};
        for (uint32_t i = 0; i < n; i++)
            rows[at++] =
                (struct step_row){token_at(l, first_seq + s, position + i), position + i, s};
        outputs[s] = at - 1;
    }
    struct step_params params = {.rows = rows,
                                 .n_rows = at,
                                 .sequences = sequences,
                                 .n_sequences = n_seq,
                                 .outputs = outputs,
                                 .n_outputs = n_seq,
                                 .logits = out};
    CHECK_EQ(runner_step(l->runner, &params, &card), 0);
}

/* The logits after each of the last tokens: a prefill cut into chunks, then single steps. */
static inline float *transcript(struct loaded *l, uint32_t sequence, uint32_t chunk) {
    const uint32_t n_vocab = l->model.params.n_vocab, prefill = N_TOKENS - 5;
    float *logits = calloc(6ull * n_vocab, sizeof *logits);
    for (uint32_t at = 0; at < prefill; at += chunk)
        step(l, sequence, 1, at, prefill - at < chunk ? prefill - at : chunk, logits);
    for (uint32_t i = 0; i < 5; i++)
        step(l, sequence, 1, prefill + i, 1, logits + (size_t)(i + 1) * n_vocab);
    return logits;
}

static inline void same_bits(const struct loaded *l, const float *a, const float *b) {
    for (uint32_t i = 0; i < 6 * l->model.params.n_vocab; i++)
        if (memcmp(&a[i], &b[i], sizeof *a)) {
            printf("# %s, %u cards, %s split: logit %u of step %u is %.9g, want %.9g\n",
                   l->model.params.name, l->plan.n_cards, plan_split_name(l->plan.split),
                   i % l->model.params.n_vocab, i / l->model.params.n_vocab, (double)b[i],
                   (double)a[i]);
            CHECK(false);
        }
}

#endif
