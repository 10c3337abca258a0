/* SPDX-License-Identifier: Apache-2.0 */
/* transfer.c - what the host gives to a card's memory or takes from it, piece by piece through the
 * card's stage, on a list of its own whose commands have ended when they return. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/level_zero/landing.h"
#include "daemon/device/level_zero/svm.h"
#include "daemon/device/pack.h"

#define FILL_BYTES (UINT64_C(1) << 30) /* at a time */

/* A card that is found lost is lost from then on. */
static int done(struct device *d, uint32_t card, ze_result_t result, const char *call) {
    const int rc = ze_failed(result, call, NULL);
    if (rc == -ENODEV)
        d->cards[card].lost = true;
    return rc;
}

static int copy(struct device *d, uint32_t card, void *to, const void *from, uint64_t n) {
    level_zero_waits(d, card);
    const ze_result_t result =
        d->api->zeCommandListAppendMemoryCopy(d->cards[card].transfer, to, from, n, NULL, 0, NULL);
    level_zero_waited(d, card);
    return done(d, card, result, "zeCommandListAppendMemoryCopy");
}

int level_zero_put(struct device *d, uint32_t card, char *to, const void *from, uint64_t n) {
    struct ze_card *c = &d->cards[card];
    int rc = 0;
    if (svm_holds(d, card, to))
        return svm_put(d, card, to, from, n);
    pthread_mutex_lock(&c->transferring);
    for (uint64_t at = 0, some; at < n && !rc; at += some) {
        some = n - at < STAGE_BYTES ? n - at : STAGE_BYTES;
        memcpy(c->stage, (const char *)from + at, some);
        rc = copy(d, card, to + at, c->stage, some);
    }
    pthread_mutex_unlock(&c->transferring);
    return rc;
}

int level_zero_get(struct device *d, uint32_t card, void *to, const char *from, uint64_t n) {
    struct ze_card *c = &d->cards[card];
    int rc = 0;
    if (svm_holds(d, card, from))
        return svm_get(d, card, to, from, n);
    pthread_mutex_lock(&c->transferring);
    for (uint64_t at = 0, some; at < n && !rc; at += some) {
        some = n - at < STAGE_BYTES ? n - at : STAGE_BYTES;
        rc = copy(d, card, c->stage, from + at, some);
        if (!rc)
            memcpy((char *)to + at, c->stage, some);
    }
    pthread_mutex_unlock(&c->transferring);
    return rc;
}

int level_zero_fill(struct device *d, uint32_t card, char *to, uint64_t n) {
    static const uint8_t zero;
    struct ze_card *c = &d->cards[card];
    int rc = 0;
    if (svm_holds(d, card, to))
        return svm_fill(d, card, to, n);
    pthread_mutex_lock(&c->transferring);
    for (uint64_t at = 0, some; at < n && !rc; at += some) {
        some = n - at < FILL_BYTES ? n - at : FILL_BYTES;
        level_zero_waits(d, card);
        const ze_result_t result = d->api->zeCommandListAppendMemoryFill(
            c->transfer, to + at, &zero, 1, some, NULL, 0, NULL);
        level_zero_waited(d, card);
        rc = done(d, card, result, "zeCommandListAppendMemoryFill");
    }
    pthread_mutex_unlock(&c->transferring);
    return rc;
}

/* Weights that were written may lie in the landing as they were. */
static void written(struct device *d, uint32_t card, enum area area) {
    if (area == AREA_WEIGHTS)
        landing_stale(d, card);
}

int level_zero_clear(struct device *d, uint32_t card, enum area area, uint64_t offset,
                     uint64_t bytes) {
    int rc = level_zero_has(d, card, area, offset, bytes);
    if (rc || bytes == 0)
        return rc;
    const struct ze_area *a = &d->cards[card].areas[area];
    const uint64_t end = offset + bytes;
    for (uint64_t at = offset, some; at < end && !rc; at += some) {
        char *address;
        some = (end < level_zero_border(a, at) ? end : level_zero_border(a, at)) - at;
        rc = level_zero_stretch(d, card, area, at, some, &address);
        if (!rc && a->host && at >= a->split)
            memset(address, 0, some);
        else if (!rc)
            rc = level_zero_fill(d, card, address, some);
    }
    written(d, card, area);
    return rc;
}

int level_zero_peek(struct device *d, uint32_t card, uint64_t offset, void *out, uint64_t bytes) {
    char *at;
    const int rc = level_zero_stretch(d, card, AREA_WEIGHTS, offset, bytes, &at);
    return rc ? rc : level_zero_get(d, card, out, at, bytes);
}

int level_zero_poke(struct device *d, uint32_t card, uint64_t offset, const void *in,
                    uint64_t bytes) {
    char *at;
    const int rc = level_zero_stretch(d, card, AREA_WEIGHTS, offset, bytes, &at);
    written(d, card, AREA_WEIGHTS);
    return rc ? rc : level_zero_put(d, card, at, in, bytes);
}

/* Two devices have two contexts: by way of the host. */
int level_zero_copy(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                    struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes) {
    char *source, *target;
    int rc = level_zero_stretch(from, from_card, area, from_offset, bytes, &source);
    if (!rc)
        rc = level_zero_stretch(to, to_card, area, to_offset, bytes, &target);
    if (rc || bytes == 0)
        return rc;
    written(to, to_card, area);
    char *between = malloc(bytes < STAGE_BYTES ? bytes : STAGE_BYTES);
    if (!between)
        return -ENOMEM;
    for (uint64_t at = 0, some; at < bytes && !rc; at += some) {
        some = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES;
        rc = level_zero_get(from, from_card, between, source + at, some);
        if (!rc)
            rc = level_zero_put(to, to_card, target + at, between, some);
    }
    free(between);
    return rc;
}

/* Whole tiles, made in host memory. */
int level_zero_pack(struct device *d, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                    uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                    uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    const uint64_t before = pack_bytes(type, vector, row_begin, cols);
    const uint64_t bytes = pack_bytes(type, vector, rows, cols);
    char *at;
    if (row_begin > range_rows || rows > range_rows - row_begin || bytes == 0)
        return bytes ? -EINVAL : -ENOTSUP;
    int rc = level_zero_stretch(d, card, AREA_WEIGHTS, offset + before, bytes, &at);
    if (rc)
        return rc;
    uint8_t *tiles = calloc(1, bytes);
    if (!tiles)
        return -ENOMEM;
    rc = pack_rows(tiles, type, vector, 0, rows, cols, col_skip, blocks, row_bytes);
    if (!rc)
        rc = level_zero_put(d, card, at, tiles, bytes);
    written(d, card, AREA_WEIGHTS);
    free(tiles);
    return rc;
}
