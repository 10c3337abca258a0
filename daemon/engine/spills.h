/* SPDX-License-Identifier: Apache-2.0 */
/* spills.h - when what lies in host memory is fetched.
 *
 * The layers of a card that are spilled take turns at the two halves of its landing, in the order
 * in which they are computed.  A layer's matrices are fetched while what stands between its
 * forerunner in the same half and itself is computed, by any card: the first two of a step from
 * where the step before was done with that half.  They are cut over the phases of that time by what
 * these have to read of weights, so that the fetch goes beside the computing all the way.
 *
 * Inside the engine's compiler.  Pure: no card is touched. */
#ifndef OCTARC_ENGINE_SPILLS_H
#define OCTARC_ENGINE_SPILLS_H

#include "daemon/placement/plan.h"

/* A layer whose matrices are fetched. */
struct spill {
    uint64_t from, to, bytes; /* of the weights; of the landing */
    uint32_t first, last;     /* phases that read it */
};

/* Of one card. */
struct spills {
    struct spill of[LAYERS_MAX];
    uint32_t n;
};

void spills_list(struct spills *spills, const struct model *model, const struct plan *plan,
                 uint32_t card);
/* Where in the landing what lies at an offset of the weights arrives; 0 for what does not. */
uint64_t spills_landing(const struct spills *spills, uint64_t offset);
/* Add the fetches to programs that are complete otherwise.  -ENOMEM. */
int spills_fetch(struct spills spills[CARDS_MAX], struct program programs[CARDS_MAX],
                 uint32_t n_cards);

#endif
