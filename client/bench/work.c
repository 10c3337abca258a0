/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/work.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/bench/child.h"
#include "octarc/error.h"

#define FIRST_TOKENS                                                                               \
    8 /* of an answer of which only the first counts: it may be no whole character */

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

char *work_request(uint32_t n_prompt, uint32_t n_predict, uint32_t n_vocab, uint64_t *seed) {
    cJSON *request = cJSON_CreateObject();
    cJSON *prompt = cJSON_AddArrayToObject(request, "prompt");
    for (uint32_t i = 0; i < n_prompt; i++)
        cJSON_AddItemToArray(prompt, cJSON_CreateNumber((double)(next_random(seed) % n_vocab)));
    cJSON_AddNumberToObject(request, "n_predict", n_predict);
    cJSON_AddNumberToObject(request, "temperature", 0);
    cJSON_AddTrueToObject(request, "ignore_eos");
    cJSON_AddFalseToObject(request, "cache_prompt");
    char *text = cJSON_PrintUnformatted(request);
    cJSON_Delete(request);
    return text;
}

/* Where they wait until all are there. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    enum { GATE_SHUT, GATE_OPEN, GATE_HOME } state; /* HOME: not all could come; do nothing */
};

/* One of those that ask at once. */
struct asker {
    const struct server *server;
    struct gate *gate;
    pthread_t thread;
    char *request; /* owned */
    struct err err;
    int rc;
};

static void *ask(void *arg) {
    struct asker *a = arg;
    double first;
    pthread_mutex_lock(&a->gate->mutex);
    while (a->gate->state == GATE_SHUT)
        pthread_cond_wait(&a->gate->moved, &a->gate->mutex);
    const bool open = a->gate->state == GATE_OPEN;
    pthread_mutex_unlock(&a->gate->mutex);
    if (open)
        a->rc = a->server->stream(a->server->user, a->request, &first, &a->err);
    return NULL;
}

/* Let all of them go and wait for the last; the seconds between. */
static double run_askers(struct asker *askers, uint32_t n, struct gate *gate, int state) {
    pthread_mutex_lock(&gate->mutex);
    gate->state = state;
    const double begin = clock_s();
    pthread_cond_broadcast(&gate->moved);
    pthread_mutex_unlock(&gate->mutex);
    for (uint32_t i = 0; i < n; i++)
        pthread_join(askers[i].thread, NULL);
    return clock_s() - begin;
}

int work_streams(const struct server *server, uint32_t n, const struct amount *amount,
                 uint32_t n_vocab, uint64_t *seed, double *tokens_per_s, struct err *err) {
    struct asker askers[STREAMS_MAX] = {{0}};
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, GATE_SHUT};
    uint32_t made = 0;
    int rc = 0;
    if (n > STREAMS_MAX)
        return err_set(err, -EINVAL, "%u streams; the most is %d", n, STREAMS_MAX);
    for (uint32_t i = 0; i < n && !rc; i++) {
        askers[i] = (struct asker){.server = server, .gate = &gate};
        askers[i].request =
            work_request(amount->stream_prompt, amount->stream_tokens, n_vocab, seed);
        if (!askers[i].request)
            rc = err_set(err, -ENOMEM, "no memory for a request");
    }
    for (; made < n && !rc; made += !rc)
        if (pthread_create(&askers[made].thread, NULL, ask, &askers[made]))
            rc = err_set(err, -EAGAIN, "no thread for a stream");
    const double seconds = run_askers(askers, made, &gate, rc ? GATE_HOME : GATE_OPEN);
    for (uint32_t i = 0; i < n; i++) {
        if (!rc && askers[i].rc)
            rc = err_set(err, askers[i].rc, "%s", askers[i].err.text);
        free(askers[i].request);
    }
    if (!rc)
        *tokens_per_s = n * (double)(amount->stream_prompt + amount->stream_tokens) / seconds;
    return rc;
}

int work_first(const struct server *server, uint32_t n, uint32_t n_vocab, uint64_t *seed,
               double *ms, struct err *err) {
    char *request = work_request(n, FIRST_TOKENS, n_vocab, seed);
    double first = 0;
    if (!request)
        return err_set(err, -ENOMEM, "no memory for a request");
    const double begin = clock_s();
    const int rc = server->stream(server->user, request, &first, err);
    free(request);
    if (!rc)
        *ms = (first - begin) * 1e3;
    return rc;
}
