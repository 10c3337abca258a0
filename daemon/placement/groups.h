/* SPDX-License-Identifier: Apache-2.0 */
/* groups.h - inside placement: lanes for the cards of a group, for the fastest decoded token.
 *
 * Of the lanes only their counts are chosen, one way of counting after the other: the card with the
 * most comes first, of equal counts the one with the lower number.  So what may be chosen for some
 * cards may be chosen for more of them, too. */
#ifndef OCTARC_PLACEMENT_GROUPS_H
#define OCTARC_PLACEMENT_GROUPS_H

#include "daemon/placement/times.h"

#define GROUPS (1u << CARDS_MAX) /* by the bits of their cards */

/* For each card alone: it has all lanes. */
void groups_fill_single(const struct times *times, struct group groups[GROUPS]);
/* For each clique of the box's cards, the lanes with which its layers take the least time whatever
 * they are in bytes; .cards is 0 where there is none, or where a part of the cards is no slower. */
void groups_fill(const struct times *times, struct group groups[GROUPS]);

/* One group for all layers and both big matrices, in eighths like the lanes, within the limits; a
 * matrix that is bound to a card is whole, and need not be in the group.
 * False: there is none. */
bool groups_find(const struct times *times, struct share shares[CARDS_MAX]);

#endif
