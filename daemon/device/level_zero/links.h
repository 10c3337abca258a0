/* SPDX-License-Identifier: Apache-2.0 */
/* links.h - peer links are tried, not believed. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_LINKS_H
#define OCTARC_DEVICE_LEVEL_ZERO_LINKS_H

#include "daemon/device/level_zero/cards.h"

/* What the host writes to the card's memory is what it reads from there, through the stage.  -EIO:
 * it is not; else as the calls fail; err says it of "it". */
int links_try_host(struct device *device, uint32_t card, struct err *err);

/* Each link that the driver calls direct carries patterns of several sizes, by a kernel of the
 * reader as an exchange does it; one that delivers anything else is staged from then on, and the
 * reader's properties say so.  -EIO: a card was lost by it; -ENOMEM, and what building the kernel
 * failed with; err. */
int links_try(struct device *device, struct err *err);

/* How fast each link is and how long the shortest transfer takes, of direct ones by the kernel that
 * carries the patterns, of staged ones by the owner's and the reader's; what is carried is
 * compared, and a direct one that delivers anything else is staged, and measured as such.
 * LINKS_MEASURE_NS a link, and one transfer more.  As links_try(). */
#define LINKS_MEASURE_NS UINT64_C(20000000)
int links_measure(struct device *device, struct err *err);

#endif
