/* SPDX-License-Identifier: Apache-2.0 */
/* protocol.h - meaning: what a request asks and what its answer looks like (docs/protocol.md).
 *
 * Bytes come from socket/ and leave through callbacks; nothing here knows of descriptors or MHD.
 * Two framings share one table of methods: an HTTP request (protocol_http) and a JSON-RPC line
 * (rpc_session_line).  An answer may be given before the function returns.
 *
 * Threads: one, the front's loop.  Tokenizing and rendering of long prompts leave it by
 * host.offload. */
#ifndef OCTARC_PROTOCOL_PROTOCOL_H
#define OCTARC_PROTOCOL_PROTOCOL_H

#include <stddef.h>

#include "daemon/protocol/host.h"
#include "daemon/util/buffer.h"

#define REQUEST_BYTES_DEFAULT (8u << 20)   /* of max_request_bytes */
#define REPLY_BYTES_MAX       (256u << 20) /* of one answer; more is too_big */
#define OFFLOAD_BYTES         (32u << 10)  /* prompts longer than this are tokenized off the loop */
#define PROMPTS_MAX           64           /* prompts of one request */
#define BATCH_MAX             64           /* messages of one JSON-RPC batch */
#define PIPELINED_MAX         64           /* JSON-RPC requests under way on one connection */
#define TOP_LOGPROBS_MAX      20           /* top_logprobs of chat */
#define TOOLS_MAX             128          /* tools of a request */
#define COMPLETION_LOGPROBS   5            /* logprobs of /v1/completions; OpenAI's limit */

struct protocol;
struct call;        /* one request under way */
struct rpc_session; /* one connection that speaks JSON-RPC */

/* Copies *host (not what it points to).  0, -ENOMEM. */
int protocol_create(struct protocol **protocol, const struct protocol_host *host);
/* Every call and session must have ended, or have been abandoned or closed, before. */
void protocol_destroy(struct protocol *protocol);
const struct protocol_host *protocol_host_of(const struct protocol *protocol);

/* How an HTTP answer leaves: answer() once, or stream(), then data() any number of times, then
 * end().  After answer() or end() the call is gone and no further callback comes. */
struct http_out {
    /* body is JSON; the callee may take its bytes over by zeroing *body. */
    void (*answer)(void *user, unsigned status, struct buffer *body);
    void (*stream)(void *user); /* 200, text/event-stream */
    void (*data)(void *user, const char *bytes, size_t n);
    void (*end)(void *user);
    /* 200, text/plain, in the place of answer(). */
    void (*text)(void *user, struct buffer *body);
    size_t (*unsent)(void *user); /* bytes of the stream that the client has not taken */
};

struct http_request {
    const char *verb; /* "GET", "POST" */
    const char *path; /* decoded, without the query */
    char *body;       /* n_body bytes; may be written to; not needed after the call */
    size_t n_body;
};

/* Begin a request.  *call is valid until answer() or end(); NULL when it was answered before this
 * returned. */
void protocol_http(struct protocol *protocol, const struct http_request *request,
                   const struct peer *peer, const struct http_out *out, void *user,
                   struct call **call);
/* The client is gone: the request is cancelled and no callback comes any more. */
void call_abandon(struct call *call);

/* Give up the engine work of calls that ended early, and tell those who follow what is new.  News
 * of a request may arrive inside the scheduler, which must not be re-entered: call this once per
 * turn of the loop.  True: something was said, which has to be sent. */
bool protocol_settle(struct protocol *protocol);

/* JSON-RPC: every answer is a line, with its newline.  line() may take the bytes over. */
struct rpc_out {
    void (*line)(void *user, struct buffer *line);
    size_t (*unsent)(void *user); /* bytes that the client has not taken */
};
int rpc_session_open(struct rpc_session **session, struct protocol *protocol,
                     const struct peer *peer, const struct rpc_out *out, void *user);
/* One line without its newline; the bytes may be written to. */
void rpc_session_line(struct rpc_session *session, char *line, size_t n);
size_t rpc_session_pending(const struct rpc_session *session); /* requests under way */
void rpc_session_close(struct rpc_session *session);           /* cancels them */

/* The bodies of refusals that are made before a request could be read: "bad_request", "too_big",
 * "overloaded" … of docs/protocol.md.  `line` asks for the JSON-RPC form with a newline.  Returns
 * the HTTP status. */
unsigned protocol_refusal(const char *name, const char *message, bool line, struct buffer *out);

#endif
