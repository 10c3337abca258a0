/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/peer.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/bench/figures.h"
#include "octarc/error.h"

#define BENCH_S    1800.0 /* of one llama-bench */
#define REQUEST_S  1800L
#define START_S    300.0
#define POLL_MS    2
#define REPORT_MAX (1u << 20) /* bytes of llama-bench's report */

static void look_for(const char *folder, const char *name, char path[PATH_MAX], char *reason) {
    struct err err = {{0}};
    char wanted[PATH_MAX];
    reason[0] = '\0';
    if (snprintf(wanted, sizeof wanted, "%s/%s", folder, name) >= (int)sizeof wanted ||
        child_find(wanted, path, &err))
        snprintf(reason, PEER_REASON, "there is no %s in %.180s", name, folder);
}

int peer_find(struct peer *peer, const char *folder, struct err *err) {
    look_for(folder, "llama-bench", peer->bench, peer->no_bench);
    look_for(folder, "llama-server", peer->server, peer->no_server);
    if (peer->no_bench[0] && peer->no_server[0])
        return err_set(err, -ENOENT, "%s holds neither llama-bench nor llama-server", folder);
    return 0;
}

/* --- llama-bench --- */

static char *read_report(const char *path) {
    FILE *f = fopen(path, "re");
    char *text = calloc(1, REPORT_MAX + 1);
    if (f && text)
        text[fread(text, 1, REPORT_MAX, f)] = '\0';
    if (f)
        fclose(f);
    return text;
}

static double number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* The median of a test's samples; 0: it has none. */
static double speed_of(const cJSON *test) {
    double samples[TRIES_MAX];
    size_t n = 0;
    const cJSON *sample;
    cJSON_ArrayForEach(sample, cJSON_GetObjectItemCaseSensitive(test, "samples_ts")) {
        if (n < TRIES_MAX && cJSON_IsNumber(sample))
            samples[n++] = sample->valuedouble;
    }
    return n ? range_of(samples, n).median : 0;
}

/* Its report is a list, an object a test. */
static int take_report(const char *path, const struct amount *amount, double prefill[2],
                       double *decode, struct err *err) {
    char *text = read_report(path);
    cJSON *report = text ? cJSON_Parse(text) : NULL;
    const cJSON *test;
    prefill[0] = prefill[1] = *decode = 0;
    cJSON_ArrayForEach(test, report) {
        const double n_prompt = number(test, "n_prompt"), n_gen = number(test, "n_gen");
        for (int i = 0; i < 2; i++)
            if (n_prompt == amount->prefill[i] && n_gen == 0)
                prefill[i] = speed_of(test);
        if (n_prompt == 0 && n_gen == amount->decode)
            *decode = speed_of(test);
    }
    cJSON_Delete(report);
    free(text);
    if (prefill[0] > 0 && prefill[1] > 0 && *decode > 0)
        return 0;
    return err_set(err, -EPROTO, "llama-bench's report cannot be read");
}

int peer_bench(struct peer *peer, const struct amount *amount, double prefill[2], double *decode,
               struct err *err) {
    char threads[16], prompts[32], made[16], tries[16], out[PATH_MAX + 32], log[PATH_MAX + 32];
    const char *argv[] = {peer->bench, "-m", peer->model, "-t",  threads, "-p",   prompts,
                          "-n",        made, "-r",        tries, "-o",    "json", NULL};
    struct child child;
    snprintf(threads, sizeof threads, "%u", peer->threads);
    snprintf(prompts, sizeof prompts, "%u,%u", amount->prefill[0], amount->prefill[1]);
    snprintf(made, sizeof made, "%u", amount->decode);
    snprintf(tries, sizeof tries, "%u", amount->tries);
    snprintf(out, sizeof out, "%s/llama-bench.json", peer->folder);
    snprintf(log, sizeof log, "%s/llama-bench.log", peer->folder);
    int rc = child_start(&child, (char *const *)argv, out, log, err);
    if (!rc)
        rc = child_wait(&child, BENCH_S, err);
    return rc ? rc : take_report(out, amount, prefill, decode, err);
}

/* --- llama-server --- */

/* A port that is free now; another program may take it, and then the start fails. */
static int free_port(uint16_t *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 || bind(fd, (struct sockaddr *)&address, size) ||
                     getsockname(fd, (struct sockaddr *)&address, &size)
                 ? -errno
                 : 0;
    if (fd >= 0)
        close(fd);
    *port = ntohs(address.sin_port);
    return rc;
}

