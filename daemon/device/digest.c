/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of weights: version 1, docs/numerics.md. */
#include <string.h>

#include "daemon/device/device.h"

/* One step of a multiply that keeps both halves of the product, so no bit of the input is lost. */
static uint64_t fold(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t digest_leaf(const uint8_t *p, uint64_t n, uint64_t seed) {
    uint64_t h = seed ^ n * UINT64_C(0x9e3779b97f4a7c15);
    for (uint64_t i = 0; i < n; i += 16) {
        uint64_t w[2] = {0, 0};
        memcpy(w, p + i, n - i < 16 ? n - i : 16);
        h = fold(w[0] ^ UINT64_C(0xa0761d6478bd642f) ^ h, w[1] ^ UINT64_C(0xe7037ed1a0b428db));
        h += UINT64_C(0x8ebc6af09c88c6e3);
    }
    return h;
}

/* Leaves of 4096 bytes, each seeded with its number; the leaves' digests are summed up, so a card
 * may make them in any order. */
uint64_t device_digest_part(const void *bytes, uint64_t n, uint64_t leaf) {
    uint64_t sum = 0;
    for (uint64_t at = 0; at < n; at += DIGEST_LEAF_BYTES, leaf++)
        sum += fold(digest_leaf((const uint8_t *)bytes + at,
                                n - at < DIGEST_LEAF_BYTES ? n - at : DIGEST_LEAF_BYTES, leaf + 1),
                    UINT64_C(0x589965cc75374cc3) ^ leaf);
    return sum;
}

uint64_t device_digest_close(uint64_t sum, uint64_t n) {
    return fold(sum ^ n, UINT64_C(0x1d8e4e27c47d124f));
}

uint64_t device_digest(const void *bytes, uint64_t n) {
    return device_digest_close(device_digest_part(bytes, n, 0), n);
}
