/* SPDX-License-Identifier: Apache-2.0 */
/* advice.c - what was said of the use of a card's memory, and where the kernel keeps that memory.
 *
 * All simulated cards share one address space, so a reader without advice would find everything: in
 * isolation the pages are opened from the advice and from nothing else. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/device/cpu/cpu.h"

#define RESIDENCY_PAGES 16384u /* asked about at a time */

static uint64_t page_bytes(void) {
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- advice --- */

static bool readers_exist(const struct device *d, uint32_t readers) {
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        if (readers >> c & 1 && (c >= d->n_cards || !d->cards[c].present))
            return false;
    return readers != 0 && readers < 2 * READER_HOST;
}

/* A range begins where the one before ends, mostly, and is used by the same cards. */
static bool extend_last(struct cpu_card *card, const struct cpu_advice *more) {
    struct cpu_advice *last = card->n_advice ? &card->advice[card->n_advice - 1] : NULL;
    if (!last || last->area != more->area || last->readers != more->readers ||
        last->read_mostly != more->read_mostly || last->in_host != more->in_host ||
        more->begin < last->begin || more->begin > last->end)
        return false;
    last->end = more->end > last->end ? more->end : last->end;
    return true;
}

int cpu_advise(struct device *d, const struct device_advice *advice) {
    const uint64_t page = page_bytes();
    char *at;
    const int rc = cpu_stretch(d, advice->home, advice->area, advice->offset, advice->bytes, &at);
    if (rc)
        return rc;
    if (!readers_exist(d, advice->readers))
        return -EINVAL;
    struct cpu_card *card = &d->cards[advice->home];
    const struct cpu_advice said = {
        .area = advice->area,
        .begin = advice->offset / page * page,
        .end = (advice->offset + advice->bytes + page - 1) / page * page,
        .readers = advice->readers,
        .read_mostly = advice->read_mostly,
        .in_host = advice->in_host,
    };
    if (extend_last(card, &said))
        return 0;
    struct cpu_advice *more = realloc(card->advice, (card->n_advice + 1) * sizeof *more);
    if (!more)
        return -ENOMEM;
    card->advice = more;
    card->advice[card->n_advice++] = said;
    return 0;
}

void cpu_forget_advice(struct cpu_card *card, enum area area) {
    size_t n = 0;
    for (size_t i = 0; i < card->n_advice; i++)
        if (card->advice[i].area != area)
            card->advice[n++] = card->advice[i];
    card->n_advice = n;
}

int cpu_admit(struct device *d, uint32_t number, uint32_t reader, bool fetches) {
    const struct cpu_card *card = &d->cards[number];
    const uint32_t bit = reader == CARD_HOST ? READER_HOST : 1u << reader;
    if (card->lost)
        return 0;
    for (size_t i = 0; i < card->n_advice; i++) {
        const struct cpu_advice *a = &card->advice[i];
        const int writes = reader == number && !a->read_mostly ? PROT_WRITE : 0;
        if (a->readers & bit && (fetches || !a->in_host) &&
            mprotect(card->areas[a->area].base + a->begin, a->end - a->begin, PROT_READ | writes) <
                0)
            return -errno;
    }
    return 0;
}

/* --- residency --- */

/* Of [begin, end), the part that lies in pages that the kernel has; `first` is where the pages of
 * `present` begin. */
static uint64_t count_present(const unsigned char *present, size_t n, uintptr_t first,
                              uintptr_t begin, uintptr_t end) {
    const uintptr_t page = page_bytes();
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const uintptr_t from = first + i * page, to = from + page;
        if (present[i] & 1)
            bytes += (to < end ? to : end) - (from > begin ? from : begin);
    }
    return bytes;
}

int cpu_residency(struct device *d, uint32_t card, enum area area, uint64_t offset, uint64_t bytes,
                  uint64_t *resident) {
    unsigned char present[RESIDENCY_PAGES];
    const uintptr_t page = page_bytes();
    char *at;
    const int rc = cpu_stretch(d, card, area, offset, bytes, &at);
    if (rc)
        return rc;
    const uintptr_t begin = (uintptr_t)at, end = begin + bytes;
    uint64_t found = 0;
    for (uintptr_t from = begin / page * page; from < end;) {
        const size_t left = (end - from + page - 1) / page;
        const size_t n = left < RESIDENCY_PAGES ? left : RESIDENCY_PAGES;
        if (mincore((void *)from, n * page, present) < 0)
            return -ENOTSUP;
        found += count_present(present, n, from, begin, end);
        from += n * page;
    }
    *resident = found;
    return 0;
}
