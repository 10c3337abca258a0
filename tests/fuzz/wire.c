/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a client, in pieces, into the real server around a fake host.
 *
 * The first byte chooses how the rest is cut, whether a model is there, and how the client ends: it
 * half-closes and reads to the end, or leaves in the middle.  What comes back must be lines of JSON
 * or HTTP, and afterwards nothing may be left over. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/socket/server.h"
#include "daemon/util/json.h"
#include "tests/unit/daemon/fake_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static struct {
    uv_loop_t loop;
    struct fake_host fake;
    struct protocol *protocol;
    struct server *server;
} f;

static void start(void) {
    struct protocol_host host;
    struct server_limits limits;
    MUST(!uv_loop_init(&f.loop));
    fake_host_init(&f.fake, &f.loop, &host);
    f.fake.scheduler.ms = 0; /* tokens as fast as the loop turns */
    host.max_request_bytes = 4096;
    server_limits_default(&limits);
    MUST(!protocol_create(&f.protocol, &host));
    MUST(!server_create(&f.server, &f.loop, f.protocol, &limits, NULL));
}

static void turn(void) {
    /* The timers of the server would let the loop sleep: it must only do what is there. */
    uv_run(&f.loop, UV_RUN_NOWAIT);
}

/* Take what the server said; false at the end of the stream. */
static bool drain(int fd, struct buffer *said) {
    char bytes[16384];
    for (;;) {
        const ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        if (said->n < 1u << 20)
            buffer_append(said, bytes, (size_t)n);
    }
}

static void judge(const struct buffer *said) {
    size_t at = 0;
    if (said->n == 0 || (said->bytes[0] != '{' && said->bytes[0] != '[')) {
        MUST(said->n < 5 || !memcmp(said->bytes, "HTTP/", 5));
        return;
    }
    for (;;) {
        const char *from = said->bytes + at, *end = memchr(from, '\n', said->n - at);
        if (!end)
            return;
        MUST(!json_check(from, (size_t)(end - from), NULL));
        at = (size_t)(end - said->bytes) + 1;
        if (at == said->n)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct server_counts counts;
    struct buffer said = {0};
    int pair[2];
    if (size < 1 || size > 16384)
        return 0;
    if (!f.server)
        start();
    const size_t step = 1u << (data[0] & 7) * 2;
    const bool leave = data[0] & 8;
    f.fake.no_model = data[0] & 32;
    f.fake.state =
        f.fake.no_model ? data[0] & 64 ? SERVICE_LOADING : SERVICE_NO_MODEL : SERVICE_READY;
    MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    MUST(!server_add(f.server, pair[1], data[0] & 16, NULL));
    bool open = true;
    for (size_t at = 1; at < size && open;) {
        const size_t n = size - at < step ? size - at : step;
        const ssize_t sent = send(pair[0], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            break;
        at += sent > 0 ? (size_t)sent : 0;
        turn();
        open = drain(pair[0], &said);
    }
    if (!leave) {
        shutdown(pair[0], SHUT_WR);
        for (int i = 0; i < 40 && open; i++) {
            turn();
            open = drain(pair[0], &said);
        }
        judge(&said);
    }
    close(pair[0]);
    for (int i = 0; i < 200; i++) {
        turn();
        server_counts(f.server, &counts);
        if (!counts.connections && !f.fake.scheduler.requests)
            break;
        usleep(i > 50 ? 1000 : 0); /* a thread may still tokenize */
    }
    MUST(!counts.connections && !counts.http && !counts.lines);
    MUST(!f.fake.scheduler.requests);
    buffer_finish(&said);
    return 0;
}
