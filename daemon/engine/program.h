/* SPDX-License-Identifier: Apache-2.0 */
/* program.h - model + plan -> one program per card.
 *
 * The model says what a layer computes, the plan says who holds what; compiling them fixes every
 * offset and every exchange once, so that a step fills in parameters only.  Pure: no card is
 * touched. */
#ifndef OCTARC_ENGINE_PROGRAM_H
#define OCTARC_ENGINE_PROGRAM_H

#include "daemon/placement/plan.h"

struct err;

/* programs[card] own their operations; programs_finish().  -ENOMEM, or -EINVAL where the plan does
 * not hold what an operation of the model needs (err names the tensor and the card). */
int programs_compile(struct program programs[CARDS_MAX], const struct model *model,
                     const struct plan *plan, struct err *err);
/* Where a card of the plan keeps the K and V of a layer that it holds. */
struct kv_place program_kv_place(const struct model *model, const struct plan *plan, uint32_t card,
                                 uint32_t layer);
void programs_finish(struct program programs[CARDS_MAX]);

#endif
