/* SPDX-License-Identifier: Apache-2.0 */
/* Connections and their limits: the real server on a thread, clients that misbehave. */
#include <sys/resource.h>

#include "tests/unit/daemon/fake_server.h"

static struct fake_server f;

#define STREAM_BODY(prompt)                                                                        \
    "{\"prompt\": \"" prompt "\", \"stream\": true, \"max_tokens\": 1000000}"

#define NEVER_MS 3600000u /* no test waits so long */

static void short_limits(void) {
    fake_server_init(&f);
    f.limits.header_timeout_ms = 200;
    f.limits.body_timeout_ms = 300;
    f.limits.idle_timeout_ms = 400;
    f.limits.output_timeout_ms = 300;
    f.limits.keep_alive_ms = 100;
}

static void post(int fd, const char *path, const char *body) {
    struct buffer out = {0};
    buffer_printf(&out, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", path,
                  strlen(body), body);
    CHECK_EQ(send(fd, out.bytes, out.n, MSG_NOSIGNAL), out.n);
    buffer_finish(&out);
}

/* Until the scheduler was told that `n` requests are not wanted any more. */
static bool abandoned(unsigned n) {
    for (int ms = 3000 * FAKE_PATIENCE; ms > 0 && f.fake.scheduler.abandoned < n; ms -= 5)
        usleep(5000);
    return f.fake.scheduler.abandoned >= n;
}

static bool submitted(unsigned n) {
    for (int ms = 3000 * FAKE_PATIENCE; ms > 0 && f.fake.scheduler.submitted < n; ms -= 5)
        usleep(5000);
    return f.fake.scheduler.submitted >= n;
}

/* Whatever became of them. */
static bool over(unsigned n) {
    const struct scheduler *s = &f.fake.scheduler;
    for (int ms = 3000 * FAKE_PATIENCE; ms > 0 && s->ended + s->abandoned < n; ms -= 5)
        usleep(5000);
    return s->ended + s->abandoned >= n;
}

static void expect(char *reply, const char *a, const char *b) {
    HAS(reply, a);
    if (b)
        HAS(reply, b);
    free(reply);
}

