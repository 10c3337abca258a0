/* SPDX-License-Identifier: Apache-2.0 */
/* available.h - how much memory may still be taken. */
#ifndef OCTARC_UTIL_AVAILABLE_H
#define OCTARC_UTIL_AVAILABLE_H

#include <stdint.h>

/* Bytes the kernel says are available; 1 GiB where it says nothing. */
uint64_t memory_available(void);

#endif
