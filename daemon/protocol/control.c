/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the service or occupies it: drill, reload, cancel, measure. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/call.h"
#include "octarc/error.h"

static bool takes_card(const struct params *params) {
    return params->fault && (!strcmp(params->fault, "lose") || !strcmp(params->fault, "hang") ||
                             !strcmp(params->fault, "return") || !strcmp(params->fault, "corrupt"));
}

void run_drill(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct failure failure;
    struct err err = {{0}};
    struct status_view view = {0};
    struct buffer out = {0};
    struct writer w = {.out = &out};
    int rc = -EINVAL;
    if (call_read_fields(call, &params))
        return;
    if (params.fault && !strcmp(params.fault, "lose"))
        rc = host->drill_lose(host->user, (uint32_t)params.card, &err);
    else if (params.fault && !strcmp(params.fault, "hang"))
        rc = host->drill_hang(host->user, (uint32_t)params.card, &err);
    else if (params.fault && !strcmp(params.fault, "kill-engine"))
        rc = host->drill_kill_engine(host->user, &err);
    else if (params.fault && !strcmp(params.fault, "return"))
        rc = host->drill_return(host->user, (uint32_t)params.card, &err);
    else if (params.fault && !strcmp(params.fault, "corrupt"))
        rc = host->drill_corrupt(host->user, (uint32_t)params.card, params.silent, &err);
    else
        err_set(&err, 0,
                "'fault' must be \"lose\", \"hang\", \"return\", \"corrupt\" or \"kill-engine\"");
    if (rc) {
        failure_set(&failure,
                    rc == -EPERM    ? ERROR_NOT_PERMITTED
                    : rc == -EINVAL ? ERROR_BAD_FIELD
                                    : ERROR_FAILED,
                    rc != -EINVAL         ? NULL
                    : takes_card(&params) ? "card"
                                          : "fault",
                    "%s", err.text);
        call_fail(call, &failure);
        return;
    }
    host->status(host->user, &view);
    write_open(&w, '{');
    write_key_string(&w, "fault", params.fault);
    write_key_int(&w, "card", params.card);
    write_key_int(&w, "generation", (int64_t)view.generation);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

void run_reload(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct failure failure;
    struct err err = {{0}};
    struct buffer out = {0};
    if (call_read_fields(call, &params))
        return;
    if (host->reload(host->user, &err)) {
        failure_set(&failure, ERROR_FAILED, NULL, "%s", err.text);
        call_fail(call, &failure);
        return;
    }
    call_answer(call, &out, buffer_printf(&out, "{\"reloaded\": true}"));
}

/* A call under way that the asker may cancel, by its shown id or by its id on this connection. */
static struct call *find_call(struct call *asker, const struct params *params) {
    if (params->rpc_id)
        return rpc_find(asker, params->rpc_id);
    for (struct call *call = asker->protocol->calls; params->id && call; call = call->next)
        if (!strcmp(call->id, params->id) && call->cancel &&
            (asker->peer.role == ROLE_ADMIN || asker->peer.uid == call->peer.uid))
            return call;
    return NULL;
}

static bool parse_request_id(const struct params *params, uint64_t *id) {
    if (params->id_number >= 0) {
        *id = (uint64_t)params->id_number;
        return true;
    }
    if (!params->id || strncmp(params->id, "req-", 4) != 0 || params->id[4] < '0' ||
        params->id[4] > '9')
        return false;
    char *end;
    errno = 0;
    *id = strtoull(params->id + 4, &end, 10);
    return !errno && !*end;
}

/* As it was asked for. */
static void write_asked_id(struct writer *w, const struct params *params) {
    char *text = params->rpc_id ? rpc_id_text(params->rpc_id) : NULL;
    if (text)
        write_raw(w, text, strlen(text));
    else if (params->rpc_id)
        w->rc = -ENOMEM;
    else if (params->id)
        write_string(w, params->id);
    else
        write_int(w, params->id_number);
    free(text);
}

void run_cancel(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct failure failure;
    struct buffer out = {0};
    struct writer w = {.out = &out};
    uint64_t id = 0;
    if (call_read_fields(call, &params))
        return;
    const bool by_number = parse_request_id(&params, &id);
    struct call *found = find_call(call, &params);
    struct scheduler *scheduler = host->scheduler(host->user);
    const bool anyone = call->peer.role == ROLE_ADMIN;
    if (!params.rpc_id && !params.id && params.id_number < 0)
        failure_set(&failure, ERROR_BAD_FIELD, "id", "'id' is missing");
    else
        failure_set(&failure, ERROR_NOT_FOUND, "id", "no such request of yours is under way");
    if (found && found->cancel) {
        found->cancel(found);
    } else if (!by_number || !scheduler ||
               scheduler_cancel(scheduler, id, call->peer.uid, anyone)) {
        call_fail(call, &failure);
        return;
    }
    write_open(&w, '{');
    write_key(&w, "id");
    write_asked_id(&w, &params);
    write_key_bool(&w, "cancelled", true);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

static void answer_limits(struct call *call, const struct limits_view *limits, const char *why) {
    struct failure failure;
    struct buffer out = {0};
    struct writer w = {.out = &out};
    if (!limits) {
        failure_set(&failure, ERROR_FAILED, NULL, "%s", why);
        call_fail(call, &failure);
        return;
    }
    write_open(&w, '{');
    write_key_int(&w, "read_bytes_per_s", (int64_t)limits->read_bytes_per_s);
    write_key_int(&w, "int8_ops_per_s", (int64_t)limits->int8_ops_per_s);
    write_key_int(&w, "weights_bytes", (int64_t)limits->weights_bytes);
    write_key_known(&w, "huge_bytes", limits->huge_bytes);
    write_key_int(&w, "token_bytes", (int64_t)limits->token_bytes);
    write_key_int(&w, "layer_params", (int64_t)limits->layer_params);
    write_key_int(&w, "threads", limits->n_threads);
    write_key_string(&w, "isa", limits->isa);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

static void on_limits(void *arg, const struct limits_view *limits, const char *why) {
    struct call *call;
    while ((call = call_awaiting(arg, AWAITS_LIMITS)))
        answer_limits(call, limits, why);
}

void run_measure(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct failure failure;
    struct err err = {{0}};
    if (call_read_fields(call, &params))
        return;
    params_finish(&params);
    call->awaited = AWAITS_LIMITS;
    if (!call_model(call, NULL, &failure)) {
        call_fail(call, &failure);
    } else if (host->measure(host->user, on_limits, call->protocol, &err)) {
        failure_set(&failure, ERROR_LOADING, NULL, "%s", err.text);
        call_fail(call, &failure);
    }
}
