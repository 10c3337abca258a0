/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h - the weight memory of simulated cards: memfds that outlive an engine. */
#ifndef OCTARC_SERVICE_MEMORY_H
#define OCTARC_SERVICE_MEMORY_H

#include "daemon/service/engines.h"

/* Of a card's memory: whoever maps it is safe from its becoming shorter. */
#define MEMORY_SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* Make *memory what the plan says for this card.  Memory made for the same ranges is kept, with
 * what is in it; it can neither grow nor shrink.  *kept tells which. */
int memory_for_card(struct card_memory *memory, const struct plan *plan, uint32_t number,
                    bool *kept, struct err *err);
bool memory_is_made_for(const struct card_memory *memory, const struct plan *plan, uint32_t number);
/* A card's memory that a service before made, of the size that the plan wants: taken over. */
void memory_adopt(struct card_memory *memory, const struct plan *plan, uint32_t number, int fd);
void memory_drop(struct card_memory *memory);

#endif
