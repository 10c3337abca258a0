/* SPDX-License-Identifier: Apache-2.0 */
/* pressed.h - what the service does while memory is short on the host.
 *
 * In this order: it says so (log, event), drops what can be made again (weights that drained cards
 * still hold, KV pages that no request uses, what allocators keep), and puts off what can wait
 * (changes of plan that no loss makes necessary, the scrub).  No request is refused or ended for
 * it.  When it is over that is said too, and what waited is done. */
#ifndef OCTARC_SERVICE_PRESSED_H
#define OCTARC_SERVICE_PRESSED_H

#include "daemon/service/pressure_source.h"

struct daemon;

struct pressed {
    bool watches;
    struct pressure_source source;
    struct pressure pressure;
    uint64_t n; /* times that it began */
};

/* Key memory_pressure; after the engines were made.  As pressure_source_open(). */
int pressed_start(struct daemon *daemon, struct err *err);
/* About once a second. */
void pressed_tick(struct daemon *daemon);
/* After the loop. */
void pressed_finish(struct daemon *daemon);

#endif
