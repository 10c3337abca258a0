/* SPDX-License-Identifier: Apache-2.0 */
/* A self-test, for people: what a probe shows; then each card, its kernels and its links. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/selftest.h"
#include "daemon/service/whatif.h"

#define SAY(...)                                                                                   \
    do {                                                                                           \
        if (rc == 0)                                                                               \
            rc = buffer_printf(out, __VA_ARGS__);                                                  \
    } while (0)

static int say_difference(struct buffer *out, double difference) {
    return isfinite(difference)
               ? buffer_printf(out, "differs by up to %.3g of the largest", difference)
               : buffer_printf(out, "makes what is no number");
}

/* Only what is wrong is told one by one. */
static int say_kernels(struct buffer *out, const char *whose, const char *of,
                       const struct selftest_kernels *k) {
    uint32_t same = 0;
    char name[32];
    int rc = 0;
    for (uint32_t i = 0; i < k->n; i++)
        same += k->of[i].verdict == SELFTEST_SAME;
    SAY("%s: kernels: %u of %u have the bits of %s\n", whose, same, k->n, of);
    if (k->why[0])
        SAY("wrong: %s: kernels: %s\n", whose, k->why);
    for (uint32_t i = 0; i < k->n && rc == 0; i++) {
        if (k->of[i].verdict == SELFTEST_SAME || k->of[i].verdict == SELFTEST_UNTRIED)
            continue;
        selftest_kernel_name(i, name);
        SAY("wrong: %s: %s: ", whose, name);
        if (rc == 0 && k->of[i].verdict == SELFTEST_DIFFERS)
            rc = say_difference(out, k->of[i].difference);
        else
            SAY("could not be run");
        SAY("\n");
    }
    return rc;
}

static int say_card(struct buffer *out, const struct selftest_report *r, uint32_t i) {
    const struct selftest_card *card = &r->cards[i];
    char whose[32], size[16];
    int rc = 0;
    snprintf(whose, sizeof whose, "card %u", i);
    SAY("card %u (%s): %s, %s, id %s\n", i,
        r->found.cards[i].slot[0] ? r->found.cards[i].slot : "?", r->found.cards[i].name,
        whatif_size(size, r->found.cards[i].memory_bytes),
        r->found.cards[i].id[0] ? r->found.cards[i].id : "?");
    if (card->why[0])
        SAY("wrong: card %u (%s): %s\n", i, r->found.cards[i].slot, card->why);
    else if (rc == 0)
        rc = say_kernels(out, whose, "the CPU", &card->kernels);
    if (card->xmx)
        SAY("%s: quantised types are multiplied by the matrix engine (XMX)\n", whose);
    else if (card->xmx_why[0])
        SAY("%s: quantised types are multiplied four bytes at once, without the matrix engine "
            "(XMX): %s\n",
            whose, card->xmx_why);
    if (card->native)
        SAY("%s: its kernels are images made for it beforehand\n", whose);
    else if (card->native_why[0])
        SAY("%s: its kernels are built by its driver from SPIR-V: %s\n", whose, card->native_why);
    return rc;
}

static int say_link(struct buffer *out, uint32_t from, uint32_t to, const struct selftest_link *l) {
    int rc = 0;
    if (!l->tried) {
        SAY("%4u  %2u  %-6s\n", from, to, "-");
        return rc;
    }
    SAY("%4u  %2u  %-6s  %9.2f GB/s  %8.1f us  %s\n", from, to, l->direct ? "direct" : "staged",
        (double)l->speed.bytes_per_s / 1e9, (double)l->speed.latency_ns / 1e3,
        l->speed.latency_ns ? "verified" : "wrong");
    return rc;
}

