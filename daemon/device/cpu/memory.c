/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - the three areas of a simulated card. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/device/cpu/cpu.h"
#include "octarc/error.h"

#define HUGE_BYTES (UINT64_C(2) << 20)

static const char *const area_names[AREA_COUNT] = {"weights", "KV", "scratch", "the landing"};

static uint64_t used_bytes(const struct cpu_card *card) {
    uint64_t used = 0;
    for (int a = 0; a < AREA_COUNT; a++)
        used += card->areas[a].bytes;
    return card->areas[AREA_WEIGHTS].base ? used - card->host_bytes : used;
}

/* What a card remembers of its landing. */
static int make_blocks(struct cpu_card *card, uint64_t bytes) {
    card->holds = calloc((bytes + LANDING_BLOCK - 1) / LANDING_BLOCK, sizeof *card->holds);
    return card->holds ? 0 : -ENOMEM;
}

/* Addresses aligned to a huge page, so that the kernel can use one; inaccessible. */
static char *take_addresses(uint64_t bytes) {
    char *raw = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    const uint64_t skip = (HUGE_BYTES - (uintptr_t)raw % HUGE_BYTES) % HUGE_BYTES;
    if (skip)
        munmap(raw, skip);
    if (HUGE_BYTES - skip)
        munmap(raw + skip + bytes, HUGE_BYTES - skip);
    return raw + skip;
}

static char *map_aligned(uint64_t bytes, int flags, int fd) {
    char *base = take_addresses(bytes);
    if (!base)
        return NULL;
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
        const int error = errno;
        munmap(base, bytes);
        errno = error;
        return NULL;
    }
    /* Only a wish: a kernel without huge pages for this memory refuses, or takes no notice. */
    madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

