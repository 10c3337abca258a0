/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCTARC_DEVICE_MATRICES_H
#define OCTARC_DEVICE_MATRICES_H

#include "daemon/device/program.h"

#define OP_MATRICES_MAX 3

/* The matrices that an operation multiplies with, those without rows too; returns how many.  A
 * table of tokens' rows is not one of them. */
uint32_t op_matrices(const struct op *op, const struct matrix *out[OP_MATRICES_MAX]);

#endif
