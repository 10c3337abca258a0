/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/cpu.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/device/cpu/backend.h"
#include "daemon/device/cpu/cores.h"
#include "daemon/device/pack.h"
#include "octarc/error.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14; an older kernel refuses it */
#define MADV_POPULATE_WRITE 23
#endif

#define PIECE_BYTES ((uintptr_t)2 << 20) /* by one thread at a time */

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static uint64_t cpu_packed_bytes(uint32_t type, bool vector, uint64_t rows, uint64_t cols) {
    return pack_bytes(type, vector, rows, cols);
}

#if defined(__x86_64__)
/* clang 14's __builtin_cpu_supports() does not know this one. */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static const struct kernels *choose_kernels(enum instruction_set isa, struct err *err) {
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    if ((isa == ISA_AUTO || isa == ISA_AVX512) && avx512)
        return &kernels_avx512;
    if ((isa == ISA_AUTO || isa == ISA_AVX2) && avx2)
        return &kernels_avx2;
#endif
    if (isa == ISA_AUTO || isa == ISA_PORTABLE)
        return &kernels_portable;
    err_set(err, -ENOTSUP, "this processor cannot run the %s kernels",
            isa == ISA_AVX512 ? "avx512" : "avx2");
    return NULL;
}

static void cpu_close(struct device *device) {
    if (!device)
        return;
    team_destroy(device->team);
    for (uint32_t c = 0; c < device->n_cards; c++) {
        for (int a = 0; a < AREA_COUNT; a++)
            cpu_release(device, c, (enum area)a);
        free(device->cards[c].advice);
    }
    free(device->tasks);
    free(device->pulls);
    free(device->phases);
    free(device->stages);
    free(device->meters);
    free((void *)device->taken);
    free(device->work);
    free(device->work_memory);
    pthread_mutex_destroy(&device->faulting);
    free(device);
}

