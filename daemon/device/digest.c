/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of weights: version 1, docs/numerics.md. */
#include <string.h>

#include "daemon/device/device.h"

#define AT_ONCE 4

/* One step of a multiply that keeps both halves of the product, so no bit of the input is lost. */
static uint64_t fold(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t leaf_begin(uint64_t n, uint64_t leaf) {
    return (leaf + 1) ^ n * UINT64_C(0x9e3779b97f4a7c15);
}

/* n bytes, at most 16. */
static uint64_t leaf_add(uint64_t h, const uint8_t *p, uint64_t n) {
    uint64_t w[2] = {0, 0};
    memcpy(w, p, n);
    return fold(w[0] ^ UINT64_C(0xa0761d6478bd642f) ^ h, w[1] ^ UINT64_C(0xe7037ed1a0b428db)) +
           UINT64_C(0x8ebc6af09c88c6e3);
}

static uint64_t leaf_close(uint64_t h, uint64_t leaf) {
    return fold(h, UINT64_C(0x589965cc75374cc3) ^ leaf);
}

static uint64_t digest_leaf(const uint8_t *p, uint64_t n, uint64_t leaf) {
    uint64_t h = leaf_begin(n, leaf), i = 0;
    for (; n - i >= 16; i += 16)
        h = leaf_add(h, p + i, 16);
    return leaf_close(i < n ? leaf_add(h, p + i, n - i) : h, leaf);
}

/* AT_ONCE whole leaves, side by side: in one leaf each multiplication waits for the one before. */
static uint64_t digest_leaves(const uint8_t *p, uint64_t leaf) {
    uint64_t h[AT_ONCE], sum = 0;
    for (int k = 0; k < AT_ONCE; k++)
        h[k] = leaf_begin(DIGEST_LEAF_BYTES, leaf + (uint64_t)k);
    for (uint64_t i = 0; i < DIGEST_LEAF_BYTES; i += 16)
        for (int k = 0; k < AT_ONCE; k++)
            h[k] = leaf_add(h[k], p + (uint64_t)k * DIGEST_LEAF_BYTES + i, 16);
    for (int k = 0; k < AT_ONCE; k++)
        sum += leaf_close(h[k], leaf + (uint64_t)k);
    return sum;
}

/* Leaves of 4096 bytes, each seeded with its number; the leaves' digests are summed up, so a card
 * may make them in any order. */
uint64_t device_digest_part(const void *bytes, uint64_t n, uint64_t leaf) {
    const uint8_t *p = bytes;
    uint64_t sum = 0, at = 0;
    for (; n - at >= AT_ONCE * DIGEST_LEAF_BYTES;
         at += AT_ONCE * DIGEST_LEAF_BYTES, leaf += AT_ONCE)
        sum += digest_leaves(p + at, leaf);
    for (; at < n; at += DIGEST_LEAF_BYTES, leaf++)
        sum += digest_leaf(p + at, n - at < DIGEST_LEAF_BYTES ? n - at : DIGEST_LEAF_BYTES, leaf);
    return sum;
}

uint64_t device_digest_close(uint64_t sum, uint64_t n) {
    return fold(sum ^ n, UINT64_C(0x1d8e4e27c47d124f));
}

uint64_t device_digest(const void *bytes, uint64_t n) {
    return device_digest_close(device_digest_part(bytes, n, 0), n);
}
