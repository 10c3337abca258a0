/* SPDX-License-Identifier: Apache-2.0 */
/* Who may touch memory that is advised to be on a card without being noticed.
 *
 * From its first advice on, memory of whole chunks is inaccessible to the host where it is on a
 * card, and to a card whose VM has not mapped it where it is now.  Whoever touches it all the same
 * is let go on, and has had the page fault that the kernel would have: a card's is answered by the
 * advice in its own VM, the host's brings the chunk back. */
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/sim_level_zero/sim.h"
#include "tests/sim_level_zero/xe_model.h"

#define CHUNK      (UINT64_C(2) << 20)
#define RANGES_MAX 64

#define BY_CARD 1u
#define BY_HOST 2u

struct chunk {
    unsigned mapped;   /* bit a card */
    _Atomic bool open; /* two threads that fault at once both open it */
    bool imported;     /* by the command that is about to run */
    _Atomic unsigned touched;
};

/* Of whole chunks; n 0: not in use. */
struct range {
    _Atomic uint64_t begin, n;
    int home;
    struct chunk *chunks; /* owned; of `room` */
    uint64_t room;
};

static struct range ranges[RANGES_MAX];

static void protect(const struct range *r, uint64_t i, bool open) {
    struct chunk *c = &r->chunks[i];
    if (c->open == open)
        return;
    mprotect((void *)(uintptr_t)(r->begin + i * CHUNK), CHUNK,
             open ? PROT_READ | PROT_WRITE : PROT_NONE);
    c->open = open;
}

static void forget(struct range *r) {
    for (uint64_t i = 0; i < r->n; i++)
        protect(r, i, true);
    r->n = 0;
}

void sim_reach_forget(uint64_t begin, uint64_t end) {
    for (struct range *r = ranges; r < ranges + RANGES_MAX; r++)
        if (r->n && r->begin < end && begin < r->begin + r->n * CHUNK)
            forget(r);
}

void sim_reach_lost(int card) {
    for (struct range *r = ranges; r < ranges + RANGES_MAX; r++)
        if (r->n && r->home == card)
            forget(r);
}

void sim_reach_watch(uint64_t begin, uint64_t end, int home) {
    const uint64_t n = (end - begin) / CHUNK;
    struct range *r = ranges;
    while (r < ranges + RANGES_MAX && r->n && !(r->begin == begin && begin + r->n * CHUNK == end))
        r++;
    if (begin % CHUNK || end % CHUNK || r == ranges + RANGES_MAX || !xe_is_anonymous(begin, end))
        return;
    r->home = home;
    if (r->n)
        return;
    if (r->room < n) {
        free(r->chunks);
        r->chunks = calloc(n, sizeof *r->chunks);
        r->room = r->chunks ? n : 0;
    }
    if (!r->chunks)
        return;
    for (uint64_t i = 0; i < n; i++) {
        r->chunks[i] = (struct chunk){.open = true};
        protect(r, i, xe_where(begin + i * CHUNK) < 0);
    }
    r->begin = begin;
    r->n = n;
}

static struct chunk *find(uint64_t address, struct range **of) {
    for (struct range *r = ranges; r < ranges + RANGES_MAX; r++)
        if (r->n && address - r->begin < r->n * CHUNK) {
            *of = r;
            return &r->chunks[(address - r->begin) / CHUNK];
        }
    return NULL;
}

/* In a signal handler. */
bool sim_reach_fault(uintptr_t address, bool by_card) {
    struct range *r;
    struct chunk *c = find(address, &r);
    if (!c)
        return false;
    atomic_fetch_or(&c->touched, by_card ? BY_CARD : BY_HOST);
    mprotect((void *)(uintptr_t)(address / CHUNK * CHUNK), CHUNK, PROT_READ | PROT_WRITE);
    c->open = true;
    return true;
}

void sim_reach_moved(uint64_t begin, uint64_t bytes) {
    struct range *r;
    for (uint64_t at = begin; at < begin + bytes; at += CHUNK) {
        struct chunk *c = find(at, &r);
        if (c)
            c->mapped = 0;
    }
}

/* As Intel's driver does for a copy of what it did not allocate. */
void sim_reach_import(const void *p, uint64_t bytes) {
    const uint64_t begin = (uint64_t)(uintptr_t)p;
    struct range *r;
    for (uint64_t at = begin / CHUNK * CHUNK; at < begin + bytes; at += CHUNK) {
        struct chunk *c = find(at, &r);
        if (!c)
            continue;
        xe_move(at, at + CHUNK, XE_SYSTEM);
        c->imported = true;
    }
}

void sim_reach_open(unsigned card) {
    for (struct range *r = ranges; r < ranges + RANGES_MAX; r++)
        for (uint64_t i = 0; i < r->n; i++)
            protect(r, i, r->chunks[i].imported || r->chunks[i].mapped >> card & 1);
}

void sim_reach_settle(int card) {
    for (struct range *r = ranges; r < ranges + RANGES_MAX; r++)
        for (uint64_t i = 0; i < r->n; i++) {
            struct chunk *c = &r->chunks[i];
            const uint64_t at = r->begin + i * CHUNK;
            const unsigned touched = atomic_exchange(&c->touched, 0);
            c->imported = false;
            if (touched & BY_HOST)
                xe_move(at, at + CHUNK, XE_SYSTEM);
            if (touched & BY_CARD && card >= 0) {
                sim_svm_touch((const void *)(uintptr_t)at, (unsigned)card);
                c->mapped |= 1u << card;
            }
        }
}

void sim_reach_shut(void) {
    for (struct range *r = ranges; r < ranges + RANGES_MAX; r++)
        for (uint64_t i = 0; i < r->n; i++)
            protect(r, i, xe_where(r->begin + i * CHUNK) < 0);
}
