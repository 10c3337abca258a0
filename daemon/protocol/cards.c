/* SPDX-License-Identifier: Apache-2.0 */
/* The method cards: what each card is and holds, and the peer links. */
#include <string.h>

#include "daemon/protocol/box.h"
#include "daemon/protocol/call.h"

static void write_history(struct writer *w, const struct card_view *view) {
    struct change_view change;
    write_key(w, "faults");
    write_open(w, '{');
    for (uint32_t i = 0; i < view->n_faults; i++)
        write_key_int(w, view->faults[i].name, (int64_t)view->faults[i].count);
    write_close(w, '}');
    write_key(w, "history");
    write_open(w, '[');
    for (uint32_t i = 0; view->change && view->change(view->history, i, &change); i++) {
        write_open(w, '{');
        write_key_int(w, "at_ms", (int64_t)change.ms);
        write_key_string(w, "from", change.from);
        write_key_string(w, "to", change.to);
        write_key_string(w, "why", change.why);
        write_close(w, '}');
    }
    write_close(w, ']');
}

static void write_card(struct writer *w, const struct card_view *view) {
    static const struct plan_card none = {0};
    const struct plan_card *plan = view->plan ? view->plan : &none;
    const uint64_t spilled = view->weights_bytes ? plan->spilled_bytes : 0;
    const struct account planned = account_of(plan);
    const struct account actual = {view->weights_bytes - spilled, view->kv_bytes,
                                   view->scratch_bytes, view->landing_bytes, spilled};
    const uint64_t used = actual.weights + actual.kv + actual.scratch + actual.landing;
    write_open(w, '{');
    write_key_int(w, "card", view->card);
    write_described(w, view->described);
    write_key_string(w, "identity", view->identity);
    write_key_string(w, "state", view->state);
    write_key_int(w, "since_ms", (int64_t)view->since_ms);
    write_key_int(w, "capacity_bytes", (int64_t)view->capacity_bytes);
    write_range(w, "layers", plan->layer_begin, plan->layer_end);
    write_range(w, "lanes", plan->lane_begin, plan->lane_end);
    write_range(w, "heads", plan->head_begin, plan->head_end);
    write_range(w, "kv_heads", plan->kv_begin, plan->kv_end);
    write_account(w, "planned", &planned);
    write_account(w, "actual", &actual);
    write_key_int(w, "free_bytes",
                  (int64_t)(view->capacity_bytes > used ? view->capacity_bytes - used : 0));
    write_key_known(w, "huge_bytes", view->huge_bytes);
    write_key_bool(w, "reused", view->reused);
    write_key_int(w, "advised_bytes", (int64_t)view->advised_bytes);
    write_key_int(w, "prefetched_bytes", (int64_t)view->prefetched_bytes);
    write_key_known(w, "resident_bytes", view->resident_bytes);
    write_key_int(w, "fetched_bytes", (int64_t)view->fetched_bytes);
    write_key_int(w, "fetch_faults", (int64_t)view->fetch_faults);
    write_key_string(w, "reason", plan->reason);
    write_history(w, view);
    write_close(w, '}');
}

void run_cards(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct params params;
    struct status_view status = {0};
    struct metrics_view metrics = {0};
    struct card_view views[CARDS_MAX];
    struct buffer out = {0};
    struct writer w = {.out = &out};
    if (call_read_fields(call, &params))
        return;
    memset(views, 0, sizeof views);
    host->status(host->user, &status);
    host->metrics(host->user, &metrics);
    const uint32_t n = host->cards(host->user, views);
    const struct topology *topology = host->topology(host->user);
    write_open(&w, '{');
    write_key_string(&w, "split", status.split);
    write_key_string(&w, "weights", status.weights);
    write_box(&w, topology);
    write_key(&w, "cards");
    write_open(&w, '[');
    for (uint32_t i = 0; i < n; i++)
        write_card(&w, &views[i]);
    write_close(&w, ']');
    write_links(&w, topology, &metrics.carried);
    write_close(&w, '}');
    call_answer(call, &out, w.rc);
}
