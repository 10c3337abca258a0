/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/socket/server.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/socket/conn.h"
#include "octarc/error.h"

#define ACCEPT_TURN     64  /* connections accepted before the others have a turn */
#define ACCEPT_PAUSE_MS 100 /* after EMFILE and its like */
#define REFUSING_MAX    64  /* connections over the limit that are told so; more are just closed */
#define REFUSE_MS       1000
#define TAKE_MS         250 /* in which a client that reads takes a byte … */
#define TURN_MS         10  /* … of which a turn of the loop counts for so much at most */
#define EVENTS          64
#define EVENT_TURNS     64 /* what is left then wakes the loop again */

void server_limits_default(struct server_limits *limits) {
    *limits = (struct server_limits){
        .max_connections = 1024,
        .max_header_bytes = 16u << 10,
        .max_header_lines = 64,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .idle_timeout_ms = 300000,
        .output_hard_bytes = 1u << 20,
        .output_soft_bytes = 256u << 10,
        .output_timeout_ms = 10000,
        .keep_alive_ms = 5000,
        .admin_group = "octarc-admin",
    };
}

uint64_t server_now_ms(const struct server *server) {
    return uv_now(server->loop);
}

void server_counts(const struct server *server, struct server_counts *counts) {
    *counts = server->counts;
}

void conn_phase(struct conn *conn, enum conn_phase phase) {
    conn->phase = phase;
    conn->since_ms = server_now_ms(conn->server);
}

void conn_rearm(struct conn *conn, bool output) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (output ? EPOLLOUT : 0),
                                .data.ptr = conn};
    epoll_ctl(conn->server->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
}

void conn_mark(struct conn *conn) {
    if (conn->marked)
        return;
    conn->marked = true;
    conn->next_marked = conn->server->marked;
    conn->server->marked = conn;
}

void conn_close(struct conn *conn) {
    conn->closing = true;
    conn_mark(conn);
}

bool conn_too_slow(const struct conn *conn, size_t waiting, size_t last) {
    const struct server *server = conn->server;
    return waiting > server->limits.output_hard_bytes + last &&
           (waiting > REPLY_BYTES_MAX || server->chance_ms - conn->progress_ms >= TAKE_MS);
}

void conn_cut(struct conn *conn) {
    if (conn->kind == CONN_HTTP)
        http_cut(conn);
    else
        conn_close(conn);
}

void conn_free(struct conn *conn) {
    struct server *server = conn->server;
    if (conn->kind == CONN_LINES) {
        lines_finish(conn);
        server->counts.lines--;
    } else if (conn->kind == CONN_HTTP) {
        server->counts.http--;
    }
    if (conn->fd >= 0)
        close(conn->fd); /* leaves the epoll set with it */
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    server->n_refusing -= conn->refuse;
    server->counts.connections--;
    free(conn);
}

static void on_tick(uv_timer_t *timer);

static void start_tick(struct server *server) {
    if (server->tick_runs)
        return;
    server->tick_runs = true;
    uv_timer_start(&server->tick, on_tick, server->tick_ms, server->tick_ms);
}

int server_add(struct server *server, int fd, bool admin_allowed, struct err *err) {
    const bool over =
        server->counts.connections - server->n_refusing >= server->limits.max_connections;
    struct conn *conn = over && server->n_refusing >= REFUSING_MAX ? NULL : calloc(1, sizeof *conn);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = conn};
    if (!conn || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(conn);
        close(fd);
        return err_set(err, -ENOMEM, "no room for a connection");
    }
    conn->server = server;
    conn->fd = fd;
    conn->refuse = over;
    server->n_refusing += over;
    conn_phase(conn, PHASE_FIRST);
    conn->progress_ms = server->chance_ms;
    peer_read(server, fd, admin_allowed, &conn->peer);
    conn->next = server->conns;
    if (conn->next)
        conn->next->prev = conn;
    server->conns = conn;
    server->counts.connections++;
    server->counts.accepted++;
    start_tick(server);
    return 0;
}

static void pause_accepting(struct server *server) {
    for (struct listener *l = server->listeners; l; l = l->next)
        uv_poll_stop(&l->poll);
    server->accept_paused = true;
    server->accept_again_ms = server_now_ms(server) + ACCEPT_PAUSE_MS;
    start_tick(server);
}

