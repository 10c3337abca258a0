/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC 2.0, one text a line: envelopes, batches, notifications. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/call.h"
#include "octarc/error.h"

struct rpc_session {
    struct protocol *protocol;
    struct peer peer;
    const struct rpc_out *out;
    void *user;
    size_t n_calls;
    struct rpc_batch *batches;
};

/* A batch is answered as one line, when its last request has ended. */
struct rpc_batch {
    struct rpc_session *session;
    size_t open; /* requests under way, and one while the batch is read */
    struct buffer line;
    struct rpc_batch *prev, *next;
};

int rpc_session_open(struct rpc_session **session, struct protocol *protocol,
                     const struct peer *peer, const struct rpc_out *out, void *user) {
    struct rpc_session *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    *made = (struct rpc_session){.protocol = protocol, .peer = *peer, .out = out, .user = user};
    *session = made;
    return 0;
}

size_t rpc_session_pending(const struct rpc_session *session) {
    return session->n_calls;
}

static void batch_destroy(struct rpc_batch *batch) {
    if (batch->prev)
        batch->prev->next = batch->next;
    else
        batch->session->batches = batch->next;
    if (batch->next)
        batch->next->prev = batch->prev;
    buffer_finish(&batch->line);
    free(batch);
}

static void batch_close_one(struct rpc_batch *batch) {
    if (--batch->open > 0)
        return;
    if (batch->line.n > 0 && !buffer_append(&batch->line, "]\n", 2))
        batch->session->out->line(batch->session->user, &batch->line);
    batch_destroy(batch);
}

void rpc_session_close(struct rpc_session *session) {
    struct call *next;
    if (!session)
        return;
    for (struct call *call = session->protocol->calls; call; call = next) {
        next = call->next;
        if (call->session == session)
            call_abandon(call);
    }
    while (session->batches)
        batch_destroy(session->batches);
    free(session);
}

/* One message, on its own line or into its batch.  Without memory nothing can be said. */
static void send_message(struct rpc_session *session, struct rpc_batch *batch, const char *id,
                         const char *member, const char *json, size_t n) {
    struct buffer line = {0}, *out = batch ? &batch->line : &line;
    if (batch)
        buffer_append(out, batch->line.n ? ", " : "[", batch->line.n ? 2 : 1);
    if (!buffer_reserve(out, n + strlen(id) + 80)) {
        buffer_printf(out, "{\"jsonrpc\": \"2.0\", \"id\": %s, \"%s\": ", id, member);
        buffer_append(out, json, n);
        buffer_append(out, batch ? "}" : "}\n", batch ? 1 : 2);
        if (!batch)
            session->out->line(session->user, out);
    }
    buffer_finish(&line);
}

static void finish_call(struct call *call, const char *member, const char *json, size_t n) {
    call->session->n_calls--;
    if (call->rpc_id)
        send_message(call->session, call->batch, call->rpc_id, member, json, n);
    if (call->batch)
        batch_close_one(call->batch);
}

static void rpc_answer(struct call *call, struct buffer *json) {
    finish_call(call, "result", json->bytes, json->n);
}

static void rpc_fail(struct call *call, const struct failure *failure) {
    struct buffer json = {0};
    failure_write_rpc(failure, &json);
    finish_call(call, "error", json.bytes, json.n);
    buffer_finish(&json);
}

static void rpc_stream(struct call *call) {
    (void)call; /* the first chunk says it */
}

static void rpc_chunk(struct call *call, const char *json, size_t n) {
    struct buffer line = {0};
    if (call->rpc_id && !buffer_reserve(&line, n + strlen(call->rpc_id) + 100)) {
        buffer_printf(&line,
                      "{\"jsonrpc\": \"2.0\", \"method\": \"chunk\", \"params\": {\"id\": %s, "
                      "\"chunk\": ",
                      call->rpc_id);
        buffer_append(&line, json, n);
        buffer_append(&line, "}}\n", 3);
        call->session->out->line(call->session->user, &line);
    }
    buffer_finish(&line);
}

static void rpc_end(struct call *call) {
    finish_call(call, "result", "{\"done\": true}", 14);
}

static size_t rpc_unsent(struct call *call) {
    return call->session->out->unsent(call->session->user);
}

const struct sink rpc_sink = {rpc_answer, rpc_fail, rpc_stream, rpc_chunk, rpc_end, rpc_unsent};

char *rpc_id_text(const cJSON *id) {
    char text[40];
    if (!cJSON_IsNumber(id))
        return cJSON_PrintUnformatted(id);
    /* cJSON prints 15 digits where those read back almost the same, which is another id. */
    const double x = id->valuedouble;
    const bool whole = x == floor(x) && fabs(x) <= INTEGER_TOP;
    snprintf(text, sizeof text, whole ? "%.0f" : "%.17g", x == 0 ? 0.0 : x);
    return strdup(text);
}

struct call *rpc_find(struct call *asker, const cJSON *id) {
    struct call *found = NULL;
    char *text = asker->session ? rpc_id_text(id) : NULL;
    for (struct call *call = asker->protocol->calls; text && call && !found; call = call->next)
        if (call != asker && call->session == asker->session && call->rpc_id &&
            !strcmp(call->rpc_id, text))
            found = call;
    cJSON_free(text);
    return found;
}

