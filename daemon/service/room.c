/* SPDX-License-Identifier: Apache-2.0 */
/* room.c - how much of the weights a new plan may leave in host memory.
 *
 * host_spill was said, or worked out, when the service started; what the host has to give since
 * then is another thing.  Weights there are read in every step, so a plan that takes more than
 * there is would be slower than none, or be killed.  What only waits there on its way to a full
 * card has the same bound. */
#include "daemon/service/line.h"
#include "daemon/util/log.h"

/* A new plan may have that: it is still allocated, and given back when the new plan is there. */
static uint64_t held_bytes(const struct engines *e) {
    const bool shared = e->config->weights == WEIGHTS_SHARED;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < e->plan.n_cards; i++)
        if (shared ? e->cards[i].memory.fd >= 0 : e->current && !e->lost_here[i])
            bytes += e->plan.cards[i].spilled_bytes;
    return bytes;
}

uint64_t engines_spill_limit(const struct engines *e) {
    const uint64_t most = e->topology->host.spill_bytes, held = held_bytes(e);
    const uint64_t now = e->host_room > UINT64_MAX - held ? UINT64_MAX : e->host_room + held;
    return now < most ? now : most;
}

uint64_t line_stage_limit(const struct engines *e) {
    const uint64_t most = e->config->rebalance_stage;
    return e->host_room < most ? e->host_room : most;
}

void line_tell_short(struct engines *e) {
    struct event told = {.kind = "pressure", .card = -1, .generation = e->number, .seconds = -1};
    const uint64_t limit = engines_spill_limit(e), most = e->topology->host.spill_bytes;
    if (limit == most)
        return;
    line_event(e, &told,
               "host memory has room for %llu MiB of weights, of %llu MiB that host_spill allows: "
               "no plan does with that",
               (unsigned long long)limit >> 20, (unsigned long long)most >> 20);
    log_warning("%s", told.text);
}

void engines_note_room(struct engines *e, uint64_t bytes) {
    struct plan plan;
    e->host_room = bytes;
    if (e->state != ENGINES_WAITING || line_plan(e, NO_CARD, &plan, NULL) < 0)
        return;
    plan_finish(&plan);
    engines_use_cards(e, "host memory has room");
}
