/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - the memory of cards: device allocations that count, and what the backend itself needs.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/device/level_zero/cards.h"
#include "daemon/device/level_zero/svm.h"
#include "octarc/error.h"

#define ALIGNMENT 4096u

const ze_relaxed_allocation_limits_exp_desc_t level_zero_relaxed = {
    .stype = ZE_STRUCTURE_TYPE_RELAXED_ALLOCATION_LIMITS_EXP_DESC,
    .flags = ZE_RELAXED_ALLOCATION_LIMITS_EXP_FLAG_MAX_SIZE};

int level_zero_alloc_as(struct device *d, uint32_t card, const void *how, uint64_t bytes, char **at,
                        struct err *err) {
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC,
                                             .pNext = how};
    void *memory = NULL;
    level_zero_waits(d, card);
    const int rc = ze_failed(d->api->zeMemAllocDevice(d->context, &desc, bytes, ALIGNMENT,
                                                      d->cards[card].handle, &memory),
                             "zeMemAllocDevice", err);
    level_zero_waited(d, card);
    if (!rc)
        *at = memory;
    return rc;
}

int level_zero_alloc_card(struct device *d, uint32_t card, uint64_t bytes, char **at,
                          struct err *err) {
    return level_zero_alloc_as(d, card, &level_zero_relaxed, bytes, at, err);
}

int level_zero_alloc_host(struct device *d, uint64_t bytes, char **at, struct err *err) {
    const ze_host_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC,
                                           .pNext = &level_zero_relaxed};
    void *memory = NULL;
    const int rc =
        ze_failed(d->api->zeMemAllocHost(d->context, &desc, bytes ? bytes : 1, ALIGNMENT, &memory),
                  "zeMemAllocHost", err);
    if (!rc)
        *at = memory;
    return rc;
}

void level_zero_free(struct device *d, void *at) {
    if (!at)
        return;
    d->n_freed++;
    d->api->zeMemFree(d->context, at);
}

/* What was taken over of the weights is all in use, whatever the plan needs of it. */
static uint64_t used_bytes(const struct ze_card *card) {
    uint64_t bytes = 0;
    for (int a = 0; a < AREA_COUNT; a++)
        bytes += a == AREA_WEIGHTS ? card->areas[a].split : card->areas[a].bytes;
    return bytes;
}

/* Of an area's bytes, those on the card. */
static uint64_t on_card(const struct ze_card *card, enum area area, uint64_t bytes) {
    return area == AREA_WEIGHTS ? bytes - card->host_bytes : bytes;
}

static int check_room(const struct device *d, uint32_t card, enum area area, uint64_t room,
                      uint64_t bytes, struct err *err) {
    if (card >= d->n_cards || !d->cards[card].present || bytes > room ||
        (area == AREA_WEIGHTS && bytes < d->cards[card].host_bytes) ||
        d->cards[card].areas[area].at)
        return err_set(err, -EINVAL, "card %u has no place for such an area", card);
    if (d->cards[card].lost)
        return err_set(err, -ENODEV, "card %u is lost", card);
    const uint64_t used = used_bytes(&d->cards[card]), all = d->cards[card].capacity_bytes;
    const uint64_t more = on_card(&d->cards[card], area, bytes);
    if (used + more > all)
        return err_set(err, -ENOSPC, "card %u has %llu bytes, %llu of them in use; %llu more", card,
                       (unsigned long long)all, (unsigned long long)used, (unsigned long long)more);
    return 0;
}

/* The part of a card's weights that is fetched is pinned host memory, for the card copies from it.
 */
static int reserve_host(struct device *d, uint32_t card, struct ze_area *a, struct err *err) {
    struct err why = {{0}};
    if (a->split == a->room)
        return 0;
    const int rc = level_zero_alloc_host(d, a->room - a->split, &a->host, &why);
    if (rc)
        return err_set(err, rc, "card %u: %llu bytes of host memory for its weights: %.400s", card,
                       (unsigned long long)(a->room - a->split), why.text);
    memset(a->host, 0, a->room - a->split);
    return 0;
}

/* What is worth keeping when this process is gone, and outlives it: K and V are what weights made,
 * and are of use where those are kept. */
static bool is_held(const struct device *d, enum area area) {
    return d->hold && !d->svm && (area == AREA_WEIGHTS || area == AREA_KV);
}

static int reserve_card(struct device *d, uint32_t card, enum area area, int fd,
                        struct ze_area *made, struct err *err) {
    const uint64_t bytes = made->split ? made->split : 1;
    if (fd >= 0)
        return held_import(d, card, fd, bytes, made, err);
    return is_held(d, area) ? held_alloc(d, card, bytes, made, err)
                            : level_zero_alloc_card(d, card, bytes, &made->at, err);
}

/* Its driver says how much memory a card has, not how much of it is free. */
static int name_shortage(uint32_t card, enum area area, uint64_t bytes, int rc, struct err *err) {
    static const char *const names[AREA_COUNT] = {[AREA_WEIGHTS] = "its weights",
                                                  [AREA_KV] = "its K and V",
                                                  [AREA_SCRATCH] = "its scratch memory",
                                                  [AREA_LANDING] = "its landing"};
    char why[160];
    if (rc != -ENOSPC || !err)
        return rc;
    snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, err->text);
    return err_set(err, rc,
                   "card %u has no room for %llu MiB of %s: %s; another program may have some of "
                   "it: end that, or let octarc have less (key card_memory)",
                   card, (unsigned long long)(bytes + (1 << 20) - 1) >> 20, names[area], why);
}