static void on_listener(uv_poll_t *poll, int status, int events) {
    struct listener *listener = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPT_TURN; i++) {
        const int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            server_add(listener->server, fd, listener->admin_allowed, NULL);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(listener->server); /* else the loop would spin on the listener */
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void resume_accepting(struct server *server) {
    server->accept_paused = false;
    for (struct listener *l = server->listeners; l; l = l->next)
        uv_poll_start(&l->poll, UV_READABLE, on_listener);
}

int server_listen(struct server *server, int fd, bool admin_allowed, struct err *err) {
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return err_set(err, -ENOMEM, "no memory for a listener");
    *listener = (struct listener){.server = server, .fd = fd, .admin_allowed = admin_allowed};
    listener->poll.data = listener;
    int rc = uv_poll_init(server->loop, &listener->poll, fd);
    if (rc) {
        free(listener);
        return err_set(err, rc, "cannot watch the listening socket: %s", uv_strerror(rc));
    }
    server->open_handles++;
    listener->next = server->listeners;
    server->listeners = listener;
    rc = uv_poll_start(&listener->poll, UV_READABLE, on_listener);
    return rc ? err_set(err, rc, "cannot watch the listening socket: %s", uv_strerror(rc)) : 0;
}

static void close_finished(struct server *server) {
    if (--server->open_handles > 0)
        return;
    void (*closed)(void *) = server->closed;
    void *user = server->closed_user;
    close(server->epoll_fd);
    free(server->by_fd);
    free(server);
    closed(user);
}

static void on_listener_closed(uv_handle_t *handle) {
    struct listener *listener = handle->data;
    struct server *server = listener->server;
    close(listener->fd);
    free(listener);
    close_finished(server);
}

void server_stop_listening(struct server *server) {
    while (server->listeners) {
        struct listener *listener = server->listeners;
        server->listeners = listener->next;
        uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
    }
    server->accept_paused = false;
}

static void handle_events(struct server *server) {
    struct epoll_event events[EVENTS];
    int n, turns = 0;
    do {
        n = epoll_wait(server->epoll_fd, events, EVENTS, 0);
        for (int i = 0; i < n; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn->closing)
                continue;
            if (conn->kind == CONN_LINES)
                lines_events(conn, events[i].events);
            else if (conn->kind == CONN_HTTP)
                http_events(conn, events[i].events);
            else if (events[i].events & EPOLLIN)
                conn_sniff(conn);
            else if (events[i].events & (EPOLLHUP | EPOLLERR))
                conn_close(conn);
        }
    } while (n == EVENTS && ++turns < EVENT_TURNS);
}

static void on_watch(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    handle_events(poll->data);
}

static void on_mhd_timer(uv_timer_t *timer) {
    struct server *server = timer->data;
    server->mhd_wanted = true;
}

static void run_mhd(struct server *server) {
    uint64_t again_ms;
    if (http_run(server, &again_ms))
        uv_timer_start(&server->mhd_timer, on_mhd_timer, again_ms, 0);
    else
        uv_timer_stop(&server->mhd_timer);
}

static void on_mhd(uv_poll_t *poll, int status, int events) {
    struct server *server = poll->data;
    (void)status;
    (void)events;
    /* Ours first: it must see what is unread before MHD reads it. */
    handle_events(server);
    run_mhd(server);
}

/* Send what was said, free what was closed. */
static void sweep_once(struct server *server) {
    for (int turn = 0; server->mhd_wanted && turn < 16; turn++)
        run_mhd(server);
    while (server->marked) {
        struct conn *conn = server->marked;
        server->marked = conn->next_marked;
        conn->marked = false;
        if (conn->kind == CONN_LINES && !conn->closing)
            lines_flush(conn);
        if (conn->closing && !conn->marked)
            conn_free(conn);
    }
}

/* Before the loop sleeps: give up what ended, tell what is new, send it. */
static void server_sweep(struct server *server) {
    protocol_settle(server->protocol);
    do
        sweep_once(server);
    while (protocol_settle(server->protocol)); /* what a request of this turn changed */
}

static uint64_t clock_ms(void) {
    return uv_hrtime() / 1000000;
}

static void on_prepare(uv_prepare_t *prepare) {
    struct server *server = prepare->data;
    const uint64_t turn_ms = clock_ms() - server->awake_ms;
    server->chance_ms += turn_ms < TURN_MS ? turn_ms : TURN_MS;
    server_sweep(server);
    server->asleep_ms = clock_ms();
}

/* The loop's time is that of its waking: what its polls found has been done since. */
static void on_check(uv_check_t *check) {
    struct server *server = check->data;
    server->awake_ms = server_now_ms(server);
    if (server->awake_ms > server->asleep_ms)
        server->chance_ms += server->awake_ms - server->asleep_ms;
}

static bool conn_busy(const struct conn *conn) {
    return conn->kind == CONN_LINES  ? lines_busy(conn)
           : conn->kind == CONN_HTTP ? http_busy(conn)
                                     : false;
}

static void on_handle_closed(uv_handle_t *handle) {
    close_finished(handle->data);
}

static void finish_closing(struct server *server) {
    struct conn *next;
    server_sweep(server); /* nothing is marked any more */
    for (struct conn *conn = server->conns; conn; conn = next) {
        next = conn->next;
        if (conn->kind == CONN_HTTP)
            http_cut(conn); /* resumes it: MHD must not stop with one suspended */
        else
            conn_free(conn);
    }
    run_mhd(server);
    MHD_stop_daemon(server->mhd);
    protocol_settle(server->protocol);
    uv_close((uv_handle_t *)&server->watch, on_handle_closed);
    uv_close((uv_handle_t *)&server->mhd_poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->tick, on_handle_closed);
    uv_close((uv_handle_t *)&server->mhd_timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&server->check, on_handle_closed);
}

