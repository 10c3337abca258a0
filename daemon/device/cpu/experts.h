/* SPDX-License-Identifier: Apache-2.0 */
/* experts.h - operations of layers with experts: items of OP_ROUTE, OP_DISPATCH, OP_EXPERT_GATE_UP
 * and OP_EXPERT_DOWN, as of cpu_op_run().
 *
 * How many items there are depends on the number of rows alone, although only the experts that rows
 * use are read: the items of the others have nothing to do. */
#ifndef OCTARC_DEVICE_CPU_EXPERTS_H
#define OCTARC_DEVICE_CPU_EXPERTS_H

#include "daemon/device/cpu/cpu.h"

uint32_t experts_items(const struct op *op, const struct step_params *params);
void experts_run(struct device *device, uint32_t card, const struct op *op,
                 const struct step_params *params, uint32_t begin, uint32_t end,
                 struct cpu_work *work);

/* Bytes of cpu_work.sums that an OP_EXPERT_DOWN needs. */
uint64_t experts_sums_bytes(const struct op *op, uint32_t max_rows);

/* The n_used largest of n logits, of equal ones the lower ids: ids, ascending, and their weights
 * out of a softmax over all n, whose sum is made 1 where `normed`.  1 <= n_used <= n <=
 * EXPERTS_MAX; the logits are used up.  NaNs are below everything, so ids are distinct whatever the
 * logits. */
void experts_choose(const struct kernels *kernels, float *logits, uint32_t n, uint32_t n_used,
                    bool normed, uint32_t *ids, float *weights);

#endif
