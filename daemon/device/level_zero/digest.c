/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - digests of what lies on a card are taken there: to read it would take the bus, which
 * is slower than the card's memory by far and which steps use, and the host would do the rest.
 * What crosses is the description of a stretch, and a sum of each GROUP_BYTES of it, by the stage.
 *
 * A sum counts with the number of its digest beside it: a driver may launch nothing, or give the
 * kernel something else than it says. */
#include <errno.h>
#include <string.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/modules.h"
#include "daemon/util/log.h"

#define AT_ONCE     (UINT64_C(64) << 20) /* bytes of a launch: steps may wait for its end */
#define GROUP_BYTES ((uint64_t)SUB_GROUP * DIGEST_LEAF_BYTES)
_Static_assert(sizeof(struct ze_digest) + AT_ONCE / GROUP_BYTES * sizeof(struct ze_digested) <=
                   STAGE_BYTES,
               "the stage has room for what all groups find");

/* Its argument is given once: the stage stays where it is as long as the card is open. */
static int launch(struct device *d, uint32_t card, struct ze_kernel *kernel, uint32_t n_groups) {
    const ze_group_count_t groups = {n_groups, 1, 1};
    char *stage = d->cards[card].stage;
    ze_result_t result = ZE_RESULT_SUCCESS;
    if (!kernel->set)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 0, sizeof stage, &stage);
    kernel->set = !result;
    level_zero_waits(d, card);
    if (!result)
        result = d->api->zeCommandListAppendLaunchKernel(d->cards[card].transfer, kernel->handle,
                                                         &groups, NULL, 0, NULL);
    level_zero_waited(d, card);
    return ze_failed(result, "a kernel that takes a digest", NULL);
}

/* What the groups found, if all of them did. */
static int collect(uint32_t card, const struct ze_digest *op, uint32_t n_groups, uint64_t *sum) {
    const struct ze_digested *found = (const void *)(op + 1);
    uint64_t all = 0;
    for (uint32_t i = 0; i < n_groups; i++) {
        if (found[i].number != op->number) {
            log_warning("card %u: the kernel that takes digests has not said that it ran: its "
                        "driver took other arguments than it says, or the card's way to the host "
                        "delivers other bytes",
                        card);
            return -ENODEV;
        }
        all += found[i].sum;
    }
    *sum += all;
    return 0;
}

/* The lock is held. */
static int digest_some(struct device *d, uint32_t card, const char *at, uint64_t bytes,
                       uint64_t leaf, uint64_t *sum) {
    struct ze_card *c = &d->cards[card];
    const uint32_t n_groups = (uint32_t)((bytes + GROUP_BYTES - 1) / GROUP_BYTES);
    struct ze_digest *op = (void *)c->stage;
    struct ze_kernel *kernel;
    int rc = modules_kernel(d, card, KERNEL_DIGEST, 0, &kernel, NULL);
    if (rc)
        return rc;
    *op = (struct ze_digest){++c->n_digests, (u64)(uintptr_t)at, bytes, leaf};
    memset(op + 1, 0, n_groups * sizeof(struct ze_digested));
    rc = launch(d, card, kernel, n_groups);
    return rc ? rc : collect(card, op, n_groups, sum);
}

static int digest_on_card(struct device *d, uint32_t card, const char *at, uint64_t bytes,
                          uint64_t leaf, uint64_t *sum) {
    struct ze_card *c = &d->cards[card];
    int rc = 0;
    pthread_mutex_lock(&c->transferring);
    for (uint64_t done = 0, some; done < bytes && !rc; done += some) {
        some = bytes - done < AT_ONCE ? bytes - done : AT_ONCE;
        rc = digest_some(d, card, at + done, some, leaf + done / DIGEST_LEAF_BYTES, sum);
    }
    if (rc == -ENODEV)
        c->lost = true;
    pthread_mutex_unlock(&c->transferring);
    return rc;
}

static int digest_part(struct device *d, uint32_t card, enum area area, uint64_t offset,
                       uint64_t bytes, uint64_t leaf, uint64_t *sum) {
    uint64_t all = 0;
    char *at;
    int rc = level_zero_stretch(d, card, area, offset, bytes, &at);
    if (rc)
        return rc;
    const struct ze_area *a = &d->cards[card].areas[area];
    if (a->host && offset >= a->split)
        all = device_digest_part(at, bytes, leaf);
    else
        rc = digest_on_card(d, card, at, bytes, leaf, &all);
    if (!rc)
        *sum = all;
    return rc;
}

int level_zero_digest_part(struct device *d, uint32_t card, uint64_t offset, uint64_t bytes,
                           uint64_t first_leaf, uint64_t *sum) {
    return digest_part(d, card, AREA_WEIGHTS, offset, bytes, first_leaf, sum);
}

int level_zero_digest(struct device *d, uint32_t card, enum area area, uint64_t offset,
                      uint64_t bytes, uint64_t *digest) {
    uint64_t sum;
    const int rc = digest_part(d, card, area, offset, bytes, 0, &sum);
    if (!rc)
        *digest = device_digest_close(sum, bytes);
    return rc;
}
