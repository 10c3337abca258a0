/* SPDX-License-Identifier: Apache-2.0 */
/* svm_choose.c - whether storage svm is there: tried on every card, and said in words where not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/device/level_zero/svm.h"
#include "octarc/error.h"

#define TRIED_BYTES (64u << 10)
#define SYSTEM_CAPABILITIES                                                                        \
    (ZE_MEMORY_ACCESS_CAP_FLAG_RW | ZE_MEMORY_ACCESS_CAP_FLAG_ATOMIC |                             \
     ZE_MEMORY_ACCESS_CAP_FLAG_CONCURRENT | ZE_MEMORY_ACCESS_CAP_FLAG_CONCURRENT_ATOMIC)

/* ---- what is asked -------------------------------------------------------------------------- */

static int ask_level_zero(struct device *d, uint32_t card, struct err *err) {
    ze_device_memory_access_properties_t p = {
        .stype = ZE_STRUCTURE_TYPE_DEVICE_MEMORY_ACCESS_PROPERTIES};
    const int rc = ze_failed(d->api->zeDeviceGetMemoryAccessProperties(d->cards[card].handle, &p),
                             "zeDeviceGetMemoryAccessProperties", err);
    if (rc)
        return rc;
    return p.sharedSystemAllocCapabilities == SYSTEM_CAPABILITIES
               ? 0
               : err_set(err, -ENOTSUP,
                         "card %u: Level Zero does not offer it the host's memory (capabilities "
                         "0x%x, not 0xf); a processor with 57-bit addresses needs the kernel "
                         "option no5lvl; octarcd --probe says what is missing",
                         card, (unsigned)p.sharedSystemAllocCapabilities);
}

static int ask_kernel(struct device *d, uint32_t card, const char *slot, struct err *err) {
    struct err why = {{0}};
    struct xe_memory memory;
    int rc = xe_open(&d->cards[card].xe, slot, &why);
    if (!rc)
        rc = xe_memory(&d->cards[card].xe, &memory, &why);
    if (rc)
        return err_set(err, rc, "card %u: %.400s", card, why.text);
    return memory.visible >= memory.total
               ? 0
               : err_set(err, -ENOTSUP,
                         "card %u: the processor sees %llu of its %llu bytes: resizable BAR is off",
                         card, (unsigned long long)memory.visible,
                         (unsigned long long)memory.total);
}

/* What is on a card that leaves comes to the host. */
static int ask_host(const struct device *d, struct err *err) {
    unsigned long long available_kib = 0;
    uint64_t largest = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f) &&
           sscanf(line, "MemAvailable: %llu kB", &available_kib) != 1)
        ;
    if (f)
        fclose(f);
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (d->cards[i].present && d->cards[i].capacity_bytes > largest)
            largest = d->cards[i].capacity_bytes;
    return available_kib == 0 || available_kib * 1024 >= largest
               ? 0
               : err_set(err, -ENOTSUP,
                         "the host has %llu bytes of memory available, and the largest card would "
                         "need %llu where it leaves",
                         available_kib * 1024, (unsigned long long)largest);
}

/* ---- what is tried -------------------------------------------------------------------------- */

/* Advice in other cards' VMs: that they have no link is an answer, that the kernel does not know of
 * other cards (before 7.0) is not. */
static int try_readers(struct device *d, uint32_t card, const char *at, struct err *err) {
    for (uint32_t i = 0; i < d->n_cards; i++) {
        struct err why = {{0}};
        if (i == card || !d->cards[i].present)
            continue;
        int rc = xe_mirror(&d->cards[i].xe, at, XE_CHUNK_BYTES, &why);
        if (!rc)
            rc = xe_prefer(&d->cards[i].xe, at, XE_CHUNK_BYTES, &d->cards[card].xe, &why);
        if (!rc || rc == -ENOLINK)
            rc = xe_prefer(&d->cards[i].xe, at, XE_CHUNK_BYTES, NULL, &why);
        xe_unmirror(&d->cards[i].xe, at, XE_CHUNK_BYTES, NULL);
        if (rc)
            return err_set(err, rc, "card %u, told of memory on card %u: %.400s", i, card,
                           why.text);
    }
    return 0;
}

