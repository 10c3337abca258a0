/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 by libmicrohttpd, which runs inside our loop: it has its own epoll descriptor, which the
 * loop watches, and is run when that is readable, when its timer says so, and after a resume. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/socket/conn.h"
#include "octarc/error.h"

/* The option has another name from 0.9.77 on. */
#if MHD_VERSION >= 0x00097701
#define STRICTNESS MHD_OPTION_CLIENT_DISCIPLINE_LVL
#else
#define STRICTNESS MHD_OPTION_STRICT_FOR_CLIENT
#endif

#define CONNECTION_BYTES (32u << 10) /* MHD's memory of a connection: header and write buffer */
#define BLOCK_BYTES      (32u << 10) /* of a streamed answer */

/* One request and its answer. */
struct exchange {
    struct conn *conn;
    struct MHD_Connection *mhd;
    struct buffer body;
    bool too_big;
    bool dispatched, suspended;
    bool answered, streaming, ended, queued;
    bool plain; /* the answer is text */
    bool over;  /* nothing more of the stream is taken: the tick cuts the connection */
    bool dead;  /* the client is gone or was cut */
    struct call *call;
    unsigned status;
    struct buffer out; /* the whole answer, or what of the stream is unsent */
    size_t sent;       /* bytes of out that MHD has taken */
    size_t last;       /* bytes of the last chunk */
    uint64_t said_ms;  /* when the stream last said something */
};

static size_t waiting(const struct exchange *x) {
    return x->out.n - x->sent;
}

static void resume(struct exchange *x) {
    if (!x->suspended)
        return;
    x->suspended = false;
    MHD_resume_connection(x->mhd);
    x->conn->server->mhd_wanted = true;
}

static void suspend(struct exchange *x) {
    x->suspended = true;
    MHD_suspend_connection(x->mhd);
}

/* Callbacks of the protocol. */

static void on_answer(void *user, unsigned status, struct buffer *body) {
    struct exchange *x = user;
    x->call = NULL;
    x->answered = true;
    x->status = status;
    x->out = *body;
    *body = (struct buffer){0};
    conn_phase(x->conn, PHASE_ANSWER);
    resume(x);
}

static void on_stream(void *user) {
    struct exchange *x = user;
    x->streaming = true;
    x->said_ms = server_now_ms(x->conn->server);
    conn_phase(x->conn, PHASE_ANSWER);
    resume(x);
}

/* The one who speaks goes on using its call, so it is not cut from in here. */
static void give_up(struct exchange *x) {
    x->over = true;
    resume(x);
}

static void on_data(void *user, const char *bytes, size_t n) {
    struct exchange *x = user;
    struct server *server = x->conn->server;
    if (x->dead || x->over)
        return;
    /* A chunk may be larger than the limit, so the last one does not count. */
    if (conn_too_slow(x->conn, waiting(x), x->last)) {
        server->counts.slow++;
        give_up(x);
        return;
    }
    if (waiting(x) == 0) {
        x->out.n = x->sent = 0;
        x->conn->progress_ms = server->chance_ms;
    }
    if (buffer_append(&x->out, bytes, n)) {
        give_up(x);
        return;
    }
    x->last = n;
    x->said_ms = server_now_ms(server);
    resume(x);
}

static void on_end(void *user) {
    struct exchange *x = user;
    x->call = NULL;
    x->ended = true;
    resume(x);
}

static void on_text(void *user, struct buffer *body) {
    struct exchange *x = user;
    x->plain = true;
    on_answer(user, 200, body);
}

static size_t on_unsent(void *user) {
    return waiting(user);
}

static const struct http_out http_out = {on_answer, on_stream, on_data, on_end, on_text, on_unsent};

/* MHD asks for more of an answer. */
static ssize_t read_answer(void *cls, uint64_t pos, char *buffer, size_t max) {
    struct exchange *x = cls;
    (void)pos;
    if (x->dead || x->over)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    const size_t n = waiting(x) < max ? waiting(x) : max;
    if (n > 0) {
        memcpy(buffer, x->out.bytes + x->sent, n);
        x->sent += n;
        x->conn->progress_ms = x->conn->server->chance_ms;
        if (x->sent > 4 * BLOCK_BYTES && x->sent > x->out.n / 2 && x->streaming) {
            buffer_drop(&x->out, x->sent);
            x->sent = 0;
        }
        return (ssize_t)n;
    }
    if (x->ended || !x->streaming)
        return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(x);
    return 0;
}

