/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct page {
    uint32_t users;
    bool shared; /* in the table */
    uint32_t uid;
    uint64_t serial;        /* of this content; never used twice */
    uint64_t parent_serial; /* 0: at the beginning */
    uint64_t hash;
    uint32_t chain;        /* next page of the same bucket */
    uint32_t older, newer; /* list of pages without users, oldest first */
    int32_t tokens[PAGE_TOKENS];
};

struct pages {
    uint32_t n, n_free, n_buckets;
    uint32_t oldest, newest;
    uint64_t next_serial;
    uint32_t *buckets;
    struct page *all;
};

static void list_append(struct pages *p, uint32_t i) {
    p->all[i].older = p->newest;
    p->all[i].newer = NO_PAGE;
    if (p->newest != NO_PAGE)
        p->all[p->newest].newer = i;
    else
        p->oldest = i;
    p->newest = i;
    p->n_free++;
}

static void list_prepend(struct pages *p, uint32_t i) {
    p->all[i].newer = p->oldest;
    p->all[i].older = NO_PAGE;
    if (p->oldest != NO_PAGE)
        p->all[p->oldest].older = i;
    else
        p->newest = i;
    p->oldest = i;
    p->n_free++;
}

static void list_remove(struct pages *p, uint32_t i) {
    struct page *page = &p->all[i];
    if (page->older != NO_PAGE)
        p->all[page->older].newer = page->newer;
    else
        p->oldest = page->newer;
    if (page->newer != NO_PAGE)
        p->all[page->newer].older = page->older;
    else
        p->newest = page->older;
    p->n_free--;
}

int pages_create(struct pages **out, uint32_t n) {
    struct pages *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->n = n;
    p->n_buckets = n ? n : 1;
    p->oldest = p->newest = NO_PAGE;
    p->next_serial = 1;
    p->all = calloc(n ? n : 1, sizeof *p->all);
    p->buckets = malloc(p->n_buckets * sizeof *p->buckets);
    if (!p->all || !p->buckets) {
        pages_destroy(p);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < p->n_buckets; i++)
        p->buckets[i] = NO_PAGE;
    for (uint32_t i = 0; i < n; i++)
        list_append(p, i);
    *out = p;
    return 0;
}

void pages_destroy(struct pages *p) {
    if (!p)
        return;
    free(p->all);
    free(p->buckets);
    free(p);
}

uint32_t pages_free(const struct pages *p) {
    return p->n_free;
}

static void unshare(struct pages *p, uint32_t i) {
    uint32_t *at = &p->buckets[p->all[i].hash % p->n_buckets];
    while (*at != i)
        at = &p->all[*at].chain;
    *at = p->all[i].chain;
    p->all[i].shared = false;
}

uint32_t pages_take(struct pages *p) {
    const uint32_t i = p->oldest;
    if (i == NO_PAGE)
        return NO_PAGE;
    list_remove(p, i);
    if (p->all[i].shared)
        unshare(p, i);
    p->all[i].users = 1;
    p->all[i].serial = p->next_serial++;
    return i;
}

void pages_put(struct pages *p, uint32_t i) {
    if (--p->all[i].users)
        return;
    /* A page that cannot be found again is of no more use to anyone: it goes first. */
    if (p->all[i].shared)
        list_append(p, i);
    else
        list_prepend(p, i);
}

static uint64_t hash_of(uint32_t uid, uint64_t parent_serial, const int32_t *tokens) {
    uint64_t h = parent_serial * UINT64_C(0x9e3779b97f4a7c15) ^ uid;
    for (int i = 0; i < PAGE_TOKENS; i++) {
        h = (h ^ (uint32_t)tokens[i]) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    return h;
}

static uint64_t serial_of(const struct pages *p, uint32_t page) {
    return page == NO_PAGE ? 0 : p->all[page].serial;
}

uint64_t pages_serial(const struct pages *p, uint32_t page) {
    return p->all[page].serial;
}

bool pages_shared(const struct pages *p, uint32_t page) {
    return p->all[page].shared;
}

static uint32_t look_up(const struct pages *p, uint32_t uid, uint64_t parent_serial,
                        const int32_t *tokens) {
    const uint64_t h = hash_of(uid, parent_serial, tokens);

    for (uint32_t i = p->buckets[h % p->n_buckets]; i != NO_PAGE; i = p->all[i].chain) {
        const struct page *page = &p->all[i];
        if (page->hash == h && page->uid == uid && page->parent_serial == parent_serial &&
            !memcmp(page->tokens, tokens, sizeof page->tokens))
            return i;
    }
    return NO_PAGE;
}

uint32_t pages_find(struct pages *p, uint32_t uid, uint32_t parent,
                    const int32_t tokens[PAGE_TOKENS]) {
    const uint32_t i = look_up(p, uid, serial_of(p, parent), tokens);
    if (i != NO_PAGE && p->all[i].users++ == 0)
        list_remove(p, i);
    return i;
}

static void enlist(struct pages *p, uint32_t i, uint32_t uid, uint64_t parent_serial,
                   const int32_t *tokens) {
    struct page *page = &p->all[i];
    page->uid = uid;
    page->parent_serial = parent_serial;
    page->hash = hash_of(uid, parent_serial, tokens);
    memcpy(page->tokens, tokens, sizeof page->tokens);
    page->chain = p->buckets[page->hash % p->n_buckets];
    p->buckets[page->hash % p->n_buckets] = i;
    page->shared = true;
}

uint32_t pages_share(struct pages *p, uint32_t i, uint32_t uid, uint32_t parent,
                     const int32_t tokens[PAGE_TOKENS]) {
    struct page *page = &p->all[i];
    const uint64_t parent_serial = serial_of(p, parent);
    if (page->shared)
        return i;
    const uint32_t same = pages_find(p, uid, parent, tokens);
    if (same != NO_PAGE) {
        pages_put(p, i);
        return same;
    }
    enlist(p, i, uid, parent_serial, tokens);
    return i;
}

bool pages_content(const struct pages *p, uint32_t i, struct page_content *content) {
    const struct page *page = &p->all[i];
    *content = (struct page_content){
        .serial = page->serial, .parent_serial = page->parent_serial, .page = i, .uid = page->uid};
    memcpy(content->tokens, page->tokens, sizeof content->tokens);
    return page->shared;
}

int pages_restore(struct pages *p, const struct page_content *c) {
    const uint32_t i = c->page;
    if (p->all[i].users || p->all[i].shared ||
        look_up(p, c->uid, c->parent_serial, c->tokens) != NO_PAGE)
        return -EEXIST;
    p->all[i].serial = c->serial;
    if (p->next_serial <= c->serial)
        p->next_serial = c->serial + 1;
    enlist(p, i, c->uid, c->parent_serial, c->tokens);
    list_remove(p, i);
    list_append(p, i);
    return 0;
}

void pages_forget_idle(struct pages *p, bool *idle) {
    for (uint32_t i = 0; i < p->n; i++) {
        idle[i] = p->all[i].users == 0;
        if (idle[i] && p->all[i].shared)
            unshare(p, i);
    }
}
