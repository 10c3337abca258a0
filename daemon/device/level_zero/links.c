/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/modules.h"
#include "octarc/error.h"

#define TRIED_BYTES (1u << 20)

static const uint32_t sizes[] = {64, 4096, TRIED_BYTES};

struct trial {
    struct device *device;
    char *at[CARDS_MAX]; /* device memory: a pattern of each card's own, then room for another */
    uint32_t *pattern, *found; /* host memory */
    struct err *err;
};

/* No word is what an absent card, or memory that was never written, reads as. */
static void make_pattern(uint32_t *words, uint32_t card) {
    for (uint32_t i = 0; i < TRIED_BYTES / 4; i++)
        words[i] = (i * 2654435761u) ^ (card + 1) * 0x9e3779b9u;
}

static int write_patterns(struct trial *t) {
    struct device *d = t->device;
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++) {
        if (!d->cards[i].present)
            continue;
        make_pattern(t->pattern, i);
        rc = level_zero_alloc_card(d, i, 2 * TRIED_BYTES, &t->at[i], t->err);
        if (!rc)
            rc = level_zero_put(d, i, t->at[i], t->pattern, TRIED_BYTES);
    }
    return rc;
}

static int carry(struct trial *t, uint32_t reader, uint32_t owner, uint32_t bytes) {
    const struct device *d = t->device;
    const char *from = t->at[owner], *to = t->at[reader] + TRIED_BYTES;
    const uint32_t words = bytes / 4;
    const ze_group_count_t groups = {(words + SUB_GROUP - 1) / SUB_GROUP, 1, 1};
    struct ze_kernel *kernel;
    int rc = modules_kernel(t->device, reader, KERNEL_CARRY, 0, &kernel, t->err);
    if (rc)
        return rc;
    ze_result_t result = d->api->zeKernelSetArgumentValue(kernel->handle, 0, sizeof from, &from);
    if (!result)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 1, sizeof to, &to);
    if (!result)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 2, sizeof words, &words);
    if (!result)
        result = d->api->zeCommandListAppendLaunchKernel(d->cards[reader].transfer, kernel->handle,
                                                         &groups, NULL, 0, NULL);
    return ze_failed(result, "a kernel that reads another card's memory", t->err);
}

/* 1: it delivers what the owner has. */
static int try_link(struct trial *t, uint32_t reader, uint32_t owner) {
    struct device *d = t->device;
    char *room = t->at[reader] + TRIED_BYTES;
    make_pattern(t->pattern, owner);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int rc = level_zero_fill(d, reader, room, sizes[i]);
        if (!rc)
            rc = carry(t, reader, owner, sizes[i]);
        if (!rc)
            rc = level_zero_get(d, reader, t->found, room, sizes[i]);
        if (rc)
            return rc;
        if (memcmp(t->found, t->pattern, sizes[i]))
            return 0;
    }
    return 1;
}

static int try_all(struct trial *t) {
    struct device *d = t->device;
    for (uint32_t a = 0; a < d->n_cards; a++)
        for (uint32_t b = 0; b < d->n_cards; b++) {
            if (!d->direct[a][b])
                continue;
            const int rc = try_link(t, a, b);
            if (rc < 0) {
                const struct err why = *t->err;
                /* A card that is lost by this may be well but for the link: nobody knows yet. */
                return err_set(t->err, rc == -ENODEV ? -EIO : rc,
                               "card %u, reading the memory of card %u: %.400s", a, b, why.text);
            }
            d->direct[a][b] = rc;
            if (!rc)
                d->cards[a].misread |= 1u << b;
        }
    return 0;
}

int links_try(struct device *d, struct err *err) {
    struct err own = {{0}};
    struct trial t = {
        .device = d, .pattern = malloc(TRIED_BYTES), .found = malloc(TRIED_BYTES), .err = &own};
    int rc = t.pattern && t.found ? 0 : err_set(&own, -ENOMEM, "no memory to try the links");
    if (!rc)
        rc = write_patterns(&t);
    if (!rc)
        rc = try_all(&t);
    for (uint32_t i = 0; i < d->n_cards; i++)
        level_zero_free(d, t.at[i]);
    free(t.pattern);
    free(t.found);
    return rc ? err_set(err, rc, "%s", own.text) : 0;
}
