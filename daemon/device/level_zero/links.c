/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/modules.h"
#include "octarc/error.h"

#define TRIED_BYTES   (1u << 20)
#define CARRIED_BYTES (4u << 20) /* by the longest transfer that is measured */
#define HOST_BYTES    (1u << 14)
#define ROUNDS        9

static const uint32_t sizes[] = {64, 4096, TRIED_BYTES};

struct trial {
    struct device *device;
    uint32_t bytes;      /* of a pattern */
    char *at[CARDS_MAX]; /* device memory: a pattern of each card's own, then room for another */
    uint32_t *pattern, *found; /* host memory */
    char *stage;               /* host memory that cards reach, of staged links that are measured */
    struct err *err;
};

/* No word is what an absent card, or memory that was never written, reads as. */
static void make_pattern(const struct trial *t, uint32_t card) {
    for (uint32_t i = 0; i < t->bytes / 4; i++)
        t->pattern[i] = (i * 2654435761u) ^ (card + 1) * 0x9e3779b9u;
}

static int write_patterns(struct trial *t) {
    struct device *d = t->device;
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++) {
        if (!d->cards[i].present)
            continue;
        make_pattern(t, i);
        rc = level_zero_alloc_card(d, i, 2 * (uint64_t)t->bytes, &t->at[i], t->err);
        if (!rc)
            rc = level_zero_put(d, i, t->at[i], t->pattern, t->bytes);
    }
    return rc;
}

/* 1: what is written to its memory is what is read from it.  Another pattern goes through the same
 * stage before anything is read, which a way that delivers nothing would leave there. */
static int try_host(struct trial *t, uint32_t card) {
    struct device *d = t->device;
    char *other = t->at[card] + t->bytes;
    make_pattern(t, card + CARDS_MAX);
    int rc = level_zero_put(d, card, other, t->pattern, t->bytes);
    for (uint32_t i = 0; i < 2 && !rc; i++) {
        make_pattern(t, i ? card + CARDS_MAX : card);
        rc = level_zero_get(d, card, t->found, i ? other : t->at[card], t->bytes);
        if (!rc && memcmp(t->found, t->pattern, t->bytes))
            return 0;
    }
    return rc ? rc : 1;
}

int links_try_host(struct device *d, uint32_t card, struct err *err) {
    struct trial t = {.device = d,
                      .bytes = HOST_BYTES,
                      .pattern = malloc(HOST_BYTES),
                      .found = malloc(HOST_BYTES),
                      .err = err};
    int rc = t.pattern && t.found ? 0 : err_set(err, -ENOMEM, "no memory to try the card");
    if (!rc)
        rc = level_zero_alloc_card(d, card, 2 * (uint64_t)t.bytes, &t.at[card], err);
    if (!rc) {
        make_pattern(&t, card);
        rc = level_zero_put(d, card, t.at[card], t.pattern, t.bytes);
        rc = rc ? rc : try_host(&t, card);
        if (rc < 0)
            rc = err_set(err, rc, "its memory cannot be used: %s", strerror(-rc));
        else
            rc = rc ? 0
                    : err_set(err, -EIO,
                              "what is written to its memory is not what is read from it");
    }
    level_zero_free(d, t.at[card]);
    free(t.pattern);
    free(t.found);
    return rc;
}

/* By a kernel of that card. */
static int carry(struct trial *t, uint32_t card, const char *from, const char *to, uint32_t bytes) {
    const struct device *d = t->device;
    const uint32_t words = bytes / 4;
    const ze_group_count_t groups = {(words + SUB_GROUP - 1) / SUB_GROUP, 1, 1};
    struct ze_kernel *kernel;
    int rc = modules_kernel(t->device, card, KERNEL_CARRY, 0, &kernel, t->err);
    if (rc)
        return rc;
    ze_result_t result = d->api->zeKernelSetArgumentValue(kernel->handle, 0, sizeof from, &from);
    if (!result)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 1, sizeof to, &to);
    if (!result)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 2, sizeof words, &words);
    if (!result)
        result = d->api->zeCommandListAppendLaunchKernel(d->cards[card].transfer, kernel->handle,
                                                         &groups, NULL, 0, NULL);
    return ze_failed(result, "a kernel that reads another card's memory", t->err);
}

/* 1: it delivers what the owner has. */
static int try_link(struct trial *t, uint32_t reader, uint32_t owner) {
    struct device *d = t->device;
    char *room = t->at[reader] + t->bytes;
    make_pattern(t, owner);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int rc = level_zero_fill(d, reader, room, sizes[i]);
        if (!rc)
            rc = carry(t, reader, t->at[owner], room, sizes[i]);
        if (!rc)
            rc = level_zero_get(d, reader, t->found, room, sizes[i]);
        if (rc)
            return rc;
        if (memcmp(t->found, t->pattern, sizes[i]))
            return 0;
    }
    return 1;
}

/* A card that is lost by this may be well but for the link: nobody knows yet. */
static int name_link(struct trial *t, int rc, uint32_t reader, uint32_t owner) {
    const struct err why = *t->err;
    return err_set(t->err, rc == -ENODEV ? -EIO : rc,
                   "card %u, reading the memory of card %u: %.400s", reader, owner, why.text);
}

