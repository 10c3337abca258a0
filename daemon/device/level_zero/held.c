/* SPDX-License-Identifier: Apache-2.0 */
/* held.c - memory of a card that outlives the process: exported as a dma-buf, which the front holds
 * when the engine is gone, and imported by the next one.
 *
 * As long as a descriptor of it is open anywhere the memory is the card's, and in use.  What the
 * driver gives is not believed to be the memory that was asked for: it must be a card's, and as
 * long; whose it is Intel's driver does not tell, so that each card is given its own is the front's
 * affair.  What lies in it is for the digests to prove.
 *
 * Whose a descriptor is the specification leaves open, and drivers differ: one that was exported is
 * the driver's, which gives the same one again and closes it with the memory; one that is imported
 * newer drivers close, older ones do not.  So what this process keeps and sends no driver sees. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/device/level_zero/cards.h"
#include "octarc/error.h"

#define DMA_BUF ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF

void held_ask(struct device *d, uint32_t card) {
    ze_device_external_memory_properties_t p = {
        .stype = ZE_STRUCTURE_TYPE_DEVICE_EXTERNAL_MEMORY_PROPERTIES};
    struct ze_card *c = &d->cards[card];
    const bool told = !d->api->zeDeviceGetExternalMemoryProperties(c->handle, &p);
    c->exports = told && p.memoryAllocationExportTypes & DMA_BUF;
    c->imports = told && p.memoryAllocationImportTypes & DMA_BUF;
}

/* A descriptor of its own above those that every process has: 0 stands for none. */
static int own(int fd) {
    const int made = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return made < 0 ? 0 : made;
}

/* Close what a driver was given, unless it has done so itself: its number may be another's now. */
static void close_given(int given, int held) {
    struct stat a, b;
    if (!fstat(given, &a) && !fstat(held, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        close(given);
}

static int export(struct device *d, uint32_t card, const void *memory) {
    ze_external_memory_export_fd_t more = {
        .stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_FD, .flags = DMA_BUF, .fd = -1};
    ze_memory_allocation_properties_t p = {.stype = ZE_STRUCTURE_TYPE_MEMORY_ALLOCATION_PROPERTIES,
                                           .pNext = &more};
    level_zero_waits(d, card);
    const ze_result_t result = d->api->zeMemGetAllocProperties(d->context, memory, &p, NULL);
    level_zero_waited(d, card);
    return result == ZE_RESULT_SUCCESS ? own(more.fd) : 0;
}

int held_alloc(struct device *d, uint32_t card, uint64_t bytes, struct ze_area *area,
               struct err *err) {
    const ze_external_memory_export_desc_t more = {
        .stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_EXPORT_DESC,
        .pNext = &level_zero_relaxed,
        .flags = DMA_BUF};
    if (!d->cards[card].exports || level_zero_alloc_as(d, card, &more, bytes, &area->at, NULL))
        return level_zero_alloc_card(d, card, bytes, &area->at, err);
    area->held = export(d, card, area->at);
    return 0;
}

/* The driver says of the memory that it is a card's, this one's for all that it tells, and that
 * long.
 */
static bool is_right(struct device *d, uint32_t card, void *memory, uint64_t bytes) {
    ze_memory_allocation_properties_t p = {.stype = ZE_STRUCTURE_TYPE_MEMORY_ALLOCATION_PROPERTIES};
    ze_device_handle_t home = NULL;
    void *base = NULL;
    size_t size = 0;
    return !d->api->zeMemGetAllocProperties(d->context, memory, &p, &home) &&
           !d->api->zeMemGetAddressRange(d->context, memory, &base, &size) &&
           p.type == ZE_MEMORY_TYPE_DEVICE && home == d->cards[card].handle && base == memory &&
           size >= bytes;
}

int held_import(struct device *d, uint32_t card, int fd, uint64_t bytes, struct ze_area *area,
                struct err *err) {
    const int held = own(fd), given = held ? own(held) : 0;
    const ze_external_memory_import_fd_t more = {.stype =
                                                     ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD,
                                                 .pNext = &level_zero_relaxed,
                                                 .flags = DMA_BUF,
                                                 .fd = given};
    struct err why = {{0}};
    char *memory = NULL;
    if (!d->cards[card].imports || !given) {
        if (held)
            close(held);
        if (given)
            close(given);
        return err_set(err, -EREMOTE, "its driver imports no memory");
    }
    const int rc = level_zero_alloc_as(d, card, &more, bytes, &memory, &why);
    close_given(given, held);
    if (!rc && is_right(d, card, memory, bytes)) {
        area->at = memory;
        area->held = held;
        return 0;
    }
    level_zero_free(d, memory);
    close(held);
    return err_set(err, rc == -ENODEV ? rc : -EREMOTE, "%s",
                   rc ? why.text : "what is imported is other memory");
}

void held_release(struct ze_area *area) {
    if (area->held)
        close(area->held);
    area->held = 0;
    for (uint32_t i = 0; i < area->n_more; i++)
        if (area->more[i].held)
            close(area->more[i].held);
}

int held_hold(struct device *d, uint32_t card, enum area area, uint32_t piece, int *fd,
              uint64_t *bytes, struct err *err) {
    if (card >= d->n_cards || !d->cards[card].present || !d->cards[card].areas[area].at)
        return err_set(err, -ENOTSUP, "card %u has no such memory", card);
    const struct ze_area *a = &d->cards[card].areas[area];
    if (a->away)
        return err_set(err, -ENOTSUP, "card %u: shared virtual memory is this process's", card);
    if (!a->split)
        return err_set(err, -ENOTSUP, "card %u: its weights lie in host memory", card);
    if (piece > a->n_more)
        return err_set(err, -ENOENT, "card %u: there is no piece %u", card, piece);
    const int held = piece ? a->more[piece - 1].held : a->held;
    const uint64_t begin = piece ? a->more[piece - 1].begin : 0;
    if (!held)
        return err_set(err, -ENOTSUP, "card %u: its driver exports no memory", card);
    *fd = held;
    *bytes = level_zero_border(a, begin) - begin;
    return 0;
}
