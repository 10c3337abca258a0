/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MOST  512u                               /* pages that are looked at after a step */
#define CREDIT_MAX (INT64_C(1000000000) / KEPT_SHARE) /* what was not used is not saved up */

struct kept {
    struct kept_memory memory;
    struct ledger_site site;
    struct ledger *ledger;
    uint32_t n_pages;
    struct ledger_entry *found; /* owned; what was left, by serial; NULL: nothing was */
    bool *taken;                /* of these; owned */
    uint32_t n_taken;
    uint32_t next;     /* page to look at */
    uint32_t n_looked; /* since one was found that was to be entered */
    int64_t credit_ns;
    bool distrusted, ended, lost;
    uint32_t lost_card;
};

int kept_create(struct kept **out, const struct ledger_site *site,
                const struct kept_memory *memory) {
    struct kept *k = calloc(1, sizeof *k);
    if (!k)
        return -ENOMEM;
    k->memory = *memory;
    k->site = *site;
    k->n_pages = site->layout.n_pages;
    const int rc = ledger_create(&k->ledger, site);
    if (rc) {
        kept_destroy(k);
        return rc;
    }
    *out = k;
    return 0;
}

void kept_destroy(struct kept *k) {
    if (!k)
        return;
    ledger_destroy(k->ledger);
    free(k->found);
    free(k->taken);
    free(k);
}

int kept_fd(const struct kept *k) {
    return k ? ledger_fd(k->ledger) : -1;
}

static int digest(struct kept *k, uint32_t page, uint64_t *out) {
    const int rc = k->memory.digest(k->memory.user, page, out, &k->lost_card);
    k->lost |= rc == -ENODEV;
    return rc;
}

bool kept_lost_card(const struct kept *k, uint32_t *card) {
    if (k && k->lost)
        *card = k->lost_card;
    return k && k->lost;
}

/* --- what was left --- */

static int by_serial(const void *a, const void *b) {
    const uint64_t x = ((const struct ledger_entry *)a)->content.serial;
    const uint64_t y = ((const struct ledger_entry *)b)->content.serial;
    return (x > y) - (x < y);
}

static bool is_taken(const struct kept *k, uint64_t serial) {
    const struct ledger_entry key = {.content.serial = serial};
    const struct ledger_entry *found =
        bsearch(&key, k->found, k->n_pages, sizeof *k->found, by_serial);
    return serial == 0 || (found && k->taken[found - k->found]);
}

/* Those whose parents have been taken.  1: there were some; all that is looked at is not looked at
 * again. */
static int take_next(struct kept *k, bool *seen) {
    int some = 0;
    for (uint32_t i = 0; i < k->n_pages; i++) {
        const struct ledger_entry *e = &k->found[i];
        uint64_t now;
        if (seen[i] || !e->content.serial || !is_taken(k, e->content.parent_serial))
            continue;
        seen[i] = true;
        const int rc = digest(k, e->content.page, &now);
        if (rc)
            return rc;
        k->taken[i] = now == e->digest;
        k->n_taken += k->taken[i];
        some |= k->taken[i];
    }
    return some;
}

int kept_take(struct kept *k, int fd) {
    bool *seen = calloc(k->n_pages + 1, sizeof *seen);
    k->found = calloc(k->n_pages + 1, sizeof *k->found);
    k->taken = calloc(k->n_pages + 1, sizeof *k->taken);
    int rc = seen && k->found && k->taken ? ledger_read(fd, &k->site, k->found) : -ENOMEM;
    if (!rc) {
        qsort(k->found, k->n_pages, sizeof *k->found, by_serial);
        do
            rc = take_next(k, seen);
        while (rc > 0);
    } else {
        free(k->found);
        k->found = NULL;
    }
    free(seen);
    return rc;
}

