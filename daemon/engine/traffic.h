/* SPDX-License-Identifier: Apache-2.0 */
/* traffic.h - how many bytes the exchanges of a step carry over each peer link.
 *
 * A figure of arithmetic: what an exchange copies is a function of its operation and of the step's
 * rows, so nothing is counted while cards compute.  Exchanges that are alike are one entry, so a
 * step of any model costs some hundred additions at most.  What goes to the host is no peer
 * link's. */
#ifndef OCTARC_ENGINE_TRAFFIC_H
#define OCTARC_ENGINE_TRAFFIC_H

#include "daemon/device/program.h"

struct carry; /* exchanges that are alike */

struct traffic {
    struct carry *all; /* owned */
    size_t n;
};

/* traffic_finish().  -ENOMEM. */
int traffic_build(struct traffic *traffic, const struct program programs[CARDS_MAX]);
void traffic_finish(struct traffic *traffic); /* a zeroed one is fine */

/* Add what a step of these parameters carries. */
void traffic_add(const struct traffic *traffic, const struct step_params *params,
                 struct link_bytes *bytes);

#endif
