/* SPDX-License-Identifier: Apache-2.0 */
/* gaps.h - how long an engine leaves each of its streams without a token, in virtual time.
 *
 * A running engine goes over to another plan beside its steps: what it does for that between two
 * steps holds every stream.  A gap is from a token of a sequence to its next one, and is measured
 * in steps as long as the longest that was in it: one with others' prompts is as long as it is.
 * Times are the engine's own, ns. */
#ifndef OCTARC_TESTS_SIM_GAPS_H
#define OCTARC_TESTS_SIM_GAPS_H

#include "tests/sim/sim.h"

#define GAPS_STREAMS   16 /* that an engine runs at a time, at most */
#define GAP_STEPS_MOST 3

struct gaps {
    struct gap {
        uint64_t sequence, said_ns; /* 0: free */
        uint64_t step_ns;           /* the longest since */
        uint64_t other_ns;          /* since, for what no order is to blame for */
        bool moved;                 /* since, an order was under way */
    } of[GAPS_STREAMS];
};

void gaps_token(struct gaps *gaps, uint64_t sequence, uint64_t now_ns);
void gaps_end(struct gaps *gaps, uint64_t sequence);
void gaps_step(struct gaps *gaps, uint64_t ns);
/* So long was verified, which has slices and a promise of its own. */
void gaps_other(struct gaps *gaps, uint64_t ns);
void gaps_moving(struct gaps *gaps);
/* Steps are held: by a loss, by harm, by a front that does not listen. */
void gaps_forget(struct gaps *gaps);

#endif
