/* SPDX-License-Identifier: Apache-2.0 */
/* errand.h - send a process that may be lost to look at the cards, and wait for what it says, but
 * only so long.
 *
 * octarcd itself never touches a card: octarc-engine does, with an option instead of a channel,
 * started by the spawner.  It writes one plain value to a pipe and ends.  Threads: one, before the
 * loop. */
#ifndef OCTARC_SERVICE_ERRAND_H
#define OCTARC_SERVICE_ERRAND_H

#include <stddef.h>

#include "daemon/service/spawner.h"

struct errand {
    uint64_t generation; /* SPAWNER_PROBE and the like */
    const char *option;  /* octarc-engine's, for messages */
    const char *limit;   /* " (key ...)" where silence_s is a key's, for messages */
    size_t bytes;        /* of the answer */
};

/* Fills in as much of the answer as there was, *n bytes, once the process has ended well.  Else err
 * says why there is none: -ETIMEDOUT, -EPIPE (it ended first), -EPROTO (it said too much), or what
 * starting failed with.  It is ended in any case. */
int errand_ask(struct spawner *spawner, const struct errand *errand, uint32_t silence_s,
               void *answer, size_t *n, struct err *err);

#endif
