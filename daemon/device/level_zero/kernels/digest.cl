/* SPDX-License-Identifier: Apache-2.0 */
/* digest.cl - the digest of a stretch of the card's memory, version 1 (docs/numerics.md): one work
 * item a leaf, for within a leaf each product waits for the one before.  What crosses to the host
 * is a sum of each group's leaves. */
#include "daemon/device/level_zero/kernels/numbers.clh"

#define LEAF_BYTES 4096
#define LINE       64 /* bytes that a work item asks for at once */

/* Both halves of the product. */
static inline ulong fold(ulong a, ulong b) {
    return a * b ^ mul_hi(a, b);
}

static inline ulong leaf_add(ulong h, ulong low, ulong high) {
    return fold(low ^ 0xa0761d6478bd642fUL ^ h, high ^ 0xe7037ed1a0b428dbUL) + 0x8ebc6af09c88c6e3UL;
}

/* n bytes, at most 8, wherever they lie; what there is not is zero. */
static inline ulong bytes_at(global const uchar *p, uint n) {
    ulong w = 0;
    ROLLED for (uint i = 0; i < n; i++) w |= (ulong)p[i] << 8 * i;
    return w;
}

static inline ulong line_add(ulong h, ulong8 w) {
    h = leaf_add(h, w.s0, w.s1);
    h = leaf_add(h, w.s2, w.s3);
    h = leaf_add(h, w.s4, w.s5);
    return leaf_add(h, w.s6, w.s7);
}

static inline ulong leaf_digest(global const uchar *p, uint n, ulong leaf) {
    ulong h = (leaf + 1) ^ n * 0x9e3779b97f4a7c15UL;
    uint i = 0;
    if ((ulong)p % 8 == 0)
        ROLLED for (; i + LINE <= n; i += LINE) h =
            line_add(h, vload8(0, (global const ulong *)(p + i)));
    ROLLED for (; i < n; i += 16) {
        const uint left = n - i;
        h = leaf_add(h, bytes_at(p + i, left < 8 ? left : 8),
                     left > 8 ? bytes_at(p + i + 8, left < 16 ? left - 8 : 8) : 0);
    }
    return fold(h, 0x589965cc75374cc3UL ^ leaf);
}

/* What each group finds stands behind the description, with the number of this digest. */
WHOLE_GROUPS kernel void digest(global struct ze_digest *op) {
    if (!op)
        return;
    const ulong i = get_global_id(0), at = i * LEAF_BYTES;
    ulong sum = 0;
    if (at < op->bytes) {
        const ulong left = op->bytes - at;
        sum = leaf_digest((global const uchar *)op->at + at, left < LEAF_BYTES ? left : LEAF_BYTES,
                          op->leaf + i);
    }
    sum = sub_group_reduce_add(sum);
    if (get_sub_group_local_id() == 0) {
        global struct ze_digested *to = (global struct ze_digested *)(op + 1) + get_group_id(0);
        to->sum = sum;
        to->number = op->number;
    }
}
