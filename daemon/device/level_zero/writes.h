/* SPDX-License-Identifier: Apache-2.0 */
/* writes.h - what operations write of their card's memory, as far as it has to be known: whether
 * that may be what another card reads meanwhile. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_WRITES_H
#define OCTARC_DEVICE_LEVEL_ZERO_WRITES_H

#include "daemon/device/device.h"

/* Whether an operation that is no exchange may write a byte of [begin, end) of an area, in a step
 * of up to max_rows rows.  Of experts nobody has looked: they may. */
bool writes_any(const struct op *op, uint32_t max_rows, enum area area, uint64_t begin,
                uint64_t end);

#endif
