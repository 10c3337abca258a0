/* SPDX-License-Identifier: Apache-2.0 */
/* rotations.h - cos and sin of the positions of a step, for each kind of layer, and what queries
 * are scaled by.
 *
 * A position is computed once and kept.  Everything that a file may have wrong is found when they
 * are opened: a step cannot fail for it, which would end one engine after the other.  One thread at
 * a time. */
#ifndef OCTARC_ENGINE_ROTATIONS_H
#define OCTARC_ENGINE_ROTATIONS_H

#include "daemon/placement/plan.h"

struct err;
struct rotations;

/* Borrows model and plan.  head_fds: of every file's header and the divisors of the frequencies.
 *   -EINVAL  a position of the context cannot be rotated (err names it, and what makes it so)
 *   -EIO, -ENOMEM */
int rotations_open(struct rotations **rotations, const struct model *model, const struct plan *plan,
                   const int *head_fds, struct err *err);
void rotations_close(struct rotations *rotations); /* takes NULL */

/* Point params->rope and q_scale at the tables of its rows, which are right until the next call.
 * -EINVAL: a position beyond the context. */
int rotations_fill(struct rotations *rotations, struct step_params *params);

#endif
