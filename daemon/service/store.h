/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - what systemd's store of descriptors keeps for a service that starts again: the weight
 * memory of its cards (of real ones that of which an engine gave a descriptor, held.c), and the
 * checksums of the model file they were read from.
 *
 * Each has a slot, and a name in systemd's store.  At a start systemd passes back what it has: that
 * is "left" by the service before, and none of it is believed.  Here is seen to it that it is
 * memory of the kind that is made here, no two the same, and that the checksums are of the very
 * file that is served now; without those nothing else is used.  Whether a card's memory holds what
 * the plan wants, and unharmed, is for the engine to prove (engine/weights.h).  What is of no use
 * is closed and leaves systemd's store, with a line in the log.
 *
 * Systemd holds a descriptor each: what is kept stays in memory over a restart and a crash, until
 * the unit is stopped or has failed for good.  Threads: one. */
#ifndef OCTARC_SERVICE_STORE_H
#define OCTARC_SERVICE_STORE_H

#include "daemon/util/identity.h"
#include "octarc/model.h"

/* Slot i is card i's weight memory; then come the checksums. */
enum { STORE_SUMS = CARDS_MAX, STORE_SLOTS };
#define STORE_CARD_MAX 96

struct store {
    bool on;        /* key warm_restart, and there are weights to keep */
    bool of_cards;  /* they lie on real ones */
    bool unsettled; /* systemd may still hold what it was told to let go of on them */
    struct {
        int left;                  /* not yet taken: owned; -1 */
        bool kept;                 /* systemd has something of that name */
        char card[STORE_CARD_MAX]; /* the real card it is of, as its name has it; empty: none */
    } slots[STORE_SLOTS];
};

void store_init(struct store *store);
/* Something came back from systemd under that name: taken, or closed.  False: the name is none of
 * the store's, and the descriptor stays the caller's. */
bool store_offer(void *store, const char *name, int fd);
/* Memory that what was left takes up now. */
uint64_t store_bytes(const struct store *store);
/* Off: what was left is dropped, and nothing is kept.  of_cards: it is memory of real cards that is
 * kept, by their identities; what was left of the other kind is dropped. */
void store_start(struct store *store, bool on, bool of_cards);

/* The checksums that were left, the caller's from then on; -1: there are none of this file as it is
 * now, and all that was left is dropped. */
int store_take_sums(struct store *store, const struct model *model,
                    const struct file_identity *file);
/* A card's memory that was left, the caller's from then on; -1: there is none of this size, or of a
 * real card not of this one. */
int store_take(struct store *store, uint32_t card, const char *identity, uint64_t least,
               uint64_t most);

/* Have systemd hold the descriptor too (borrowed), unless it holds one for that slot. */
void store_keep(struct store *store, uint32_t slot, const char *identity, int fd);
/* Drop what was left there, and what systemd holds. */
void store_remove(struct store *store, uint32_t slot);
/* Wait until systemd has done so, where cards need the room; at most two seconds. */
void store_settle(struct store *store);
/* How a card's identity stands in the name of its memory. */
void store_name_card(const char *identity, char card[STORE_CARD_MAX]);
void store_finish(struct store *store);

#endif
