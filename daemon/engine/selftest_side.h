/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_side.h - one of the two that a self-test compares: a backend's device, the room that all
 * programs have on it, and what the last one made there. */
#ifndef OCTARC_ENGINE_SELFTEST_SIDE_H
#define OCTARC_ENGINE_SELFTEST_SIDE_H

#include "daemon/engine/selftest.h"
#include "daemon/engine/selftest_program.h"

#define SIDE_RESULTS ((TRIAL_ROWS + 1) * TRIAL_VOCAB) /* of a prompt, and of a token behind it */

struct side {
    const struct device_ops *ops;
    struct device *device;
    uint64_t bytes[AREA_COUNT]; /* of each card: that the largest program needs */
    uint64_t host_at;           /* from there on weights lie in host memory; 0: none do */
    uint32_t n;                 /* programs that run together, */
    uint32_t cards[2];          /* each on a card of its own */
    struct trial_program programs[2];
    float results[SIDE_RESULTS];
};

/* Room for the programs that it has now, too. */
void side_make_room(struct side *side);
/* Every card of the options gets that room; the device is the caller's to close. */
int side_open(struct side *side, const struct device_options *options, struct err *err);
/* The programs that it has, with weights drawn out of `number`, are loaded. */
int side_build(struct side *side, uint32_t number, struct err *err);
/* A prompt of TRIAL_ROWS, and a token behind it. */
int side_run(struct side *side, struct err *err);
/* -EDOM: the reference made nothing that could be compared with. */
int side_compare(const struct side *tried, const struct side *reference,
                 struct selftest_kernel *made, struct err *err);

#endif