uint32_t kept_taken(const struct kept *k, bool *taken) {
    for (uint32_t i = 0; taken && i < k->n_pages; i++)
        taken[i] = false;
    for (uint32_t i = 0; taken && k->found && i < k->n_pages; i++)
        if (k->taken[i])
            taken[k->found[i].content.page] = true;
    return k->n_taken;
}

/* The latest come first, and so are the first to go when pages are needed: a page is not given away
 * before those behind it, which would be of no use then. */
void kept_seed(struct kept *k, struct pages *pages) {
    for (uint32_t i = k && k->found ? k->n_pages : 0; i-- > 0;) {
        const struct ledger_entry *e = &k->found[i];
        if (k->taken[i] && pages_restore(pages, &e->content) == 0)
            ledger_enter(k->ledger, &e->content, e->digest);
    }
    if (!k)
        return;
    free(k->found);
    k->found = NULL;
}

/* --- what is left to the next --- */

void kept_written(struct kept *k, const struct step_params *params) {
    for (uint32_t i = 0; k && i < params->n_rows; i++) {
        const struct step_row *row = &params->rows[i];
        const struct step_sequence *s = &params->sequences[row->sequence];
        ledger_strike(k->ledger, s->pages[row->position / PAGE_TOKENS]);
    }
}

/* 1: it was entered. */
static int look_at(struct kept *k, const struct pages *pages, uint32_t page) {
    struct page_content content;
    uint64_t now;
    const uint64_t entered = ledger_serial(k->ledger, page);
    const bool shared = pages_content(pages, page, &content);
    if (entered && !shared)
        ledger_strike(k->ledger, page);
    if (!shared || entered == content.serial)
        return 0;
    const int rc = digest(k, page, &now);
    if (rc)
        return rc;
    ledger_enter(k->ledger, &content, now);
    return 1;
}

/* A share of the steps' time, which one page may overdraw; while nothing runs a slice. */
int kept_advance(struct kept *k, const struct pages *pages, uint64_t step_ns) {
    const uint32_t most = k && step_ns && k->n_pages > LOOK_MOST ? LOOK_MOST : k ? k->n_pages : 0;
    if (!k || k->distrusted || k->ended || !k->n_pages)
        return 0;
    k->credit_ns += (int64_t)(step_ns / KEPT_SHARE);
    k->credit_ns = k->credit_ns < CREDIT_MAX ? k->credit_ns : CREDIT_MAX;
    k->n_looked = step_ns ? 0 : k->n_looked; /* a step may have filled any */
    const uint64_t begin = k->memory.now_ns(k->memory.user);
    uint64_t taken = 0;
    int rc = 0;
    for (uint32_t i = 0; i < most && rc >= 0; i++) {
        if (step_ns ? (int64_t)taken >= k->credit_ns : taken >= KEPT_SLICE_NS)
            break;
        rc = look_at(k, pages, k->next);
        k->next = (k->next + 1) % k->n_pages;
        k->n_looked = rc > 0 ? 0 : k->n_looked + 1;
        taken = rc > 0 ? k->memory.now_ns(k->memory.user) - begin : taken;
    }
    k->credit_ns -= step_ns ? (int64_t)taken : 0;
    return rc < 0 ? rc : 0;
}

bool kept_waits(const struct kept *k) {
    return k && !k->distrusted && !k->ended && k->n_looked < k->n_pages;
}

void kept_strike(struct kept *k, const bool *pages) {
    for (uint32_t i = 0; k && i < k->n_pages; i++)
        if (pages[i])
            ledger_strike(k->ledger, i);
}

static void strike_all(struct kept *k) {
    for (uint32_t i = 0; i < k->n_pages; i++)
        ledger_strike(k->ledger, i);
}

void kept_distrust(struct kept *k) {
    if (!k)
        return;
    strike_all(k);
    k->distrusted = true;
}

void kept_trust(struct kept *k) {
    if (k)
        k->distrusted = false;
}

void kept_end(struct kept *k) {
    if (!k)
        return;
    strike_all(k);
    k->ended = true;
}
