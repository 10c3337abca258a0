/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, in the text format that Prometheus reads. */
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "daemon/protocol/call.h"

struct counter {
    const char *name, *kind, *help;
    uint64_t value;
};

static int write_head(struct buffer *out, const char *name, const char *kind, const char *help) {
    return buffer_printf(out, "# HELP octarc_%s %s\n# TYPE octarc_%s %s\n", name, help, name, kind);
}

static int write_counters(struct buffer *out, const struct counter *counters, size_t n) {
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = write_head(out, counters[i].name, counters[i].kind, counters[i].help);
        if (rc == 0)
            rc = buffer_printf(out, "octarc_%s %" PRIu64 "\n", counters[i].name, counters[i].value);
    }
    return rc;
}

/* A figure of every card; what cannot be told is left out. */
static int write_gauge(struct buffer *out, const struct card_view *views, uint32_t n,
                       const char *name, const char *help, size_t offset) {
    int rc = write_head(out, name, "gauge", help);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        int64_t bytes;
        memcpy(&bytes, (const char *)&views[i] + offset, sizeof bytes);
        if (bytes >= 0)
            rc = buffer_printf(out, "octarc_%s{card=\"%u\"} %" PRId64 "\n", name, views[i].card,
                               bytes);
    }
    return rc;
}

static int write_hints(struct buffer *out, const struct card_view *views, uint32_t n) {
    int rc = write_gauge(out, views, n, "card_advised_bytes",
                         "Of a card's memory, that its users were told of.",
                         offsetof(struct card_view, advised_bytes));
    if (rc == 0)
        rc = write_gauge(out, views, n, "card_prefetched_bytes",
                         "Of these, brought home after the load.",
                         offsetof(struct card_view, prefetched_bytes));
    if (rc == 0)
        rc = write_gauge(out, views, n, "card_resident_bytes",
                         "Of these, found at home then; without a value where it cannot be told.",
                         offsetof(struct card_view, resident_bytes));
    return rc;
}

static int write_counts(struct buffer *out, const struct card_view *views, uint32_t n,
                        const char *name, const char *help, size_t offset) {
    int rc = write_head(out, name, "counter", help);
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = buffer_printf(out, "octarc_%s{card=\"%u\"} %" PRIu64 "\n", name, views[i].card,
                           *(const uint64_t *)(const void *)((const char *)&views[i] + offset));
    return rc;
}

static int write_fetches(struct buffer *out, const struct card_view *views, uint32_t n) {
    const int rc = write_counts(out, views, n, "card_fetched_bytes_total",
                                "Of weights in host memory, fetched for steps as planned.",
                                offsetof(struct card_view, fetched_bytes));
    return rc ? rc
              : write_counts(out, views, n, "card_fetch_faults_total",
                             "Blocks of weights that were not fetched when they were needed.",
                             offsetof(struct card_view, fetch_faults));
}

/* Links that have carried nothing are there too: a counter begins at 0. */
static int write_links(struct buffer *out, const struct link_bytes *carried, uint32_t n_cards) {
    int rc = write_head(out, "link_bytes_total", "counter",
                        "Bytes that were carried from card to card.");
    for (uint32_t from = 0; from < n_cards; from++)
        for (uint32_t to = 0; to < n_cards && rc == 0; to++)
            if (from != to)
                rc = buffer_printf(out,
                                   "octarc_link_bytes_total{from=\"%u\",to=\"%u\"} %" PRIu64 "\n",
                                   from, to, carried->n[from][to]);
    return rc;
}

static int write_cards(struct buffer *out, const struct card_view *views, uint32_t n) {
    int rc = write_head(out, "card_faults_total", "counter", "Faults of a card, ever.");
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < views[i].n_faults && rc == 0; k++)
            rc = buffer_printf(out,
                               "octarc_card_faults_total{card=\"%u\",kind=\"%s\"} %" PRIu64 "\n",
                               views[i].card, views[i].faults[k].name, views[i].faults[k].count);
    if (rc == 0)
        rc = write_head(out, "card_state", "gauge", "1 for the state a card is in.");
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = buffer_printf(out, "octarc_card_state{card=\"%u\",state=\"%s\"} 1\n", views[i].card,
                           views[i].state);
    return rc;
}

