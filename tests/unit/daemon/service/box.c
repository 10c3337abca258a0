/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/box.h"

#include "octarc/error.h"
#include "tests/check.h"

#define TIB (UINT64_C(1) << 40)

/* What a service before left is in use, and yet the cards may have it: else each start after the
 * first one would have smaller cards. */
static void weights_in_memory_count_to_the_shares_of_the_cards(void) {
    struct config config;
    struct topology topology;
    struct err err;
    config_default(&config);
    config.cards = 4;
    CHECK_EQ(box_read(&config, 0, &topology, &err), 0);
    const uint64_t before = topology.cards[3].memory_bytes;
    CHECK(before < TIB); /* a quarter of half of what is free */
    CHECK_EQ(box_read(&config, 800 * TIB, &topology, &err), 0);
    CHECK_EQ(topology.n_cards, 4);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(topology.cards[i].memory_bytes / TIB, 100);
    config.card_memory.n = 1;
    config.card_memory.bytes[0] = 5 << 20;
    CHECK_EQ(box_read(&config, 800 * TIB, &topology, &err), 0);
    CHECK_EQ(topology.cards[2].memory_bytes, 5 << 20);
}

CHECK_MAIN(T(weights_in_memory_count_to_the_shares_of_the_cards))
