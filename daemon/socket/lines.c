/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC: one text a line, both ways. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "daemon/socket/conn.h"

#define READ_BYTES (64u << 10)
#define TURN_BYTES (1u << 20) /* read from one connection before the others have a turn */

static size_t waiting(const struct conn *conn) {
    return conn->out.n - conn->sent;
}

static void on_line(void *user, struct buffer *line) {
    struct conn *conn = user;
    if (conn->closing)
        return;
    /* What is already unsent counts, without the last line: one may be larger than the limit. */
    if (conn_too_slow(conn, waiting(conn), conn->last)) {
        conn->server->counts.slow++;
        conn_cut(conn);
        return;
    }
    conn->last = line->n;
    if (waiting(conn) == 0) {
        buffer_finish(&conn->out);
        conn->out = *line;
        *line = (struct buffer){0};
        conn->sent = 0;
        conn->progress_ms = conn->server->chance_ms;
        conn_mark(conn);
    } else if (buffer_append(&conn->out, line->bytes, line->n)) {
        conn_cut(conn);
    }
}

static size_t on_unsent(void *user) {
    return waiting(user);
}

static const struct rpc_out rpc_out = {on_line, on_unsent};

/* Hand over the whole lines of the input, as long as the client takes its answers. */
static void take_lines(struct conn *conn) {
    size_t at = 0;
    while (!conn->closing && !conn->paused && conn->in.n > at) {
        char *from = conn->in.bytes + at;
        const size_t skip = conn->scanned > at ? conn->scanned - at : 0;
        char *newline = memchr(from + skip, '\n', conn->in.n - at - skip);
        if (!newline) {
            conn->scanned = conn->in.n;
            break;
        }
        rpc_session_line(conn->rpc, from, (size_t)(newline - from));
        at = (size_t)(newline - conn->in.bytes) + 1;
        conn->scanned = at;
        conn->paused = waiting(conn) > conn->server->limits.output_soft_bytes;
    }
    if (at > 0)
        conn_phase(conn, PHASE_BODY); /* each line has the time of its own */
    conn->scanned -= at < conn->scanned ? at : conn->scanned;
    buffer_drop(&conn->in, at);
    if (conn->in.n == 0)
        buffer_finish(&conn->in); /* an idle connection keeps no buffer */
}

static void refuse_long_line(struct conn *conn) {
    struct buffer line = {0};
    char message[96];
    snprintf(message, sizeof message, "a line has more than %u bytes (max_request_bytes)",
             conn->server->max_request_bytes);
    protocol_refusal("too_big", message, true, &line);
    on_line(conn, &line);
    buffer_finish(&line);
    lines_flush(conn);
    conn_close(conn); /* where the next line begins is not known */
}

/* The input ended: what stands without a newline is a line too. */
static void end_of_input(struct conn *conn) {
    conn->half_closed = true;
    conn_mark(conn);
    if (conn->paused || conn->in.n == 0)
        return;
    struct buffer last = conn->in;
    conn->in = (struct buffer){0};
    conn->scanned = 0;
    rpc_session_line(conn->rpc, last.bytes, last.n);
    buffer_finish(&last);
}

static void read_input(struct conn *conn) {
    size_t turn = 0;
    while (!conn->closing && !conn->paused && !conn->half_closed) {
        if (turn >= TURN_BYTES) {
            conn_rearm(conn, true);
            return;
        }
        if (buffer_reserve(&conn->in, READ_BYTES)) {
            conn_cut(conn);
            return;
        }
        const ssize_t n = recv(conn->fd, conn->in.bytes + conn->in.n, READ_BYTES, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            conn_close(conn);
            return;
        }
        if (n < 0) {
            if (conn->in.n == 0)
                buffer_finish(&conn->in);
            return;
        }
        if (n == 0) {
            end_of_input(conn);
            return;
        }
        if (conn->in.n == 0 || conn->phase == PHASE_IDLE)
            conn_phase(conn, PHASE_BODY);
        conn->in.n += (size_t)n;
        turn += (size_t)n;
        take_lines(conn);
        if (!conn->closing && conn->in.n > conn->server->max_request_bytes && !conn->paused)
            refuse_long_line(conn);
    }
}

