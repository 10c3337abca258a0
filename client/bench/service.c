/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "octarc.h"
#include "octarc/error.h"

#define START_S       300.0 /* until a model is served */
#define POLL_MS       2
#define SEQUENCES     "16" /* STREAMS_MAX */
#define DECODE_PROMPT 16

/* Nobody waits for what a bench leaves behind. */
static const char config_text[] = "[service]\ndrain_timeout = 0\nno_card_wait = 1\n"
                                  "log_level = warning\n";

int service_configure(struct service_options *o, struct err *err) {
    if (snprintf(o->config, sizeof o->config, "%s/octarc.conf", o->folder) >= (int)sizeof o->config)
        return err_set(err, -ENAMETOOLONG, "%.100s… is too long", o->folder);
    FILE *f = fopen(o->config, "we");
    if (!f || fputs(config_text, f) < 0 || fclose(f))
        return err_set(err, -EIO, "cannot write %s: %s", o->config, strerror(errno));
    return 0;
}

/* --- asking --- */

static int told(const struct service *s, int rc, const struct octarc_error *error,
                struct err *err) {
    if (children_interrupted())
        return err_set(err, -EINTR, "interrupted");
    char cards[16] = "all";
    if (s->cards)
        snprintf(cards, sizeof cards, "%u", s->cards);
    return err_set(err, rc, "octarcd with %s card%s, %s: %s", cards, s->cards == 1 ? "" : "s",
                   s->split, error->message);
}

int service_ask(const struct service *s, const char *method, const char *params, cJSON **answer,
                struct err *err) {
    struct octarc_error error;
    struct octarc *conn;
    char *text = NULL;
    int rc = octarc_connect(&conn, s->socket, &error);
    if (rc < 0)
        return told(s, rc, &error, err);
    rc = octarc_call(conn, method, params, &text, &error);
    octarc_close(conn);
    if (rc < 0)
        return told(s, rc, &error, err);
    *answer = cJSON_Parse(text);
    free(text);
    return *answer ? 0 : err_set(err, -EPROTO, "the answer to %s cannot be read", method);
}

