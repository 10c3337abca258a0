/* SPDX-License-Identifier: Apache-2.0 */
/* drain, online, rebalance: which cards are used. */
#include <errno.h>
#include <string.h>

#include "daemon/protocol/call.h"
#include "octarc/error.h"

/* --- drain, online --- */

static void answer_card(struct call *call, const struct card_view *view) {
    const struct protocol_host *host = call_host(call);
    struct status_view status = {0};
    struct buffer out = {0};
    struct writer w = {.out = &out};
    host->status(host->user, &status);
    write_open(&w, '{');
    write_key_int(&w, "card", view->card);
    write_key_string(&w, "state", view->state);
    write_key_int(&w, "generation", (int64_t)status.generation);
    write_key_bool(&w, "changed", !call->card_so);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

/* It came to an end that is not the one that was asked for. */
static void fail_card(struct call *call, const struct card_view *view) {
    struct failure failure;
    struct change_view last = {0}, change;
    for (uint32_t i = 0; view->change && view->change(view->history, i, &change); i++)
        last = change;
    failure_set(&failure, ERROR_FAILED, "card", "card %u is %s: %s", view->card, view->state,
                last.why ? last.why : "something else happened to it");
    call_fail(call, &failure);
}

static bool settle_card(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct card_view views[CARDS_MAX];
    struct status_view status = {0};
    struct failure failure;
    memset(views, 0, sizeof views);
    host->status(host->user, &status);
    const uint32_t n = host->cards(host->user, views);
    const struct card_view *view = &views[call->card];
    if (status.state == SERVICE_DRAINING) {
        failure_set(&failure, ERROR_DRAINING, NULL, "the service is stopping");
        call_fail(call, &failure);
        return true;
    }
    if (call->card >= n || view->moving)
        return false;
    if (view->used == call->card_used)
        answer_card(call, view);
    else
        fail_card(call, view);
    return true;
}

static int fail_change(struct call *call, int rc, const struct err *err) {
    struct failure failure;
    failure_set(&failure, rc == -EINVAL || rc == -ENOSPC ? ERROR_BAD_FIELD : ERROR_FAILED, "card",
                "%s", err->text);
    call_fail(call, &failure);
    return -1;
}

static struct card_view look_at(const struct protocol_host *host, int64_t card) {
    struct card_view views[CARDS_MAX];
    memset(views, 0, sizeof views);
    host->cards(host->user, views);
    return views[card];
}

/* The card is on its way: wait for it, or tell how far it is. */
static void follow_card(struct call *call, const struct params *params, const char *before,
                        bool used) {
    const struct card_view view = look_at(call_host(call), params->card);
    call->card = (uint32_t)params->card;
    call->card_used = used;
    call->card_so = !view.moving && !strcmp(view.state, before);
    if (params->wait)
        call_settles(call, settle_card);
    else
        answer_card(call, &view);
}

static int read_card(struct call *call, struct params *params) {
    struct failure failure;
    if (call_read_fields(call, params))
        return -1;
    if (params->card >= 0)
        return 0;
    failure_set(&failure, ERROR_BAD_FIELD, "card", "'card' is missing");
    call_fail(call, &failure);
    return -1;
}

void run_drain(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct err err = {{0}};
    if (read_card(call, &params))
        return;
    const char *before = look_at(host, params.card).state;
    const int rc = host->drain(host->user, (uint32_t)params.card, params.release, &err);
    if (rc == 0)
        follow_card(call, &params, before, false);
    else
        fail_change(call, rc, &err);
}

void run_online(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct err err = {{0}};
    if (read_card(call, &params))
        return;
    const char *before = look_at(host, params.card).state;
    const int rc = host->online(host->user, (uint32_t)params.card, &err);
    if (rc == 0)
        follow_card(call, &params, before, true);
    else
        fail_change(call, rc, &err);
}

/* --- rebalance --- */

static void write_range(struct writer *w, const char *key, uint64_t begin, uint64_t end) {
    write_key(w, key);
    write_open(w, '[');
    write_int(w, (int64_t)begin);
    write_int(w, (int64_t)end);
    write_close(w, ']');
}

static void write_move(struct writer *w, const struct move *move, const char *tensor) {
    write_open(w, '{');
    write_key_string(w, "tensor", tensor);
    write_range(w, "rows", move->row_begin, move->row_end);
    write_range(w, "cols", move->col_begin, move->col_end);
    write_key_int(w, "bytes", (int64_t)move->bytes);
    write_key(w, "from");
    if (move->from == MOVE_FROM_FILE)
        write_string(w, NULL);
    else
        write_int(w, move->from);
    write_key_int(w, "to", move->to);
    write_close(w, '}');
}

void run_rebalance(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct failure failure;
    struct err err = {{0}};
    struct rebalance_view view = {0};
    struct buffer out = {0};
    struct writer w = {.out = &out};
    if (call_read_fields(call, &params))
        return;
    const int rc = host->rebalance(host->user, params.dry_run, &view, &err);
    if (rc < 0) {
        failure_set(&failure, rc == -ENODEV ? ERROR_NO_DEVICE : ERROR_FAILED, NULL, "%s", err.text);
        call_fail(call, &failure);
        return;
    }
    write_open(&w, '{');
    write_key_bool(&w, "changes", view.changes);
    write_key_bool(&w, "dry_run", params.dry_run);
    write_key_int(&w, "moved_bytes", (int64_t)view.moves.card_bytes);
    write_key_int(&w, "file_bytes", (int64_t)view.moves.file_bytes);
    write_key_int(&w, "kept_bytes", (int64_t)view.moves.kept_bytes);
    write_key_int(&w, "reload_bytes", (int64_t)view.reload_bytes);
    write_key(&w, "moves");
    write_open(&w, '[');
    for (size_t i = 0; i < view.moves.n; i++)
        write_move(&w, &view.moves.moves[i], view.model->tensors[view.moves.moves[i].tensor].name);
    write_close(&w, ']');
    write_close(&w, '}');
    moves_finish(&view.moves);
    call_answer(call, &out, w.rc);
}
