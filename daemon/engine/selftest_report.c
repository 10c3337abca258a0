/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_report.c - the reader's side of a report. */
#include <errno.h>
#include <string.h>

#include "daemon/engine/selftest.h"
#include "octarc/error.h"

#define END(text) ((text)[sizeof(text) - 1] = '\0')

static void bound_kernels(struct selftest_kernels *k) {
    k->n = k->n < SELFTEST_KERNELS_MAX ? k->n : SELFTEST_KERNELS_MAX;
    END(k->why);
}

static void bound_link(struct selftest_link *l) {
    l->n_exchanges = l->n_exchanges < SELFTEST_EXCHANGES ? l->n_exchanges : SELFTEST_EXCHANGES;
    END(l->why), END(l->exchanges_why);
}

int selftest_accept(struct selftest_report *report, size_t n, struct err *err) {
    if (n < sizeof *report || report->magic != SELFTEST_MAGIC || report->bytes != sizeof *report)
        return err_set(err, -EPROTO,
                       "the answer of octarc-engine --selftest is not a report (%zu bytes)", n);
    END(report->version), END(report->isa), END(report->error), END(report->links_why);
    END(report->storage_why), END(report->usm_why), END(report->exchanges_why);
    if (strcmp(report->version, OCTARC_VERSION) != 0)
        return err_set(err, -EPROTO, "octarc-engine is version %s, octarcd %s", report->version,
                       OCTARC_VERSION);
    struct device_found *found = &report->found;
    found->n_cards = found->n_cards < CARDS_MAX ? found->n_cards : CARDS_MAX;
    END(found->api), END(found->loader);
    bound_kernels(&report->cpu);
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        END(report->cards[i].xmx_why), END(report->cards[i].native_why);
        END(found->cards[i].name), END(found->cards[i].slot), END(found->cards[i].id);
        END(found->cards[i].serial), END(found->cards[i].why);
        END(found->cards[i].xmx_why), END(found->cards[i].native_why);
        END(report->cards[i].why);
        bound_kernels(&report->cards[i].kernels);
        for (uint32_t k = 0; k < CARDS_MAX; k++)
            bound_link(&report->links[i][k]);
    }
    return 0;
}

static bool all_same(const struct selftest_kernels *k) {
    bool same = k->n > 0 && !k->why[0];
    for (uint32_t i = 0; i < k->n; i++)
        same &= k->of[i].verdict == SELFTEST_SAME;
    return same;
}

/* In both ways over it: by patterns, and by exchanges. */
static bool is_right(const struct selftest_link *l) {
    bool same = l->tried && !l->why[0] && l->n_exchanges > 0 && !l->exchanges_why[0];
    for (uint32_t i = 0; i < l->n_exchanges; i++)
        same &= l->exchanges[i].verdict == SELFTEST_SAME;
    return same;
}

bool selftest_is_well(const struct selftest_report *r) {
    bool well = all_same(&r->cpu) && !r->links_why[0] && !r->exchanges_why[0] && !r->storage_why[0];
    for (uint32_t i = 0; i < r->found.n_cards; i++) {
        well &= !r->cards[i].why[0] && all_same(&r->cards[i].kernels);
        for (uint32_t k = 0; k < r->found.n_cards; k++)
            well &= k == i || is_right(&r->links[i][k]);
    }
    return well;
}