/* Of a link: what is wrong alone. */
static int say_exchanges(struct buffer *out, uint32_t from, uint32_t to,
                         const struct selftest_link *l) {
    char name[32];
    int rc = 0;
    if (l->exchanges_why[0])
        SAY("wrong: link from card %u to card %u: %s\n", from, to, l->exchanges_why);
    for (uint32_t i = 0; i < l->n_exchanges && rc == 0; i++) {
        if (l->exchanges[i].verdict != SELFTEST_DIFFERS)
            continue;
        selftest_exchange_name(i, name);
        SAY("wrong: link from card %u to card %u: %s: ", from, to, name);
        if (rc == 0)
            rc = say_difference(out, l->exchanges[i].difference);
        SAY("\n");
    }
    return rc;
}

static int say_all_exchanges(struct buffer *out, const struct selftest_report *r) {
    const uint32_t n = r->found.n_cards;
    uint32_t same = 0;
    int rc = 0;
    for (uint32_t from = 0; from < n; from++)
        for (uint32_t to = 0; to < n; to++)
            for (uint32_t i = 0; i < r->links[to][from].n_exchanges; i++)
                same += r->links[to][from].exchanges[i].verdict == SELFTEST_SAME;
    if (n > 1)
        SAY("links: %u of %u exchanges have the bits of the CPU\n", same,
            n * (n - 1) * SELFTEST_EXCHANGES);
    for (uint32_t from = 0; from < n; from++)
        for (uint32_t to = 0; to < n && rc == 0; to++)
            rc = say_exchanges(out, from, to, &r->links[to][from]);
    if (r->exchanges_why[0])
        SAY("wrong: exchanges between cards could not all be tried: %s\n", r->exchanges_why);
    return rc;
}

static int say_links(struct buffer *out, const struct selftest_report *r) {
    const uint32_t n = r->found.n_cards;
    int rc = 0;
    if (n > 1)
        SAY("FROM  TO  MODE          BANDWIDTH      LATENCY\n");
    for (uint32_t from = 0; from < n; from++)
        for (uint32_t to = 0; to < n && rc == 0; to++)
            if (from != to)
                rc = say_link(out, from, to, &r->links[to][from]);
    for (uint32_t from = 0; from < n; from++)
        for (uint32_t to = 0; to < n && rc == 0; to++)
            if (r->links[to][from].why[0])
                SAY("wrong: link from card %u to card %u: %s\n"
                    "       it goes through host memory; ACS, an IOMMU or a switch between the two "
                    "may be why: octarcd --probe, as root\n",
                    from, to, r->links[to][from].why);
    if (r->links_why[0])
        SAY("wrong: the links could not be measured: %s\n", r->links_why);
    return rc;
}

static int say_storage(struct buffer *out, const struct selftest_report *r) {
    int rc = 0;
    if (r->storage == SELFTEST_SVM)
        SAY("storage: svm: on each card a chunk was written, moved there, counted and read\n");
    else if (r->storage == SELFTEST_USM)
        SAY("storage: usm: %s\n", r->usm_why);
    if (r->storage_why[0])
        SAY("wrong: shared virtual memory could not be tried: %s\n", r->storage_why);
    return rc;
}

int selftest_text(const struct probe_report *probe, const struct selftest_report *r,
                  struct buffer *out) {
    int rc = probe_text(probe, out);
    SAY("\nself-test: %u cards that Level Zero can use%s%s\n", device_usable(&r->found),
        r->error[0] ? ": " : "", r->error);
    if (rc == 0)
        rc = say_kernels(out, "CPU", "the portable ones", &r->cpu);
    for (uint32_t i = 0; i < r->found.n_cards && rc == 0; i++)
        rc = say_card(out, r, i);
    if (rc == 0)
        rc = say_storage(out, r);
    if (rc == 0)
        rc = say_links(out, r);
    if (rc == 0)
        rc = say_all_exchanges(out, r);
    SAY("%s\n", !selftest_all_well(probe, r) ? "Something is wrong: see the lines that say so."
                : r->found.n_cards           ? "All is well."
                                             : "No card was tried; what was is well.");
    return rc;
}
