/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/svm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/modules.h"
#include "octarc/error.h"

#define WORD  4u /* of the kernel that carries */
#define TRIES 3  /* of a prefetch: the kernel asks to try again */

static uint64_t whole_chunks(uint64_t bytes) {
    return (bytes + XE_CHUNK_BYTES - 1) / XE_CHUNK_BYTES * XE_CHUNK_BYTES;
}

/* A wedged card is as lost as one that is out; that of another card is told by itself. */
static int noted(struct device *d, uint32_t card, int rc) {
    if (rc == -ECANCELED)
        rc = -ENODEV;
    if (rc == -ENODEV)
        d->cards[card].lost = true;
    return rc;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Anonymous, for nothing else moves; whole chunks, so that no other memory goes with it.  A child
 * would share the pages, and a core dump would read them: both bring them back. */
static char *map(uint64_t bytes) {
    char *all = mmap(NULL, bytes + XE_CHUNK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    char *at = (char *)(uintptr_t)whole_chunks((uintptr_t)all), *end = all + bytes + XE_CHUNK_BYTES;
    if (at > all)
        munmap(all, (size_t)(at - all));
    if (at + bytes < end)
        munmap(at + bytes, (size_t)(end - at) - bytes);
    madvise(at, bytes, MADV_HUGEPAGE);
    madvise(at, bytes, MADV_DONTFORK);
    madvise(at, bytes, MADV_DONTDUMP);
    return at;
}

/* Of the device's own, on the card. */
static uint64_t own_bytes(const struct ze_card *c) {
    uint64_t bytes =
        c->description_bytes + c->step_bytes + c->n_receipts * sizeof *c->receipts_stage;
    for (int a = 0; a < AREA_COUNT; a++)
        if (c->areas[a].at)
            bytes += c->areas[a].away ? whole_chunks(c->areas[a].split) : c->areas[a].split;
    return bytes;
}

int svm_reserve(struct device *d, uint32_t card, uint64_t bytes, struct ze_area *area,
                struct err *err) {
    struct ze_card *c = &d->cards[card];
    const uint64_t whole = whole_chunks(bytes ? bytes : 1), n = whole / XE_CHUNK_BYTES;
    struct xe_memory memory;
    int rc = xe_memory(&c->xe, &memory, err);
    if (rc)
        return noted(d, card, rc);
    char *at = map(whole);
    uint8_t *away = malloc(n);
    if (!at || !away) {
        if (at)
            munmap(at, whole);
        free(away);
        return err_set(err, -ENOMEM, "card %u: no addresses for %llu bytes of weights", card,
                       (unsigned long long)whole);
    }
    memset(away, 1, n);
    const uint64_t own = own_bytes(c);
    c->others_bytes = memory.used > own ? memory.used - own : 0;
    area->at = at;
    area->away = away;
    return 0;
}

/* Level Zero's VM.  What comes of it is told to nobody; the barrier has it done. */
static int advise_level_zero(struct device *d, uint32_t reader, uint32_t home, const char *at,
                             uint64_t bytes, ze_memory_advice_t advice) {
    struct ze_card *c = &d->cards[reader];
    pthread_mutex_lock(&c->transferring);
    level_zero_waits(d, reader);
    ze_result_t result =
        d->api->zeCommandListAppendMemAdvise(c->transfer, d->cards[home].handle, at, bytes, advice);
    if (!result)
        result = d->api->zeCommandListAppendBarrier(c->transfer, NULL, 0, NULL);
    level_zero_waited(d, reader);
    pthread_mutex_unlock(&c->transferring);
    return noted(d, reader, ze_failed(result, "zeCommandListAppendMemAdvise", NULL));
}

static int advise_reader(struct device *d, uint32_t card, struct ze_area *a, uint32_t reader) {
    const uint64_t bytes = whole_chunks(a->split ? a->split : 1);
    struct ze_card *c = &d->cards[reader];
    if (c->lost)
        return -ENODEV;
    int rc = xe_mirror(&c->xe, a->at, bytes, NULL);
    if (!rc)
        rc = xe_prefer(&c->xe, a->at, bytes, &d->cards[card].xe, NULL);
    if (!rc)
        rc = advise_level_zero(d, reader, card, a->at, bytes,
                               ZE_MEMORY_ADVICE_SET_PREFERRED_LOCATION);
    if (!rc)
        a->advised |= 1u << reader;
    return noted(d, reader, rc);
}

int svm_advise(struct device *d, uint32_t card, uint32_t readers) {
    struct ze_area *a = &d->cards[card].areas[AREA_WEIGHTS];
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++)
        if (readers >> i & 1 && d->cards[i].present && !(a->advised >> i & 1))
            rc = advise_reader(d, card, a, i);
    return rc;
}

/* Advice outlives the memory that it is about, and holds the card that it names. */
void svm_release(struct device *d, uint32_t card, struct ze_area *a) {
    const uint64_t bytes = whole_chunks(a->split ? a->split : 1);
    for (uint32_t i = 0; i < d->n_cards; i++) {
        if (!(a->advised >> i & 1) || d->cards[i].lost)
            continue;
        xe_prefer(&d->cards[i].xe, a->at, bytes, NULL, NULL);
        advise_level_zero(d, i, card, a->at, bytes, ZE_MEMORY_ADVICE_CLEAR_PREFERRED_LOCATION);
        xe_unmirror(&d->cards[i].xe, a->at, bytes, NULL);
    }
    munmap(a->at, bytes);
    free(a->away);
}

bool svm_holds(const struct device *d, uint32_t card, const void *at) {
    const struct ze_area *a = &d->cards[card].areas[AREA_WEIGHTS];
    return a->away && (uintptr_t)at - (uintptr_t)a->at < whole_chunks(a->split);
}

/* ---- what the host gives and takes ---------------------------------------------------------- */

/* On the card, which finds the memory where it is; the lock is held. */
static int carry(struct device *d, uint32_t card, const char *from, char *to, uint64_t bytes) {
    const uint32_t words = (uint32_t)(bytes / WORD);
    const ze_group_count_t groups = {(words + SUB_GROUP - 1) / SUB_GROUP, 1, 1};
    struct ze_kernel *kernel;
    const int rc = modules_kernel(d, card, KERNEL_CARRY, 0, &kernel, NULL);
    if (rc)
        return noted(d, card, rc);
    ze_result_t result = d->api->zeKernelSetArgumentValue(kernel->handle, 0, sizeof from, &from);
    if (!result)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 1, sizeof to, &to);
    if (!result)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, 2, sizeof words, &words);
    level_zero_waits(d, card);
    if (!result)
        result = d->api->zeCommandListAppendLaunchKernel(d->cards[card].transfer, kernel->handle,
                                                         &groups, NULL, 0, NULL);
    level_zero_waited(d, card);
    return noted(d, card, ze_failed(result, "a kernel that carries weights", NULL));
}