/* The envelope's members into the call; the answer carries the id as soon as it is known. */
static int read_envelope(struct call *call, struct failure *failure) {
    const cJSON *root = call->doc.root;
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(root, "id");
    const bool id_fits = !id || cJSON_IsString(id) || cJSON_IsNumber(id) || cJSON_IsNull(id);
    call->rpc_id =
        cJSON_IsObject(root) && !id ? NULL : (id && id_fits ? rpc_id_text(id) : strdup("null"));
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, "jsonrpc");
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(root, "method");
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(root, "params");
    const char *wrong = NULL;
    if (!cJSON_IsObject(root))
        wrong = "a message must be an object";
    else if (!id_fits)
        wrong = "'id' must be a string, a number or null";
    else if (!cJSON_IsString(version) || strcmp(version->valuestring, "2.0") != 0)
        wrong = "'jsonrpc' must be \"2.0\"";
    else if (!cJSON_IsString(method))
        wrong = "'method' must be a string";
    if (wrong) {
        /* Not a request, so not a notification either: it is answered. */
        if (!call->rpc_id)
            call->rpc_id = strdup("null");
        return failure_set(failure, ERROR_BAD_REQUEST, NULL, "%s", wrong);
    }
    if (params && !cJSON_IsObject(params) && !cJSON_IsNull(params))
        return failure_set(failure, ERROR_BAD_FIELD, "params", "'params' must be an object");
    call->arguments = cJSON_IsNull(params) ? NULL : params;
    call->method = method_find(method->valuestring);
    if (!call->method)
        return failure_set(failure, ERROR_UNKNOWN_METHOD, NULL, "no such method: '%.200s'",
                           method->valuestring);
    if (call->session->n_calls > PIPELINED_MAX)
        return failure_set(failure, ERROR_OVERLOADED, NULL,
                           "more than %d requests under way on this connection", PIPELINED_MAX);
    return 0;
}

static void refuse_line(struct rpc_session *session, const char *name, const char *message) {
    struct buffer line = {0};
    protocol_refusal(name, message, true, &line);
    session->out->line(session->user, &line);
    buffer_finish(&line);
}

static void run_message(struct rpc_session *session, struct rpc_batch *batch, char *text,
                        size_t n) {
    struct failure failure;
    struct err err;
    struct call *call = call_create(session->protocol, &session->peer, &rpc_sink);
    if (!call) {
        refuse_line(session, "failed", "no memory");
        return;
    }
    call->session = session;
    call->batch = batch;
    session->n_calls++;
    if (batch)
        batch->open++;
    const int rc = json_read(&call->doc, text, n, &err);
    if (rc) {
        call->rpc_id = strdup("null");
        failure_set(&failure,
                    rc == -EINVAL  ? ERROR_BAD_JSON
                    : rc == -E2BIG ? ERROR_TOO_BIG
                                   : ERROR_FAILED,
                    NULL, "%s", err.text);
        call_fail(call, &failure);
        return;
    }
    if (read_envelope(call, &failure)) {
        call_fail(call, &failure);
        return;
    }
    call_run(call);
}

/* The end of the element that begins at `at`, in a text that was checked. */
static size_t element_end(const char *text, size_t at) {
    unsigned depth = 0;
    for (bool in_string = false;; at++) {
        const char c = text[at];
        if (in_string) {
            if (c == '\\')
                at++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == ']')) {
            return at;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
}

/* How many elements, or BATCH_MAX + 1 when there are more. */
static unsigned count_elements(const char *text, size_t at) {
    for (unsigned n = 1;; n++) {
        at = element_end(text, at);
        if (text[at] == ']' || n > BATCH_MAX)
            return n;
        at++;
    }
}

static void run_batch(struct rpc_session *session, char *text, size_t n) {
    struct err err;
    size_t at = 0;
    const int rc = json_check(text, n, &err);
    if (rc) {
        refuse_line(session, rc == -E2BIG ? "too_big" : "bad_json", err.text);
        return;
    }
    at = strcspn(text, "[") + 1;
    if (text[at + strspn(text + at, " \t\r\n")] == ']') {
        refuse_line(session, "bad_request", "an empty batch");
        return;
    }
    if (count_elements(text, at) > BATCH_MAX) {
        refuse_line(session, "too_big", "a batch holds at most 64 messages");
        return;
    }
    struct rpc_batch *batch = calloc(1, sizeof *batch);
    if (!batch) {
        refuse_line(session, "failed", "no memory");
        return;
    }
    *batch = (struct rpc_batch){.session = session, .open = 1, .next = session->batches};
    if (batch->next)
        batch->next->prev = batch;
    session->batches = batch;
    for (bool more = true; more;) {
        const size_t end = element_end(text, at);
        more = text[end] == ',';
        run_message(session, batch, text + at, end - at);
        at = end + 1;
    }
    batch_close_one(batch);
}

void rpc_session_line(struct rpc_session *session, char *line, size_t n) {
    size_t at = 0;
    while (at < n && strchr(" \t\r", line[at]) && line[at])
        at++;
    if (at == n)
        return; /* an empty line says nothing */
    if (line[at] == '[')
        run_batch(session, line, n);
    else
        run_message(session, NULL, line, n);
}
