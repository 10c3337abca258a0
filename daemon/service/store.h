/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - what systemd's store of descriptors keeps for a service that starts again: the weight
 * memory of its cards, and the checksums of the model file they were read from.
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

struct store {
    bool on; /* key warm_restart, and there are weights to keep */
    struct {
        int left;  /* not yet taken: owned; -1 */
        bool kept; /* systemd has something of that name */
    } slots[STORE_SLOTS];
};

void store_init(struct store *store);
/* Something came back from systemd under that name: taken, or closed.  False: the name is none of
 * the store's, and the descriptor stays the caller's. */
bool store_offer(void *store, const char *name, int fd);
/* Memory that what was left takes up now. */
uint64_t store_bytes(const struct store *store);
/* Off: what was left is dropped, and nothing is kept. */
void store_start(struct store *store, bool on);

/* The checksums that were left, the caller's from then on; -1: there are none of this file as it is
 * now, and all that was left is dropped. */
int store_take_sums(struct store *store, const struct model *model,
                    const struct file_identity *file);
/* A card's memory that was left, the caller's from then on; -1: there is none of this size at
 * least. */
int store_take(struct store *store, uint32_t card, uint64_t bytes);

/* Have systemd hold the descriptor too (borrowed), unless it holds one under that name. */
void store_keep(struct store *store, uint32_t slot, int fd);
/* Drop what was left there, and what systemd holds. */
void store_remove(struct store *store, uint32_t slot);
void store_finish(struct store *store);

#endif
