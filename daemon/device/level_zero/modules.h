/* SPDX-License-Identifier: Apache-2.0 */
/* modules.h - the kernels of a card, built by its driver when a program first needs them. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_MODULES_H
#define OCTARC_DEVICE_LEVEL_ZERO_MODULES_H

#include "daemon/device/level_zero/cards.h"

enum kernel_name {
    KERNEL_NORM,
    KERNEL_ADD_NORM,
    KERNEL_COMBINE,
    KERNEL_ROPE_STORE,
    KERNEL_GATE_APART,
    KERNEL_ATTENTION,
    KERNEL_EXCHANGE,    /* between areas of scratch memory */
    KERNEL_EXCHANGE_KV, /* the same one, which keeps other arguments */
    KERNEL_CARRY,
    KERNEL_ROUTE,
    KERNEL_DISPATCH,
    KERNEL_SWEEP,
    KERNEL_MULTIPLY,
    KERNEL_MULTIPLY_XMX,
    KERNEL_DIGEST,
    KERNEL_MATMUL,
    KERNEL_LANES,
    KERNEL_GATE_UP,
    KERNEL_EMBED,
    KERNEL_EXPERT_MATMUL,
    KERNEL_EXPERT_GATE_UP,
    KERNEL_EXPERT_SUM,
};

/* A kernel for matrices of a tensor type; of the others the type says nothing.  Its group has
 * SUB_GROUP work items.  -ENOTSUP: there is none for the type; else what the driver said. */
int modules_kernel(struct device *device, uint32_t card, enum kernel_name name, uint32_t type,
                   struct ze_kernel **kernel, struct err *err);
/* Gives it a pointer, unless that is what it has. */
ze_result_t modules_give(const struct device *device, struct ze_kernel *kernel, uint32_t argument,
                         const void *pointer);
void modules_free(struct device *device, uint32_t card);

#endif
