/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - the limits of the machine, by the very threads and over the very memory that compute:
 * huge pages, NUMA and pinning are what a step finds too. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/device/cpu/cpu.h"

#define TRY_NS    UINT64_C(100000000) /* of one shape of the sweep, or of the products */
#define TRIES_MIN 3
#define TRIES_MAX 1000u
#define LOOPS     100000u

/* How the members share an area: pieces of so many bytes in turn.  What suits the memory best
 * differs from machine to machine. */
static const uint64_t piece_bytes[] = {64u << 10, 1u << 20, UINT64_MAX};

struct measuring {
    struct device *device;
    uint64_t piece;
    _Atomic uint64_t sink; /* so that nothing can be left out */
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool has_weights(const struct cpu_card *card) {
    return card->present && !card->lost && card->areas[AREA_WEIGHTS].base;
}

static void sweep_member(void *arg, uint32_t member) {
    struct measuring *m = arg;
    const struct device *d = m->device;
    const uint64_t members = team_size(d->team);
    uint64_t sum = 0;
    for (uint32_t c = 0; c < d->n_cards; c++) {
        const struct cpu_area *a = &d->cards[c].areas[AREA_WEIGHTS];
        const uint64_t even = (a->bytes / members / 64 + 1) * 64;
        const uint64_t piece = m->piece < even ? m->piece : even;
        if (!has_weights(&d->cards[c]))
            continue;
        for (uint64_t at = member * piece; at < a->bytes; at += members * piece)
            sum += d->kernels->sweep(a->base + at, a->bytes - at < piece ? a->bytes - at : piece);
    }
    atomic_fetch_add_explicit(&m->sink, sum, memory_order_relaxed);
}

static void multiply_member(void *arg, uint32_t member) {
    struct measuring *m = arg;
    (void)member;
    atomic_fetch_add_explicit(&m->sink, m->device->kernels->multiply(LOOPS), memory_order_relaxed);
}

static int ascending(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Seconds of several runs, the fastest first; more than 0 each.  Returns how many. */
static uint32_t time_runs(struct measuring *m, void (*run)(void *arg, uint32_t member),
                          uint64_t ns[TRIES_MAX]) {
    const uint64_t begin = now_ns();
    uint64_t at = begin;
    uint32_t n = 0;
    for (; n < TRIES_MIN || (at - begin < TRY_NS && n < TRIES_MAX); n++) {
        team_run(m->device->team, run, m);
        const uint64_t after = now_ns();
        ns[n] = after > at ? after - at : 1;
        at = after;
    }
    qsort(ns, n, sizeof *ns, ascending);
    return n;
}

int cpu_measure(struct device *d, struct device_limits *out) {
    struct measuring m = {.device = d};
    uint64_t ns[TRIES_MAX];
    struct device_limits limits = {.n_threads = team_size(d->team)};
    snprintf(limits.isa, sizeof limits.isa, "%s", d->kernels->name);
    for (uint32_t c = 0; c < d->n_cards; c++)
        if (has_weights(&d->cards[c]))
            limits.weights_bytes += d->cards[c].areas[AREA_WEIGHTS].bytes;
    for (size_t i = 0; limits.weights_bytes && i < sizeof piece_bytes / sizeof *piece_bytes; i++) {
        m.piece = piece_bytes[i];
        /* What a memory that others use too gives most of the time, as a step's rate is one. */
        const uint32_t n = time_runs(&m, sweep_member, ns);
        const double rate = 1e9 * (double)limits.weights_bytes / (double)ns[n / 2];
        if (rate > limits.read_bytes_per_s)
            limits.read_bytes_per_s = rate;
    }
    time_runs(&m, multiply_member, ns);
    limits.int8_ops_per_s =
        1e9 * (double)limits.n_threads * LOOPS * (double)d->kernels->multiply_ops / (double)ns[0];
    *out = limits;
    return 0;
}