static void check_conn(struct conn *conn, uint64_t now_ms) {
    const struct server_limits *limits = &conn->server->limits;
    if (conn->closing)
        return;
    if (conn->kind == CONN_LINES) {
        lines_check(conn, now_ms);
    } else if (conn->kind == CONN_HTTP) {
        http_check(conn, now_ms);
    } else if (now_ms - conn->since_ms >= (conn->refuse ? REFUSE_MS : limits->header_timeout_ms)) {
        conn->server->counts.timed_out++;
        conn_close(conn);
    }
}

static void on_tick(uv_timer_t *timer) {
    struct server *server = timer->data;
    const uint64_t now_ms = server_now_ms(server);
    bool busy = false;
    for (struct conn *conn = server->conns; conn; conn = conn->next) {
        check_conn(conn, now_ms);
        busy |= conn_busy(conn);
    }
    if (server->accept_paused && now_ms >= server->accept_again_ms)
        resume_accepting(server);
    if (server->closing && (!busy || now_ms >= server->close_ms)) {
        uv_timer_stop(timer);
        finish_closing(server);
        return;
    }
    if (!server->conns && !server->accept_paused && !server->closing) {
        uv_timer_stop(timer); /* an idle service does not wake */
        server->tick_runs = false;
    }
}

static uint64_t tick_of(const struct server_limits *l) {
    const uint32_t times[] = {l->header_timeout_ms, l->body_timeout_ms, l->idle_timeout_ms,
                              l->output_timeout_ms, l->keep_alive_ms};
    uint32_t least = 2000;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (times[i] < least)
            least = times[i];
    return least / 4 > 5 ? least / 4 : 5;
}

static void find_admin_group(struct server *server) {
    char bytes[16384];
    struct group group, *found = NULL;
    if (!server->limits.admin_group ||
        getgrnam_r(server->limits.admin_group, &group, bytes, sizeof bytes, &found) || !found)
        return;
    server->admin_gid = found->gr_gid;
    server->has_admin_gid = true;
}

static int start_handles(struct server *server) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    int rc = info ? 0 : -EIO;
    server->watch.data = server->mhd_poll.data = server->tick.data = server;
    server->mhd_timer.data = server->prepare.data = server->check.data = server;
    server->chance_ms = 1;
    server->awake_ms = clock_ms();
    rc = rc ? rc : uv_poll_init(server->loop, &server->watch, server->epoll_fd);
    rc = rc ? rc : uv_poll_init(server->loop, &server->mhd_poll, info->epoll_fd);
    if (rc)
        return rc;
    server->open_handles = 6;
    uv_timer_init(server->loop, &server->tick);
    uv_timer_init(server->loop, &server->mhd_timer);
    uv_prepare_init(server->loop, &server->prepare);
    uv_prepare_start(&server->prepare, on_prepare);
    uv_check_init(server->loop, &server->check);
    uv_check_start(&server->check, on_check);
    uv_poll_start(&server->watch, UV_READABLE, on_watch);
    uv_poll_start(&server->mhd_poll, UV_READABLE, on_mhd);
    return 0;
}

int server_create(struct server **server, uv_loop_t *loop, struct protocol *protocol,
                  const struct server_limits *limits, struct err *err) {
    struct server *made = calloc(1, sizeof *made);
    if (!made)
        return err_set(err, -ENOMEM, "no memory for the server");
    made->loop = loop;
    made->protocol = protocol;
    made->limits = *limits;
    made->max_request_bytes = protocol_host_of(protocol)->max_request_bytes;
    made->tick_ms = tick_of(limits);
    find_admin_group(made);
    int rc;
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (made->epoll_fd < 0) {
        rc = err_set(err, -errno, "no epoll descriptor: %s", strerror(errno));
        goto fail;
    }
    rc = http_start_daemon(made, err);
    if (rc)
        goto fail_epoll;
    rc = start_handles(made);
    if (rc) {
        err_set(err, rc, "cannot watch the connections: %s", uv_strerror(rc));
        goto fail_mhd;
    }
    *server = made;
    return 0;
fail_mhd:
    MHD_stop_daemon(made->mhd);
fail_epoll:
    close(made->epoll_fd);
fail:
    free(made);
    return rc;
}

void server_close(struct server *server, uint32_t grace_ms, void (*closed)(void *user),
                  void *user) {
    server->closing = true;
    server->closed = closed;
    server->closed_user = user;
    server->close_ms = server_now_ms(server) + grace_ms;
    server_stop_listening(server);
    server->tick_runs = true;
    uv_timer_start(&server->tick, on_tick, 0, server->tick_ms);
}
