/* SPDX-License-Identifier: Apache-2.0 */
/* Where the process's own memory is said to be. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/sim_level_zero/sim.h"
#include "tests/sim_level_zero/xe_model.h"

/* A chunk that is on a card; what is on the host has none. */
struct chunk {
    struct chunk *next;
    uint64_t begin, bytes;
    int card;
};

static struct chunk *chunks;

static struct chunk **find(uint64_t begin) {
    struct chunk **at = &chunks;
    while (*at && (begin < (*at)->begin || begin >= (*at)->begin + (*at)->bytes))
        at = &(*at)->next;
    return at;
}

static void to_host(struct chunk **at) {
    struct chunk *c = *at;
    sim.counters->used_bytes[c->card] -= c->bytes;
    sim_reach_moved(c->begin, c->bytes);
    *at = c->next;
    free(c);
}

int xe_where(uint64_t address) {
    const struct chunk *c = *find(address);
    return c ? c->card : XE_SYSTEM;
}

void xe_forget_unmapped(void) {
    unsigned char in_core;
    for (struct chunk **at = &chunks; *at;)
        if (mincore((void *)(uintptr_t)((*at)->begin / 4096 * 4096), 4096, &in_core))
            to_host(at);
        else
            at = &(*at)->next;
}

/* The largest chunk that begins there and ends by then. */
static uint64_t chunk_bytes(uint64_t begin, uint64_t end) {
    static const uint64_t sizes[] = {UINT64_C(2) << 20, UINT64_C(64) << 10, 4096};
    unsigned i = 0;
    while (i < 2 && (begin % sizes[i] || end - begin < sizes[i]))
        i++;
    return sizes[i];
}

/* Where the anonymous private mapping that holds `address` ends; 0 if what is there is none. */
static uint64_t anonymous_until(uint64_t address) {
    char line[512], access[8] = "", name[8] = "";
    uint64_t begin = 0, end = 0, inode = 0, found = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        *name = '\0';
        const int n = sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*x %*s %" SCNu64 " %7s", &begin,
                             &end, access, &inode, name);
        if (n >= 4 && address >= begin && address < end && access[3] == 'p' && !inode &&
            *name != '/')
            found = end;
    }
    if (f)
        fclose(f);
    return found;
}

bool xe_is_anonymous(uint64_t begin, uint64_t end) {
    return anonymous_until(begin) >= end;
}

/* Room on the card for one more chunk. */
static bool has_room(int card, uint64_t bytes) {
    const uint64_t total = sim.options.memory_bytes[card], used = sim.counters->used_bytes[card];
    return !sim.cards[card].lost && bytes <= total && used <= total - bytes;
}

static int to_card(uint64_t begin, uint64_t bytes, int card) {
    struct chunk *made = has_room(card, bytes) ? malloc(sizeof *made) : NULL;
    if (!made)
        return -ENODATA;
    *made = (struct chunk){chunks, begin, bytes, card};
    chunks = made;
    sim.counters->used_bytes[card] += bytes;
    sim_reach_moved(begin, bytes);
    return 0;
}

int xe_move(uint64_t begin, uint64_t end, int target) {
    int rc = 0;
    uint64_t until = 0, bytes = 0;
    for (uint64_t at = begin; at < end; at += bytes) {
        struct chunk **there = find(at);
        bytes = *there ? (*there)->begin + (*there)->bytes - at : 4096;
        if (*there && (*there)->card == target)
            continue;
        if (*there) { /* as a whole, also where less was asked for */
            const uint64_t whole = (*there)->bytes, first = (*there)->begin;
            to_host(there);
            if (target >= 0 && to_card(first, whole, target))
                rc = -ENODATA;
            continue;
        }
        if (target == XE_SYSTEM)
            continue;
        if (at >= until)
            until = anonymous_until(at);
        bytes = until > at ? chunk_bytes(at, end < until ? end : until) : 4096;
        if (until <= at || to_card(at, bytes, target))
            rc = -ENODATA;
    }
    return rc;
}
