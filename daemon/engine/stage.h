/* SPDX-License-Identifier: Apache-2.0 */
/* stage.h - host memory in which what is new on a full card waits for the change (layout.h:
 * staged).
 *
 * It is a device of one card, all of whose weights lie in host memory: so what waits is copied
 * there, packed and proven by the same operations as on a card.  Threads: as of a runner. */
#ifndef OCTARC_ENGINE_STAGE_H
#define OCTARC_ENGINE_STAGE_H

#include "daemon/engine/runner.h"

struct stage;

/* For the plan of the options beside that of options->before; *stage is NULL where no card is
 * staged.  -ENOSPC: more than options->stage_most bytes would wait; -ENOMEM. */
int stage_open(struct stage **stage, const struct runner_options *options, struct err *err);
void stage_close(struct stage *stage); /* NULL is fine */

/* What is new on the card waits; without a stage nothing does. */
bool stage_has(const struct stage *stage, uint32_t card);
/* Where range `i` of the plan waits: its card and offset are the stage's then.  False: it does not,
 * and *range is untouched. */
bool stage_place(const struct stage *stage, size_t i, struct plan_range *range);
/* Has AREA_WEIGHTS, and AREA_KV for as many bytes as layout_staged_kv() says of all cards. */
struct device *stage_device(const struct stage *stage);

#endif