/* A stream that broke off in the middle has the status 200 too: only this says that it is whole. */
static const char last_mark[] = "\"stop\":true";

struct reply {
    double first_s; /* clock at the first byte of the body; 0: none came */
    size_t matched; /* bytes of last_mark that came just now; all of them: it came */
};

static size_t take_reply(char *bytes, size_t size, size_t n, void *user) {
    struct reply *reply = user;
    if (!reply->first_s)
        reply->first_s = clock_s();
    for (size_t i = 0; i < size * n && last_mark[reply->matched]; i++)
        if (bytes[i] == last_mark[reply->matched])
            reply->matched++;
        else
            reply->matched = bytes[i] == last_mark[0];
    return size * n;
}

/* GET, or POST a body.  0, or -EIO: it did not answer with 200. */
static int request(const struct peer *peer, const char *path, const char *body, struct reply *reply,
                   struct err *err) {
    char url[128], why[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURL *curl = curl_easy_init();
    if (!curl)
        return err_set(err, -ENOMEM, "no memory for a request");
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", peer->port, path);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, REQUEST_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_reply);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (body)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    const CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (code == CURLE_OK && status == 200)
        return 0;
    if (code == CURLE_OK)
        return err_set(err, -EIO, "llama-server answered %s with %ld", path, status);
    return err_set(err, -EIO, "llama-server: %s", why[0] ? why : curl_easy_strerror(code));
}

static int wait_healthy(struct peer *peer, struct err *err) {
    const double end = clock_s() + START_S;
    struct reply reply = {0};
    int status;
    while (request(peer, "/health", NULL, &reply, err)) {
        if (children_interrupted())
            return err_set(err, -EINTR, "interrupted");
        if (child_ended(&peer->child, &status))
            return child_fail(&peer->child, status, err);
        if (clock_s() > end)
            return err_set(err, -ETIMEDOUT, "llama-server was not ready within %.0f s", START_S);
        sleep_ms(POLL_MS);
    }
    return 0;
}

int peer_start(struct peer *peer, double *ready_ms, struct err *err) {
    char threads[16], context[16], slots[16], port[16], out[PATH_MAX + 32], log[PATH_MAX + 32];
    const char *argv[] = {peer->server, "-m",    peer->model, "-t",        threads,  "-np", slots,
                          "-c",         context, "--host",    "127.0.0.1", "--port", port,  NULL};
    int rc = free_port(&peer->port);
    if (rc < 0)
        return err_set(err, rc, "no port for llama-server: %s", strerror(-rc));
    snprintf(threads, sizeof threads, "%u", peer->threads);
    snprintf(slots, sizeof slots, "%d", STREAMS_MAX);
    snprintf(context, sizeof context, "%u", peer->context * STREAMS_MAX); /* shared by the slots */
    snprintf(port, sizeof port, "%u", peer->port);
    snprintf(out, sizeof out, "%s/llama-server.out", peer->folder);
    snprintf(log, sizeof log, "%s/llama-server.log", peer->folder);
    const double begin = clock_s();
    rc = child_start(&peer->child, (char *const *)argv, out, log, err);
    if (!rc)
        rc = wait_healthy(peer, err);
    if (rc)
        peer_stop(peer);
    else
        *ready_ms = (clock_s() - begin) * 1e3;
    return rc;
}

void peer_stop(struct peer *peer) {
    child_stop(&peer->child);
}

static int stream(void *user, const char *body, double *first_s, struct err *err) {
    char request_text[1 << 16];
    const struct peer *peer = user;
    struct reply reply = {0};
    /* work.h's request is an object: one member more, before its end. */
    const int n = snprintf(request_text, sizeof request_text, "%.*s,\"stream\":true}",
                           (int)strlen(body) - 1, body);
    if (n < 0 || n >= (int)sizeof request_text)
        return err_set(err, -E2BIG, "a request of %zu bytes", strlen(body));
    const int rc = request(peer, "/completion", request_text, &reply, err);
    *first_s = reply.first_s;
    if (!rc && last_mark[reply.matched])
        return err_set(err, -EIO, "llama-server broke off an answer");
    return rc;
}

struct server peer_server(struct peer *peer) {
    return (struct server){peer, stream};
}