static double number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* Below 0 where it is null. */
static double known(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static const char *string(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

int service_limits(const struct service *s, struct limits *limits, struct err *err) {
    cJSON *answer;
    const int rc = service_ask(s, "measure", NULL, &answer, err);
    if (rc < 0)
        return rc;
    *limits = (struct limits){.read_bytes_per_s = number(answer, "read_bytes_per_s"),
                              .int8_ops_per_s = number(answer, "int8_ops_per_s"),
                              .token_bytes = number(answer, "token_bytes"),
                              .layer_params = number(answer, "layer_params"),
                              .weights_bytes = number(answer, "weights_bytes"),
                              .huge_bytes = known(answer, "huge_bytes"),
                              .threads = (uint32_t)number(answer, "threads")};
    snprintf(limits->isa, sizeof limits->isa, "%s", string(answer, "isa"));
    cJSON_Delete(answer);
    return 0;
}

/* --- starting and stopping --- */

/* 1: it serves; 0: not yet; else it never will. */
static int look(struct service *s, struct err *err) {
    cJSON *answer;
    struct err ignored;
    int status;
    if (children_interrupted())
        return err_set(err, -EINTR, "interrupted");
    if (child_ended(&s->child, &status))
        return child_fail(&s->child, status, err);
    if (service_ask(s, "status", NULL, &answer, &ignored) < 0)
        return 0;
    const int ready = !strcmp(string(answer, "state"), "ready");
    cJSON_Delete(answer);
    return ready;
}

static int wait_ready(struct service *s, struct err *err) {
    const double end = clock_s() + START_S;
    int rc;
    while (!(rc = look(s, err))) {
        if (clock_s() > end)
            return err_set(err, -ETIMEDOUT, "octarcd served no model within %.0f s", START_S);
        sleep_ms(POLL_MS);
    }
    return rc < 0 ? rc : 0;
}

int service_start(struct service *s, const struct service_options *o, uint32_t cards,
                  const char *split, double *ready_ms, struct err *err) {
    char n_cards[16], threads[16], context[16], out[PATH_MAX + 64], log[PATH_MAX + 64];
    const char *argv[24] = {o->octarcd,
                            "--config",
                            o->config,
                            "--listen",
                            s->socket,
                            "--model",
                            o->model,
                            "--split",
                            split,
                            "--threads",
                            threads,
                            "--max-sequences",
                            SEQUENCES,
                            "--context",
                            context,
                            "--weights",
                            o->weights ? o->weights : "shared"};
    size_t n = 0;
    while (argv[n])
        n++;
    if (cards) {
        argv[n++] = "--cards";
        argv[n++] = n_cards;
    }
    if (o->backend) {
        argv[n++] = "--backend";
        argv[n++] = o->backend;
    }
    *s = (struct service){.cards = cards, .split = split};
    snprintf(n_cards, sizeof n_cards, "%u", cards);
    snprintf(threads, sizeof threads, "%u", o->threads);
    snprintf(context, sizeof context, "%u", o->context);
    snprintf(out, sizeof out, "%s/%u%s.out", o->folder, cards, split);
    snprintf(log, sizeof log, "%s/%u%s.log", o->folder, cards, split);
    if (snprintf(s->socket, sizeof s->socket, "%s/%u%s", o->folder, cards, split) >=
        (int)sizeof s->socket)
        return err_set(err, -ENAMETOOLONG, "%.100s… is too long", o->folder);
    const double begin = clock_s();
    int rc = child_start(&s->child, (char *const *)argv, out, log, err);
    if (!rc)
        rc = wait_ready(s, err);
    if (rc)
        service_stop(s);
    else if (ready_ms)
        *ready_ms = (clock_s() - begin) * 1e3;
    return rc;
}

void service_stop(struct service *s) {
    child_stop(&s->child);
    if (s->socket[0])
        unlink(s->socket); /* of one that had to be killed: the next finds it in the way */
}

/* --- work --- */

/* One completion; its timings. */
static int complete(const struct service *s, uint32_t n_prompt, uint32_t n_predict,
                    uint32_t n_vocab, uint64_t *seed, cJSON **answer, struct err *err) {
    char *request = work_request(n_prompt, n_predict, n_vocab, seed);
    if (!request)
        return err_set(err, -ENOMEM, "no memory for a request");
    const int rc = service_ask(s, "completion", request, answer, err);
    free(request);
    return rc;
}

int service_prefill(const struct service *s, uint32_t n, uint32_t n_vocab, uint64_t *seed,
                    double *tokens_per_s, struct err *err) {
    cJSON *answer;
    const int rc = complete(s, n, 1, n_vocab, seed, &answer, err);
    if (rc < 0)
        return rc;
    *tokens_per_s =
        number(cJSON_GetObjectItemCaseSensitive(answer, "timings"), "prompt_per_second");
    cJSON_Delete(answer);
    return 0;
}

int service_decode(const struct service *s, uint32_t n, uint32_t n_vocab, uint64_t *seed,
                   double *tokens_per_s, struct err *err) {
    cJSON *answer;
    const int rc = complete(s, DECODE_PROMPT, n + 1, n_vocab, seed, &answer, err);
    if (rc < 0)
        return rc;
    const cJSON *timings = cJSON_GetObjectItemCaseSensitive(answer, "timings");
    const double made = number(timings, "predicted_n"), ms = number(timings, "predicted_ms");
    *tokens_per_s = made > 1 && ms > 0 ? (made - 1) * 1000 / ms : 0;
    cJSON_Delete(answer);
    return 0;
}

static int note_first(void *user, const char *chunk) {
    double *first = user;
    (void)chunk;
    if (!*first)
        *first = clock_s();
    return 0;
}

static int stream(void *user, const char *request, double *first_s, struct err *err) {
    const struct service *s = user;
    struct octarc_error error;
    struct octarc *conn;
    *first_s = 0;
    int rc = octarc_connect(&conn, s->socket, &error);
    if (rc < 0)
        return told(s, rc, &error, err);
    rc = octarc_stream(conn, "completion", request, note_first, first_s, &error);
    octarc_close(conn);
    return rc < 0 ? told(s, rc, &error, err) : 0;
}

struct server service_server(struct service *s) {
    return (struct server){s, stream};
}
