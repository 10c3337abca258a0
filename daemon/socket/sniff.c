/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte of a connection decides what it speaks. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "daemon/socket/conn.h"

/* A refusal goes out at once or not at all: it fits any socket buffer, and nobody waits for it. */
static void say(struct conn *conn, const char *bytes, size_t n) {
    if (send(conn->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* the client is gone */
}

static void refuse(struct conn *conn, const char *name, const char *message, bool http) {
    struct buffer body = {0}, out = {0};
    const unsigned status = protocol_refusal(name, message, !http, &body);
    if (http)
        buffer_printf(&out,
                      "HTTP/1.1 %u Refused\r\nContent-Type: application/json\r\n"
                      "Content-Length: %zu\r\nRetry-After: 1\r\nConnection: close\r\n\r\n",
                      status == 429 ? 503 : status, body.n);
    buffer_append(&out, body.bytes, body.n);
    say(conn, out.bytes, out.n);
    buffer_finish(&out);
    buffer_finish(&body);
    conn->server->counts.refused++;
    conn_close(conn);
}

void conn_sniff(struct conn *conn) {
    unsigned char first;
    const ssize_t n = recv(conn->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_close(conn);
        return;
    }
    const bool lines = first == '{' || first == '[', http = isalpha(first) != 0;
    if (conn->refuse) {
        char message[96];
        snprintf(message, sizeof message, "more than %u connections are open (max_connections)",
                 conn->server->limits.max_connections);
        refuse(conn, "overloaded", message, http);
    } else if (lines) {
        if (lines_start(conn))
            conn_close(conn);
    } else if (http) {
        if (http_start(conn))
            conn_close(conn);
    } else {
        refuse(conn, "bad_request",
               "a connection begins with '{' or '[' (JSON-RPC) or with a letter (HTTP)", false);
    }
}