static int cpu_open(struct device **out, const struct device_options *options, struct err *err) {
    if (options->n_cards == 0 || options->n_cards > CARDS_MAX || options->max_rows == 0)
        return err_set(err, -EINVAL, "%u cards of %u rows a step, expected 1 to %d cards",
                       options->n_cards, options->max_rows, CARDS_MAX);
    const struct kernels *kernels = choose_kernels(options->isa, err);
    if (!kernels)
        return -ENOTSUP;
    struct device *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, -ENOMEM, "no memory for a device");
    d->ops = &cpu_ops;
    d->n_cards = options->n_cards;
    d->max_rows = options->max_rows;
    d->isolate = options->isolate;
    d->profile = options->profile;
    d->kernels = kernels;
    pthread_mutex_init(&d->faulting, NULL);
    for (uint32_t c = 0; c < d->n_cards; c++) {
        d->cards[c].present = options->present[c];
        d->cards[c].capacity_bytes = options->capacity_bytes[c];
        d->cards[c].host_bytes = options->host_bytes[c];
        for (int a = 0; a < AREA_COUNT; a++)
            d->cards[c].areas[a].fd = -1;
    }
    d->pin = options->pin;
    const int rc =
        team_create(&d->team, options->n_threads ? options->n_threads : cores_usable(), err);
    if (rc) {
        cpu_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

static int cpu_properties(struct device *d, uint32_t card, struct device_properties *out) {
    if (card >= d->n_cards || !d->cards[card].present)
        return -EINVAL;
    *out = (struct device_properties){.capacity_bytes = d->cards[card].capacity_bytes};
    snprintf(out->name, sizeof out->name, "cpu %s", d->kernels->name);
    for (int a = 0; a < AREA_COUNT; a++) {
        out->used_bytes[a] = d->cards[card].areas[a].bytes;
        out->room_bytes[a] = d->cards[card].areas[a].room;
    }
    out->fetched_bytes = atomic_load(&d->cards[card].fetched_bytes);
    out->faults = atomic_load(&d->cards[card].faults);
    return 0;
}

static int weights_at(struct device *d, uint32_t card, uint64_t offset, uint64_t bytes, char **at) {
    return cpu_stretch(d, card, AREA_WEIGHTS, offset, bytes, at);
}

/* Where the rows of a range come to lie; a tile is written whole in the end. */
static void make_huge(struct cpu_area *a, uint64_t offset, uint32_t type, bool vector,
                      uint64_t begin, uint64_t rows, uint64_t cols) {
    const uint64_t first = vector ? begin : begin / TILE, end = begin + rows;
    const uint64_t each = vector ? cols * sizeof(float) : packed_tile_bytes(type, (uint32_t)cols);
    const uint64_t n = (vector ? end : (end + TILE - 1) / TILE) - first;
    cpu_huge_make(a, offset + first * each, n * each);
}

static int cpu_pack(struct device *d, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                    uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                    uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    char *at;
    const uint64_t bytes = pack_bytes(type, vector, range_rows, cols);
    const int rc = bytes ? weights_at(d, card, offset, bytes, &at) : -ENOTSUP;
    if (rc)
        return rc;
    if (row_begin > range_rows || rows > range_rows - row_begin || col_skip % ATOM)
        return -EINVAL;
    cpu_landing_stale(d, card);
    make_huge(&d->cards[card].areas[AREA_WEIGHTS], offset, type, vector, row_begin, rows, cols);
    return pack_rows((uint8_t *)at, type, vector, row_begin, rows, cols, col_skip, blocks,
                     row_bytes);
}

static int cpu_digest(struct device *d, uint32_t card, enum area area, uint64_t offset,
                      uint64_t bytes, uint64_t *digest) {
    char *at;
    const int rc = cpu_stretch(d, card, area, offset, bytes, &at);
    if (!rc)
        *digest = device_digest(at, bytes);
    return rc;
}

static int cpu_digest_part(struct device *d, uint32_t card, uint64_t offset, uint64_t bytes,
                           uint64_t first_leaf, uint64_t *sum) {
    char *at;
    const int rc = weights_at(d, card, offset, bytes, &at);
    if (!rc)
        *sum = device_digest_part(at, bytes, first_leaf);
    return rc;
}

static int cpu_peek(struct device *d, uint32_t card, uint64_t offset, void *out, uint64_t bytes) {
    char *at;
    const int rc = weights_at(d, card, offset, bytes, &at);
    if (!rc)
        memcpy(out, at, bytes);
    return rc;
}

static int cpu_poke(struct device *d, uint32_t card, uint64_t offset, const void *in,
                    uint64_t bytes) {
    char *at;
    const int rc = weights_at(d, card, offset, bytes, &at);
    if (rc)
        return rc;
    memcpy(at, in, bytes);
    cpu_landing_stale(d, card);
    return 0;
}

static int cpu_copy(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                    struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes) {
    char *src, *dst;
    int rc = cpu_stretch(from, from_card, area, from_offset, bytes, &src);
    if (!rc)
        rc = cpu_stretch(to, to_card, area, to_offset, bytes, &dst);
    if (rc)
        return rc;
    cpu_huge_make(&to->cards[to_card].areas[area], to_offset, bytes);
    memcpy(dst, src, bytes);
    if (area == AREA_WEIGHTS)
        cpu_landing_stale(to, to_card);
    return 0;
}

/* Pages that members of the team take one piece after the other. */
struct wanted {
    uintptr_t begin, end;
    _Atomic uint64_t next; /* piece to take */
};

static void take_pieces(void *arg, uint32_t member) {
    struct wanted *w = arg;
    (void)member;
    for (;;) {
        const uintptr_t at = w->begin + atomic_fetch_add(&w->next, 1) * PIECE_BYTES;
        if (at >= w->end)
            return;
        madvise((void *)at, w->end - at < PIECE_BYTES ? w->end - at : PIECE_BYTES,
                MADV_POPULATE_WRITE);
    }
}

/* The kernel gives a page, cleared, when it is touched first: pieces of large stretches are cleared
 * side by side, and begin where a huge page does. */
static int cpu_prefetch(struct device *d, uint32_t card, enum area area, uint64_t offset,
                        uint64_t bytes) {
    char *at;
    const int rc = cpu_stretch(d, card, area, offset, bytes, &at);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)at / page * page;
    if (rc || !bytes)
        return rc;
    const uintptr_t end = (uintptr_t)at + bytes;
    const uintptr_t edge =
        bytes < 2 * PIECE_BYTES ? end : (first + PIECE_BYTES - 1) / PIECE_BYTES * PIECE_BYTES;
    struct wanted pieces = {.begin = edge, .end = end};
    if (first < edge)
        madvise((void *)first, edge - first, MADV_POPULATE_WRITE);
    if (edge < end)
        team_run(d->team, take_pieces, &pieces);
    return 0;
}

/* Of a memfd the pages are punched out, for whoever else holds it has them too. */
static int cpu_discard(struct device *d, uint32_t card, enum area area, uint64_t offset,
                       uint64_t bytes) {
    char *at = NULL;
    const int rc = cpu_stretch(d, card, area, offset, bytes, &at);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)at + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)at + bytes) / page * page;
    if (rc == 0 && first < end)
        madvise((void *)first, end - first,
                d->cards[card].areas[area].fd >= 0 ? MADV_REMOVE : MADV_DONTNEED);
    return rc;
}

const struct device_ops cpu_ops = {
    .name = "cpu",
    .packed_bytes = cpu_packed_bytes,
    .open = cpu_open,
    .close = cpu_close,
    .properties = cpu_properties,
    .reserve = cpu_reserve,
    .share = cpu_share,
    .release = cpu_release,
    .extend = cpu_extend,
    .hold = cpu_hold,
    .clear = cpu_clear,
    .advise = cpu_advise,
    .pack = cpu_pack,
    .digest = cpu_digest,
    .digest_part = cpu_digest_part,
    .peek = cpu_peek,
    .poke = cpu_poke,
    .copy = cpu_copy,
    .prefetch = cpu_prefetch,
    .discard = cpu_discard,
    .residency = cpu_residency,
    .check = cpu_check,
    .load = cpu_load,
    .step = cpu_step,
    .lose = cpu_lose,
    .pending = cpu_pending,
    .hang = cpu_hang,
    .measure = cpu_measure,
    .profile = cpu_profile,
    .huge = cpu_huge,
};
