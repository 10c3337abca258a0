/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/protocol.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/protocol/call.h"
#include "daemon/protocol/generate.h"
#include "octarc/error.h"

int protocol_create(struct protocol **protocol, const struct protocol_host *host) {
    struct protocol *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    made->host = *host;
    if (!made->host.max_request_bytes)
        made->host.max_request_bytes = REQUEST_BYTES_DEFAULT;
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = host->now_ns(host->user); /* ids stay unique inside this process */
    snprintf(made->nonce, sizeof made->nonce, "%016" PRIx64, random);
    *protocol = made;
    return 0;
}

void protocol_destroy(struct protocol *protocol) {
    if (!protocol)
        return;
    while (protocol->calls)
        call_abandon(protocol->calls);
    protocol_settle(protocol);
    free(protocol);
}

const struct protocol_host *protocol_host_of(const struct protocol *protocol) {
    return &protocol->host;
}

bool protocol_settle(struct protocol *protocol) {
    struct call *next;
    bool said = false;
    for (struct call *call = protocol->n_settling ? protocol->calls : NULL; call; call = next) {
        next = call->next; /* what is said ends no other call before the next turn */
        if (call->settle)
            said |= call->settle(call);
    }
    generation_bury(protocol);
    return said;
}

struct call *call_awaiting(struct protocol *protocol, enum awaited what) {
    struct call *call = protocol->calls;
    while (call && call->awaited != what)
        call = call->next;
    if (call)
        call->awaited = AWAITS_NOTHING;
    return call;
}

void call_settles(struct call *call, bool (*settle)(struct call *call)) {
    call->settle = settle;
    call->protocol->n_settling++;
}

struct call *call_create(struct protocol *protocol, const struct peer *peer,
                         const struct sink *sink) {
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->protocol = protocol;
    call->peer = *peer;
    call->sink = sink;
    call->done_line = true;
    call->next = protocol->calls;
    if (call->next)
        call->next->prev = call;
    protocol->calls = call;
    protocol->n_calls++;
    return call;
}

void call_destroy(struct call *call) {
    if (call->prev)
        call->prev->next = call->next;
    else
        call->protocol->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    call->protocol->n_settling -= call->settle != NULL;
    json_finish(&call->doc);
    free(call->rpc_id);
    free(call);
}

void call_abandon(struct call *call) {
    if (call->abandon)
        call->abandon(call);
    call_destroy(call);
}

const struct protocol_host *call_host(const struct call *call) {
    return &call->protocol->host;
}

void call_fail(struct call *call, const struct failure *failure) {
    call->sink->fail(call, failure);
    call_destroy(call);
}

void call_answer(struct call *call, struct buffer *json, int rc) {
    struct failure failure;
    if (!rc && json->n > REPLY_BYTES_MAX)
        failure_set(&failure, ERROR_TOO_BIG, NULL, "the answer has %zu bytes; the most is %u",
                    json->n, REPLY_BYTES_MAX);
    else if (rc)
        failure_set(&failure, ERROR_FAILED, NULL, "no memory for the answer");
    else
        call->sink->answer(call, json);
    if (rc || json->n > REPLY_BYTES_MAX)
        call->sink->fail(call, &failure);
    buffer_finish(json);
    call_destroy(call);
}

void call_stream(struct call *call) {
    call->streaming = true;
    call->sink->stream(call);
}

void call_chunk(struct call *call, const struct buffer *json) {
    call->sink->chunk(call, json->bytes, json->n);
}

size_t call_unsent(struct call *call) {
    return call->sink->unsent(call);
}

void call_end(struct call *call) {
    call->sink->end(call);
    call_destroy(call);
}

int call_read_fields(struct call *call, struct params *params) {
    struct failure failure;
    if (!params_read(params, call->method->kind, &call->doc, call->arguments, NULL, &failure))
        return 0;
    params_finish(params);
    call_fail(call, &failure);
    return -1;
}

void call_run(struct call *call) {
    struct failure failure;
    if (call->method->role == ROLE_ADMIN && call->peer.role != ROLE_ADMIN) {
        failure_set(&failure, ERROR_NOT_PERMITTED, NULL,
                    "'%s' is for administrators: root, the service's user, or its admin group",
                    call->method->name);
        call_fail(call, &failure);
        return;
    }
    call->method->run(call);
}

