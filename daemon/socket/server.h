/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - bytes: connections of the Unix socket, who is behind them, and their limits.
 *
 * The first byte decides: '{' or '[' is JSON lines, a letter is HTTP, anything else is refused with
 * one line.  A connection's limits cost that connection only.
 *
 * Threads: one, the loop's.  Ownership: listening and added descriptors become the server's. */
#ifndef OCTARC_SOCKET_SERVER_H
#define OCTARC_SOCKET_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct err;
struct protocol;
struct server;

/* Each is a key of the section [socket]; an error that comes of it names the key. */
struct server_limits {
    uint32_t max_connections;   /* 1024; more get "overloaded" and are closed */
    uint32_t max_header_bytes;  /* 16384 */
    uint32_t max_header_lines;  /* 64 */
    uint32_t header_timeout_ms; /* 10000: first byte, then the whole header */
    uint32_t body_timeout_ms;   /* 30000: the whole body, or the whole line */
    uint32_t idle_timeout_ms;   /* 300000: between two requests */
    uint32_t output_hard_bytes; /* 1 MiB unsent when more is to be sent: closed */
    uint32_t output_soft_bytes; /* 256 KiB unsent … */
    uint32_t output_timeout_ms; /* … for 10000 (or no byte taken for so long): closed */
    uint32_t keep_alive_ms;     /* 5000 of silence in an event stream: a comment */
    const char *admin_group;    /* "octarc-admin"; its members are admins; NULL: none */
};
void server_limits_default(struct server_limits *limits);

/* The largest body or line is the protocol host's max_request_bytes.  -ENOMEM, or what libuv or
 * libmicrohttpd failed with. */
int server_create(struct server **server, uv_loop_t *loop, struct protocol *protocol,
                  const struct server_limits *limits, struct err *err);

/* Accept from fd, which is bound and listens.  On a listener without admin_allowed every peer is a
 * user; else root, the service's own uid and members of admin_group are admins. */
int server_listen(struct server *server, int fd, bool admin_allowed, struct err *err);
/* Serve fd, which is connected, as if it had been accepted. */
int server_add(struct server *server, int fd, bool admin_allowed, struct err *err);
/* Accept no more; connections go on.  The listening descriptors are closed, not unlinked. */
void server_stop_listening(struct server *server);

/* Stop listening, wait at most grace_ms for requests under way and unsent bytes, close everything
 * and call closed() from the loop.  The server is gone then; protocol_destroy() may follow. */
void server_close(struct server *server, uint32_t grace_ms, void (*closed)(void *user), void *user);

struct server_counts {
    uint32_t connections;                        /* open now */
    uint32_t http, lines;                        /* of these */
    uint64_t accepted, refused, timed_out, slow; /* since the start */
};
void server_counts(const struct server *server, struct server_counts *counts);

#endif
