/* SPDX-License-Identifier: Apache-2.0 */
/* A range's digest in pieces: the same, and given up at once when nobody wants it any more. */
#include "daemon/engine/prove.h"

#include <errno.h>

#include "tests/check.h"

#define BYTES (5 * PROVE_PIECE_BYTES + 777)
#define AT    4096u /* in the card's weights */

static uint8_t *weights;
static uint32_t n_parts, cancel_after;
static _Atomic bool cancelled;

static int digest_part(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes,
                       uint64_t first_leaf, uint64_t *sum) {
    (void)device;
    if (card == 3)
        return -ENODEV;
    CHECK(bytes <= PROVE_PIECE_BYTES);
    *sum = device_digest_part(weights + offset, bytes, first_leaf);
    if (++n_parts == cancel_after)
        atomic_store(&cancelled, true);
    return 0;
}

static const struct device_ops ops = {.name = "test", .digest_part = digest_part};

static int digest(uint32_t card, uint64_t bytes, uint64_t *out) {
    const struct runner_options o = {.backend = &ops, .cancelled = &cancelled};
    const struct plan_range range = {.card = card, .offset = AT, .bytes = bytes};
    weights = malloc(AT + bytes);
    for (uint64_t i = 0; i < bytes; i++)
        weights[AT + i] = (uint8_t)(i * 2654435761u >> 13);
    const int rc = prove_digest(&o, NULL, &range, out);
    if (rc == 0)
        CHECK(*out == device_digest(weights + AT, bytes));
    free(weights);
    return rc;
}

static void pieces_make_the_same_digest(void) {
    static const uint64_t sizes[] = {64, 4096, PROVE_PIECE_BYTES, PROVE_PIECE_BYTES + 64, BYTES};
    uint64_t out;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK_EQ(digest(0, sizes[i], &out), 0);
    CHECK_EQ(n_parts, 1 + 1 + 1 + 2 + 6);
}

static void it_is_given_up_within_a_piece(void) {
    uint64_t out = 0;
    cancel_after = 2;
    CHECK_EQ(digest(0, BYTES, &out), -ECANCELED);
    CHECK_EQ(n_parts, 2);
    CHECK_EQ(out, 0);
}

static void a_lost_card_is_told(void) {
    uint64_t out = 0;
    CHECK_EQ(digest(3, BYTES, &out), -ENODEV);
    CHECK_EQ(out, 0);
}

CHECK_MAIN(T(pieces_make_the_same_digest), T(it_is_given_up_within_a_piece), T(a_lost_card_is_told))