static char *map_private(uint64_t bytes) {
    return map_aligned(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

static int check_reserve(const struct device *device, uint32_t number, enum area area,
                         uint64_t bytes, struct err *err) {
    const struct cpu_card *card = &device->cards[number];
    if (number >= device->n_cards || !card->present || card->areas[area].base)
        return err_set(err, -EINVAL, "card %u cannot reserve %s twice", number, area_names[area]);
    if (card->lost)
        return err_set(err, -ENODEV, "card %u is lost", number);
    const uint64_t outside = area == AREA_WEIGHTS ? card->host_bytes : 0;
    if (outside > bytes)
        return err_set(err, -EINVAL, "card %u: %" PRIu64 " of %" PRIu64 " bytes in host memory",
                       number, outside, bytes);
    if (card->capacity_bytes && used_bytes(card) + bytes - outside > card->capacity_bytes)
        return err_set(
            err, -ENOSPC, "card %u: %" PRIu64 " bytes for %s, %" PRIu64 " of %" PRIu64 " are used",
            number, bytes - outside, area_names[area], used_bytes(card), card->capacity_bytes);
    return 0;
}

static uint64_t whole_pages(uint64_t bytes) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static int reserve_private(struct cpu_area *a, enum area area, uint64_t room, uint64_t bytes) {
    const uint64_t mapped = whole_pages(room);
    _Atomic uint32_t *own = malloc(sizeof *own);
    char *base = own ? map_private(mapped) : NULL;
    if (!base) {
        const int rc = own ? -errno : -ENOMEM;
        free((void *)own);
        return rc;
    }
    /* Pages of K and V come one at a time, and each is a little of every layer: in the middle of a
     * step a huge page would be cleared for each of these. */
    if (area == AREA_KV)
        madvise(base, mapped, MADV_NOHUGEPAGE);
    atomic_init(own, 1);
    *a = (struct cpu_area){
        .base = base, .bytes = bytes, .room = room, .mapped = mapped, .fd = -1, .own = own};
    return 0;
}

/* Of weights that leave gaps, as those do that were laid beside others, a huge page would take more
 * than is planned. */
static int reserve_shared(struct cpu_area *a, uint64_t room, uint64_t bytes, int fd) {
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if ((uint64_t)st.st_size < room)
        return -EINVAL;
    const uint64_t mapped = whole_pages((uint64_t)st.st_size);
    /* Without a descriptor of its own a lost card could not be emptied. */
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    char *base = own >= 0 ? map_aligned(mapped, MAP_SHARED, own) : NULL;
    if (!base) {
        const int rc = -errno;
        if (own >= 0)
            close(own);
        return rc;
    }
    *a = (struct cpu_area){
        .base = base, .bytes = bytes, .room = (uint64_t)st.st_size, .mapped = mapped, .fd = own};
    a->huge = room <= bytes ? cpu_huge_create(room) : NULL;
    return 0;
}

int cpu_reserve(struct device *device, uint32_t number, enum area area, uint64_t room,
                uint64_t bytes, int fd, struct err *err) {
    struct cpu_area *a = &device->cards[number].areas[area];
    struct cpu_card *card = &device->cards[number];
    int rc = check_reserve(device, number, area, bytes, err);
    if (rc)
        return rc;
    rc = fd >= 0 ? reserve_shared(a, room, bytes, fd) : reserve_private(a, area, room, bytes);
    if (!rc && area == AREA_LANDING && make_blocks(card, bytes)) {
        cpu_release(device, number, area);
        rc = -ENOMEM;
    }
    return rc ? err_set(err, rc, "card %u: %" PRIu64 " bytes for %s: %s", number, bytes,
                        area_names[area], strerror(-rc))
              : 0;
}

int cpu_share(struct device *from, uint32_t from_card, enum area area, struct device *to,
              uint32_t to_card, uint64_t room, uint64_t bytes, struct err *err) {
    const struct cpu_area *a = &from->cards[from_card].areas[area];
    const int rc = check_reserve(to, to_card, area, bytes, err);
    if (rc)
        return rc;
    if (from_card >= from->n_cards || from->cards[from_card].lost || !a->own || a->room < room)
        return err_set(err, -EINVAL, "card %u has no %s of %" PRIu64 " bytes to share", from_card,
                       area_names[area], room);
    struct cpu_area *b = &to->cards[to_card].areas[area];
    *b = *a;
    b->bytes = bytes;
    atomic_fetch_add(a->own, 1);
    return 0;
}

void cpu_release(struct device *device, uint32_t number, enum area area) {
    struct cpu_area *a = &device->cards[number].areas[area];
    if (!a->base)
        return;
    if (!a->own || atomic_fetch_sub(a->own, 1) == 1) {
        munmap(a->base, a->mapped);
        free((void *)a->own);
    }
    free(a->huge);
    if (a->fd >= 0)
        close(a->fd);
    *a = (struct cpu_area){.fd = -1};
    if (area == AREA_LANDING) {
        free(device->cards[number].holds);
        device->cards[number].holds = NULL;
    }
    cpu_forget_advice(&device->cards[number], area);
}

/* Addresses are plenty here. */
int cpu_extend(struct device *device, uint32_t number, enum area area, uint64_t room,
               uint64_t bytes, int fd, struct err *err) {
    (void)device, (void)room, (void)bytes, (void)fd;
    return err_set(err, -ENOTSUP, "card %u: %s is one piece", number, area_names[area]);
}

int cpu_hold(struct device *device, uint32_t number, enum area area, uint32_t piece, int *fd,
             uint64_t *bytes, struct err *err) {
    const bool there = number < device->n_cards && device->cards[number].areas[area].base;
    if (!there || device->cards[number].areas[area].fd < 0)
        return err_set(err, -ENOTSUP, "card %u: %s is private memory", number, area_names[area]);
    if (piece > 0)
        return err_set(err, -ENOENT, "card %u: %s is one piece", number, area_names[area]);
    *fd = device->cards[number].areas[area].fd;
    *bytes = device->cards[number].areas[area].room;
    return 0;
}

int cpu_stretch(const struct device *device, uint32_t number, enum area area, uint64_t offset,
                uint64_t bytes, char **at) {
    if (number >= device->n_cards || !device->cards[number].present)
        return -EINVAL;
    const struct cpu_area *a = &device->cards[number].areas[area];
    if (device->cards[number].lost)
        return -ENODEV;
    if (!a->base || offset > a->room || bytes > a->room - offset)
        return -EINVAL;
    *at = a->base + offset;
    return 0;
}

/* The kernel takes whole pages back, the rest is cleared: of private weights whole huge pages, for
 * one of which it took a part back would be small pages from then on. */
int cpu_clear(struct device *device, uint32_t number, enum area area, uint64_t offset,
              uint64_t bytes) {
    if (number >= device->n_cards || !device->cards[number].present)
        return -EINVAL;
    const struct cpu_area *a = &device->cards[number].areas[area];
    if (device->cards[number].lost)
        return -ENODEV;
    if (!a->base || offset > a->room || bytes > a->room - offset)
        return -EINVAL;
    const uint64_t page =
        area == AREA_WEIGHTS && a->fd < 0 ? HUGE_BYTES : (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t end = offset + bytes, first = (offset + page - 1) / page * page;
    const uint64_t last = end == a->room ? a->mapped : end / page * page;
    if (first >= last) {
        memset(a->base + offset, 0, bytes);
        return 0;
    }
    memset(a->base + offset, 0, first - offset);
    if (last < end)
        memset(a->base + last, 0, end - last);
    const int rc = a->fd >= 0 ? fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                          (off_t)first, (off_t)(last - first))
                              : madvise(a->base + first, last - first, MADV_DONTNEED);
    return rc < 0 ? -errno : 0;
}

int cpu_lose(struct device *device, uint32_t number) {
    if (number >= device->n_cards || !device->cards[number].present)
        return -EINVAL;
    struct cpu_card *card = &device->cards[number];
    int rc = 0;
    card->lost = true;
    for (int i = 0; i < AREA_COUNT; i++) {
        struct cpu_area *a = &card->areas[i];
        if (!a->base)
            continue;
        if (a->fd >= 0 &&
            fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)a->mapped) < 0)
            rc = rc ? rc : -errno;
        /* The address stays taken, so that nothing else can ever be mapped there. */
        if (mmap(a->base, a->mapped, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            rc = rc ? rc : -errno;
    }
    return rc;
}

int cpu_protect(struct device *device, uint32_t number, bool accessible) {
    if (device->cards[number].lost)
        return 0;
    for (int i = 0; i < AREA_COUNT; i++) {
        const struct cpu_area *a = &device->cards[number].areas[i];
        if (a->base &&
            mprotect(a->base, a->mapped, accessible ? PROT_READ | PROT_WRITE : PROT_NONE) < 0)
            return -errno;
    }
    return 0;
}

int cpu_protect_host(struct device *device, uint32_t number, bool accessible) {
    const struct cpu_card *card = &device->cards[number];
    const struct cpu_area *a = &card->areas[AREA_WEIGHTS];
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (card->lost || !a->base || !card->host_bytes)
        return 0;
    const uint64_t begin = (a->bytes - card->host_bytes + page - 1) / page * page;
    if (begin < a->mapped && mprotect(a->base + begin, a->mapped - begin,
                                      accessible ? PROT_READ | PROT_WRITE : PROT_NONE) < 0)
        return -errno;
    return 0;
}
