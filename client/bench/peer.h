/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h - llama.cpp's own programs, found in a folder: llama-bench for one stream, llama-server
 * for the rest.  What the folder lacks, or what fails, is left out from then on, with the reason.
 */
#ifndef OCTARC_CLIENT_BENCH_PEER_H
#define OCTARC_CLIENT_BENCH_PEER_H

#include "client/bench/child.h"
#include "client/bench/work.h"

#define PEER_REASON 256

struct peer {
    char bench[PATH_MAX], server[PATH_MAX];
    const char *folder, *model; /* borrowed: where its output goes; the file it reads */
    uint32_t threads, context;  /* tokens of a sequence */
    struct child child;         /* the server */
    uint16_t port;
    char no_bench[PEER_REASON], no_server[PEER_REASON]; /* why not; empty: it is used */
};

/* -ENOENT: the folder holds neither. */
int peer_find(struct peer *peer, const char *folder, struct err *err);

/* Tokens a second of both prompts and of an answer, by its own clock. */
int peer_bench(struct peer *peer, const struct amount *amount, double prefill[2], double *decode,
               struct err *err);

/* *ready_ms: from its start to the first good answer of /health. */
int peer_start(struct peer *peer, double *ready_ms, struct err *err);
void peer_stop(struct peer *peer);
struct server peer_server(struct peer *peer);

#endif
