/* SPDX-License-Identifier: Apache-2.0 */
/* bench: how fast the service is on this machine, as tokens a second and as a part of what the
 * machine can do. */
#include "client/bench/bench.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/util/available.h"
#include "octarc/error.h"

#define RUNS_DEFAULT  5
#define CONTEXT_MOST  1536u /* of a sequence: the longest prompt, its answer, and some room */
#define DEFAULT_MODEL "octarc/models/SmolLM2-135M-Instruct.Q4_1.gguf" /* of models/catalog */

static const struct amount whole = {{512, 1000}, 128, 16, 96, TRIES_MAX};
static const struct amount quick = {{64, 128}, 16, 16, 8, 1};

/* --- what is asked for --- */

static int default_model(char path[PATH_MAX], struct err *err) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache)
        snprintf(path, PATH_MAX, "%s/" DEFAULT_MODEL, cache);
    else
        snprintf(path, PATH_MAX, "%s/.cache/" DEFAULT_MODEL, home ? home : "");
    return access(path, R_OK) == 0
               ? 0
               : err_set(err, -ENOENT,
                         "no model is named and %s is not there; models/catalog/fetch gets it",
                         path);
}

static int find_model(struct bench *b, struct err *err) {
    if (b->cli->n_words == 0)
        return default_model(b->model, err);
    /* octarcd has another working folder. */
    if (!realpath(b->cli->words[0], b->model))
        return err_set(err, -errno, "%s: %s", b->cli->words[0], strerror(errno));
    return access(b->model, R_OK) ? err_set(err, -errno, "%s: %s", b->model, strerror(errno)) : 0;
}

static int find_octarcd(struct bench *b, struct err *err) {
    const char *own = getenv("OCTARCD");
    return child_find(own && *own ? own : "octarcd", b->options.octarcd, err);
}

/* An integer field of the options; CLI_OK or CLI_USAGE, said. */
static int read_count(const struct cli *cli, const char *name, uint32_t least, uint32_t most,
                      uint32_t *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(cli->fields, name);
    if (!item)
        return CLI_OK;
    if (item->valuedouble < least || item->valuedouble > most)
        return cli_fail(cli, CLI_USAGE, "--%s must be a number from %u to %u", name, least, most);
    *out = (uint32_t)item->valuedouble;
    return CLI_OK;
}

/* --- before the first round --- */

static double number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* A service with little room, which any model has, tells what the model is. */
static int inspect(struct bench *b, struct err *err) {
    struct service own;
    cJSON *answer;
    b->options.context = 1;
    int rc = service_start(&own, &b->options, b->on_cards ? 0 : 1, "auto", NULL, err);
    if (rc)
        return rc;
    rc = service_ask(&own, "models", NULL, &answer, err);
    if (!rc)
        rc = service_limits(&own, &b->limits, err);
    service_stop(&own);
    if (rc)
        return rc;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "data");
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(list, 0), "meta");
    const double trained = number(meta, "n_ctx_train"), n_vocab = number(meta, "n_vocab");
    cJSON_Delete(answer);
    if (trained < 64 || n_vocab < 2)
        return err_set(err, -EINVAL,
                       "a model with a context of %.0f tokens is too small to measure", trained);
    b->n_vocab = (uint32_t)n_vocab;
    b->options.context = trained < CONTEXT_MOST ? (uint32_t)trained : CONTEXT_MOST;
    b->options.threads = b->limits.threads;
    return 0;
}

/* A model with a small context gets shorter prompts, which the keys of the figures tell. */
static void fit_amount(struct bench *b) {
    struct amount *a = &b->amount;
    *a = b->quick ? quick : whole;
    const uint32_t most = b->options.context - 16;
    if (a->prefill[1] > most)
        a->prefill[1] = most;
    if (a->prefill[0] >= a->prefill[1])
        a->prefill[0] = a->prefill[1] / 2;
    if (a->decode + 17 > most)
        a->decode = most - 17;
    if (a->stream_prompt + a->stream_tokens > most)
        a->stream_tokens = most - a->stream_prompt;
}

/* Every service holds the weights once more. */
static bool fits(const struct bench *b, uint32_t services) {
    struct stat st;
    return stat(b->model, &st) || (double)st.st_size * services < (double)memory_available() / 2;
}