static void a_connection_is_kept_and_requests_may_be_pipelined(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    for (int i = 0; i < 50; i++) {
        put(fd, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        expect(get(fd, "}", 2000), "HTTP/1.1 200", NULL);
    }
    put(fd,
        "GET /health HTTP/1.1\r\nHost: any.thing\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(get(fd, "version\":", 2000), "\"ok\"", NULL);
    post(fd, "/v1/completions", STREAM_BODY("x"));
    expect(get(fd, "[DONE]", 2000), "\"text\": \"a\"", NULL);
    put(fd, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(get(fd, "version\":", 2000), "HTTP/1.1 200", NULL);
    close(fd);
    fake_server_stop(&f);
}

static void another_first_byte_is_refused(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    put(fd, "\x16\x03\x01");
    expect(get(fd, NULL, 2000), "\"name\": \"bad_request\"", "begins with");
    close(fd);
    fake_server_stop(&f);
}

static void a_client_that_drips_is_cut(void) {
    short_limits();
    fake_server_start(&f);
    static const char *const begins[] = {"G", "GET /version HTTP/1.1\r\nHost",
                                         ("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: "
                                          "999\r\n\r\n{"),
                                         "{\"jsonrpc\": "};
    for (size_t i = 0; i < 4; i++) {
        const int fd = fake_connect(&f);
        bool cut = false;
        put(fd, begins[i]);
        for (int k = 0; k < 50 * FAKE_PATIENCE && !cut; k++) {
            usleep(20000);
            cut = send(fd, "a", 1, MSG_NOSIGNAL) < 0;
        }
        CHECK(cut);
        close(fd);
    }
    const int fd = fake_connect(&f); /* says nothing at all */
    CHECK(closes(fd, 2000));
    close(fd);
    fake_server_stop(&f);
}

static void a_slow_second_request_has_the_time_of_its_header(void) {
    short_limits();
    f.limits.idle_timeout_ms = NEVER_MS;
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    put(fd, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    free(get(fd, "}", 2000));
    usleep(50000); /* idle */
    put(fd, "GET /v");
    CHECK(closes(fd, 2000));
    close(fd);
    fake_server_stop(&f);
}

static void an_idle_connection_is_closed_later(void) {
    short_limits();
    f.limits.idle_timeout_ms = 2000; /* many times what a busy machine may hold a request up */
    fake_server_start(&f);
    const int a = fake_connect(&f), b = fake_connect(&f);
    put(a, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    put(b, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"version\"}\n");
    free(get(a, "}", 2000));
    free(get(b, "}", 2000));
    usleep(250000);
    put(a, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"); /* still there */
    expect(get(a, "}", 2000), " 200 ", NULL);
    CHECK(closes(a, 2000));
    CHECK(closes(b, 2000));
    close(a);
    close(b);
    fake_server_stop(&f);
}

static void a_waiting_stream_says_that_it_lives_and_is_not_cut(void) {
    short_limits();
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    post(fd, "/v1/completions", STREAM_BODY("hang"));
    expect(get(fd, ": keep-alive\n\n", 2000), "text/event-stream", ": keep-alive\n\n");
    for (int i = 0; i < 10; i++) /* longer in all than any of the limits */
        expect(get(fd, ": keep-alive\n\n", 2000), ": keep-alive\n\n", NULL);
    CHECK(stays_open(fd, 50));
    close(fd);
    CHECK(abandoned(1));
    fake_server_stop(&f);
}

/* At once: there is nothing else that would find it out. */
static void a_client_that_leaves_cancels_its_requests(void) {
    fake_server_init(&f);
    f.limits.keep_alive_ms = f.limits.output_timeout_ms = NEVER_MS;
    fake_server_start(&f);
    static const char *const bodies[] = {"{\"prompt\": \"hang\"}", STREAM_BODY("hang"),
                                         STREAM_BODY("flood")};
    unsigned n = 0;
    for (size_t i = 0; i < 3; i++) {
        const int fd = fake_connect(&f);
        post(fd, "/v1/completions", bodies[i]);
        CHECK(submitted(++n));
        usleep(20000); /* let MHD suspend it */
        close(fd);
        CHECK(abandoned(n));
    }
    const int fd = fake_connect(&f);
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": {\"prompt\": "
            "\"hang\"}}\n{\"jsonrpc\": \"2.0\", \"id\": 2, \"method\": \"complete\", \"params\": "
            "{\"prompt\": \"hang\"}}\n");
    CHECK(submitted(n + 2));
    close(fd);
    CHECK(abandoned(n + 2));
    fake_server_stop(&f);
}

static void a_half_closed_client_gets_its_answer(void) {
    fake_server_init(&f);
    f.fake.scheduler.ms = 10;
    fake_server_start(&f);
    int fd = fake_connect(&f);
    post(fd, "/v1/completions", "{\"prompt\": \"x\"}");
    shutdown(fd, SHUT_WR);
    expect(get(fd, "finish_reason", 3000), "\"text\": \"abcdefghij", NULL);
    close(fd);
    fd = fake_connect(&f);
    post(fd, "/v1/completions", STREAM_BODY("x"));
    usleep(30000); /* in the middle of the stream */
    shutdown(fd, SHUT_WR);
    expect(get(fd, "[DONE]", 3000), "[DONE]", NULL);
    close(fd);
    fd = fake_connect(&f); /* the last line without its newline */
    put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": {\"prompt\": "
            "\"x\"}}");
    shutdown(fd, SHUT_WR);
    expect(get(fd, NULL, 3000), "\"text\": \"abcdefghij", "\n");
    close(fd);
    CHECK_EQ(f.fake.scheduler.abandoned, 0);
    fake_server_stop(&f);
}

static void a_client_that_does_not_read_loses_its_own_request_only(void) {
    short_limits();
    f.limits.output_timeout_ms = 60000; /* the hard limit is meant here */
    fake_server_start(&f);
    const int slow = fake_connect(&f), lines = fake_connect(&f);
    post(slow, "/v1/completions", STREAM_BODY("flood"));
    put(lines,
        "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": " STREAM_BODY(
            "flood") "}\n");
    for (int i = 0; i < 20; i++)
        free(http(&f, "GET", "/version", NULL));
    CHECK(abandoned(2));
    expect(http(&f, "POST", "/v1/completions", "{\"prompt\": \"x\"}"), "abcdefghij", NULL);
    CHECK(closes(slow, 2000));
    CHECK(closes(lines, 2000));
    close(slow);
    close(lines);
    fake_server_stop(&f);
}

/* Nobody reads, for half a second of the loop's own time: a step is a millisecond of it. */
static void stand_still(void) {
    const unsigned steps = f.fake.scheduler.steps;
    while (f.fake.scheduler.steps < steps + 500)
        usleep(1000);
}

/* The limit is met while a choice says its end, which is several chunks and the stream's end. */
static void a_client_that_reads_no_end_is_cut(void) {
    static const char *const mores[] = {"\"max_tokens\": 0, \"echo\": true, \"logprobs\": 5",
                                        ("\"max_tokens\": 0, \"echo\": true, \"logprobs\": 5, "
                                         "\"stream_options\": {\"include_usage\": true}")};
    for (size_t i = 0; i < 2; i++)
        for (int framing = 0; framing < 2; framing++) {
            fake_server_init(&f);
            f.limits.output_hard_bytes = 1000;
            fake_server_start(&f);
            struct buffer body = {0}, line = {0};
            buffer_printf(&body, "{\"stream\": true, %s, \"prompt\": [", mores[i]);
            for (int k = 0; k < 64; k++)
                buffer_printf(&body, "%s\"%s%0200d\"", k ? ", " : "", k % 2 ? "late" : "x", k);
            buffer_append(&body, "]}", 3);
            const int fd = fake_connect(&f);
            if (framing == 0)
                post(fd, "/v1/completions", body.bytes);
            else
                buffer_printf(&line,
                              "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", "
                              "\"params\": %s}\n",
                              body.bytes);
            if (framing == 1)
                put(fd, line.bytes);
            CHECK(submitted(64));
            CHECK(over(32));
            stand_still();
            f.fake.scheduler.late = true;
            CHECK(over(64));
            char *reply = get(fd, NULL, 5000);
            HAS_NOT(reply, "[DONE]");
            HAS_NOT(reply, "\"done\"");
            free(reply);
            close(fd);
            buffer_finish(&body);
            buffer_finish(&line);
            fake_server_stop(&f);
        }
}

/* What the service itself holds up is nobody's slowness. */
static void a_client_that_reads_is_not_slow_because_the_loop_was_held_up(void) {
    fake_server_init(&f);
    f.limits.output_hard_bytes = 1000;
    f.limits.output_soft_bytes = 500;
    f.limits.output_timeout_ms = 250; /* it is held up for a second at a time, in which to read */
    fake_server_start(&f);
    for (int framing = 0; framing < 2; framing++) {
        static const char body[] = "{\"prompt\": \"block\", \"stream\": true, \"max_tokens\": 3}";
        const int fd = fake_connect(&f);
        if (framing == 0)
            post(fd, "/v1/completions", body);
        else
            put(fd, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": "
                    "{\"prompt\": \"block\", \"stream\": true, \"max_tokens\": 3}}\n");
        char *reply = get(fd, framing ? "\"done\": true" : "[DONE]", 20000);
        CHECK(strlen(reply) > 3u << 20);
        HAS(reply + strlen(reply) - 300, framing ? "\"done\": true" : "[DONE]");
        free(reply);
        close(fd);
    }
    fake_server_stop(&f);
}

static void a_stream_that_stays_behind_is_cut_after_its_time(void) {
    short_limits();
    f.limits.output_hard_bytes = 1u << 30;
    f.limits.output_soft_bytes = 64u << 10;
    fake_server_start(&f);
    const int slow = fake_connect(&f), lines = fake_connect(&f);
    post(slow, "/v1/completions", STREAM_BODY("flood"));
    put(lines,
        "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": " STREAM_BODY(
            "flood") "}\n");
    CHECK(abandoned(2));
    close(slow);
    close(lines);
    fake_server_stop(&f);
}

