/* SPDX-License-Identifier: Apache-2.0 */
/* gated.h - the gated half of an FFN, of a layer's own or of an expert's. */
#ifndef OCTARC_DEVICE_CPU_GATED_H
#define OCTARC_DEVICE_CPU_GATED_H

#include "daemon/device/cpu/cpu.h"

/* out[out_row + i] = function(gate . x[i]) * (up . x[i]) of n_rows rows of the input, each product
 * with its bias where there is one: a value for each row of the matrix. */
struct gated {
    struct matmul gate, up;
    enum gate function;
    const float *gate_bias, *up_bias; /* or NULL */
    uint32_t n_rows;
    struct act_view out;
    uint32_t out_row;
};

/* Atoms [begin, end) of the output; the weights that they need are there. */
void gated_atoms(struct device *device, const struct gated *gated, uint32_t begin, uint32_t end,
                 struct cpu_work *work);

#endif
