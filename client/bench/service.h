/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - an octarcd of the bench's own, on a private socket. */
#ifndef OCTARC_CLIENT_BENCH_SERVICE_H
#define OCTARC_CLIENT_BENCH_SERVICE_H

#include <cjson/cJSON.h>

#include "client/bench/child.h"
#include "client/bench/work.h"

struct service_options {
    char octarcd[PATH_MAX], folder[PATH_MAX], config[PATH_MAX];
    const char *model, *weights, *backend; /* of octarcd; NULL: its default */
    uint32_t threads, context;             /* 0: octarcd's defaults */
};

struct service {
    struct child child;
    uint32_t cards; /* simulated; 0: the machine's own, all */
    const char *split;
    char socket[PATH_MAX];
};

/* What the machine can do, as the method `measure` says. */
struct limits {
    double read_bytes_per_s, int8_ops_per_s, token_bytes, layer_params;
    double weights_bytes, huge_bytes; /* of the weights, on huge pages; below 0: not known */
    uint32_t threads;
    char isa[16];
};

/* Write the configuration of all that are started; the folder exists. */
int service_configure(struct service_options *options, struct err *err);

/* Start and wait until the model is served; *ready_ms (may be NULL) is how long that took.  With
 * `cards` of 0 all cards of the machine are used, if the backend is one for cards.  The names of
 * the files in the folder come from cards and split; -ECHILD: it refused, err says why. */
int service_start(struct service *service, const struct service_options *options, uint32_t cards,
                  const char *split, double *ready_ms, struct err *err);
void service_stop(struct service *service);

/* *answer is the caller's.  params: JSON text, or NULL. */
int service_ask(const struct service *service, const char *method, const char *params,
                cJSON **answer, struct err *err);
int service_limits(const struct service *service, struct limits *limits, struct err *err);

/* Tokens a second, by the service's own clock: of a prompt, and of an answer of which the first
 * token belongs to the prompt. */
int service_prefill(const struct service *service, uint32_t n, uint32_t n_vocab, uint64_t *seed,
                    double *tokens_per_s, struct err *err);
int service_decode(const struct service *service, uint32_t n, uint32_t n_vocab, uint64_t *seed,
                   double *tokens_per_s, struct err *err);

/* For work.h; lives as long as the service. */
struct server service_server(struct service *service);

#endif
