/* SPDX-License-Identifier: Apache-2.0 */
/* conn.h - one connection, and the parts of the server that its framings share (private to
 * socket/).
 *
 * Every descriptor is in one edge-triggered epoll set of ours, HTTP ones in libmicrohttpd's too:
 * while MHD has a connection suspended it cannot see that the client is gone, and its own time-outs
 * do not cut a client that drips bytes.  Connections are freed in two places only: server_sweep(),
 * between two turns of the loop, and MHD's notice that it closed one. */
#ifndef OCTARC_SOCKET_CONN_H
#define OCTARC_SOCKET_CONN_H

#include <microhttpd.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/protocol/protocol.h"
#include "daemon/socket/server.h"

enum conn_kind { CONN_NEW, CONN_LINES, CONN_HTTP };

enum conn_phase { PHASE_FIRST, PHASE_HEADER, PHASE_BODY, PHASE_ANSWER, PHASE_IDLE };

struct conn {
    struct server *server;
    int fd;
    enum conn_kind kind;
    enum conn_phase phase;
    struct peer peer;
    bool refuse;      /* over max_connections: say so and close */
    bool closing;     /* to be freed by server_sweep() */
    bool marked;      /* in server.marked */
    bool half_closed; /* the client sends no more */
    struct conn *next_marked;
    uint64_t since_ms;    /* when the phase began */
    uint64_t progress_ms; /* by server.chance_ms: when the client last took a byte */
    uint64_t soft_ms;     /* … since when more than output_soft_bytes wait; 0: not so */
    struct conn *prev, *next;

    /* JSON lines */
    struct rpc_session *rpc;
    struct buffer in, out;
    size_t scanned; /* bytes of in without a newline */
    size_t sent;    /* bytes of out that are gone */
    size_t last;    /* bytes of the last line */
    bool paused;    /* not read while too much output waits */

    struct exchange *exchange; /* HTTP: the request under way; NULL: none */
    bool cut;                  /* HTTP: shut down; MHD will close it */
};

struct server {
    uv_loop_t *loop;
    struct protocol *protocol;
    struct server_limits limits;
    uint32_t max_request_bytes;
    gid_t admin_gid;
    bool has_admin_gid;

    struct MHD_Daemon *mhd;
    bool mhd_wanted; /* run MHD before the loop sleeps again */
    int epoll_fd;
    uv_poll_t watch, mhd_poll;
    uv_timer_t tick, mhd_timer;
    uv_prepare_t prepare;
    uv_check_t check;
    bool tick_runs;
    uint64_t tick_ms;
    /* Time in which clients could have taken what is unsent: all that the loop slept, and of each
     * turn at most TURN_MS, as nobody is sent anything while we compute.  Begins at 1. */
    uint64_t chance_ms;
    uint64_t asleep_ms, awake_ms; /* when the loop last went to sleep, and woke */

    struct listener *listeners;
    bool accept_paused;
    uint64_t accept_again_ms;
    struct conn *conns;
    struct conn *marked; /* have something to send, or to be freed, before the loop sleeps */
    struct conn **by_fd; /* HTTP connections */
    size_t n_by_fd;
    uint32_t n_refusing; /* of the open ones */
    struct server_counts counts;

    bool closing;
    uint64_t close_ms;
    unsigned open_handles;
    void (*closed)(void *user);
    void *closed_user;
};

struct listener {
    struct server *server;
    uv_poll_t poll;
    int fd;
    bool admin_allowed;
    struct listener *next;
};

uint64_t server_now_ms(const struct server *server);
void conn_phase(struct conn *conn, enum conn_phase phase);
/* Look at it at the next sweep. */
void conn_mark(struct conn *conn);
/* Free it at the next sweep. */
void conn_close(struct conn *conn);
void conn_free(struct conn *conn);
/* The client breaks a limit: what is under way is cancelled and the connection cut. */
void conn_cut(struct conn *conn);
/* Whether `waiting` unsent bytes, the last piece not counted, are too many.  The client must have
 * had the time to take some: several pieces may come in one turn of the loop. */
bool conn_too_slow(const struct conn *conn, size_t waiting, size_t last);
/* Listen anew for events that are already there. */
void conn_rearm(struct conn *conn, bool output);

void peer_read(const struct server *server, int fd, bool admin_allowed, struct peer *peer);

/* The first byte is there. */
void conn_sniff(struct conn *conn);

int lines_start(struct conn *conn);
void lines_events(struct conn *conn, uint32_t events);
void lines_flush(struct conn *conn);
void lines_check(struct conn *conn, uint64_t now_ms);
bool lines_busy(const struct conn *conn);
void lines_finish(struct conn *conn);

int http_start_daemon(struct server *server, struct err *err);
int http_start(struct conn *conn);
void http_events(struct conn *conn, uint32_t events);
void http_check(struct conn *conn, uint64_t now_ms);
bool http_busy(const struct conn *conn);
/* Cancel what is under way and let MHD close the connection. */
void http_cut(struct conn *conn);
/* Let MHD work.  True: it wants to again in *again_ms. */
bool http_run(struct server *server, uint64_t *again_ms);

#endif
