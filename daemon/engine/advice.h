/* SPDX-License-Identifier: Apache-2.0 */
/* advice.h - has the plan's hints carried out on a device: advice, prefetch, and the proof.
 *
 * Advice comes before a byte is written, in every reading card's space, so that what is written
 * lies where it belongs at once.  Prefetch comes when all is loaded; then the device is asked what
 * lies at home, and what it cannot tell is counted as unverified, not as there. */
#ifndef OCTARC_ENGINE_ADVICE_H
#define OCTARC_ENGINE_ADVICE_H

#include <stdatomic.h>

#include "daemon/placement/hints.h"

struct err;

/* Of one home. */
struct advised_card {
    uint64_t advised_bytes, prefetched_bytes;
    int64_t resident_bytes; /* of those that were prefetched; -1: cannot be told */
};

/* -EINVAL, -ENODEV, -ENOMEM: err names the card. */
int advice_give(const struct device_ops *ops, struct device *device, const struct hints *hints,
                struct advised_card cards[CARDS_MAX], struct err *err);
/* Prefetch, then ask.  cancelled may be NULL: -ECANCELED. */
int advice_bring_home(const struct device_ops *ops, struct device *device,
                      const struct hints *hints, uint32_t of, const _Atomic bool *cancelled,
                      struct advised_card cards[CARDS_MAX], struct err *err);

#endif
