/* SPDX-License-Identifier: Apache-2.0 */
/* cores.h - which cores there are for this thread, and which of them n threads take.  No state. */
#ifndef OCTARC_DEVICE_CPU_CORES_H
#define OCTARC_DEVICE_CPU_CORES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* Cores that the caller may run on now: at least 1. */
uint32_t cores_usable(void);

/* n different ones of them, spread evenly, so that the memory of all sockets is near to some of
 * them; a second hardware thread of a core only where there are not enough cores.  False: there are
 * fewer than n, or they are not known. */
bool cores_choose(uint32_t n, int *cores);

/* The same among `usable`; first[core] is the first hardware thread of its core. */
bool cores_choose_of(const cpu_set_t *usable, const int *first, uint32_t n, int *cores);

#endif