static void many_small_requests_pause_a_client_that_does_not_read(void) {
    fake_server_init(&f);
    f.limits.output_soft_bytes = 4096;
    f.limits.output_hard_bytes = 8192;
    fake_server_start(&f);
    const int fd = fake_connect(&f);
    struct buffer in = {0};
    /* All of them are answered, though their answers are many times what may wait. */
    for (int i = 0; i < 3000; i++)
        buffer_printf(&in, "{\"jsonrpc\": \"2.0\", \"id\": %d, \"method\": \"status\"}\n", i);
    size_t sent = 0, lines = 0;
    char bytes[65536];
    while (lines < 3000) {
        struct pollfd p = {.fd = fd, .events = POLLIN | (sent < in.n ? POLLOUT : 0)};
        CHECK(poll(&p, 1, 3000 * FAKE_PATIENCE) > 0);
        if (p.revents & POLLOUT) {
            const ssize_t n = send(fd, in.bytes + sent, in.n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent += n > 0 ? (size_t)n : 0;
        }
        if (p.revents & POLLIN) {
            const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
            CHECK(n > 0);
            for (ssize_t i = 0; i < n; i++)
                lines += bytes[i] == '\n';
        }
    }
    buffer_finish(&in);
    close(fd);
    fake_server_stop(&f);
}

static void a_hundred_connections_are_served_at_once(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    int fds[100];
    for (int i = 0; i < 100; i++) {
        fds[i] = fake_connect(&f);
        if (i % 2)
            post(fds[i], "/v1/completions", STREAM_BODY("x"));
        else
            put(fds[i], "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": "
                        "{\"prompt\": \"x\", \"stream\": true}}\n");
    }
    for (int i = 0; i < 100; i++) {
        expect(get(fds[i], i % 2 ? "[DONE]" : "\"done\"", 5000), i % 2 ? "[DONE]" : "\"done\"",
               "\"text\": \"j\"");
        close(fds[i]);
    }
    fake_server_stop(&f);
    CHECK_EQ(f.fake.scheduler.counts.finished, 100);
}

static void hundreds_of_connections_that_leave_at_once_do_not_stop_the_loop(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    for (int round = 0; round < 2; round++) {
        int fds[300];
        for (int i = 0; i < 300; i++) {
            fds[i] = fake_connect(&f);
            if (round)
                post(fds[i], "/v1/completions", STREAM_BODY("hang"));
            else
                put(fds[i], "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for (int i = 0; i < 300; i++)
            free(get(fds[i], round ? "event-stream" : "}", 2000));
        for (int i = 0; i < 300; i++)
            close(fds[i]);
        expect(http(&f, "GET", "/version", NULL), " 200 ", NULL);
    }
    CHECK(abandoned(300));
    fake_server_stop(&f);
}

static void connections_over_the_limit_are_told_so(void) {
    fake_server_init(&f);
    f.limits.max_connections = 4;
    fake_server_start(&f);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = fake_connect(&f);
        put(fds[i], "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        free(get(fds[i], "}", 2000));
    }
    expect(http(&f, "GET", "/version", NULL), " 503 ", "max_connections");
    expect(rpc(&f, "version", NULL), "-32020", "max_connections");
    close(fds[0]);
    char *reply = http(&f, "GET", "/version", NULL);
    for (int ms = 3000 * FAKE_PATIENCE; ms > 0 && strstr(reply, " 503 "); ms -= 5) {
        usleep(5000); /* until its end was heard of */
        free(reply);
        reply = http(&f, "GET", "/version", NULL);
    }
    expect(reply, " 200 ", NULL);
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    fake_server_stop(&f);
}

static void accepting_pauses_without_descriptors_and_goes_on(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    const int first = fake_connect(&f), second = fake_connect(&f);
    put(first, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    free(get(first, "}", 2000));
    struct rlimit before, none;
    const int probe = dup(0);
    close(probe);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int third = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    none = before;
    none.rlim_cur = 3; /* no new descriptor in this process */
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQ(connect(third, (const struct sockaddr *)&f.address, sizeof f.address), 0);
    put(third, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(300000);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect(get(third, "}", 3000), " 200 ", NULL);
    close(first);
    close(second);
    close(third);
    fake_server_stop(&f);
}

static void large_answers_come_whole(void) {
    fake_server_init(&f);
    f.limits.output_hard_bytes = 64u << 10;
    fake_server_start(&f);
    struct buffer body = {0};
    buffer_printf(&body, "{\"n\": 16, \"logprobs\": 2, \"prompt\": [");
    for (int i = 0; i < 64; i++)
        buffer_printf(&body, "%s\"x\"", i ? ", " : "");
    buffer_append(&body, "]}", 3);
    char *reply = http(&f, "POST", "/v1/completions", body.bytes);
    HAS(reply, "\"index\": 1023");
    HAS(reply, "predicted_per_second");
    CHECK(strlen(reply) > 500000);
    free(reply);
    const int fd = fake_connect(&f);
    struct buffer line = {0};
    buffer_printf(&line,
                  "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": %s}\n",
                  body.bytes);
    buffer_append(&line, "", 1);
    put(fd, line.bytes);
    reply = get(fd, "\n", 5000);
    HAS(reply, "\"index\": 1023");
    CHECK_EQ(reply[strlen(reply) - 1], '\n');
    free(reply);
    close(fd);
    buffer_finish(&line);
    buffer_finish(&body);
    fake_server_stop(&f);
}

static void a_large_answer_may_be_read_slowly_but_must_move(void) {
    short_limits();
    f.limits.output_timeout_ms = 1500; /* many times what a busy machine may hold a reader up */
    f.limits.output_soft_bytes = 4096;
    fake_server_start(&f);
    struct buffer line = {0};
    buffer_printf(&line, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": "
                         "{\"n\": 16, \"logprobs\": 2, \"prompt\": [");
    for (int i = 0; i < 64; i++)
        buffer_printf(&line, "%s\"x\"", i ? ", " : "");
    buffer_append(&line, "]}}\n", 5);
    const int patient = fake_connect(&f), gone = fake_connect(&f);
    put(patient, line.bytes);
    put(gone, line.bytes);
    char bytes[20000], last = 0;
    const uint64_t begin = uv_hrtime();
    for (size_t n = 0; last != '\n'; usleep(30000)) {
        struct pollfd p = {.fd = patient, .events = POLLIN};
        CHECK(poll(&p, 1, 3000 * FAKE_PATIENCE) > 0);
        const ssize_t got = recv(patient, bytes, sizeof bytes, 0);
        CHECK(got > 0);
        last = bytes[got - 1];
        n += (size_t)got;
        CHECK(n < 100000000);
    }
    CHECK((uv_hrtime() - begin) / 1000000 > 1500); /* in all, longer than it may stand still */
    usleep(1600000);                               /* nothing of the other one was read */
    size_t n = 0;
    for (ssize_t got; (got = recv(gone, bytes, sizeof bytes, 0)) > 0; n += (size_t)got)
        last = bytes[got - 1];
    CHECK(n > 0 && last != '\n');
    buffer_finish(&line);
    close(patient);
    close(gone);
    fake_server_stop(&f);
}

static void a_chunk_may_be_larger_than_what_may_wait(void) {
    fake_server_init(&f);
    f.limits.output_hard_bytes = 1000;
    f.limits.output_soft_bytes = 500;
    f.fake.scheduler.ms = 20;
    fake_server_start(&f);
    expect(http(&f, "POST", "/v1/completions",
                "{\"prompt\": \"flood\", \"stream\": true, \"max_tokens\": 5}"),
           "aaaaaaaa", "data: [DONE]\n\n");
    expect(rpc(&f, "complete", "{\"prompt\": \"flood\", \"stream\": true, \"max_tokens\": 5}"),
           "aaaaaaaa", "{\"done\": true}");
    fake_server_stop(&f);
}

static void closing_ends_requests_under_way(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    const int a = fake_connect(&f), b = fake_connect(&f), c = fake_connect(&f);
    post(a, "/v1/completions", "{\"prompt\": \"hang\"}");
    post(b, "/v1/completions", STREAM_BODY("flood"));
    put(c, "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"complete\", \"params\": {\"prompt\": "
           "\"hang\"}}\n");
    CHECK(submitted(3));
    fake_server_stop(&f);
    CHECK_EQ(f.fake.scheduler.abandoned, 3);
    CHECK(closes(a, 1000));
    CHECK(closes(c, 1000));
    close(a);
    close(b);
    close(c);
}

CHECK_MAIN(T(a_connection_is_kept_and_requests_may_be_pipelined), T(another_first_byte_is_refused),
           T(a_client_that_drips_is_cut), T(a_slow_second_request_has_the_time_of_its_header),
           T(an_idle_connection_is_closed_later),
           T(a_waiting_stream_says_that_it_lives_and_is_not_cut),
           T(a_client_that_leaves_cancels_its_requests), T(a_half_closed_client_gets_its_answer),
           T(a_client_that_does_not_read_loses_its_own_request_only),
           T(a_client_that_reads_no_end_is_cut),
           T(a_client_that_reads_is_not_slow_because_the_loop_was_held_up),
           T(a_stream_that_stays_behind_is_cut_after_its_time),
           T(many_small_requests_pause_a_client_that_does_not_read),
           T(a_hundred_connections_are_served_at_once),
           T(hundreds_of_connections_that_leave_at_once_do_not_stop_the_loop),
           T(connections_over_the_limit_are_told_so),
           T(accepting_pauses_without_descriptors_and_goes_on), T(large_answers_come_whole),
           T(a_large_answer_may_be_read_slowly_but_must_move),
           T(a_chunk_may_be_larger_than_what_may_wait), T(closing_ends_requests_under_way))