/* Written by the card, prefetched, counted, read by the card, and by the host, who brings it back.
 */
static int try_chunk(struct device *d, uint32_t card, const struct ze_area *a, uint32_t *pattern,
                     uint32_t *found, struct err *err) {
    const struct xe_card *xe = &d->cards[card].xe;
    struct xe_memory before, after;
    int rc = xe_memory(xe, &before, err);
    if (!rc)
        rc = svm_put(d, card, a->at, pattern, TRIED_BYTES);
    if (!rc)
        rc = svm_prefetch(d, card, 0, XE_CHUNK_BYTES);
    if (!rc)
        rc = xe_memory(xe, &after, err);
    if (rc)
        return rc;
    if (a->away[0] || after.used < before.used + XE_CHUNK_BYTES / 2 ||
        after.used > before.used + XE_CHUNK_BYTES * 3 / 2)
        return err_set(err, -ENOTSUP, "what is prefetched does not count as its memory");
    rc = svm_get(d, card, found, a->at, TRIED_BYTES);
    if (!rc && memcmp(found, pattern, TRIED_BYTES) != 0)
        rc = err_set(err, -ENOTSUP, "it reads other bytes than it wrote");
    if (!rc && memcmp(a->at, pattern, TRIED_BYTES) != 0)
        rc = err_set(err, -ENOTSUP, "the host reads other bytes than it wrote");
    return rc;
}

static int try_card(struct device *d, uint32_t card, struct err *err) {
    struct ze_area *a = &d->cards[card].areas[AREA_WEIGHTS];
    uint32_t *words = malloc((size_t)2 * TRIED_BYTES);
    struct err why = {{0}};
    if (!words)
        return err_set(err, -ENOMEM, "no memory to try card %u", card);
    for (uint32_t i = 0; i < TRIED_BYTES / 4; i++)
        words[i] = (i * 2654435761u) ^ (card + 1) * 0x9e3779b9u;
    a->split = a->room = a->bytes = XE_CHUNK_BYTES;
    int rc = svm_reserve(d, card, XE_CHUNK_BYTES, a, &why);
    if (!rc) {
        rc = svm_advise(d, card, 1u << card);
        if (!rc)
            rc = try_chunk(d, card, a, words, words + TRIED_BYTES / 4, &why);
        if (!rc)
            rc = try_readers(d, card, a->at, &why);
        svm_release(d, card, a);
    }
    *a = (struct ze_area){0};
    free(words);
    if (rc && !why.text[0])
        err_set(&why, rc, "%s", strerror(-rc));
    return rc ? err_set(err, rc, "card %u: %.400s", card, why.text) : 0;
}

static int prove(struct device *d, const struct device_options *o, uint32_t *card,
                 struct err *err) {
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++) {
        if (!d->cards[i].present)
            continue;
        char slot[16];
        level_zero_slot(d, i, slot);
        *card = i;
        rc = ask_level_zero(d, i, err);
        if (!rc)
            rc = ask_kernel(d, i, slot, err);
    }
    if (!rc && o->storage == DEVICE_AUTO)
        rc = ask_host(d, err);
    for (uint32_t i = 0; i < d->n_cards && !rc; i++)
        if (d->cards[i].present) {
            *card = i;
            rc = try_card(d, i, err);
        }
    return rc;
}

int svm_choose(struct device *d, const struct device_options *o, struct err *err) {
    struct err why = {{0}};
    uint32_t card = 0;
    if (o->storage == DEVICE_USM)
        return 0;
    const int rc = prove(d, o, &card, &why);
    d->svm = rc == 0;
    if (rc) {
        svm_close(d);
        snprintf(d->storage_why, sizeof d->storage_why, "%.*s", (int)sizeof d->storage_why - 1,
                 why.text);
    }
    if (rc == -ENODEV || rc == -ECANCELED) {
        d->cards[card].lost = true;
        return err_set(err, -ENODEV, "%s", why.text);
    }
    return rc && o->storage == DEVICE_SVM
               ? err_set(err, rc == -ENOMEM ? rc : -ENOTSUP, "storage svm: %s", d->storage_why)
               : 0;
}

void svm_close(struct device *d) {
    for (uint32_t i = 0; i < d->n_cards; i++)
        xe_close(&d->cards[i].xe);
}
