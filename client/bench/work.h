/* SPDX-License-Identifier: Apache-2.0 */
/* work.h - the work that is measured, the same for ours and for the peer: completions of prompts of
 * random tokens, alone or many at once.
 *
 * A server is whatever takes the object of llama-server's /completion. */
#ifndef OCTARC_CLIENT_BENCH_WORK_H
#define OCTARC_CLIENT_BENCH_WORK_H

#include <stdint.h>

#define STREAMS_MAX 16

struct err;

struct server {
    void *user;
    /* Stream one completion to its end; *first_s is the clock at its first piece.  Called from
     * several threads at once. */
    int (*stream)(void *user, const char *request, double *first_s, struct err *err);
};

#define TRIES_MAX 3

/* How much of each; --quick has less. */
struct amount {
    uint32_t prefill[2], decode, stream_prompt, stream_tokens;
    uint32_t tries; /* of a prompt or an answer alone, whose median is a round's figure: each takes
                     * a fraction of a second, and others use the machine too */
};

/* A request of n_prompt random tokens below n_vocab, other ones each time; free() it.  NULL: no
 * memory. */
char *work_request(uint32_t n_prompt, uint32_t n_predict, uint32_t n_vocab, uint64_t *seed);

/* n requests at once: *tokens_per_s of prompts and answers together, from the first request to the
 * last answer. */
int work_streams(const struct server *server, uint32_t n, const struct amount *amount,
                 uint32_t n_vocab, uint64_t *seed, double *tokens_per_s, struct err *err);
/* The time to the first piece of the answer to a prompt of n tokens. */
int work_first(const struct server *server, uint32_t n, uint32_t n_vocab, uint64_t *seed,
               double *ms, struct err *err);

#endif