static enum MHD_Result queue_answer(struct exchange *x) {
    struct MHD_Response *response;
    unsigned status = x->status;
    x->queued = true;
    x->conn->progress_ms = x->conn->server->chance_ms;
    if (x->streaming) {
        response =
            MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_answer, x, NULL);
        status = 200;
    } else if (x->out.n <= BLOCK_BYTES) {
        response = MHD_create_response_from_buffer(x->out.n, x->out.bytes ? x->out.bytes : "",
                                                   MHD_RESPMEM_MUST_COPY);
    } else {
        response = MHD_create_response_from_callback(x->out.n, BLOCK_BYTES, read_answer, x, NULL);
    }
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type",
                            x->streaming ? "text/event-stream"
                            : x->plain   ? "text/plain; version=0.0.4; charset=utf-8"
                                         : "application/json");
    if (x->streaming)
        MHD_add_response_header(response, "Cache-Control", "no-cache");
    if (!x->streaming && (status == 429 || status == 503))
        MHD_add_response_header(response, "Retry-After", "1");
    const enum MHD_Result rc = MHD_queue_response(x->mhd, status, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result refuse(struct exchange *x, const char *name, const char *message) {
    x->status = protocol_refusal(name, message, false, &x->out);
    x->answered = true;
    conn_phase(x->conn, PHASE_ANSWER);
    return queue_answer(x);
}

/* What the header says, as far as it decides whether a request is one. */
struct header {
    size_t lines, bytes, n_length, n_encoding;
    uint64_t length;
    bool bad_length, bad_encoding, bad_name;
};

/* "Content-Length " with a blank is another name to libmicrohttpd, and the same one to others. */
static bool is_name(const char *key) {
    static const char marks[] = "!#$%&'*+-.^_`|~";
    const char *c = key;
    while (isalnum((unsigned char)*c) || (*c && strchr(marks, *c)))
        c++;
    return c > key && !*c;
}

static enum MHD_Result look_at_line(void *cls, enum MHD_ValueKind kind, const char *key,
                                    const char *value) {
    struct header *h = cls;
    (void)kind;
    h->lines++;
    h->bytes += strlen(key) + (value ? strlen(value) : 0) + 4;
    h->bad_name |= !is_name(key);
    if (!strcasecmp(key, "Transfer-Encoding")) {
        h->n_encoding++;
        h->bad_encoding |= !value || strcasecmp(value, "chunked") != 0;
    }
    if (strcasecmp(key, "Content-Length") != 0)
        return MHD_YES;
    h->n_length++;
    char *end = NULL;
    errno = 0;
    h->length = value && isdigit((unsigned char)*value) ? strtoull(value, &end, 10) : 0;
    h->bad_length |= !end || *end || errno;
    return MHD_YES;
}

/* NULL: fine; else the message and *name of a refusal. */
static const char *judge_header(const struct server *server, const struct header *h,
                                const char **name, char message[128]) {
    const struct server_limits *limits = &server->limits;
    *name = "bad_request";
    if (h->bad_name)
        return "a header's name is empty or holds a blank or another character that none has";
    if (h->n_length > 1)
        return "more than one Content-Length";
    if (h->n_length && h->n_encoding)
        return "Content-Length with Transfer-Encoding";
    if (h->n_encoding > 1)
        return "more than one Transfer-Encoding";
    if (h->bad_encoding)
        return "the Transfer-Encoding is not \"chunked\"";
    if (h->bad_length)
        return "Content-Length is not a number";
    *name = "too_big";
    if (h->lines > limits->max_header_lines)
        snprintf(message, 128, "the header has %zu lines; the most is %u (max_header_lines)",
                 h->lines, limits->max_header_lines);
    else if (h->bytes > limits->max_header_bytes)
        snprintf(message, 128, "the header has %zu bytes; the most is %u (max_header_bytes)",
                 h->bytes, limits->max_header_bytes);
    else if (h->length > server->max_request_bytes)
        snprintf(message, 128, "the body has %llu bytes; the most is %u (max_request_bytes)",
                 (unsigned long long)h->length, server->max_request_bytes);
    else
        return NULL;
    return message;
}

static enum MHD_Result begin_exchange(struct server *server, struct MHD_Connection *mhd,
                                      void **state) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    const int fd = info ? info->connect_fd : -1;
    struct conn *conn = fd >= 0 && (size_t)fd < server->n_by_fd ? server->by_fd[fd] : NULL;
    struct exchange *x = conn ? calloc(1, sizeof *x) : NULL;
    if (!x)
        return MHD_NO;
    x->conn = conn;
    x->mhd = mhd;
    conn->exchange = x;
    *state = x;
    conn_phase(conn, PHASE_BODY);
    struct header header = {0};
    char message[128];
    const char *name;
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, look_at_line, &header);
    /* The request's first line counts too. */
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (info)
        header.bytes = info->header_size;
    const char *wrong = judge_header(server, &header, &name, message);
    return wrong ? refuse(x, name, wrong) : MHD_YES;
}

