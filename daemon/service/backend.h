/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - what computes: the key backend, and what the machine's cards allow.
 *
 * "auto" takes cards where any can be used, and else the CPU, which is then said aloud wherever the
 * service says how it is.  Where simulated cards are described, "auto" is the CPU, and that is what
 * was wanted: nobody looks at the machine's cards then.  Threads: one, before the loop. */
#ifndef OCTARC_SERVICE_BACKEND_H
#define OCTARC_SERVICE_BACKEND_H

#include "daemon/service/config.h"
#include "daemon/service/probe.h"

#define BACKEND_WHY_MAX 480

struct backend {
    const char *name; /* of the device contract's; static */
    const struct device_ops *ops;
    struct device_found cards; /* of a backend that does not simulate them */
    char why[BACKEND_WHY_MAX]; /* the CPU takes the cards' place, because …; empty: it is as
                                  configured */
};

/* Ask for the cards where the answer matters, and decide.  -ENOTSUP: backend = level_zero, and no
 * card can be used; err says why. */
int backend_choose(struct backend *backend, const struct config *config, struct spawner *spawner,
                   struct err *err);

/* The same when the cards are known; report NULL: they are not, and `unknown` says why. */
int backend_judge(struct backend *backend, const struct config *config,
                  const struct probe_report *report, const char *unknown, struct err *err);
/* Does the answer matter? */
bool backend_asks(const struct config *config);

#endif
