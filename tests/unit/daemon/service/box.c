/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/box.h"

#include <errno.h>

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

/* What a backend found, and what of it is asked for. */
static void cards_that_were_found_are_a_box(void) {
    struct config config;
    struct topology t;
    struct err err;
    struct device_found found = {.n_cards = 2};
    config_default(&config);
    found.cards[0].memory_bytes = found.cards[1].memory_bytes = 16 << 20;
    snprintf(found.cards[1].slot, sizeof found.cards[1].slot, "0000:04:00.0");
    found.cards[1].bytes_per_s = 456000000000;
    found.cards[1].int8_ops_per_s = 197000000000000;
    found.direct[1][0] = true; /* card 1 reads of card 0 */
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    CHECK_EQ(t.n_cards, 2);
    CHECK_EQ(t.cards[0].memory_bytes, 15 << 20);
    CHECK(!strcmp(t.cards[1].slot, "0000:04:00.0"));
    CHECK_EQ(t.links[0][1].mode, LINK_DIRECT);
    CHECK_EQ(t.links[1][0].mode, LINK_STAGED);
    CHECK_EQ(t.cards[0].bytes_per_s, 0);
    CHECK_EQ(t.cards[1].bytes_per_s, 456000000000);
    CHECK_EQ(t.cards[1].f16_flops_per_s, 98500000000000);
    CHECK_EQ(t.links[0][1].bytes_per_s, 0); /* until it is measured */
    config.cards_given = true;
    config.cards = 1;
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    CHECK_EQ(t.n_cards, 1);
    config.cards = 3;
    CHECK_EQ(box_found(&config, &found, &t, &err), -ERANGE);
    CHECK(strstr(err.text, "cards = 3, but this machine has 2"));
    config.cards_given = false;
    config.card_memory.n = 1;
    config.card_memory.bytes[0] = 16 << 20;
    CHECK_EQ(box_found(&config, &found, &t, &err), -ERANGE);
    CHECK(strstr(err.text, "card 0 16 MiB; 15 of it"));
    config.card_memory.bytes[0] = 4 << 20;
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    CHECK_EQ(t.cards[1].memory_bytes, 4 << 20);
    CHECK(t.host.spill_bytes > 0);
    config.host_spill = 0;
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    CHECK_EQ(t.host.spill_bytes, 0);
    config.host_spill = 7 << 20;
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    CHECK_EQ(t.host.spill_bytes, 7 << 20);
}

static void one_that_cannot_be_used_has_its_place_and_no_links(void) {
    struct device_found found = {.n_cards = 2};
    static struct topology t;
    struct config config;
    struct err err;
    config_default(&config);
    for (uint32_t i = 0; i < 2; i++)
        snprintf(found.cards[i].slot, sizeof found.cards[i].slot, "0000:0%u:00.0", 3 + i);
    found.cards[1].memory_bytes = 16 << 20;
    snprintf(found.cards[0].why, DEVICE_REFUSED_WHY, "it is lost");
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    CHECK_EQ(t.n_cards, 2);
    CHECK(strstr(t.links[0][1].reason, "could not be used") && t.links[0][1].mode == LINK_STAGED);
    config.card_memory.n = 1; /* more than nobody knows of */
    config.card_memory.bytes[0] = 4 << 20;
    CHECK_EQ(box_found(&config, &found, &t, &err), 0);
    config.cards_given = true;
    config.cards = 1;
    CHECK_EQ(box_found(&config, &found, &t, &err), -ERANGE);
    CHECK(strstr(err.text, "cards = 1, but the card at 0000:03:00.0 cannot be used: it is lost"));
}

static bool is_uuid;

static const char *id_of(const struct device_found *found, uint32_t card) {
    static struct topology t;
    struct config config;
    struct err err;
    config_default(&config);
    CHECK_EQ(box_found(&config, found, &t, &err), 0);
    is_uuid = t.cards[card].uuid;
    return t.cards[card].id;
}

static void a_card_is_known_by_its_serial_else_by_its_drivers_id(void) {
    struct device_found found = {.n_cards = 3};
    for (uint32_t i = 0; i < 3; i++) {
        found.cards[i].memory_bytes = 16 << 20;
        snprintf(found.cards[i].id, sizeof found.cards[i].id, "8680a0e20000000%u", i);
    }
    CHECK(!strcmp(id_of(&found, 1), "8680a0e200000001") && is_uuid);
    snprintf(found.cards[1].serial, sizeof found.cards[1].serial, "a1-b2-c3-d4-e5-f6-07-18");
    CHECK(!strcmp(id_of(&found, 1), "a1-b2-c3-d4-e5-f6-07-18") && !is_uuid);
    CHECK(!strcmp(id_of(&found, 2), "8680a0e200000002"));
}

/* Else the history of one would be the other's. */
static void what_two_cards_have_tells_neither(void) {
    struct device_found found = {.n_cards = 3};
    for (uint32_t i = 0; i < 3; i++) {
        found.cards[i].memory_bytes = 16 << 20;
        snprintf(found.cards[i].id, sizeof found.cards[i].id, "%s", i ? "AB" : "00000000");
        snprintf(found.cards[i].serial, sizeof found.cards[i].serial, "%s",
                 i == 2 ? "01-02" : "00-00");
    }
    CHECK(!strcmp(id_of(&found, 0), "")); /* by its slot, then */
    snprintf(found.cards[1].id, sizeof found.cards[1].id, "ab");
    CHECK(!strcmp(id_of(&found, 1), ""));
    CHECK(!strcmp(id_of(&found, 2), "01-02"));
}

CHECK_MAIN(T(a_card_is_known_by_its_serial_else_by_its_drivers_id),
           T(what_two_cards_have_tells_neither),
           T(weights_in_memory_count_to_the_shares_of_the_cards),
           T(cards_that_were_found_are_a_box),
           T(one_that_cannot_be_used_has_its_place_and_no_links))
