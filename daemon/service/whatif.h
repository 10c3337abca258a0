/* SPDX-License-Identifier: Apache-2.0 */
/* whatif.h - octarcd --plan: the plan that the service would make, without a service.
 *
 * Only the model's header is read; nothing is loaded.  Goes by the same configuration, the same
 * table of options and the same search as the service. */
#ifndef OCTARC_SERVICE_WHATIF_H
#define OCTARC_SERVICE_WHATIF_H

#include "daemon/protocol/plan.h"
#include "daemon/service/options.h"
#include "daemon/util/buffer.h"

/* Print the plan, or on stderr why there is none; the exit status: 0 it fits, 1 it does not or the
 * model cannot be read, 2 the options do not go together. */
int whatif_run(const struct options *options, const struct config *config,
               const struct topology *topology);

/* A plan for people (whatif_text.c), and as a picture (whatif_svg.c).  0 or -ENOMEM. */
int whatif_text(const struct plan_view *view, struct buffer *out);
int whatif_svg(const struct plan_view *view, struct buffer *out);

/* "1.5 GiB"; returns `out`. */
const char *whatif_size(char out[16], uint64_t bytes);

#endif
