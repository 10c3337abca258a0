/* SPDX-License-Identifier: Apache-2.0 */
/* svm.h - storage svm: the weights of every card lie in anonymous memory of this process, at one
 * address for the host and all cards, and the kernel keeps them on their home.
 *
 * No instruction of the host touches them, and no copy command of Level Zero, which would import
 * them as host memory: either brings pages back from the card.  What is written and read goes
 * through the card's stage by a kernel on the card (carry).
 *
 * Advice is given twice: in Level Zero's own VM, which kernels run in and which tells nobody what
 * became of it, and in the backend's VM beside it (drm/xe.h), which says so; prefetch goes there.
 *
 * Threads: as device.h says; put, get and fill of one card from several threads. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_SVM_H
#define OCTARC_DEVICE_LEVEL_ZERO_SVM_H

#include "daemon/device/level_zero/cards.h"

struct err;

/* Which storage it is, by what was asked for and what a trial of every card proves; notes why in
 * the device.  -ENOTSUP: svm was asked for and is not there; -ENODEV: a card is lost. */
int svm_choose(struct device *device, const struct device_options *options, struct err *err);
void svm_close(struct device *device); /* after all memory was released */

/* Memory of one card for `bytes` of weights. */
int svm_reserve(struct device *device, uint32_t card, uint64_t bytes, struct ze_area *area,
                struct err *err);
void svm_release(struct device *device, uint32_t card, struct ze_area *area);

/* It is memory of the card's weights. */
bool svm_holds(const struct device *device, uint32_t card, const void *at);
int svm_put(struct device *device, uint32_t card, char *to, const void *from, uint64_t n);
int svm_get(struct device *device, uint32_t card, void *to, const char *from, uint64_t n);
int svm_fill(struct device *device, uint32_t card, char *to, uint64_t n); /* with zeros */

/* All of the card's weights in the VMs of the readers: one range of the kernel's for each. */
int svm_advise(struct device *device, uint32_t card, uint32_t readers);
/* Chunks that do not move are noted, and no error. */
int svm_prefetch(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes);
/* What of a stretch is at home: the chunks whose prefetch said so, where the card's own counter
 * agrees about all that this device has there: not half a chunk less, nor a chunk more.  Any area.
 * -ENOTSUP: it does not (another program uses the card), or cannot be read; -ENODEV. */
int svm_residency(struct device *device, uint32_t card, enum area area, uint64_t offset,
                  uint64_t bytes, uint64_t *resident);

#endif
