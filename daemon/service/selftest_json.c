/* SPDX-License-Identifier: Apache-2.0 */
/* A self-test, for scripts: one object on one line.  What is unknown is null. */
#include <math.h>
#include <stdio.h>

#include "daemon/protocol/writer.h"
#include "daemon/service/selftest.h"

static void write_known(struct writer *w, const char *key, const char *text) {
    write_key_string(w, key, text[0] ? text : NULL);
}

static void write_kernel(struct writer *w, const char *key, const char *name,
                         const struct selftest_kernel *one) {
    static const char *const verdicts[] = {[SELFTEST_UNTRIED] = "untried",
                                           [SELFTEST_SAME] = "same",
                                           [SELFTEST_DIFFERS] = "differs",
                                           [SELFTEST_FAILED] = "failed"};
    const bool compared = one->verdict == SELFTEST_SAME || one->verdict == SELFTEST_DIFFERS;
    write_open(w, '{');
    write_key_string(w, key, name);
    write_key_string(w, "verdict", one->verdict <= SELFTEST_FAILED ? verdicts[one->verdict] : NULL);
    if (compared && isfinite(one->difference))
        write_key_number(w, "difference", one->difference);
    else
        write_key_string(w, "difference", NULL);
    write_close(w, '}');
}

/* A list of n, each with its name under `one`, and why it is not whole. */
static void write_list(struct writer *w, const char *list, const char *one, uint32_t n,
                       const struct selftest_kernel *of, void (*name_of)(uint32_t, char[32]),
                       const char *why) {
    char name[32], key[32];
    write_key(w, list);
    write_open(w, '[');
    for (uint32_t i = 0; i < n; i++) {
        name_of(i, name);
        write_kernel(w, one, name, &of[i]);
    }
    write_close(w, ']');
    snprintf(key, sizeof key, "%s_why", list);
    write_known(w, key, why);
}

static void write_kernels(struct writer *w, const struct selftest_kernels *k) {
    write_list(w, "kernels", "kernel", k->n, k->of, selftest_kernel_name, k->why);
}

static void write_card(struct writer *w, const struct selftest_report *r, uint32_t i) {
    write_open(w, '{');
    write_key_int(w, "card", i);
    write_key_string(w, "name", r->found.cards[i].name);
    write_known(w, "slot", r->found.cards[i].slot);
    write_known(w, "id", r->found.cards[i].id);
    write_key_int(w, "memory_bytes", (int64_t)r->found.cards[i].memory_bytes);
    write_known(w, "why", r->cards[i].why);
    write_key_bool(w, "xmx", r->cards[i].xmx);
    write_known(w, "xmx_why", r->cards[i].xmx_why);
    write_key_bool(w, "native", r->cards[i].native);
    write_known(w, "native_why", r->cards[i].native_why);
    write_kernels(w, &r->cards[i].kernels);
    write_close(w, '}');
}

static void write_link(struct writer *w, uint32_t from, uint32_t to,
                       const struct selftest_link *l) {
    write_open(w, '{');
    write_key_int(w, "from", from);
    write_key_int(w, "to", to);
    write_key_string(w, "mode", !l->tried ? NULL : l->direct ? "direct" : "staged");
    write_key_known(w, "bytes_per_s", l->speed.latency_ns ? (int64_t)l->speed.bytes_per_s : -1);
    write_key_known(w, "latency_ns", l->speed.latency_ns ? (int64_t)l->speed.latency_ns : -1);
    write_key_bool(w, "verified", l->tried && l->speed.latency_ns);
    write_known(w, "why", l->why);
    write_list(w, "exchanges", "exchange", l->n_exchanges, l->exchanges, selftest_exchange_name,
               l->exchanges_why);
    write_close(w, '}');
}

int selftest_json(const struct probe_report *probe, const struct selftest_report *r,
                  struct buffer *out) {
    struct writer w = {.out = out};
    write_open(&w, '{');
    write_key_bool(&w, "well", selftest_all_well(probe, r));
    write_known(&w, "error", r->error);
    write_key(&w, "cpu");
    write_open(&w, '{');
    write_known(&w, "isa", r->isa);
    write_kernels(&w, &r->cpu);
    write_close(&w, '}');
    write_key(&w, "cards");
    write_open(&w, '[');
    for (uint32_t i = 0; i < r->found.n_cards; i++)
        write_card(&w, r, i);
    write_close(&w, ']');
    write_key(&w, "links");
    write_open(&w, '[');
    for (uint32_t from = 0; from < r->found.n_cards; from++)
        for (uint32_t to = 0; to < r->found.n_cards; to++)
            if (from != to)
                write_link(&w, from, to, &r->links[to][from]);
    write_close(&w, ']');
    write_known(&w, "links_why", r->links_why);
    write_known(&w, "exchanges_why", r->exchanges_why);
    write_key_string(&w, "storage",
                     r->storage == SELFTEST_SVM   ? "svm"
                     : r->storage == SELFTEST_USM ? "usm"
                                                  : NULL);
    write_known(&w, "usm_why", r->usm_why);
    write_known(&w, "storage_why", r->storage_why);
    write_key(&w, "probe");
    probe_write(&w, probe);
    write_close(&w, '}');
    return w.rc < 0 ? w.rc : buffer_append(out, "\n", 1);
}
