/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - the cpu backend: the embedded default, the reference and the simulator. */
#ifndef OCTARC_DEVICE_CPU_BACKEND_H
#define OCTARC_DEVICE_CPU_BACKEND_H

#include "daemon/device/device.h"

extern const struct device_ops cpu_ops;

#endif