static void take_body(struct exchange *x, const char *bytes, size_t n) {
    /* A chunked body is too big only when it has come: the rest is read and forgotten, within the
     * body's time. */
    if (x->too_big || x->body.n + n > x->conn->server->max_request_bytes ||
        buffer_append(&x->body, bytes, n)) {
        x->too_big = true;
        buffer_finish(&x->body);
    }
}

static enum MHD_Result dispatch(struct exchange *x, const char *verb, const char *path) {
    struct server *server = x->conn->server;
    char message[96];
    x->dispatched = true;
    if (x->too_big) {
        snprintf(message, sizeof message, "the body has more than %u bytes (max_request_bytes)",
                 server->max_request_bytes);
        return refuse(x, "too_big", message);
    }
    const struct http_request request = {
        .verb = verb, .path = path, .body = x->body.bytes, .n_body = x->body.n};
    conn_phase(x->conn, PHASE_ANSWER);
    protocol_http(server->protocol, &request, &x->conn->peer, &http_out, x, &x->call);
    buffer_finish(&x->body);
    if (x->dead)
        return MHD_NO;
    if (x->answered || x->streaming)
        return queue_answer(x);
    suspend(x);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *path,
                                  const char *verb, const char *version, const char *upload,
                                  size_t *n_upload, void **state) {
    struct exchange *x = *state;
    (void)version;
    if (!x)
        return begin_exchange(cls, mhd, state);
    if (*n_upload > 0) {
        take_body(x, upload, *n_upload);
        *n_upload = 0;
        return MHD_YES;
    }
    if (x->queued)
        return MHD_YES;
    if (!x->dispatched)
        return dispatch(x, verb, path);
    if (x->dead)
        return MHD_NO;
    if (x->answered || x->streaming)
        return queue_answer(x);
    suspend(x);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **state,
                         enum MHD_RequestTerminationCode code) {
    struct exchange *x = *state;
    (void)cls;
    (void)mhd;
    (void)code;
    if (!x)
        return;
    if (x->call)
        call_abandon(x->call);
    x->conn->exchange = NULL;
    x->conn->soft_ms = 0;
    conn_phase(x->conn, PHASE_IDLE);
    buffer_finish(&x->body);
    buffer_finish(&x->out);
    free(x);
    *state = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code) {
    struct server *server = cls;
    (void)socket_context;
    if (code != MHD_CONNECTION_NOTIFY_CLOSED)
        return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info || info->connect_fd < 0 || (size_t)info->connect_fd >= server->n_by_fd)
        return;
    struct conn *conn = server->by_fd[info->connect_fd];
    if (!conn)
        return;
    server->by_fd[info->connect_fd] = NULL;
    epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    conn->fd = -1; /* MHD closes it */
    conn_free(conn);
}

int http_start_daemon(struct server *server, struct err *err) {
    server->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)server->limits.max_connections + 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, STRICTNESS, 1, MHD_OPTION_END);
    return server->mhd ? 0 : err_set(err, -EIO, "libmicrohttpd does not start");
}

static int remember(struct server *server, struct conn *conn) {
    const size_t fd = (size_t)conn->fd;
    if (fd >= server->n_by_fd) {
        const size_t n = fd * 2 + 64;
        struct conn **grown = realloc(server->by_fd, n * sizeof(struct conn *));
        if (!grown)
            return -ENOMEM;
        memset(grown + server->n_by_fd, 0, (n - server->n_by_fd) * sizeof *grown);
        server->by_fd = grown;
        server->n_by_fd = n;
    }
    server->by_fd[fd] = conn;
    return 0;
}

