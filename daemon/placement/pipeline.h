/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline.h - inside placement: runs of layers for groups of cards, one after the other, for the
 * fastest decoded token.
 *
 * Which groups (with the lanes that groups.h gives each), in which order over the peer links, and
 * where each run ends is searched exactly, by the set of cards that are used so far, the card from
 * which the hidden rows go on, and the layers that have a home. */
#ifndef OCTARC_PLACEMENT_PIPELINE_H
#define OCTARC_PLACEMENT_PIPELINE_H

#include "daemon/placement/groups.h"

/* Within the limits and bounds of the box, and in less than so many seconds a token.  Whole layers:
 * groups of one card each, the output matrix whole on any card, the embedding on the first of the
 * groups. Else groups of any size, the output matrix on the last of them and the embedding on the
 * first, in eighths like their lanes.  A matrix that is bound to a card is there, whole.  1: found;
 * 0: there is none; -ENOMEM. */
int pipeline_find(const struct times *times, bool whole_layers, double seconds,
                  struct share shares[CARDS_MAX]);

#endif
