/* SPDX-License-Identifier: Apache-2.0 */
/* unused.h - what no plan has in the cards' weight memory. */
#ifndef OCTARC_ENGINE_UNUSED_H
#define OCTARC_ENGINE_UNUSED_H

#include "daemon/engine/runner.h"

/* Give back all weight memory of the plan's cards but their headers, the ranges that are kept
 * ([n_ranges]; NULL: all), and what the runner before has in place (NULL: nothing).  It reads as
 * zero then.  -ENOMEM, or what the backend's clear() returned. */
int unused_clear(struct device *device, const struct runner_options *options, const bool *kept,
                 const bool *in_place);
/* The same of one card, where nothing but the plan is used any more. */
int unused_clear_card(struct device *device, const struct runner_options *options, uint32_t card);

#endif