/* One that fits the stage: from `from`, or zeros, or to `to`.  Words that it has in part are
 * fetched first. */
struct piece {
    char *at; /* of the card's */
    uint64_t bytes;
    const char *from;
    char *to;
};

static int do_piece(struct device *d, uint32_t card, const struct piece *p) {
    char *stage = d->cards[card].stage;
    const uint64_t before = (uintptr_t)p->at % WORD;
    const uint64_t whole = (before + p->bytes + WORD - 1) / WORD * WORD;
    char *at = p->at - before;
    int rc = p->to || whole != p->bytes ? carry(d, card, at, stage, whole) : 0;
    if (rc)
        return rc;
    if (p->to) {
        memcpy(p->to, stage + before, p->bytes);
        return 0;
    }
    if (p->from)
        memcpy(stage + before, p->from, p->bytes);
    else
        memset(stage + before, 0, p->bytes);
    return carry(d, card, stage, at, whole);
}

static int do_all(struct device *d, uint32_t card, const struct piece *all) {
    const uint64_t most = STAGE_BYTES - 2 * WORD;
    int rc = 0;
    pthread_mutex_lock(&d->cards[card].transferring);
    for (uint64_t done = 0, some; done < all->bytes && !rc; done += some) {
        some = all->bytes - done < most ? all->bytes - done : most;
        const struct piece p = {all->at + done, some, all->from ? all->from + done : NULL,
                                all->to ? all->to + done : NULL};
        rc = do_piece(d, card, &p);
    }
    pthread_mutex_unlock(&d->cards[card].transferring);
    return rc;
}

