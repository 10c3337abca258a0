/* SPDX-License-Identifier: Apache-2.0 */
/* What of HTTP is a request, and how large one may be. */
#include "tests/unit/daemon/fake_server.h"

static struct fake_server f;

static void expect(char *reply, const char *a, const char *b) {
    HAS(reply, a);
    if (b)
        HAS(reply, b);
    free(reply);
}

static void a_request_with_two_lengths_is_refused(void) {
    fake_server_init(&f);
    fake_server_start(&f);
    static const char *const headers[] = {"Content-Length: 2\r\nContent-Length: 2\r\n",
                                          "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                                          "Content-Length: 2\r\nContent-Length: 3\r\n"};
    for (size_t i = 0; i < 3; i++) {
        const int fd = fake_connect(&f);
        put(fd, "POST /tokenize HTTP/1.1\r\nHost: x\r\n");
        put(fd, headers[i]);
        put(fd, strstr(headers[i], "chunked") ? "\r\n2\r\n{}\r\n0\r\n\r\n" : "\r\n{}");
        char *reply = get(fd, NULL, 2000);
        HAS(reply, " 400 ");
        HAS_NOT(reply, "bad_field"); /* the request itself was not looked at */
        free(reply);
        close(fd);
    }
    fake_server_stop(&f);
}

/* Each is whole, its body is good, and one behind it would be answered too. */
static void a_header_that_two_read_differently_is_refused(void) {
    static const struct {
        const char *header, *body, *part;
    } cases[] = {
        {"Content-Length : 15\r\n", "", "header's name"},
        {"Content-Length\t: 15\r\n", "", "header's name"},
        {"Transfer-Encoding : chunked\r\n", "", "header's name"},
        {"Content-Length: 15\r\nTransfer-Encoding : chunked\r\n", "{\"content\": \"\"}", "name"},
        {"X(y): 1\r\nContent-Length: 15\r\n", "{\"content\": \"\"}", "header's name"},
        {"Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", "chunked"},
        {"Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", "chunked"},
        {"Transfer-Encoding: identity\r\n", "{\"content\": \"\"}", "chunked"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", "more than"},
        {"Content-Length: +15\r\n", "{\"content\": \"\"}", "not a number"},
    };
    fake_server_init(&f);
    fake_server_start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer all = {0};
        const int fd = fake_connect(&f);
        printf("# %zu\n", i);
        buffer_printf(&all, "POST /tokenize HTTP/1.1\r\nHost: x\r\n%s\r\n%s%s", cases[i].header,
                      cases[i].body, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        put(fd, all.bytes);
        char *reply = get(fd, NULL, 2000);
        HAS(reply, "HTTP/1.1 400 ");
        HAS_NOT(reply, "\"name\": \"bad_field\"");
        if (!strstr(reply, "<html>")) { /* else it is libmicrohttpd's own */
            HAS(reply, "\"name\": \"bad_request\"");
            HAS(reply, cases[i].part);
        }
        HAS_NOT(reply, "HTTP/1.1 200"); /* nothing behind it was taken for a request */
        CHECK(closes(fd, 500));
        free(reply);
        close(fd);
        buffer_finish(&all);
    }
    fake_server_stop(&f);
}

static void a_request_that_ends_too_early_is_closed_at_once(void) {
    static const char *const begins[] = {
        "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{",
        "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        "GET /version HTTP/1.1\r\nHo", "G", "GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /ver"};
    fake_server_init(&f);
    f.limits.header_timeout_ms = f.limits.body_timeout_ms = f.limits.idle_timeout_ms = 3600000;
    fake_server_start(&f);
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        const int fd = fake_connect(&f);
        printf("# %zu\n", i);
        put(fd, begins[i]);
        if (i % 2)
            usleep(20000);
        shutdown(fd, SHUT_WR);
        CHECK(closes(fd, 2000));
        close(fd);
    }
    fake_server_stop(&f);
}

static void headers_and_bodies_are_limited(void) {
    fake_server_init(&f);
    f.host.max_request_bytes = 1000;
    fake_server_start(&f);
    char line[1200];
    int fd = fake_connect(&f);
    put(fd, "GET /version HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 70; i++) {
        snprintf(line, sizeof line, "X-%d: y\r\n", i);
        put(fd, line);
    }
    put(fd, "\r\n");
    expect(get(fd, NULL, 2000), " 413 ", "max_header_lines");
    close(fd);
    fd = fake_connect(&f);
    put(fd, "GET /version HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 17; i++) {
        snprintf(line, sizeof line, "X-%d: %01000d\r\n", i, 7);
        put(fd, line);
    }
    put(fd, "\r\n");
    expect(get(fd, NULL, 2000), " 413 ", "max_header_bytes");
    close(fd);
    fd = fake_connect(&f); /* the first line counts */
    struct buffer request = {0};
    buffer_printf(&request, "GET /version?%017000d HTTP/1.1\r\nHost: x\r\n\r\n", 7);
    put(fd, request.bytes);
    buffer_finish(&request);
    expect(get(fd, NULL, 2000), " 413 ", "max_header_bytes");
    close(fd);
    fd = fake_connect(&f);
    put(fd, "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    expect(get(fd, NULL, 2000), " 413 ", "max_request_bytes");
    close(fd);
    fd = fake_connect(&f);
    put(fd, "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "190\r\n%0400d\r\n", 7);
        put(fd, line);
    }
    put(fd, "0\r\n\r\n");
    expect(get(fd, "max_request_bytes", 2000), " 413 ", "max_request_bytes");
    close(fd);
    fd = fake_connect(&f);
    memset(line, ' ', sizeof line);
    line[0] = '{';
    line[1100] = 0;
    put(fd, line);
    expect(get(fd, NULL, 2000), "-32010", "max_request_bytes");
    close(fd);
    fake_server_stop(&f);
}

CHECK_MAIN(T(a_request_with_two_lengths_is_refused),
           T(a_header_that_two_read_differently_is_refused),
           T(a_request_that_ends_too_early_is_closed_at_once), T(headers_and_bodies_are_limited))
