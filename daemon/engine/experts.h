/* SPDX-License-Identifier: Apache-2.0 */
/* experts.h - inside the compilation of programs: a layer with experts.
 *
 * Each card has whole experts, those of its lanes.  Which of them a row uses is found once, by the
 * card whose part the row is in, and told the others with the normed row. */
#ifndef OCTARC_ENGINE_EXPERTS_H
#define OCTARC_ENGINE_EXPERTS_H

#include "daemon/engine/compiler.h"

/* Of a MODEL_EXPERTS. */
void experts_compile(struct compiler *c, const struct model_op *op);

#endif