static int warm_up(struct bench *b, const struct service *s, struct err *err) {
    double ignored;
    return service_decode(s, 4, b->n_vocab, &b->seed, &ignored, err);
}

int bench_start_first(struct bench *b, double *ready_ms, struct err *err) {
    const int rc = service_start(&b->services[0], &b->options, b->on_cards ? 0 : 1,
                                 b->on_cards ? "auto" : "layer", ready_ms, err);
    return rc ? rc : warm_up(b, &b->services[0], err);
}

static int start_services(struct bench *b, struct err *err) {
    static const uint32_t cards[] = {1, 2, 4, 8};
    static const char *const splits[] = {"layer", "tensor"};
    uint32_t wanted = SHARDS_MAX;
    if (!fits(b, SHARDS_MAX + 1)) {
        snprintf(b->no_sharding, sizeof b->no_sharding,
                 "%d services at once need more memory than is free", SHARDS_MAX);
        wanted = 1;
    }
    if (b->on_cards) {
        snprintf(b->no_sharding, sizeof b->no_sharding,
                 "the cards hold the weights of one service at a time");
        wanted = 1;
    }
    round_say(b, "starting 1 of %u services", wanted);
    int rc = bench_start_first(b, NULL, err);
    b->n_services = 1;
    for (uint32_t i = 1; i < wanted && !rc; i++) {
        struct service *s = &b->services[i];
        round_say(b, "starting %u of %u services", i + 1, wanted);
        rc = service_start(s, &b->options, cards[i / 2], splits[i % 2], NULL, err);
        if (rc)
            return rc;
        b->n_services++;
        rc = warm_up(b, s, err);
    }
    return rc;
}

static int run_rounds(struct bench *b, struct err *err) {
    int rc = inspect(b, err);
    if (rc)
        return rc;
    fit_amount(b);
    b->peer.folder = b->options.folder;
    b->peer.model = b->model;
    b->peer.threads = b->options.threads;
    b->peer.context = b->options.context;
    rc = start_services(b, err);
    for (uint32_t round = 1; round <= b->runs && !rc; round++)
        rc = round_run(b, round, err);
    round_say(b, NULL);
    return rc;
}

/* --- the verb --- */

static int prepare(struct bench *b, struct err *err) {
    int rc = find_model(b, err);
    if (!rc)
        rc = find_octarcd(b, err);
    if (!rc && b->against)
        rc = peer_find(&b->peer, b->cli->against, err);
    if (!rc)
        rc = folder_make(b->options.folder, err);
    if (!rc)
        rc = service_configure(&b->options, err);
    b->options.model = b->model;
    return rc;
}

static int measure(struct cli *cli) {
    struct err err = {{0}};
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        return cli_fail(cli, CLI_FAILED, "no memory");
    b->cli = cli;
    b->quick = cli->quick;
    b->against = cli->against;
    b->options.backend = cli->backend;
    b->on_cards = cli->backend && !strcmp(cli->backend, "level_zero");
    b->runs = b->quick ? 1 : RUNS_DEFAULT;
    b->seed = (uint64_t)(clock_s() * 1e9) | 1;
    int status = read_count(cli, "runs", 1, RUNS_MAX, &b->runs);
    if (!status)
        status = read_count(cli, "threads", 1, 1024, &b->options.threads);
    if (!status) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        children_catch_signals();
        int rc = prepare(b, &err);
        if (!rc)
            rc = run_rounds(b, &err);
        for (uint32_t i = 0; i < SHARDS_MAX; i++)
            service_stop(&b->services[i]);
        folder_remove(b->options.folder);
        curl_global_cleanup();
        status = children_interrupted() ? CLI_INTERRUPTED
                 : rc                   ? cli_fail(cli, CLI_FAILED, "%s", err.text)
                                        : report_print(b);
    }
    free(b);
    return status;
}

static int self_test(struct cli *cli) {
    if (cli->n_words || cli->quick || cli->against || cli->backend || cli->fields->child)
        return cli_fail(cli, CLI_USAGE, "--selftest measures no model: --config and --json alone");
    return cli_become_octarcd(cli, "--selftest", NULL);
}

int verb_bench(struct cli *cli) {
    if (cli->selftest)
        return self_test(cli);
    if (cli->n_passed)
        return cli_fail(cli, CLI_USAGE, "--config belongs to --selftest");
    return measure(cli);
}
