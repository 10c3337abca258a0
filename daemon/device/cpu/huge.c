/* SPDX-License-Identifier: Apache-2.0 */
/* huge.c - the weights on huge pages: made where the kernel gives none by itself, and told as it
 * tells them of this process. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "daemon/device/cpu/cpu.h"

#ifndef MADV_COLLAPSE /* Linux 6.1; an older kernel refuses it */
#define MADV_COLLAPSE 25
#endif
#define HUGE_BYTES (UINT64_C(2) << 20)
#define WAIT_NS    50000

/* A huge page's bytes each, asked for with a call of its own: who loads behind steps leaves its
 * core between two slices, and nowhere in the kernel. */
enum piece { PIECE_UNTOUCHED, PIECE_BEING_MADE, PIECE_DONE };

struct cpu_huge {
    uint64_t end; /* whole huge pages, from the area's begin on */
    _Atomic bool refused;
    _Atomic int pieces[];
};

struct cpu_huge *cpu_huge_create(uint64_t bytes) {
    const uint64_t end = bytes / HUGE_BYTES * HUGE_BYTES;
    const size_t n = (size_t)(end / HUGE_BYTES);
    struct cpu_huge *huge = end ? calloc(1, sizeof *huge + n * sizeof huge->pieces[0]) : NULL;
    if (huge)
        huge->end = end;
    return huge;
}

/* The kernel makes a huge page only of memory that has something in it: a byte is read.
 * Where it has no huge page left, or will have none, it is not asked again: each try would look
 * for one all over the memory. */
static void make_piece(struct cpu_huge *huge, char *base, uint64_t begin) {
    (void)*(const volatile char *)(base + begin);
    if (madvise(base + begin, HUGE_BYTES, MADV_COLLAPSE) && errno != EAGAIN)
        atomic_store(&huge->refused, true);
}

void cpu_huge_make(struct cpu_area *a, uint64_t offset, uint64_t bytes) {
    struct cpu_huge *huge = a->huge;
    const uint64_t end = huge && offset + bytes < huge->end ? offset + bytes : huge ? huge->end : 0;
    for (uint64_t at = offset / HUGE_BYTES; at * HUGE_BYTES < end; at++) {
        int was = PIECE_UNTOUCHED;
        if (atomic_load(&huge->refused))
            return;
        if (atomic_compare_exchange_strong(&huge->pieces[at], &was, PIECE_BEING_MADE)) {
            make_piece(huge, a->base, at * HUGE_BYTES);
            atomic_store(&huge->pieces[at], PIECE_DONE);
        }
        while (atomic_load(&huge->pieces[at]) == PIECE_BEING_MADE)
            nanosleep(&(struct timespec){.tv_nsec = WAIT_NS}, NULL);
    }
}

/* Anonymous memory, and shared memory; a mapping has one of them. */
static const char *const figures[] = {"AnonHugePages:", "ShmemPmdMapped:"};

struct stretch {
    uint64_t begin, end;
};

static uint64_t common(const struct stretch *a, const struct stretch *b) {
    const uint64_t begin = a->begin > b->begin ? a->begin : b->begin;
    const uint64_t end = a->end < b->end ? a->end : b->end;
    return end > begin ? end - begin : 0;
}

/* A mapping that holds more than one card's weights is not made, but the kernel may join two: then
 * each card has at most as much as it has of the mapping; the last page may reach beyond what
 * counts of it. */
static void add_bytes(const struct device *d, const struct stretch *mapping, uint64_t huge,
                      uint64_t bytes[CARDS_MAX]) {
    for (uint32_t c = 0; c < d->n_cards && huge; c++) {
        const struct cpu_area *a = &d->cards[c].areas[AREA_WEIGHTS];
        const uint64_t begin = (uint64_t)(uintptr_t)a->base;
        const struct stretch own = {begin, begin + (d->cards[c].lost ? 0 : a->mapped)};
        const uint64_t there = common(mapping, &own), most = there < a->bytes ? there : a->bytes;
        const uint64_t part = huge < most ? huge : most;
        bytes[c] += part;
        huge -= part;
    }
}

/* KiB of a line that holds one of the figures. */
static bool read_figure(const char *line, uint64_t *kib) {
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        const size_t n = strlen(figures[i]);
        if (!strncmp(line, figures[i], n)) {
            *kib = strtoull(line + n, NULL, 10);
            return true;
        }
    }
    return false;
}

int cpu_huge_read(const struct device *d, FILE *smaps, uint64_t bytes[CARDS_MAX]) {
    struct stretch mapping = {0, 0}, next;
    bool told = false;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, smaps) > 0) {
        uint64_t kib;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &next.begin, &next.end) == 2) {
            mapping = next;
        } else if (read_figure(line, &kib)) {
            told = true;
            add_bytes(d, &mapping, kib << 10, bytes);
        }
    }
    free(line);
    return told ? 0 : -ENOTSUP;
}

int cpu_huge(struct device *d, uint64_t bytes[CARDS_MAX]) {
    uint64_t found[CARDS_MAX] = {0};
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (!smaps)
        return -ENOTSUP;
    const int rc = cpu_huge_read(d, smaps, found);
    fclose(smaps);
    if (rc == 0)
        memcpy(bytes, found, sizeof found);
    return rc;
}
