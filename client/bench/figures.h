/* SPDX-License-Identifier: Apache-2.0 */
/* figures.h - what was measured: samples of ours and of the peer, one a round, and what they come
 * to.  Plain values; no process and no clock.
 *
 * A figure has a place in the JSON: the member `group`, or `key` inside it, or, with cards, an item
 * of the list "sharding".  Threads: one. */
#ifndef OCTARC_CLIENT_BENCH_FIGURES_H
#define OCTARC_CLIENT_BENCH_FIGURES_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUNS_MAX    100
#define FIGURES_MAX 64

struct range {
    double min, median, max;
};

enum side { OURS, PEER };

struct figure {
    char group[32], key[16];
    uint32_t cards; /* 0: not of the sharding */
    char split[8];
    char unit[16];
    double samples[2][RUNS_MAX]; /* by enum side */
    size_t n[2];
};

struct figures {
    struct figure all[FIGURES_MAX];
    size_t n;
};

/* Of n > 0 values: the median of an even number is the mean of the middle two. */
struct range range_of(const double *values, size_t n);

/* The figure of that name, made where there is none yet.  key may be NULL. */
struct figure *figures_at(struct figures *figures, const char *group, const char *key,
                          const char *unit);
struct figure *figures_shard(struct figures *figures, const char *group, uint32_t cards,
                             const char *split, const char *unit);

/* A sample of one round; one that is not a finite positive number is dropped. */
void figure_add(struct figure *figure, enum side side, double value);

/* Ours over the peer's, round by round.  False: the peer has none. */
bool figure_ratio(const struct figure *figure, struct range *ratio);

/* "prefill_tokens_per_s 512", "decode, 4 cards, tensor": for people.  Returns out. */
char *figure_name(const struct figure *figure, char *out, size_t size);

/* {"min", "median", "max"} */
cJSON *range_json(const struct range *range);
/* Add every figure that has samples of that side to *object; NULL memory is left out. */
void figures_add_json(const struct figures *figures, enum side side, cJSON *object);
/* The same with the ratios. */
void figures_add_ratios(const struct figures *figures, cJSON *object);

#endif
