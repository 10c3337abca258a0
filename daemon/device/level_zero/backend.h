/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_BACKEND_H
#define OCTARC_DEVICE_LEVEL_ZERO_BACKEND_H

#include "daemon/device/device.h"

extern const struct device_ops level_zero_ops;

#endif