int http_start(struct conn *conn) {
    struct server *server = conn->server;
    const struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int rc = remember(server, conn);
    if (rc)
        return rc;
    conn->kind = CONN_HTTP;
    server->counts.http++;
    conn_phase(conn, PHASE_HEADER);
    conn_rearm(conn, false);
    const int fd = conn->fd;
    server->mhd_wanted = true;
    if (MHD_add_connection(server->mhd, fd, (const struct sockaddr *)&address, sizeof address) ==
        MHD_YES)
        return 0;
    /* MHD has closed the descriptor; its notice of that comes for connections it began only. */
    if (server->by_fd[fd] == conn) {
        server->by_fd[fd] = NULL;
        conn->fd = -1;
        conn_close(conn);
    }
    return 0;
}

bool http_run(struct server *server, uint64_t *again_ms) {
    MHD_UNSIGNED_LONG_LONG ms;
    server->mhd_wanted = false;
    MHD_run(server->mhd);
    if (MHD_get_timeout(server->mhd, &ms) != MHD_YES)
        return false;
    *again_ms = ms;
    server->mhd_wanted = ms == 0;
    return true;
}

void http_cut(struct conn *conn) {
    struct exchange *x = conn->exchange;
    if (conn->cut)
        return;
    conn->cut = true;
    shutdown(conn->fd, SHUT_RDWR); /* MHD sees the end and closes */
    if (x && !x->dead) {
        x->dead = true;
        if (x->call)
            call_abandon(x->call);
        x->call = NULL;
        resume(x);
    }
    conn->server->mhd_wanted = true;
}

void http_events(struct conn *conn, uint32_t events) {
    int unread = 0;
    if (events & (EPOLLHUP | EPOLLERR)) {
        http_cut(conn);
        return;
    }
    conn->half_closed |= (events & EPOLLRDHUP) != 0;
    /* The next request begins to come.  MHD has not been run since, so what came is unread. */
    if ((events & EPOLLIN) && conn->phase == PHASE_IDLE && !ioctl(conn->fd, FIONREAD, &unread) &&
        unread > 0)
        conn_phase(conn, PHASE_HEADER);
}

bool http_busy(const struct conn *conn) {
    return conn->exchange != NULL;
}

/* A stream that has been silent says that it is alive. */
static void keep_alive(struct exchange *x, uint64_t now_ms) {
    static const char comment[] = ": keep-alive\n\n";
    if (x->streaming && !x->ended && waiting(x) == 0 &&
        now_ms - x->said_ms >= x->conn->server->limits.keep_alive_ms)
        on_data(x, comment, sizeof comment - 1);
}

static bool is_slow(struct conn *conn, const struct exchange *x) {
    const uint64_t now_ms = conn->server->chance_ms;
    const struct server_limits *limits = &conn->server->limits;
    /* A whole answer waits in one piece: only a client that takes nothing of it is slow. */
    const bool complete = x->queued && (!x->streaming || x->ended);
    if (complete)
        return now_ms - conn->progress_ms >= limits->output_timeout_ms;
    if (waiting(x) <= limits->output_soft_bytes)
        conn->soft_ms = 0;
    else if (!conn->soft_ms)
        conn->soft_ms = now_ms;
    return conn->soft_ms && now_ms - conn->soft_ms >= limits->output_timeout_ms;
}

/* The client has ended in the middle of a request, of which MHD has all that will ever come. */
static bool is_cut_short(const struct conn *conn) {
    int unread = 0;
    return conn->half_closed && (conn->phase == PHASE_HEADER || conn->phase == PHASE_BODY) &&
           !conn->server->mhd_wanted && !ioctl(conn->fd, FIONREAD, &unread) && unread == 0;
}

void http_check(struct conn *conn, uint64_t now_ms) {
    const struct server_limits *limits = &conn->server->limits;
    struct exchange *x = conn->exchange;
    const uint64_t age = now_ms - conn->since_ms;
    if (conn->cut)
        return;
    if (x && x->over) {
        conn_cut(conn);
        return;
    }
    if (x && conn->phase == PHASE_ANSWER) {
        if (is_slow(conn, x)) {
            conn->server->counts.slow++;
            conn_cut(conn);
        } else {
            keep_alive(x, now_ms);
        }
        return;
    }
    if (is_cut_short(conn)) {
        conn_cut(conn);
        return;
    }
    if ((conn->phase == PHASE_HEADER && age >= limits->header_timeout_ms) ||
        (conn->phase == PHASE_BODY && age >= limits->body_timeout_ms) ||
        (conn->phase == PHASE_IDLE && age >= limits->idle_timeout_ms)) {
        conn->server->counts.timed_out++;
        conn_cut(conn);
    }
}
