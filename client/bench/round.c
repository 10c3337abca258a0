/* SPDX-License-Identifier: Apache-2.0 */
/* round.c - one round: everything once, so that what disturbs the machine for a while disturbs all
 * alike. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/bench/bench.h"
#include "octarc/error.h"

static const uint32_t stream_counts[] = {1, 4, 8, 16};
#define N_COUNTS (sizeof stream_counts / sizeof *stream_counts)

void round_say(const struct bench *b, const char *fmt, ...) {
    va_list ap;
    if (!isatty(2) && !b->cli->verbose)
        return;
    if (isatty(2))
        fputs("\r\033[K", stderr);
    if (fmt) {
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        if (!isatty(2))
            fputc('\n', stderr);
    }
    fflush(stderr);
}

static void add(struct bench *b, enum side side, const char *group, const char *key,
                const char *unit, double value) {
    figure_add(figures_at(&b->figures, group, key, unit), side, value);
}

static void add_prefill(struct bench *b, enum side side, uint32_t n, double value) {
    char key[16];
    snprintf(key, sizeof key, "%u", n);
    add(b, side, "prefill_tokens_per_s", key, "tokens/s", value);
}

/* So that the next reader finds nothing of the file in memory.  Pages that are in use stay. */
static void forget_file(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* --- ours --- */

/* Cards have room for one service's weights, so that is the one that goes on. */
static int run_starts_on_cards(struct bench *b, struct err *err) {
    for (int warm = 0; warm < 2; warm++) {
        double ms = 0;
        service_stop(&b->services[0]);
        if (!warm)
            forget_file(b->model);
        const int rc = bench_start_first(b, &ms, err);
        if (rc)
            return rc;
        add(b, OURS, "ready_ms", warm ? "warm" : "cold", "ms", ms);
    }
    return 0;
}

static int run_starts(struct bench *b, struct err *err) {
    for (int warm = 0; warm < 2; warm++) {
        struct service own;
        double ms = 0;
        if (!warm)
            forget_file(b->model);
        const int rc = service_start(&own, &b->options, 1, "auto", &ms, err);
        if (rc)
            return rc;
        service_stop(&own);
        add(b, OURS, "ready_ms", warm ? "warm" : "cold", "ms", ms);
    }
    return 0;
}

typedef int alone_fn(const struct service *, uint32_t n, uint32_t n_vocab, uint64_t *seed,
                     double *tokens_per_s, struct err *);

/* A prompt or an answer alone: the median of its tries. */
static int run_alone(struct bench *b, const struct service *s, alone_fn *run, uint32_t n,
                     double *tokens_per_s, struct err *err) {
    double tries[TRIES_MAX];
    for (uint32_t i = 0; i < b->amount.tries; i++) {
        const int rc = run(s, n, b->n_vocab, &b->seed, &tries[i], err);
        if (rc)
            return rc;
    }
    *tokens_per_s = range_of(tries, b->amount.tries).median;
    return 0;
}

/* What one service makes of prompts of the first length and of answers. */
static int run_single(struct bench *b, const struct service *s, double *prefill, double *decode,
                      struct err *err) {
    const int rc = run_alone(b, s, service_prefill, b->amount.prefill[0], prefill, err);
    return rc ? rc : run_alone(b, s, service_decode, b->amount.decode, decode, err);
}

static void add_shard(struct bench *b, const struct service *s, double prefill, double decode) {
    figure_add(figures_shard(&b->figures, "decode_tokens_per_s", s->cards, s->split, "tokens/s"),
               OURS, decode);
    figure_add(figures_shard(&b->figures, "prefill_tokens_per_s", s->cards, s->split, "tokens/s"),
               OURS, prefill);
}

/* The limits are measured beside the figures that are told as a part of them. */
static int run_one_stream(struct bench *b, struct err *err) {
    const struct service *s = &b->services[0];
    double prefill[2], decode;
    int rc = service_limits(s, &b->limits, err);
    if (!rc)
        rc = run_single(b, s, &prefill[0], &decode, err);
    if (!rc)
        rc = run_alone(b, s, service_prefill, b->amount.prefill[1], &prefill[1], err);
    if (rc)
        return rc;
    for (int i = 0; i < 2; i++)
        add_prefill(b, OURS, b->amount.prefill[i], prefill[i]);
    add(b, OURS, "decode_tokens_per_s", NULL, "tokens/s", decode);
    add(b, OURS, "fraction_of_bandwidth", NULL, "",
        decode * b->limits.token_bytes / b->limits.read_bytes_per_s);
    add(b, OURS, "fraction_of_int8_peak", NULL, "",
        prefill[0] * 2 * b->limits.layer_params / b->limits.int8_ops_per_s);
    add(b, OURS, "read_bytes_per_s", NULL, "bytes/s", b->limits.read_bytes_per_s);
    add(b, OURS, "int8_ops_per_s", NULL, "1/s", b->limits.int8_ops_per_s);
    if (!b->on_cards)
        add_shard(b, s, prefill[0], decode);
    return 0;
}

/* The same memory speed and decode with weights of the engine's own, which outlive nothing but may
 * have huge pages where shared ones have none. */
static int run_private(struct bench *b, struct err *err) {
    struct service_options options = b->options;
    struct service own;
    double decode = 0;
    options.weights = "private";
    int rc = service_start(&own, &options, 1, "auto", NULL, err);
    if (rc)
        return rc;
    rc = service_limits(&own, &b->own_limits, err);
    if (!rc)
        rc = run_alone(b, &own, service_decode, b->amount.decode, &decode, err);
    service_stop(&own);
    if (rc)
        return rc;
    add(b, OURS, "private_decode_tokens_per_s", NULL, "tokens/s", decode);
    add(b, OURS, "private_read_bytes_per_s", NULL, "bytes/s", b->own_limits.read_bytes_per_s);
    return 0;
}

/* Streams and the first token: the same for both sides. */
static int run_server(struct bench *b, enum side side, const struct server *server,
                      struct err *err) {
    double value = 0;
    for (size_t i = 0; i < N_COUNTS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", stream_counts[i]);
        const int rc =
            work_streams(server, stream_counts[i], &b->amount, b->n_vocab, &b->seed, &value, err);
        if (rc)
            return rc;
        add(b, side, "streams", key, "tokens/s", value);
    }
    const int rc = work_first(server, b->amount.prefill[1], b->n_vocab, &b->seed, &value, err);
    if (!rc)
        add(b, side, "ttft_ms", NULL, "ms", value);
    return rc;
}

static int run_shards(struct bench *b, uint32_t round, struct err *err) {
    for (uint32_t i = 1; i < b->n_services; i++) {
        const struct service *s = &b->services[i];
        double prefill, decode;
        round_say(b, "round %u of %u: %u card%s, %s", round, b->runs, s->cards,
                  s->cards == 1 ? "" : "s", s->split);
        const int rc = run_single(b, s, &prefill, &decode, err);
        if (rc)
            return rc;
        add_shard(b, s, prefill, decode);
    }
    return 0;
}

/* --- the peer's --- */

/* What went wrong with the peer is told at the end and does not end the bench; an interrupt does.
 */
static int leave_out(char reason[PEER_REASON], const struct err *err, struct err *out) {
    if (children_interrupted())
        return err_set(out, -EINTR, "interrupted");
    snprintf(reason, PEER_REASON, "%.255s", err->text);
    return 0;
}

static int peer_one_stream(struct bench *b, struct err *err) {
    double prefill[2], decode;
    struct err why = {{0}};
    if (b->peer.no_bench[0])
        return 0;
    if (peer_bench(&b->peer, &b->amount, prefill, &decode, &why))
        return leave_out(b->peer.no_bench, &why, err);
    for (int i = 0; i < 2; i++)
        add_prefill(b, PEER, b->amount.prefill[i], prefill[i]);
    add(b, PEER, "decode_tokens_per_s", NULL, "tokens/s", decode);
    return 0;
}

static int peer_many_streams(struct bench *b, struct err *err) {
    const struct server server = peer_server(&b->peer);
    struct err why = {{0}};
    if (b->peer.no_server[0])
        return 0;
    for (int warm = 0; warm < 2; warm++) {
        double ms = 0;
        if (!warm)
            forget_file(b->model);
        if (peer_start(&b->peer, &ms, &why))
            return leave_out(b->peer.no_server, &why, err);
        add(b, PEER, "ready_ms", warm ? "warm" : "cold", "ms", ms);
        if (!warm)
            peer_stop(&b->peer);
    }
    const int rc = run_server(b, PEER, &server, &why);
    if (!rc)
        add(b, PEER, "rss_bytes", NULL, "bytes", (double)child_rss(&b->peer.child));
    peer_stop(&b->peer);
    return rc ? leave_out(b->peer.no_server, &why, err) : 0;
}

/* --- all of it --- */

int round_run(struct bench *b, uint32_t round, struct err *err) {
    const struct server server = service_server(&b->services[0]);
    round_say(b, "round %u of %u: starts", round, b->runs);
    int rc = b->on_cards ? run_starts_on_cards(b, err) : run_starts(b, err);
    if (!rc) {
        round_say(b, "round %u of %u: one stream", round, b->runs);
        rc = run_one_stream(b, err);
    }
    if (!rc && !b->on_cards) {
        round_say(b, "round %u of %u: private weights", round, b->runs);
        rc = run_private(b, err);
    }
    if (!rc && b->against) {
        round_say(b, "round %u of %u: llama-bench", round, b->runs);
        rc = peer_one_stream(b, err);
    }
    if (!rc) {
        round_say(b, "round %u of %u: many streams", round, b->runs);
        rc = run_server(b, OURS, &server, err);
        if (!rc)
            add(b, OURS, "rss_bytes", NULL, "bytes", (double)child_rss(&b->services[0].child));
    }
    if (!rc && b->against) {
        round_say(b, "round %u of %u: llama-server", round, b->runs);
        rc = peer_many_streams(b, err);
    }
    return rc ? rc : run_shards(b, round, err);
}
