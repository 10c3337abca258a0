/* SPDX-License-Identifier: Apache-2.0 */
/* predict.h - how fast a plan would be on a box.
 *
 * The cost of a step follows the programs that the engine compiles from the plan: phase after
 * phase, in each of which the slowest card decides.  In a phase a card reads its matrices once
 * (bytes over its bandwidth) and multiplies (two operations a weight and row, over its rate for the
 * type); the longer of both counts.  An exchange takes the latency of its slowest link, and for
 * each card the sum of what it takes in, each part over the bandwidth of its link.  So whole layers
 * cost one after the other, lanes at once, plus two exchanges a layer.
 *
 * Weights that are spilled come over the card's way to the host while the card computes its layers,
 * the first two of them before that; where they take longer, that counts.
 *
 * Not counted: norms and other vectors, the way of the logits to the host, links that share a part
 * of their way, and what a card takes to start working.  So it is an upper bound, for comparing
 * plans.
 *
 * Threads: no shared state. */
#ifndef OCTARC_PLACEMENT_PREDICT_H
#define OCTARC_PLACEMENT_PREDICT_H

#include "daemon/placement/plan.h"
#include "daemon/placement/topology.h"

struct prediction {
    uint32_t tokens;             /* of the prompt; decoding goes on from there: half the context */
    double prefill_tokens_per_s; /* of one sequence; 0: unknown … */
    double decode_tokens_per_s;
    double exchange_share; /* of the time of a decoded token, 0 to 1 */
    /* … and what the box does not state; empty: all is known. */
    char prefill_lacks[96], decode_lacks[96];
};

/* The plan is one of the model's, for the cards of the box.  -ENOMEM; *prediction is untouched. */
int predict(struct prediction *prediction, const struct plan *plan, const struct model *model,
            const struct topology *topology);
/* Decoding alone, which takes a small part of the time; the rest of *prediction is 0. */
int predict_decode(struct prediction *prediction, const struct plan *plan,
                   const struct model *model, const struct topology *topology);

#endif
