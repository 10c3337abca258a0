/* SPDX-License-Identifier: Apache-2.0 */
/* What the service says about itself: status, health, models, ps, version. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/protocol/call.h"
#include "models/tokenizer/tokenizer.h"

static const char *state_name(enum service_state state) {
    static const char *const names[] = {"no_model",   "loading",   "ready",
                                        "recovering", "no_device", "draining"};
    return names[state];
}

static void write_requests(struct writer *w, const struct scheduler_counts *counts) {
    write_key(w, "requests");
    write_open(w, '{');
    write_key_int(w, "queued", counts->queued);
    write_key_int(w, "running", counts->running);
    write_key_int(w, "accepted", (int64_t)counts->accepted);
    write_key_int(w, "finished", (int64_t)counts->finished);
    write_key_int(w, "cancelled", (int64_t)counts->cancelled);
    write_key_int(w, "failed", (int64_t)counts->failed);
    write_key_int(w, "recovered", (int64_t)counts->recovered);
    write_close(w, '}');
    write_key(w, "tokens");
    write_open(w, '{');
    write_key_int(w, "prompt", (int64_t)counts->prompt_tokens);
    write_key_int(w, "completion", (int64_t)counts->completion_tokens);
    write_close(w, '}');
}

void run_status(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct status_view view = {0};
    struct scheduler_counts counts = {0};
    struct buffer out = {0};
    struct writer w = {.out = &out};
    if (call_read_fields(call, &params))
        return;
    host->status(host->user, &view);
    struct scheduler *scheduler = host->scheduler(host->user);
    if (scheduler)
        scheduler_counts(scheduler, &counts);
    const struct model_view *model = host->model(host->user);
    write_open(&w, '{');
    write_key_string(&w, "version", view.version);
    write_key_string(&w, "state", state_name(view.state));
    write_key_string(&w, "status", view.status_text);
    write_key_string(&w, "model", model ? model->id : NULL);
    write_key_string(&w, "model_path", view.model_path);
    write_key_string(&w, "backend", view.backend);
    write_key_string(&w, "backend_why", view.backend_why);
    write_key_string(&w, "storage", view.storage);
    write_key_string(&w, "storage_why", view.storage_why);
    write_key_string(&w, "products", view.products);
    write_key_string(&w, "products_why", view.products_why);
    write_key_string(&w, "kernels", view.kernels);
    write_key_string(&w, "kernels_why", view.kernels_why);
    write_key_string(&w, "split", view.split);
    write_key_string(&w, "weights", view.weights);
    write_key_int(&w, "weights_bytes", (int64_t)view.weights_bytes);
    write_key_int(&w, "reused_bytes", (int64_t)view.reused_bytes);
    write_key_known(&w, "huge_bytes", view.huge_bytes);
    write_key_int(&w, "host_bytes", (int64_t)view.host_bytes);
    write_key_int(&w, "host_spill", (int64_t)view.host_spill);
    write_key_string(&w, "kv_type", view.kv_type);
    write_key_int(&w, "generation", (int64_t)view.generation);
    write_key_int(&w, "rebalances", (int64_t)view.rebalances);
    write_key_int(&w, "uptime_s", (int64_t)(view.uptime_ns / 1000000000u));
    write_key_int(&w, "cards", view.n_cards);
    write_key_int(&w, "cards_online", view.cards_online);
    write_key_string(&w, "cards_why", view.cards_why[0] ? view.cards_why : NULL);
    write_key_int(&w, "context", view.context);
    write_key_int(&w, "max_sequences", view.max_sequences);
    write_key(&w, "load");
    write_open(&w, '{');
    write_key_int(&w, "done_bytes", (int64_t)view.load_done_bytes);
    write_key_int(&w, "total_bytes", (int64_t)view.load_total_bytes);
    write_close(&w, '}');
    write_requests(&w, &counts);
    write_key_string(&w, "last_event", view.last_event);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

void run_health(struct call *call) {
    struct params params;
    struct failure failure;
    struct buffer out = {0};
    struct status_view view = {0};
    const struct protocol_host *host = call_host(call);
    if (call_read_fields(call, &params))
        return;
    host->status(host->user, &view);
    /* While a model loads, requests wait in the queue, but nobody who asks before sending one
     * should be told that all is well.  A recovery is no reason to go elsewhere: it keeps every
     * request. */
    const bool loading = view.state == SERVICE_LOADING, draining = view.state == SERVICE_DRAINING;
    const bool no_device = view.state == SERVICE_NO_DEVICE;
    if (loading)
        failure_set(&failure, ERROR_LOADING, NULL, "Loading model");
    else if (draining)
        failure_set(&failure, ERROR_DRAINING, NULL, "the service is stopping");
    else if (no_device)
        failure_set(&failure, ERROR_NO_DEVICE, NULL, "%s", view.status_text);
    if (loading || draining || no_device || !call_model(call, NULL, &failure)) {
        call_fail(call, &failure);
        return;
    }
    call_answer(call, &out, buffer_printf(&out, "{\"status\": \"ok\"}"));
}

