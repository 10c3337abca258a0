/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - continuous batching over a model: sequences in, tokens out.
 *
 * Each step runs the next row of every sequence that decodes and shares the rest among the prompts,
 * the shortest first, so a long one keeps nobody waiting.  What a sequence produces does not depend
 * on the others: the model promises equal bits for any batch, and a draw depends on the sequence
 * alone.
 *
 * The engine knows neither the channel nor a device: it speaks through two small tables, so a test
 * can own both.  Threads: one. */
#ifndef OCTARC_ENGINE_ENGINE_H
#define OCTARC_ENGINE_ENGINE_H

#include "daemon/channel/messages.h"

struct engine;
struct pages;

/* The model (runner.h, or a test's own). */
struct engine_model {
    void *user;
    /* As runner_step. */
    int (*step)(void *user, struct step_params *params, uint32_t *card);
    /* As runner_carried; may be NULL. */
    void (*carried)(void *user, struct link_bytes *bytes);
    /* As runner_fetched; may be NULL. */
    void (*fetched)(void *user, struct fetch_counts *counts);
};

/* Where messages to the front go: 0, or negative when the front is gone. */
struct engine_output {
    void *user;
    int (*send)(void *user, enum message_type type, const void *msg);
    uint64_t (*now_ns)(void *user);
};

struct engine_options {
    uint64_t generation;
    uint32_t n_vocab, context, max_rows, max_outputs, max_sequences, n_pages;
    int32_t eog[EOG_MAX];
    uint32_t n_eog;
};

int engine_create(struct engine **engine, const struct engine_options *options,
                  const struct engine_model *model, const struct engine_output *output);
void engine_destroy(struct engine *engine);

/* Take a sequence; the arrays of *admit become the engine's (they are set to NULL).  A sequence
 * that cannot run is answered with END_ERROR. */
int engine_admit(struct engine *engine, struct msg_admit *admit);
/* END_CANCELLED is sent when the sequence is there. */
int engine_cancel(struct engine *engine, uint64_t sequence);

/* Cut prompts shorter from now on, or not any more: what else the machine does makes steps longer.
 */
void engine_yield(struct engine *engine, bool yields);
/* Run one step.  1: something ran; 0: nothing to do; -ENODEV: a card is lost (LOST was sent, every
 * further call returns this); another negative errno: the front is gone or memory ran out. */
int engine_step(struct engine *engine);
/* A KV page that holds something: shared, or used by a sequence. */
struct engine_page {
    uint32_t page;
    uint64_t serial; /* of its content (pages.h) */
    bool full;       /* the content will not change any more */
};

/* All of them, into out[n_pages]; returns how many. */
uint32_t engine_pages(const struct engine *engine, struct engine_page *out);
/* Its pages, as long as it does not start over. */
struct pages *engine_page_table(const struct engine *engine);
/* Pages that no sequence uses are nobody's prefix any more.  idle[n_pages]: which they are. */
void engine_forget_idle(struct engine *engine, bool *idle);
/* The model that the next steps run is another, whose pages hold what the old one's held. */
void engine_continue(struct engine *engine);
/* The same, but its pages are empty: every sequence is given back to the front (PREEMPTED).
 * -ENOMEM, or the front is gone. */
int engine_start_over(struct engine *engine);
/* Send CREDIT when it changed since the last time, or to say that steps are done. */
int engine_send_credit(struct engine *engine);

#endif
