/* SPDX-License-Identifier: Apache-2.0 */
/* call.h - one request under way, whichever framing it came in (private to protocol/).
 *
 * A handler ends a call exactly once: call_answer(), call_fail(), or call_stream() … call_end().
 * A handler that goes on after it returned sets abandon(), which is called when the client is gone;
 * it must not touch the call afterwards. */
#ifndef OCTARC_PROTOCOL_CALL_H
#define OCTARC_PROTOCOL_CALL_H

#include "daemon/protocol/errors.h"
#include "daemon/protocol/fields.h"
#include "daemon/protocol/protocol.h"
#include "daemon/protocol/writer.h"
#include "daemon/util/json.h"

struct generation;
struct rpc_batch;

struct method {
    const char *name;     /* of JSON-RPC */
    const char *verb;     /* of HTTP */
    const char *paths[4]; /* NULL: no more; one that ends in '/' takes an id behind it */
    enum kind kind;
    enum role role; /* least */
    void (*run)(struct call *call);
};
const struct method *method_find(const char *name);
/* *id: what stands behind a path that ends in '/'; NULL else.  -1 with *failure: none. */
int method_route(const char *verb, const char *path, const struct method **method, const char **id,
                 struct failure *failure);

struct protocol {
    struct protocol_host host;
    struct call *calls;      /* all, newest first */
    struct generation *dead; /* to be given up at the next settle */
    uint64_t n_calls;        /* since the start: part of ids */
    uint32_t n_settling;     /* calls with settle() */
    char nonce[17];          /* of this process, in ids */
};

/* What a call waits for that is answered to all who wait for it at once. */
enum awaited { AWAITS_NOTHING, AWAITS_LIMITS, AWAITS_CHECK };

struct call {
    struct protocol *protocol;
    const struct method *method;
    struct peer peer;
    struct json doc;               /* what the body or the line was read to */
    const struct cJSON *arguments; /* the object inside; NULL: none */
    const char *path_id;           /* copied for the call */
    char id[48];                   /* "cmpl-…": shown, and taken by cancel */
    bool streaming;
    bool done_line; /* the event stream ends with [DONE] */
    enum awaited awaited;

    const struct sink *sink;
    const struct http_out *http; /* HTTP */
    void *user;
    struct rpc_session *session; /* JSON-RPC */
    struct rpc_batch *batch;
    char *rpc_id; /* JSON text; NULL: a notification, nothing is answered */

    uint32_t card;  /* drain, online: whose end is waited for … */
    bool card_used; /* … and which it should be */
    bool card_so;   /* … which it was already, nothing had to change */
    uint64_t event; /* events: number of the last one that was sent */

    void *work; /* of the handler */
    void (*abandon)(struct call *call);
    void (*cancel)(struct call *call); /* asked for by `cancel`; NULL: cannot */
    /* Called once per turn of the loop, may end the call.  True: something was said. */
    bool (*settle)(struct call *call);
    struct call *prev, *next;
};

/* How a framing wraps what a call says. */
struct sink {
    void (*answer)(struct call *call, struct buffer *json);
    void (*fail)(struct call *call, const struct failure *failure);
    void (*stream)(struct call *call);
    void (*chunk)(struct call *call, const char *json, size_t n);
    void (*end)(struct call *call);
    size_t (*unsent)(struct call *call); /* bytes the client has not taken */
};
extern const struct sink http_sink, rpc_sink;

struct call *call_create(struct protocol *protocol, const struct peer *peer,
                         const struct sink *sink);
void call_destroy(struct call *call);

/* Each of these ends the call: it is gone when they return.  *json is finished. */
void call_answer(struct call *call, struct buffer *json, int rc);
void call_fail(struct call *call, const struct failure *failure);
void call_end(struct call *call);
/* Before the first chunk. */
void call_stream(struct call *call);
void call_chunk(struct call *call, const struct buffer *json);
size_t call_unsent(struct call *call);
/* The call goes on after its handler returned; settle() looks whether there is something to say. */
void call_settles(struct call *call, bool (*settle)(struct call *call));

/* One that awaits it, and from now on no more; NULL: none.  An answer may end other calls of its
 * connection, so whoever answers all asks again after each. */
struct call *call_awaiting(struct protocol *protocol, enum awaited what);

/* The method's fields, params_finish() them.  -1: they are not as they must be, and the call
 * failed. */
int call_read_fields(struct call *call, struct params *params);

/* Check the role and run the method. */
void call_run(struct call *call);

const struct protocol_host *call_host(const struct call *call);
/* The model that can serve, or NULL with *failure: no_model, loading, or another id was asked. */
const struct model_view *call_model(struct call *call, const char *asked, struct failure *failure);

/* The handlers. */
void run_status(struct call *call);
void run_health(struct call *call);
void run_models(struct call *call);
void run_cards(struct call *call);
void run_ps(struct call *call);
void run_version(struct call *call);
void run_check(struct call *call);
void run_drill(struct call *call);
void run_reload(struct call *call);
void run_cancel(struct call *call);
void run_measure(struct call *call);
void run_drain(struct call *call);
void run_online(struct call *call);
void run_rebalance(struct call *call);
void run_events(struct call *call);
void run_metrics(struct call *call);
void run_tokenize(struct call *call);
void run_detokenize(struct call *call);
void run_apply_template(struct call *call);
void run_generate(struct call *call); /* complete, chat, completion */

/* A JSON-RPC id as it is sent back, the same text for the same id; the caller frees it.  NULL: no
 * memory. */
char *rpc_id_text(const struct cJSON *id);
/* The call of that rpc id on the same connection, or NULL. */
struct call *rpc_find(struct call *asker, const struct cJSON *id);

#endif
