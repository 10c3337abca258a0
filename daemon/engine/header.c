/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAGIC   UINT64_C(0x737468676965774f) /* "Oweights" */
#define HEADER_VERSION 3u
#define HALVES         2u
#define HALF_BYTES     (PLAN_WEIGHTS_HEADER / HALVES)

struct half {
    uint64_t magic;
    uint32_t version, layout, numerics, zero;
    uint64_t file_bytes, file_mtime_ns, file_inode, file_device;
    uint64_t sequence; /* the later one counts */
    uint64_t n;
    uint64_t entries_digest; /* of the entries that follow */
    uint64_t digest;         /* of all before this */
};
_Static_assert(sizeof(struct half) + HEADER_ENTRIES_MAX * sizeof(struct header_entry) <= HALF_BYTES,
               "a half has room for its entries");

uint64_t header_key(const struct model_tensor *t, const struct plan_range *r) {
    const uint64_t row[8] = {r->tensor,    t->type,    r->row_begin, r->row_end,
                             r->col_begin, r->col_end, r->offset,    r->bytes};
    return device_digest(row, sizeof row);
}

static struct half half_for(const struct file_identity *file) {
    return (struct half){.magic = HEADER_MAGIC,
                         .version = HEADER_VERSION,
                         .layout = LAYOUT_VERSION,
                         .numerics = NUMERICS_VERSION,
                         .file_bytes = file->bytes,
                         .file_mtime_ns = (uint64_t)file->mtime_ns,
                         .file_inode = file->inode,
                         .file_device = file->device};
}

static uint64_t digest_of(const struct half *h) {
    return device_digest(h, offsetof(struct half, digest));
}

static bool same_file(const struct half *a, const struct half *b) {
    return a->file_bytes == b->file_bytes && a->file_mtime_ns == b->file_mtime_ns &&
           a->file_inode == b->file_inode && a->file_device == b->file_device &&
           a->numerics == b->numerics && a->layout == b->layout;
}

/* A half and what follows it.  -EBADMSG: it is not whole. */
static int read_half(const struct device_ops *ops, struct device *device, uint32_t card,
                     uint32_t half, struct half *h, struct header_entry *entries) {
    const uint64_t at = half * (uint64_t)HALF_BYTES;
    int rc = ops->peek(device, card, at, h, sizeof *h);
    if (rc)
        return rc;
    if (h->magic != HEADER_MAGIC || h->version != HEADER_VERSION || h->digest != digest_of(h) ||
        h->n > HEADER_ENTRIES_MAX)
        return -EBADMSG;
    rc = ops->peek(device, card, at + sizeof *h, entries, h->n * sizeof *entries);
    if (rc)
        return rc;
    return device_digest(entries, h->n * sizeof *entries) == h->entries_digest ? 0 : -EBADMSG;
}

/* The half that counts, and its number; HALVES: there is none. */
static int read_latest(const struct device_ops *ops, struct device *device, uint32_t card,
                       struct half *latest, struct header_entry *entries, uint32_t *number) {
    struct half h;
    struct header_entry *found = malloc(HEADER_ENTRIES_MAX * sizeof *found);
    int rc = found ? 0 : -ENOMEM;
    *number = HALVES;
    for (uint32_t i = 0; i < HALVES && !rc; i++) {
        rc = read_half(ops, device, card, i, &h, found);
        if (rc == 0 && (*number == HALVES || h.sequence > latest->sequence)) {
            *latest = h;
            *number = i;
            memcpy(entries, found, h.n * sizeof *found);
        }
        rc = rc == -EBADMSG ? 0 : rc;
    }
    free(found);
    return rc;
}

int header_read(const struct device_ops *ops, struct device *device, uint32_t card,
                const struct file_identity *file, struct header_entry **out, size_t *n) {
    const struct half want = half_for(file);
    struct half have;
    uint32_t number;
    struct header_entry *entries = malloc(HEADER_ENTRIES_MAX * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    const int rc = read_latest(ops, device, card, &have, entries, &number);
    if (rc) {
        free(entries);
        return rc;
    }
    *out = entries;
    *n = number < HALVES && same_file(&have, &want) ? have.n : 0;
    return 0;
}

static int by_key(const void *a, const void *b) {
    const struct header_entry *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* The head goes last, into the half that does not count. */
static int write_half(const struct device_ops *ops, struct device *device, uint32_t card,
                      uint32_t half, const struct half *h, const struct header_entry *entries) {
    const uint64_t at = half * (uint64_t)HALF_BYTES;
    const int rc = ops->poke(device, card, at + sizeof *h, entries, h->n * sizeof *entries);
    return rc ? rc : ops->poke(device, card, at, h, sizeof *h);
}

int header_write(const struct device_ops *ops, struct device *device, uint32_t card,
                 const struct file_identity *file, const struct header_entry *entries, size_t n) {
    struct half have, h = half_for(file);
    uint32_t number;
    if (n > HEADER_ENTRIES_MAX)
        return -E2BIG;
    struct header_entry *said = malloc(HEADER_ENTRIES_MAX * sizeof *said);
    struct header_entry *sorted = malloc((n + 1) * sizeof *sorted);
    int rc = said && sorted ? read_latest(ops, device, card, &have, said, &number) : -ENOMEM;
    if (rc == 0) {
        memcpy(sorted, entries, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_key);
        h.n = n;
        h.entries_digest = device_digest(sorted, n * sizeof *sorted);
        h.sequence = number < HALVES ? have.sequence + 1 : 1;
        h.digest = digest_of(&h);
        if (number == HALVES || have.entries_digest != h.entries_digest || !same_file(&have, &h))
            rc = write_half(ops, device, card, number == 0 ? 1 : 0, &h, sorted);
    }
    free(said);
    free(sorted);
    return rc;
}

bool header_find(const struct header_entry *entries, size_t n, uint64_t key, uint64_t *digest) {
    const struct header_entry as = {.key = key};
    const struct header_entry *found = bsearch(&as, entries, n, sizeof *entries, by_key);
    if (found)
        *digest = found->digest;
    return found != NULL;
}

bool header_says(const struct header_entry *entries, size_t n, bool sorted, uint64_t key,
                 uint64_t *digest) {
    if (sorted)
        return header_find(entries, n, key, digest);
    for (size_t i = 0; i < n; i++)
        if (entries[i].key == key) {
            *digest = entries[i].digest;
            return true;
        }
    return false;
}
