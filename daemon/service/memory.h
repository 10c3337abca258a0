/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - the weight memory of cards, as far as it outlives an engine.
 *
 * Of simulated cards: memfds.  One has more addresses than its card has bytes (layout.h), and takes
 * what its ranges take.  Of real cards: what an engine made there (held.c); it takes all of its
 * bytes from the card as long as it is held. */
#ifndef OCTARC_SERVICE_MEMORY_H
#define OCTARC_SERVICE_MEMORY_H

#include "daemon/service/engines.h"

/* Of a card's memory: whoever maps it is safe from its becoming shorter. */
#define MEMORY_SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* Places for the card's ranges where its memory has what stays; in_use: an engine uses all that is
 * there.  Memory that there is none of, and a card that spills, leave the plan as it is.  -ENOSPC,
 * -ENOMEM. */
int memory_lay_out(const struct card_memory *memory, struct plan *plan, uint32_t number,
                   bool in_use);
/* Make *memory what the plan says for this card: memory that there is is kept, with what is in it.
 */
int memory_for_card(struct card_memory *memory, const struct plan *plan, uint32_t number,
                    struct err *err);
/* A card's memory that a service before made, with room for what the plan wants: taken over. */
void memory_adopt(struct card_memory *memory, const struct plan *plan, uint32_t number, int fd);
/* Memory of a real card that an engine made, in n pieces, and that has what the plan says in them:
 * taken over. */
void memory_hold(struct card_memory *memory, const struct plan *plan, uint32_t number,
                 const int *fds, const uint64_t *bytes, uint32_t n);
/* Places for the card's ranges in such memory, of which the last pieces are let go that have
 * nothing to keep.  -ENOSPC: the card has no room for the rest beside it, or it would be too many
 * pieces; -ENODATA: it has nothing of the plan's; the plan is untouched then.  -ENOMEM. */
int memory_lay_out_held(struct card_memory *memory, struct plan *plan, uint32_t number);
/* It has what the plan says for this card from now on.  -ENOMEM: the memory is dropped. */
int memory_take_ranges(struct card_memory *memory, const struct plan *plan, uint32_t number);
/* What the memory has of the plan's weights for this card, wherever in it; all of them with header.
 */
uint64_t memory_kept_bytes(const struct card_memory *memory, const struct plan *plan,
                           uint32_t number);
/* What it takes of the host's memory; its addresses are more. */
uint64_t memory_held_bytes(const struct card_memory *memory);
void memory_drop(struct card_memory *memory);

#endif