const struct model_view *call_model(struct call *call, const char *asked, struct failure *failure) {
    const struct protocol_host *host = call_host(call);
    const struct model_view *model = host->model(host->user);
    struct status_view status = {0};
    host->status(host->user, &status);
    if (status.state == SERVICE_DRAINING) {
        failure_set(failure, ERROR_DRAINING, NULL, "the service is stopping");
        return NULL;
    }
    if (!model) {
        if (status.state == SERVICE_LOADING)
            failure_set(failure, ERROR_LOADING, NULL, "Loading model");
        else
            failure_set(failure, ERROR_NO_MODEL, NULL, "no model is loaded");
        return NULL;
    }
    if (asked && *asked && strcmp(asked, "default") != 0 && strcmp(asked, model->id) != 0) {
        failure_set(failure, ERROR_NOT_FOUND, "model",
                    "the model '%.200s' is not loaded; '%.200s' is", asked, model->id);
        return NULL;
    }
    return model;
}

static void http_answer(struct call *call, struct buffer *json) {
    call->http->answer(call->user, 200, json);
}

static void http_fail(struct call *call, const struct failure *failure) {
    struct buffer out = {0};
    if (!call->streaming) {
        buffer_printf(&out, "{\"error\": ");
        failure_write_http(failure, &out);
        buffer_append(&out, "}", 1);
        call->http->answer(call->user, error_infos[failure->id].http, &out);
    } else {
        buffer_printf(&out, "data: {\"error\": ");
        failure_write_http(failure, &out);
        buffer_append(&out, "}\n\n", 3);
        call->http->data(call->user, out.bytes, out.n);
        call->http->end(call->user);
    }
    buffer_finish(&out);
}

static void http_stream(struct call *call) {
    call->http->stream(call->user);
}

static void http_chunk(struct call *call, const char *json, size_t n) {
    /* In one piece: the limits of a slow client count whole chunks. */
    struct buffer event = {0};
    buffer_reserve(&event, n + 8);
    if (!buffer_append(&event, "data: ", 6) && !buffer_append(&event, json, n) &&
        !buffer_append(&event, "\n\n", 2))
        call->http->data(call->user, event.bytes, event.n);
    buffer_finish(&event);
}

static void http_end(struct call *call) {
    static const char done[] = "data: [DONE]\n\n";
    if (call->done_line)
        call->http->data(call->user, done, sizeof done - 1);
    call->http->end(call->user);
}

static size_t http_unsent(struct call *call) {
    return call->http->unsent(call->user);
}

const struct sink http_sink = {http_answer, http_fail, http_stream,
                               http_chunk,  http_end,  http_unsent};

static int read_body(struct call *call, const struct http_request *request,
                     struct failure *failure) {
    struct err err;
    if (request->n_body == 0)
        return 0;
    const int rc = json_read(&call->doc, request->body, request->n_body, &err);
    if (rc)
        return failure_set(failure,
                           rc == -EINVAL  ? ERROR_BAD_JSON
                           : rc == -E2BIG ? ERROR_TOO_BIG
                                          : ERROR_FAILED,
                           NULL, "%s", err.text);
    call->arguments = call->doc.root;
    return 0;
}

void protocol_http(struct protocol *protocol, const struct http_request *request,
                   const struct peer *peer, const struct http_out *out, void *user,
                   struct call **handle) {
    struct failure failure;
    *handle = NULL;
    struct call *call = call_create(protocol, peer, &http_sink);
    if (!call) {
        struct buffer body = {0};
        const unsigned status = protocol_refusal("failed", "no memory", false, &body);
        out->answer(user, status, &body);
        buffer_finish(&body);
        return;
    }
    call->http = out;
    call->user = user;
    if (method_route(request->verb, request->path, &call->method, &call->path_id, &failure) ||
        read_body(call, request, &failure)) {
        call_fail(call, &failure);
        return;
    }
    call_run(call);
    /* The newest call is at the front; it is still ours exactly when it goes on. */
    if (protocol->calls == call)
        *handle = call;
}
