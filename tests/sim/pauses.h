/* SPDX-License-Identifier: Apache-2.0 */
/* pauses.h - how long the front leaves a stream without a token, in virtual time.
 *
 * gaps.h looks at one engine; this looks at streams from whichever engine they come, and so at how
 * they get from one to the next.  It is measured where nothing fails and operators move cards under
 * many streams (sim.calm), in steps as long as the longest of any engine in between; what messages
 * take is not counted.  Threads: one. */
#ifndef OCTARC_TESTS_SIM_PAUSES_H
#define OCTARC_TESTS_SIM_PAUSES_H

#include "tests/sim/sim.h"

#define PAUSE_STEPS_MOST 3

/* An engine makes a step, which ends then. */
void pauses_step(uint64_t ns, uint64_t end_ns);
/* The front has heard a token, or more. */
void pauses_judge(void);
void pauses_forget(void);

#endif
