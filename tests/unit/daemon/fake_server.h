/* SPDX-License-Identifier: Apache-2.0 */
/* fake_server.h - the real server and protocol on a thread, around a fake host, and a client that
 * blocks. */
#ifndef OCTARC_TESTS_FAKE_SERVER_H
#define OCTARC_TESTS_FAKE_SERVER_H

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/socket/server.h"
#include "tests/check.h"
#include "tests/unit/daemon/fake_host.h"

struct fake_server {
    uv_loop_t loop;
    struct fake_host fake;
    struct protocol_host host;
    struct protocol *protocol;
    struct server *server;
    struct server_limits limits;
    bool user_only;
    uv_async_t stop;
    struct sockaddr_un address;
    pthread_t thread;
};

static void fake_closed(void *user) {
    struct fake_server *f = user;
    protocol_destroy(f->protocol);
    uv_close((uv_handle_t *)&f->fake.scheduler.timer, NULL);
    uv_close((uv_handle_t *)&f->stop, NULL);
}
static void fake_stop(uv_async_t *async) {
    struct fake_server *f = async->data;
    server_close(f->server, 100, fake_closed, f);
}
static void *fake_serve(void *arg) {
    struct fake_server *f = arg;
    uv_run(&f->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* Fills what a test may change before fake_server_start(). */
static void fake_server_init(struct fake_server *f) {
    memset(f, 0, sizeof *f);
    CHECK_EQ(uv_loop_init(&f->loop), 0);
    fake_host_init(&f->fake, &f->loop, &f->host);
    server_limits_default(&f->limits);
}

static void fake_server_start(struct fake_server *f) {
    struct err err = {{0}};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    f->address.sun_family = AF_UNIX; /* abstract: no file to clean up */
    snprintf(f->address.sun_path + 1, 64, "octarc-test-%d", (int)getpid());
    CHECK_EQ(bind(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
    CHECK_EQ(listen(fd, 1024), 0);
    CHECK_EQ(protocol_create(&f->protocol, &f->host), 0);
    CHECK_EQ(server_create(&f->server, &f->loop, f->protocol, &f->limits, &err), 0);
    CHECK_EQ(server_listen(f->server, fd, !f->user_only, &err), 0);
    f->stop.data = f;
    uv_async_init(&f->loop, &f->stop, fake_stop);
    CHECK_EQ(pthread_create(&f->thread, NULL, fake_serve, f), 0);
}

static void fake_server_stop(struct fake_server *f) {
    uv_async_send(&f->stop);
    pthread_join(f->thread, NULL);
    CHECK_EQ(uv_loop_close(&f->loop), 0);
}

static int fake_connect(const struct fake_server *f) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(fd, (const struct sockaddr *)&f->address, sizeof f->address), 0);
    return fd;
}

__attribute__((unused)) static void put(int fd, const char *text) {
    const size_t n = strlen(text);
    CHECK_EQ(send(fd, text, n, MSG_NOSIGNAL), n);
}

/* How many times longer than said is waited for what must come: nothing is slower for it, and a
 * machine that is busy with other things is no failure. */
#define FAKE_PATIENCE 30

/* Read until `until` (or the end) has come, at most about ms; the text is the caller's. */
__attribute__((unused)) static char *get(int fd, const char *until, int ms) {
    struct buffer in = {0};
    const uint64_t deadline = uv_hrtime() / 1000000 + (uint64_t)ms * FAKE_PATIENCE;
    size_t seen = 0;
    for (;;) {
        const int64_t left = (int64_t)deadline - (int64_t)(uv_hrtime() / 1000000);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            break;
        buffer_reserve(&in, 65537);
        const ssize_t n = recv(fd, in.bytes + in.n, 65536, 0);
        if (n <= 0)
            break;
        in.n += (size_t)n;
        in.bytes[in.n] = 0;
        /* Only what is new is looked at, and as much before it as a part of `until` may be. */
        if (until && strstr(in.bytes + seen, until))
            break;
        seen = until && in.n > strlen(until) ? in.n - strlen(until) : 0;
    }
    return in.bytes ? in.bytes : strdup("");
}

/* Whether the connection ends before nothing came of it for ms. */
static bool ends_within(int fd, int ms) {
    char byte[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (poll(&p, 1, ms) <= 0)
            return false;
        if (recv(fd, byte, sizeof byte, 0) <= 0)
            return true;
    }
}

__attribute__((unused)) static bool closes(int fd, int ms) {
    return ends_within(fd, ms * FAKE_PATIENCE);
}

__attribute__((unused)) static bool stays_open(int fd, int ms) {
    return !ends_within(fd, ms);
}

/* One HTTP request on a connection of its own; the whole reply. */
__attribute__((unused)) static char *http(const struct fake_server *f, const char *verb,
                                          const char *path, const char *body) {
    struct buffer request = {0};
    const int fd = fake_connect(f);
    buffer_printf(&request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", verb, path);
    if (body)
        buffer_printf(&request, "Content-Length: %zu\r\n", strlen(body));
    buffer_printf(&request, "\r\n%s", body ? body : "");
    CHECK_EQ(send(fd, request.bytes, request.n, MSG_NOSIGNAL), request.n);
    buffer_finish(&request);
    char *reply = get(fd, NULL, 5000);
    close(fd);
    return reply;
}

/* One JSON-RPC line on a connection of its own; everything up to the line with "id": 1. */
__attribute__((unused)) static char *rpc(const struct fake_server *f, const char *method,
                                         const char *params) {
    struct buffer line = {0};
    const int fd = fake_connect(f);
    buffer_printf(&line, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"%s\"%s%s}\n", method,
                  params ? ", \"params\": " : "", params ? params : "");
    CHECK_EQ(send(fd, line.bytes, line.n, MSG_NOSIGNAL), line.n);
    buffer_finish(&line);
    shutdown(fd, SHUT_WR);
    char *reply = get(fd, NULL, 5000);
    close(fd);
    return reply;
}

#define HAS(text, part)                                                                            \
    do {                                                                                           \
        if (!strstr(text, part)) {                                                                 \
            printf("# %s:%d: no %s in:\n# %.3000s\n", __FILE__, __LINE__, part, text);             \
            fflush(stdout);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define HAS_NOT(text, part)                                                                        \
    do {                                                                                           \
        if (strstr(text, part)) {                                                                  \
            printf("# %s:%d: %s in:\n# %.3000s\n", __FILE__, __LINE__, part, text);                \
            fflush(stdout);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
