/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - a benchmark as a whole: what is asked for, what was found, how it is told. */
#ifndef OCTARC_CLIENT_BENCH_BENCH_H
#define OCTARC_CLIENT_BENCH_BENCH_H

#include "client/bench/figures.h"
#include "client/bench/peer.h"
#include "client/bench/service.h"
#include "client/cli.h"

#define SHARDS_MAX 8 /* cards 1, 2, 4, 8, each with both splits */

struct bench {
    const struct cli *cli;
    uint32_t runs;
    bool quick;
    char model[PATH_MAX];
    struct service_options options;
    struct amount amount;
    uint32_t n_vocab;
    uint64_t seed;                       /* of the random tokens */
    struct service services[SHARDS_MAX]; /* all up; the first is the one that most is measured on */
    uint32_t n_services;
    struct limits limits, own_limits; /* of the last round; own: with private weights */
    struct figures figures;
    bool against;
    struct peer peer;
    char no_sharding[200]; /* why it is left out; empty: it is not */
    bool on_cards;         /* the machine's own: one service, which has all of them */
};

/* Round `round` of them: each thing once.  0 or an error. */
int round_run(struct bench *bench, uint32_t round, struct err *err);
/* On a terminal, one line that the next one overwrites; NULL clears it. */
void round_say(const struct bench *bench, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The service that most is measured on: started, and warm. */
int bench_start_first(struct bench *bench, double *ready_ms, struct err *err);

/* Print the table, or with --json the object. */
int report_print(const struct bench *bench);

#endif