int lines_start(struct conn *conn) {
    const int rc =
        rpc_session_open(&conn->rpc, conn->server->protocol, &conn->peer, &rpc_out, conn);
    if (rc)
        return rc;
    conn->kind = CONN_LINES;
    conn->server->counts.lines++;
    conn_phase(conn, PHASE_BODY);
    read_input(conn);
    return 0;
}

void lines_flush(struct conn *conn) {
    while (!conn->closing && waiting(conn) > 0) {
        const ssize_t n = send(conn->fd, conn->out.bytes + conn->sent, waiting(conn),
                               MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break; /* the edge of EPOLLOUT comes */
        if (n < 0) {
            conn_close(conn);
            return;
        }
        conn->sent += (size_t)n;
        conn->progress_ms = conn->server->chance_ms;
    }
    if (waiting(conn) == 0) {
        buffer_finish(&conn->out);
        conn->sent = 0;
    } else if (conn->sent > READ_BYTES && conn->sent > conn->out.n / 2) {
        buffer_drop(&conn->out, conn->sent);
        conn->sent = 0;
    }
    if (conn->paused && !conn->closing &&
        waiting(conn) <= conn->server->limits.output_soft_bytes / 2) {
        conn->paused = false;
        take_lines(conn);
        if (conn->half_closed)
            end_of_input(conn);
        else
            conn_rearm(conn, true);
    }
    if (conn->half_closed && !conn->closing && !lines_busy(conn))
        conn_close(conn);
}

void lines_events(struct conn *conn, uint32_t events) {
    if (events & (EPOLLHUP | EPOLLERR)) {
        conn_close(conn); /* nobody is there to read an answer */
        return;
    }
    if (events & EPOLLOUT)
        lines_flush(conn);
    if (!conn->closing && (events & (EPOLLIN | EPOLLRDHUP)))
        read_input(conn);
}

bool lines_busy(const struct conn *conn) {
    return waiting(conn) > 0 || conn->paused || rpc_session_pending(conn->rpc) > 0;
}

void lines_check(struct conn *conn, uint64_t now_ms) {
    const struct server_limits *limits = &conn->server->limits;
    const uint64_t chance_ms = conn->server->chance_ms;
    if (waiting(conn) <= limits->output_soft_bytes)
        conn->soft_ms = 0;
    else if (!conn->soft_ms)
        conn->soft_ms = chance_ms;
    /* A whole answer may take its time as long as it moves; what goes on must be kept up with. */
    const bool goes_on = rpc_session_pending(conn->rpc) > 0;
    const bool slow =
        goes_on && conn->soft_ms && chance_ms - conn->soft_ms >= limits->output_timeout_ms;
    const bool stuck =
        waiting(conn) > 0 && !goes_on && chance_ms - conn->progress_ms >= limits->output_timeout_ms;
    if (slow || stuck) {
        conn->server->counts.slow++;
        conn_cut(conn);
        return;
    }
    /* Between lines the connection is idle; with part of a line it is in a body. */
    const enum conn_phase phase = conn->in.n > 0     ? PHASE_BODY
                                  : lines_busy(conn) ? PHASE_ANSWER
                                                     : PHASE_IDLE;
    if (phase != conn->phase)
        conn_phase(conn, phase);
    const uint64_t age = now_ms - conn->since_ms;
    if (conn->half_closed && phase != PHASE_ANSWER)
        conn_close(conn); /* what was asked wanted no answer */
    if ((phase == PHASE_BODY && !conn->paused && age >= limits->body_timeout_ms) ||
        (phase == PHASE_IDLE && age >= limits->idle_timeout_ms)) {
        conn->server->counts.timed_out++;
        conn_close(conn);
    }
}

void lines_finish(struct conn *conn) {
    rpc_session_close(conn->rpc);
    conn->rpc = NULL;
    buffer_finish(&conn->in);
    buffer_finish(&conn->out);
}
