/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/box.h"

static void write_known(struct writer *w, const char *key, uint64_t value) {
    if (value)
        write_key_int(w, key, (int64_t)value);
    else
        write_key_string(w, key, NULL);
}

static void write_named(struct writer *w, const char *key, const char *text) {
    write_key_string(w, key, text[0] ? text : NULL);
}

void write_range(struct writer *w, const char *key, uint64_t begin, uint64_t end) {
    write_key(w, key);
    write_open(w, '[');
    write_int(w, (int64_t)begin);
    write_int(w, (int64_t)end);
    write_close(w, ']');
}

void write_account(struct writer *w, const char *key, const struct account *a) {
    write_key(w, key);
    write_open(w, '{');
    write_key_int(w, "weights_bytes", (int64_t)a->weights);
    write_key_int(w, "kv_bytes", (int64_t)a->kv);
    write_key_int(w, "scratch_bytes", (int64_t)a->scratch);
    write_key_int(w, "landing_bytes", (int64_t)a->landing);
    write_key_int(w, "spilled_bytes", (int64_t)a->spilled);
    write_close(w, '}');
}

static void write_host(struct writer *w, const struct topology_host *host) {
    write_key(w, "host");
    write_open(w, '{');
    write_known(w, "memory_bytes", host->memory_bytes);
    write_known(w, "bytes_per_s", host->bytes_per_s);
    write_known(w, "evacuation_bytes", host->evacuation_bytes);
    write_close(w, '}');
}

/* Simulated cards have no PCIe. */
static bool is_measured(const struct topology *t) {
    uint32_t n = 0;
    for (uint32_t from = 0; from < t->n_cards; from++)
        for (uint32_t to = 0; to < t->n_cards; to++)
            n += from != to && t->links[from][to].measured_ms;
    return n > 0 && n == t->n_cards * (t->n_cards - 1);
}

void write_box(struct writer *w, const struct topology *t) {
    write_key(w, "topology");
    write_open(w, '{');
    write_named(w, "file", t->origin);
    write_named(w, "description", t->description);
    write_key_bool(w, "measured", is_measured(t));
    write_host(w, &t->host);
    write_key(w, "switches");
    write_open(w, '[');
    for (uint32_t i = 0; i < t->n_switches; i++) {
        const struct topology_switch *s = &t->switches[i];
        write_open(w, '{');
        write_key_string(w, "name", s->name);
        write_key_int(w, "numa", s->numa);
        write_known(w, "upstream_bytes_per_s", pcie_bytes_per_s(s->pcie));
        write_key_bool(w, "peer_access", s->peer_access);
        write_close(w, '}');
    }
    write_close(w, ']');
    write_close(w, '}');
}

static void write_link(struct writer *w, uint32_t from, uint32_t to, const struct peer_link *link,
                       const struct link_bytes *carried) {
    write_open(w, '{');
    write_key_int(w, "from", from);
    write_key_int(w, "to", to);
    write_key_string(w, "mode", link_mode_name(link->mode));
    write_known(w, "bytes_per_s", link->bytes_per_s);
    write_known(w, "latency_ns", link->latency_ns);
    if (carried)
        write_key_int(w, "carried_bytes", (int64_t)carried->n[from][to]);
    write_key_bool(w, "stated", link->stated);
    write_key_known(w, "measured_ms", link->measured_ms ? (int64_t)link->measured_ms : -1);
    write_key_string(w, "reason", link->reason);
    write_close(w, '}');
}

void write_links(struct writer *w, const struct topology *t, const struct link_bytes *carried) {
    write_key(w, "links");
    write_open(w, '[');
    for (uint32_t from = 0; from < t->n_cards; from++)
        for (uint32_t to = 0; to < t->n_cards; to++)
            if (from != to)
                write_link(w, from, to, &t->links[from][to], carried);
    write_close(w, ']');
}

void write_described(struct writer *w, const struct topology_card *card) {
    write_key_string(w, "name", card->name);
    write_named(w, "slot", card->slot);
    write_named(w, "id", card->id);
    write_named(w, "board", card->board);
    write_key_int(w, "numa", card->numa);
    if (card->in_switch == NO_SWITCH)
        write_key_string(w, "switch", NULL);
    else
        write_key_int(w, "switch", card->in_switch);
    write_known(w, "bytes_per_s", card->bytes_per_s);
    write_known(w, "int8_ops_per_s", card->int8_ops_per_s);
    write_known(w, "f16_flops_per_s", card->f16_flops_per_s);
}
