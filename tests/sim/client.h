/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - requests and what came of them, to be compared with an undisturbed run. */
#ifndef OCTARC_TESTS_SIM_CLIENT_H
#define OCTARC_TESTS_SIM_CLIENT_H

#include "daemon/scheduler/scheduler.h"
#include "daemon/util/buffer.h"
#include "tests/sim/sim.h"

#define CHOICES 3 /* of a request, at most */
#define TOPS    3 /* n_logprobs, at most */

struct said {
    int32_t token;
    float logprob;
    uint32_t n_top, text_offset;
    struct token_logprob top[TOPS];
};

/* One choice, as its events told it. */
struct transcript {
    struct buffer text, tokens; /* bytes; struct said */
    float prompt[CONTEXT];      /* log-probabilities */
    uint32_t n_prompt;
    uint32_t ends;
    enum finish finish;
    int32_t stop_token;
    bool truncated;
    int error;
    char stop_word[16], error_text[200];
    uint32_t completion_tokens;
};

struct client {
    struct actor actor; /* it comes, and may leave or cancel later */
    int32_t prompt[CONTEXT];
    struct request_spec spec;
    struct logit_bias bias;
    struct request *request;
    uint64_t id, patience_ns; /* NEVER: waits for the end */
    bool submitted, abandons, cancelled, gone, waits, poisons, alone;
    bool disturbed; /* it was there while weights were harmed and nobody knew */
    uint32_t
        stays; /* so many pieces of text until it leaves, while it is told one; 0: it does not */
    uint32_t ends;
    struct transcript got[CHOICES], want[CHOICES];
};

/* All that is asked is drawn here; `poisons`: engines die of it. */
void client_make(struct client *client, bool poisons);
/* One that asks the same, and stays to the end; no poison. */
void client_make_again(struct client *client, const struct client *like);
void client_finish(struct client *client);
/* Ask the simulated service, at its time. */
void client_start(struct client *client, uint64_t at_ns);
bool client_done(const struct client *client);
/* What was promised to it was kept. */
void client_check(const struct client *client);

/* The same request on one card, with nothing else and no fault: fills want[]. */
void reference_run(struct client *client);

/* transcript.c: what events tell goes into got[]; user: struct client. */
extern const struct request_events transcript_events;

#endif