static void misread(struct device *d, uint32_t reader, uint32_t owner) {
    d->direct[reader][owner] = false;
    d->cards[reader].misread |= 1u << owner;
}

static int try_all(struct trial *t) {
    struct device *d = t->device;
    for (uint32_t a = 0; a < d->n_cards; a++)
        for (uint32_t b = 0; b < d->n_cards; b++) {
            if (!d->direct[a][b])
                continue;
            const int rc = try_link(t, a, b);
            if (rc < 0)
                return name_link(t, rc, a, b);
            if (!rc)
                misread(d, a, b);
        }
    return 0;
}

/* ---- how fast they are ---------------------------------------------------------------------- */

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* In the mode that is used. */
static int transfer(struct trial *t, uint32_t reader, uint32_t owner, uint32_t bytes,
                    uint64_t *ns) {
    char *room = t->at[reader] + t->bytes;
    const bool direct = t->device->direct[reader][owner];
    const uint64_t begin = now_ns();
    int rc = direct ? 0 : carry(t, owner, t->at[owner], t->stage, bytes);
    if (!rc)
        rc = carry(t, reader, direct ? t->at[owner] : t->stage, room, bytes);
    *ns = now_ns() - begin;
    return rc;
}

static int by_size(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *ns, uint32_t n) {
    qsort(ns, n, sizeof *ns, by_size);
    return ns[n / 2];
}

/* The first transfer of each size is not counted: it may build, map or wake something. */
static int time_link(struct trial *t, uint32_t reader, uint32_t owner) {
    uint64_t little[ROUNDS], much[ROUNDS], ignored;
    uint32_t n = 0;
    int rc = transfer(t, reader, owner, sizes[0], &ignored);
    if (!rc)
        rc = transfer(t, reader, owner, t->bytes, &ignored);
    const uint64_t begin = now_ns();
    while (!rc && n < ROUNDS && (n == 0 || now_ns() - begin < LINKS_MEASURE_NS)) {
        rc = transfer(t, reader, owner, sizes[0], &little[n]);
        if (!rc)
            rc = transfer(t, reader, owner, t->bytes, &much[n++]);
    }
    if (rc)
        return rc;
    const uint64_t latency = median(little, n), whole = median(much, n);
    const uint64_t ns = whole > latency ? whole - latency : whole;
    t->device->cards[reader].links[owner] = (struct device_link){
        .bytes_per_s = (uint64_t)((double)t->bytes * 1e9 / (double)(ns ? ns : 1)),
        .latency_ns = latency ? latency : 1};
    return 0;
}

/* What was carried last is what the owner has: else the figures are of something else.  A direct
 * link that fails this is staged; through the host there is no other way. */
static int measure_link(struct trial *t, uint32_t reader, uint32_t owner) {
    struct device *d = t->device;
    char *room = t->at[reader] + t->bytes;
    make_pattern(t, owner);
    int rc = level_zero_fill(d, reader, room, t->bytes);
    if (!rc)
        rc = time_link(t, reader, owner);
    if (!rc)
        rc = level_zero_get(d, reader, t->found, room, t->bytes);
    if (rc || !memcmp(t->found, t->pattern, t->bytes))
        return rc;
    d->cards[reader].links[owner] = (struct device_link){0};
    if (!d->direct[reader][owner])
        return 0;
    misread(d, reader, owner);
    return measure_link(t, reader, owner);
}

static int measure_all(struct trial *t) {
    struct device *d = t->device;
    int rc = level_zero_alloc_host(d, t->bytes, &t->stage, t->err);
    for (uint32_t a = 0; a < d->n_cards && !rc; a++)
        for (uint32_t b = 0; b < d->n_cards && !rc; b++)
            if (a != b && d->cards[a].present && d->cards[b].present) {
                rc = measure_link(t, a, b);
                if (rc)
                    rc = name_link(t, rc, a, b);
            }
    return rc;
}

/* ---- both ----------------------------------------------------------------------------------- */

static int run(struct device *d, uint32_t bytes, int (*what)(struct trial *t), struct err *err) {
    struct err own = {{0}};
    struct trial t = {
        .device = d, .bytes = bytes, .pattern = malloc(bytes), .found = malloc(bytes), .err = &own};
    int rc = t.pattern && t.found ? 0 : err_set(&own, -ENOMEM, "no memory to try the links");
    if (!rc)
        rc = write_patterns(&t);
    if (!rc)
        rc = what(&t);
    for (uint32_t i = 0; i < d->n_cards; i++)
        level_zero_free(d, t.at[i]);
    level_zero_free(d, t.stage);
    free(t.pattern);
    free(t.found);
    return rc ? err_set(err, rc, "%s", own.text) : 0;
}

int links_try(struct device *d, struct err *err) {
    return run(d, TRIED_BYTES, try_all, err);
}

int links_measure(struct device *d, struct err *err) {
    return run(d, CARRIED_BYTES, measure_all, err);
}