static int write_all(struct buffer *out, const struct protocol_host *host) {
    struct scheduler_counts c = {0};
    struct status_view status = {0};
    struct metrics_view m = {0};
    struct card_view views[CARDS_MAX];
    uint64_t first, last;
    memset(views, 0, sizeof views);
    struct scheduler *scheduler = host->scheduler(host->user);
    if (scheduler)
        scheduler_counts(scheduler, &c);
    host->status(host->user, &status);
    host->metrics(host->user, &m);
    host->event_range(host->user, &first, &last);
    const struct counter counters[] = {
        {"cards_online", "gauge", "Cards that are online.", status.cards_online},
        {"host_weights_bytes", "gauge", "Of weights, in host memory.", status.host_bytes},
        {"generations_total", "counter", "Engines started.", status.generation},
        {"generations_failed_total", "counter", "Engines that ended by themselves.",
         m.generations_failed},
        {"generations_replaced_total", "counter",
         "Engines that were ended on purpose, or lost a card.", m.generations_replaced},
        {"rebalances_total", "counter", "Changes to another plan inside a running engine.",
         m.rebalances},
        {"kv_kept_tokens_total", "counter",
         "Tokens whose K and V an engine took over from the one before.", m.kv_kept_tokens},
        {"verified_bytes_total", "counter", "Of weights in use, compared with what was loaded.",
         m.verified_bytes},
        {"scrubs_total", "counter", "Times that all weights in use were verified unasked.",
         m.scrubs},
        {"ranges_harmed_total", "counter", "Ranges of weights that were not what was loaded.",
         m.ranges_harmed},
        {"ranges_repaired_total", "counter", "Of these, read again and proven.", m.ranges_repaired},
        {"memory_pressed", "gauge", "1 while memory is short on the host.", m.pressed},
        {"memory_pressures_total", "counter", "Times that memory became short on the host.",
         m.pressures},
        {"events_total", "counter", "Events since the start.", last},
        {"requests_running", "gauge", "Requests that run.", c.running},
        {"requests_queued", "gauge", "Requests that wait.", c.queued},
        {"requests_accepted_total", "counter", "Requests accepted.", c.accepted},
        {"requests_finished_total", "counter", "Requests answered.", c.finished},
        {"requests_cancelled_total", "counter", "Requests cancelled.", c.cancelled},
        {"requests_failed_total", "counter", "Requests that ended with an error.", c.failed},
        {"requests_recovered_total", "counter", "Requests answered by more than one engine.",
         c.recovered},
        {"prompt_tokens_total", "counter", "Tokens of prompts.", c.prompt_tokens},
        {"completion_tokens_total", "counter", "Tokens of answers.", c.completion_tokens},
        {"replays_total", "counter", "Sequences that were given to an engine again.", c.replays},
        {"replayed_tokens_total", "counter", "Tokens that were given to an engine again.",
         c.replayed_tokens},
    };
    const uint32_t n = host->cards(host->user, views);
    int rc = write_counters(out, counters, sizeof counters / sizeof *counters);
    if (rc == 0)
        rc = write_cards(out, views, n);
    if (rc == 0)
        rc = write_hints(out, views, n);
    if (rc == 0)
        rc = write_fetches(out, views, n);
    return rc ? rc : write_links(out, &m.carried, n);
}

void run_metrics(struct call *call) {
    struct params params;
    struct buffer text = {0}, out = {0};
    struct writer w = {.out = &out};
    if (call_read_fields(call, &params))
        return;
    const int rc = write_all(&text, call_host(call));
    if (rc == 0 && call->http) {
        call->http->text(call->user, &text);
        buffer_finish(&text);
        call_destroy(call);
        return;
    }
    write_open(&w, '{');
    write_key(&w, "text");
    write_text(&w, text.bytes, text.n);
    write_close(&w, '}');
    buffer_finish(&text);
    call_answer(call, &out, rc ? rc : w.rc);
}
