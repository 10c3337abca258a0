/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h - which pages of K and V hold what, written down where it outlives the engine.
 *
 * A memfd that this engine writes and the front holds.  Its head says of what the pages are: the
 * file, the backend, how it computes, and where they lie.  Behind it each page has an entry, which
 * counts when it is whole: its own digest is the last that is written of it.  So whoever wrote it
 * may have been killed at any moment.
 *
 * Threads: one. */
#ifndef OCTARC_ENGINE_LEDGER_H
#define OCTARC_ENGINE_LEDGER_H

#include "daemon/engine/pages.h"
#include "daemon/placement/layout.h"
#include "daemon/util/identity.h"

struct ledger;

/* Of what the pages are. */
struct ledger_site {
    struct file_identity file;
    char backend[16];
    struct kv_layout layout;
};

struct ledger_entry {
    struct page_content content;
    uint64_t digest; /* of what lies in the page, on all cards */
    uint64_t check;  /* of all before; 0: there is no entry */
};

/* A new one, empty.  -ENOMEM, or what the kernel says. */
int ledger_create(struct ledger **ledger, const struct ledger_site *site);
void ledger_destroy(struct ledger *ledger); /* NULL is fine; who holds the descriptor has it on */
/* Borrowed. */
int ledger_fd(const struct ledger *ledger);

void ledger_enter(struct ledger *ledger, const struct page_content *content, uint64_t digest);
void ledger_strike(struct ledger *ledger, uint32_t page);
/* Of the content that is entered for the page; 0: none is. */
uint64_t ledger_serial(const struct ledger *ledger, uint32_t page);

/* What another engine left: entries[n_pages of the site], those that do not count all zero.
 * -ESTALE: of another file or backend, computed otherwise, or with other places; -EBADMSG: it is no
 * ledger; -ENOMEM, -EIO. */
int ledger_read(int fd, const struct ledger_site *site, struct ledger_entry *entries);

#endif
