/* SPDX-License-Identifier: Apache-2.0 */
/* kept.h - K and V that the next engine may use: what of them is entered in the ledger, and what is
 * taken over from the engine before.
 *
 * Entered are shared pages, and no others: they are full, every card has ended the step that filled
 * them, and they are found by user and tokens, in the next engine as in this one.  Each is digested
 * for that, on the engine's thread between two steps, with a share of the steps' time.  Before a
 * step writes to a page its entry is struck out.  What is taken over is digested again, a page
 * behind its parent; a page that is not what its entry says is none, nor is any behind it.
 *
 * It knows no device: a table digests a page, so that a test can own it.  Threads: one. */
#ifndef OCTARC_ENGINE_KEPT_H
#define OCTARC_ENGINE_KEPT_H

#include "daemon/engine/ledger.h"

#define KEPT_SHARE    20                /* a part of the steps' time in so many */
#define KEPT_SLICE_NS UINT64_C(5000000) /* while nothing runs, before messages are heard */

struct kept;

struct kept_memory {
    void *user;
    /* Of all that a page holds, on all cards.  -ENODEV: *card is lost. */
    int (*digest)(void *user, uint32_t page, uint64_t *digest, uint32_t *card);
    uint64_t (*now_ns)(void *user);
};

int kept_create(struct kept **kept, const struct ledger_site *site,
                const struct kept_memory *memory);
void kept_destroy(struct kept *kept); /* NULL is fine, here and below; the ledger stays as it is */
int kept_fd(const struct kept *kept);

/* Look at what the engine before left in the cards' memory, by its ledger (borrowed).  As
 * ledger_read(); -ENODEV: a card is lost, as kept_lost_card() says. */
int kept_take(struct kept *kept, int ledger_fd);
/* Pages that are taken over; taken[n_pages] may be NULL: which. */
uint32_t kept_taken(const struct kept *kept, bool *taken);
/* Have them found, in the pages of an engine that has run nothing yet. */
void kept_seed(struct kept *kept, struct pages *pages);

/* The next step writes the K and V of these rows. */
void kept_written(struct kept *kept, const struct step_params *params);
/* Enter what is full and is not entered.  step_ns: how long the step before took; 0: nothing runs.
 * -ENODEV: a card is lost, as kept_lost_card() says. */
int kept_advance(struct kept *kept, const struct pages *pages, uint64_t step_ns);
/* There may be something to enter. */
bool kept_waits(const struct kept *kept);
bool kept_lost_card(const struct kept *kept, uint32_t *card);

/* These hold nothing any more. */
void kept_strike(struct kept *kept, const bool *pages);
/* What pages hold may be wrong, or is to go: nothing is entered any more, and nothing is until they
 * are trusted again, which those of an ended one never are. */
void kept_distrust(struct kept *kept);
void kept_trust(struct kept *kept);
void kept_end(struct kept *kept);

#endif