int svm_put(struct device *d, uint32_t card, char *to, const void *from, uint64_t n) {
    return do_all(d, card, &(struct piece){to, n, from, NULL});
}

int svm_get(struct device *d, uint32_t card, void *to, const char *from, uint64_t n) {
    return do_all(d, card, &(struct piece){(char *)(uintptr_t)from, n, NULL, to});
}

int svm_fill(struct device *d, uint32_t card, char *to, uint64_t n) {
    return do_all(d, card, &(struct piece){to, n, NULL, NULL});
}

/* ---- where it lies -------------------------------------------------------------------------- */

static int prefetch(struct device *d, uint32_t card, const char *at, uint64_t bytes) {
    int rc = -ENODATA;
    level_zero_waits(d, card);
    for (int i = 0; i < TRIES && rc == -ENODATA; i++)
        rc = xe_prefetch(&d->cards[card].xe, at, bytes, NULL);
    level_zero_waited(d, card);
    return noted(d, card, rc);
}

int svm_prefetch(struct device *d, uint32_t card, uint64_t offset, uint64_t bytes) {
    struct ze_area *a = &d->cards[card].areas[AREA_WEIGHTS];
    const uint64_t first = offset / XE_CHUNK_BYTES;
    const uint64_t n = whole_chunks(offset + bytes) / XE_CHUNK_BYTES - first;
    if (bytes == 0)
        return 0;
    int rc = prefetch(d, card, a->at + first * XE_CHUNK_BYTES, n * XE_CHUNK_BYTES);
    if (rc == 0)
        memset(a->away + first, 0, n);
    if (rc != -ENODATA)
        return rc;
    for (uint64_t i = first; i < first + n; i++) { /* which of them it is */
        rc = prefetch(d, card, a->at + i * XE_CHUNK_BYTES, XE_CHUNK_BYTES);
        if (rc && rc != -ENODATA)
            return rc;
        a->away[i] = rc != 0;
    }
    return 0;
}

/* Of a stretch, what lies in chunks that are away. */
static uint64_t away_bytes(const struct ze_area *a, uint64_t offset, uint64_t bytes) {
    uint64_t away = 0;
    for (uint64_t at = offset, end; a->away && at < offset + bytes; at = end) {
        end = (at / XE_CHUNK_BYTES + 1) * XE_CHUNK_BYTES;
        end = end < offset + bytes ? end : offset + bytes;
        away += a->away[at / XE_CHUNK_BYTES] ? end - at : 0;
    }
    return away;
}

int svm_residency(struct device *d, uint32_t card, enum area area, uint64_t offset, uint64_t bytes,
                  uint64_t *resident) {
    const struct ze_card *c = &d->cards[card];
    const struct ze_area *weights = &c->areas[AREA_WEIGHTS];
    struct xe_memory memory;
    if (!weights->away) /* a card without weights has no measure */
        return -ENOTSUP;
    const int rc = noted(d, card, xe_memory(&c->xe, &memory, NULL));
    if (rc)
        return rc == -ENODEV ? rc : -ENOTSUP;
    const uint64_t away = away_bytes(weights, 0, whole_chunks(weights->split));
    const uint64_t want = c->others_bytes + own_bytes(c) - away;
    /* Allocations are rounded up; one chunk that is elsewhere shows. */
    if (memory.used > want + XE_CHUNK_BYTES || memory.used + XE_CHUNK_BYTES / 2 < want)
        return -ENOTSUP;
    *resident = bytes - away_bytes(&c->areas[area], offset, bytes);
    return 0;
}