static void write_model(struct writer *w, const struct model_view *model) {
    write_open(w, '{');
    write_key_string(w, "id", model->id);
    write_key_string(w, "object", "model");
    write_key_int(w, "created", (int64_t)model->created);
    write_key_string(w, "owned_by", "octarc");
    write_key(w, "meta");
    write_open(w, '{');
    /* llama.cpp's numbers: 1 SentencePiece, 2 byte-level BPE. */
    write_key_int(w, "vocab_type", tokenizer_is_byte_level(model->tokenizer) ? 2 : 1);
    write_key_int(w, "n_vocab", tokenizer_n_vocab(model->tokenizer));
    write_key_int(w, "n_ctx", model->context);
    write_key_int(w, "n_ctx_train", model->params->n_ctx_train);
    write_key_int(w, "n_embd", model->params->n_embd);
    write_key_int(w, "n_params", (int64_t)model->n_params);
    write_key_int(w, "size", (int64_t)model->file_bytes);
    write_close(w, '}');
    write_close(w, '}');
}

void run_models(struct call *call) {
    const struct protocol_host *host = call_host(call);
    const struct model_view *model = host->model(host->user);
    struct params params;
    struct failure failure;
    struct buffer out = {0};
    struct writer w = {.out = &out};
    if (call_read_fields(call, &params))
        return;
    const char *id = call->path_id ? call->path_id : params.id;
    if (id) {
        if (!model || strcmp(model->id, id) != 0) {
            failure_set(&failure, ERROR_NOT_FOUND, "model", "no model '%.200s' is loaded", id);
            call_fail(call, &failure);
            return;
        }
        write_model(&w, model);
    } else {
        write_open(&w, '{');
        write_key_string(&w, "object", "list");
        write_key(&w, "data");
        write_open(&w, '[');
        if (model)
            write_model(&w, model);
        write_close(&w, ']');
        write_close(&w, '}');
    }
    call_answer(call, &out, w.rc);
}

struct ps {
    struct writer w;
    const struct peer *peer;
};

static void write_request(void *user, const struct request_view *view) {
    struct ps *ps = user;
    struct writer *w = &ps->w;
    char id[32];
    /* A user sees the own requests, an administrator everyone's. */
    if (ps->peer->role != ROLE_ADMIN && ps->peer->uid != view->uid)
        return;
    snprintf(id, sizeof id, "req-%" PRIu64, view->id);
    write_open(w, '{');
    write_key_string(w, "id", id);
    write_key_int(w, "uid", view->uid);
    write_key_string(w, "kind", view->kind);
    write_key_string(w, "state", view->state);
    write_key_int(w, "n", view->n);
    write_key_int(w, "prompt_tokens", view->prompt_tokens);
    write_key_int(w, "completion_tokens", view->completion_tokens);
    write_key_int(w, "replays", view->replays);
    write_key_number(w, "age_s", (double)(view->age_ns / 1000000u) / 1000.0);
    write_close(w, '}');
}

void run_ps(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct scheduler *scheduler = host->scheduler(host->user);
    struct params params;
    struct buffer out = {0};
    struct ps ps = {.w = {.out = &out}, .peer = &call->peer};
    if (call_read_fields(call, &params))
        return;
    write_open(&ps.w, '{');
    write_key(&ps.w, "requests");
    write_open(&ps.w, '[');
    if (scheduler)
        scheduler_each(scheduler, host->now_ns(host->user), write_request, &ps);
    write_close(&ps.w, ']');
    write_close(&ps.w, '}');
    call_answer(call, &out, ps.w.rc);
}

void run_version(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct status_view view = {0};
    struct buffer out = {0};
    struct writer w = {.out = &out};
    if (call_read_fields(call, &params))
        return;
    host->status(host->user, &view);
    write_open(&w, '{');
    write_key_string(&w, "version", view.version);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}
