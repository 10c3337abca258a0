/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - fills the cards' weight memory from the model file, or finds it filled.
 *
 * A card's weight memory begins with a header (PLAN_WEIGHTS_HEADER bytes) that says which file and
 * which ranges it holds and a digest of each.  The header is written last: memory whose header is
 * missing, of another file or plan, or whose digests do not match is filled again. */
#ifndef OCTARC_ENGINE_WEIGHTS_H
#define OCTARC_ENGINE_WEIGHTS_H

#include "daemon/engine/runner.h"

/* Fill AREA_WEIGHTS of every online card.  reused[card] says whether it was found whole.
 * -EIO: the file ends or cannot be read inside a tensor (err names it); -ENOMEM, -E2BIG. */
int weights_load(struct device *device, const struct runner_options *options,
                 bool reused[CARDS_MAX], struct err *err);

#endif
