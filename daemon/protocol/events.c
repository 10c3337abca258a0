/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, and what happens: the events of the service, whole or as a stream.
 *
 * The service's ring is all there is of a buffer.  A follower is sent events while it takes them;
 * one that does not is told afterwards which are no longer kept. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/call.h"

#define UNSENT_MOST (64u << 10) /* with more than this unsent a follower is sent nothing more */

static void write_event(struct writer *w, const struct event *event) {
    write_open(w, '{');
    write_key_int(w, "number", (int64_t)event->number);
    write_key_int(w, "at_ms", (int64_t)event->ms);
    write_key_string(w, "kind", event->kind);
    if (event->card >= 0)
        write_key_int(w, "card", event->card);
    if (event->tensor[0])
        write_key_string(w, "tensor", event->tensor);
    if (event->from)
        write_key_string(w, "from", event->from);
    if (event->to)
        write_key_string(w, "to", event->to);
    if (event->generation)
        write_key_int(w, "generation", (int64_t)event->generation);
    if (event->seconds >= 0)
        write_key_number(w, "seconds", event->seconds);
    if (event->requests)
        write_key_int(w, "requests", event->requests);
    if (event->has_bytes) {
        write_key_int(w, "moved_bytes", (int64_t)event->moved_bytes);
        write_key_int(w, "reloaded_bytes", (int64_t)event->reloaded_bytes);
        write_key_int(w, "reused_bytes", (int64_t)event->reused_bytes);
    }
    if (event->has_tokens)
        write_key_int(w, "tokens", (int64_t)event->tokens);
    write_key_string(w, "text", event->text);
    write_close(w, '}');
}

/* The event behind `since`; where it is not kept any more, one that says so in its place.  False:
 * there is none yet. */
static bool next_event(const struct protocol_host *host, uint64_t since, struct event *out) {
    uint64_t first, last;
    host->event_range(host->user, &first, &last);
    if (since >= last)
        return false;
    if (since + 1 >= first) {
        *out = *host->event(host->user, since + 1);
        return true;
    }
    *out = (struct event){.number = first - 1, .kind = "gap", .card = -1, .seconds = -1};
    snprintf(out->text, sizeof out->text,
             "events %" PRIu64 " to %" PRIu64 " are not kept any more (key max_events)", since + 1,
             first - 1);
    return true;
}

static bool settle_events(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct status_view status = {0};
    struct event event;
    bool said = false;
    while (call_unsent(call) < UNSENT_MOST && next_event(host, call->event, &event)) {
        struct buffer json = {0};
        struct writer w = {.out = &json};
        write_event(&w, &event);
        if (w.rc == 0)
            call_chunk(call, &json);
        buffer_finish(&json);
        call->event = event.number;
        said = true;
    }
    host->status(host->user, &status);
    if (status.state != SERVICE_DRAINING)
        return said;
    call_end(call);
    return true;
}

static void cancel_events(struct call *call) {
    struct failure failure;
    failure_set(&failure, ERROR_CANCELLED, NULL, "the request was cancelled");
    call_fail(call, &failure);
}

static void answer_events(struct call *call, uint64_t since) {
    const struct protocol_host *host = call_host(call);
    struct event event;
    struct buffer out = {0};
    struct writer w = {.out = &out};
    write_open(&w, '{');
    write_key(&w, "events");
    write_open(&w, '[');
    while (next_event(host, since, &event)) {
        write_event(&w, &event);
        since = event.number;
    }
    write_close(&w, ']');
    write_key_int(&w, "last", (int64_t)since);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

/* An HTTP request without a body asks for the stream.  A path is /octarc/v1/events/57: those behind
 * number 57. */
static int read_since(struct call *call, const struct params *params, uint64_t *since) {
    char *end;
    *since = (uint64_t)params->since;
    if (!call->path_id)
        return 0;
    errno = 0;
    *since = strtoull(call->path_id, &end, 10);
    return errno || *end || *call->path_id < '0' || *call->path_id > '9' ? -EINVAL : 0;
}

void run_events(struct call *call) {
    struct params params;
    struct failure failure;
    uint64_t since;
    if (call_read_fields(call, &params))
        return;
    params_finish(&params);
    if (read_since(call, &params, &since)) {
        failure_set(&failure, ERROR_BAD_FIELD, "since", "the number of an event is digits");
        call_fail(call, &failure);
    } else if (!params.stream && !(call->http && !call->arguments)) {
        answer_events(call, since);
    } else {
        call->event = since;
        call->cancel = cancel_events;
        snprintf(call->id, sizeof call->id, "events-%s-%" PRIu64, call->protocol->nonce,
                 call->protocol->n_calls);
        call_settles(call, settle_events);
        call_stream(call);
    }
}
