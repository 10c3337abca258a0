/* SPDX-License-Identifier: Apache-2.0 */
/* The method check: are the weights in use what was loaded. */
#include <errno.h>

#include "daemon/protocol/call.h"
#include "octarc/error.h"

static void answer_check(struct call *call, const struct check_view *view, const char *why) {
    struct failure failure;
    struct buffer out = {0};
    struct writer w = {.out = &out};
    int64_t harmed = 0, repaired = 0;
    if (!view) {
        failure_set(&failure, ERROR_FAILED, NULL, "%s", why);
        call_fail(call, &failure);
        return;
    }
    write_open(&w, '{');
    write_key(&w, "cards");
    write_open(&w, '[');
    for (uint32_t i = 0; i < view->n_cards; i++) {
        const struct checked_card *c = &view->cards[i];
        write_open(&w, '{');
        write_key_int(&w, "card", c->card);
        write_key_int(&w, "ranges", c->ranges);
        write_key_int(&w, "bytes", (int64_t)c->bytes);
        write_key_number(&w, "seconds", c->seconds);
        write_key_int(&w, "harmed", c->harmed);
        write_key_int(&w, "repaired", c->repaired);
        write_close(&w, '}');
        harmed += c->harmed;
        repaired += c->repaired;
    }
    write_close(&w, ']');
    write_key_int(&w, "harmed", harmed);
    write_key_int(&w, "repaired", repaired);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}

static void on_checked(void *arg, const struct check_view *view, const char *why) {
    struct call *call;
    while ((call = call_awaiting(arg, AWAITS_CHECK)))
        answer_check(call, view, why);
}

void run_check(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct failure failure;
    struct err err = {{0}};
    if (call_read_fields(call, &params))
        return;
    const int64_t card = params.card;
    params_finish(&params);
    if (!call_model(call, NULL, &failure)) {
        call_fail(call, &failure);
        return;
    }
    call->awaited = AWAITS_CHECK;
    const int rc = host->check(host->user, card, on_checked, call->protocol, &err);
    if (rc == 0)
        return;
    call->awaited = AWAITS_NOTHING;
    failure_set(&failure,
                rc == -EINVAL   ? ERROR_BAD_FIELD
                : rc == -ENODEV ? ERROR_LOADING
                                : ERROR_FAILED,
                rc == -EINVAL ? "card" : NULL, "%s", err.text);
    call_fail(call, &failure);
}
