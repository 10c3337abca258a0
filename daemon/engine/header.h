/* SPDX-License-Identifier: Apache-2.0 */
/* header.h - what a card's weight memory says of itself: which ranges lie in it, and their digests.
 *
 * The header has two halves that are written in turn, each with a digest of its own: whoever is
 * killed while it writes one leaves the other.  What a header says is a claim: only a range whose
 * bytes have the digest is there (weights.c).  So memory may be written before its header is.
 *
 * Threads: one at a time for each card. */
#ifndef OCTARC_ENGINE_HEADER_H
#define OCTARC_ENGINE_HEADER_H

#include "daemon/placement/plan.h"
#include "daemon/util/identity.h"

struct model_tensor;

struct header_entry {
    uint64_t key; /* header_key() */
    uint64_t digest;
};

/* Ranges that a header has room for. */
#define HEADER_ENTRIES_MAX 2042u

/* What a range is and where it lies, as a number. */
uint64_t header_key(const struct model_tensor *tensor, const struct plan_range *range);

/* What is said to lie in the card's memory of this file: *entries is the caller's to free.  None
 * where no half is whole, or it is of another file, layout or numerics.  -ENODEV, -ENOMEM. */
int header_read(const struct device_ops *ops, struct device *device, uint32_t card,
                const struct file_identity *file, struct header_entry **entries, size_t *n);
/* Say that this lies there, and nothing else.  -E2BIG: more than HEADER_ENTRIES_MAX; -ENODEV,
 * -ENOMEM. */
int header_write(const struct device_ops *ops, struct device *device, uint32_t card,
                 const struct file_identity *file, const struct header_entry *entries, size_t n);

/* The digest that is said of a range; false: nothing is. */
bool header_find(const struct header_entry *entries, size_t n, uint64_t key, uint64_t *digest);
/* The same of entries that need not be sorted. */
bool header_says(const struct header_entry *entries, size_t n, bool sorted, uint64_t key,
                 uint64_t *digest);

#endif
