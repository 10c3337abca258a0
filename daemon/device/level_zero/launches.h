/* SPDX-License-Identifier: Apache-2.0 */
/* launches.h - the loaded programs as kernels to launch: what load.c makes and step.c runs. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_LAUNCHES_H
#define OCTARC_DEVICE_LEVEL_ZERO_LAUNCHES_H

#include "daemon/device/level_zero/modules.h"

/* What the groups of a launch are, beside its fixed ones in the first dimension. */
enum ze_by {
    BY_ROW,          /* a row each, in the second dimension */
    BY_ROW_BLOCK,    /* eight rows */
    BY_OUTPUT,       /* an output row */
    BY_OUTPUT_BLOCK, /* eight of them */
    BY_PART,         /* a row of `part` */
    BY_PART_BLOCK,   /* eight of them */
    BY_HIT,          /* an expert that may be used */
    BY_HIT_ROW,      /* a row of one */
    BY_ONE,
};

struct ze_launch {
    uint32_t card, phase;
    uint32_t order; /* in which it was made; fetches first, for what follows goes beside them */
    bool waits;     /* for those of its phase and card before it */
    const struct op *op;
    struct ze_kernel *kernel;   /* NULL: a fetch, which is copied */
    uint64_t description;       /* offset into the card's descriptions */
    uint32_t number, n_numbers; /* of these: one, but for exchanges */
    uint32_t groups; /* in the first dimension; 0: as many as `by` says, and one beside */
    enum ze_by by;
    struct row_part part;
    uint32_t n_used, n_experts; /* by a row; of the card: by hits */
    /* exchanges: all of a card and a phase that go the same way between areas of one kind */
    enum area area;
    uint32_t meets; /* bit per card: who has to be as far, for its memory is read */
    struct {
        uint64_t begin, end;
    } reads[CARDS_MAX]; /* of the area of each of them; of direct ones */
    bool staged;        /* by host memory, */
    bool sends;         /* which is written by this launch and read in its phase */
    bool to_host;       /* logits */
    bool parts;         /* the first of its phase: behind it cards do not meet (marks.c) */
};

#define ROW_BLOCK 8 /* ROWS of matmul.cl */

/* The cards that meet for it: of a staged one all, for what it goes through is used again by the
 * next phase that stages, whoever takes part in that. */
static inline uint32_t launch_meets(const struct device *d, const struct ze_launch *l) {
    return l->staged ? d->needed : l->meets;
}

#endif