/* Device memory is all used from the beginning, so the room is what it takes. */
int level_zero_reserve(struct device *d, uint32_t card, enum area area, uint64_t room,
                       uint64_t bytes, int fd, struct err *err) {
    int rc = check_room(d, card, area, room, fd >= 0 ? room : bytes, err);
    if (rc || room == 0)
        return rc;
    const bool spills = area == AREA_WEIGHTS && d->cards[card].host_bytes;
    if (fd >= 0 && (!is_held(d, area) || spills))
        return err_set(err, -EREMOTE, "such memory is made anew");
    struct ze_area made = {.room = room, .bytes = bytes, .split = room};
    if (spills)
        made.split = bytes - d->cards[card].host_bytes;
    if (d->svm && area == AREA_WEIGHTS) /* reads as zero, and takes no memory yet */
        rc = svm_reserve(d, card, made.split, &made, err);
    else
        rc = name_shortage(card, area, made.split,
                           level_zero_failed(d, reserve_card(d, card, area, fd, &made, err)), err);
    if (rc)
        return rc;
    rc = reserve_host(d, card, &made, err);
    d->cards[card].areas[area] = made;
    if (!rc && made.split && !made.away && fd < 0)
        rc = level_zero_fill(d, card, made.at, made.split);
    if (rc)
        level_zero_release(d, card, area);
    return rc;
}

int level_zero_extend(struct device *d, uint32_t card, enum area area, uint64_t room,
                      uint64_t bytes, int fd, struct err *err) {
    struct ze_area made = {0};
    int rc = level_zero_has(d, card, area, 0, 0);
    if (rc)
        return err_set(err, rc, "card %u has no such memory", card);
    struct ze_card *c = &d->cards[card];
    struct ze_area *a = &c->areas[area];
    if (area != AREA_WEIGHTS || a->away || a->host || a->n_more == DEVICE_PIECES_MAX - 1 || !room)
        return err_set(err, -ENOTSUP, "card %u: such memory is one piece", card);
    if (used_bytes(c) + room > c->capacity_bytes)
        return err_set(err, -ENOSPC, "card %u has no room for %llu more bytes of weights", card,
                       (unsigned long long)room);
    made.split = room;
    rc = level_zero_failed(d, reserve_card(d, card, area, fd, &made, err));
    if (rc)
        return rc;
    a->more[a->n_more++] = (struct ze_piece){made.at, a->room, made.held};
    a->room = a->split = a->room + room;
    a->bytes = bytes;
    return fd >= 0 ? 0 : level_zero_fill(d, card, made.at, room);
}

/* Devices of one process have a context of their own each, which shares nothing. */
int level_zero_share(struct device *from, uint32_t from_card, enum area area, struct device *to,
                     uint32_t to_card, uint64_t room, uint64_t bytes, struct err *err) {
    (void)from, (void)from_card, (void)area, (void)to, (void)to_card, (void)room, (void)bytes;
    return err_set(err, -ENOTSUP, "real cards do not share memory between two plans");
}

void level_zero_release(struct device *d, uint32_t card, enum area area) {
    struct ze_area *a = &d->cards[card].areas[area];
    if (a->away)
        svm_release(d, card, a);
    else
        level_zero_free(d, a->at);
    level_zero_free(d, a->host);
    for (uint32_t i = 0; i < a->n_more; i++)
        level_zero_free(d, a->more[i].at);
    held_release(a);
    *a = (struct ze_area){0};
}

int level_zero_has(const struct device *d, uint32_t card, enum area area, uint64_t offset,
                   uint64_t bytes) {
    if (card >= d->n_cards || !d->cards[card].present || area >= AREA_COUNT)
        return -EINVAL;
    if (d->cards[card].lost)
        return -ENODEV;
    const struct ze_area *a = &d->cards[card].areas[area];
    if (!a->at || offset > a->room || bytes > a->room - offset)
        return -EINVAL;
    return 0;
}

uint64_t level_zero_border(const struct ze_area *a, uint64_t offset) {
    for (uint32_t i = 0; i < a->n_more; i++)
        if (offset < a->more[i].begin)
            return a->more[i].begin;
    return offset < a->split ? a->split : a->room;
}

static char *address_of(const struct ze_area *a, uint64_t offset) {
    for (uint32_t i = a->n_more; i > 0; i--)
        if (offset >= a->more[i - 1].begin)
            return a->more[i - 1].at + (offset - a->more[i - 1].begin);
    return a->at + offset;
}

int level_zero_stretch(const struct device *d, uint32_t card, enum area area, uint64_t offset,
                       uint64_t bytes, char **at) {
    const int rc = level_zero_has(d, card, area, offset, bytes);
    if (rc)
        return rc;
    const struct ze_area *a = &d->cards[card].areas[area];
    if (bytes && offset + bytes > level_zero_border(a, offset))
        return -EINVAL;
    *at = a->host && offset >= a->split ? a->host + (offset - a->split) : address_of(a, offset);
    return 0;
}

int level_zero_lose(struct device *d, uint32_t card) {
    if (card >= d->n_cards || !d->cards[card].present)
        return -EINVAL;
    d->cards[card].lost = true;
    for (int a = 0; a < AREA_COUNT; a++)
        level_zero_release(d, card, (enum area)a);
    return 0;
}
