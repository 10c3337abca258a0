/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/topology.h"

#include <errno.h>

#include "octarc/error.h"
#include "tests/check.h"

static struct topology box;
static struct err err;

static int read_text(const char *text) {
    char copy[8192];
    CHECK(strlen(text) < sizeof copy);
    strcpy(copy, text);
    return topology_read(&box, copy, strlen(copy), "box.json", &err);
}

static const char *folder(void) {
    return "daemon/placement/topology";
}

static void read_shipped(const char *name) {
    static char text[TOPOLOGY_BYTES_MAX];
    char path[256];
    snprintf(path, sizeof path, "%s/%s.json", folder(), name);
    FILE *f = fopen(path, "re");
    CHECK(f);
    const size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    if (topology_read(&box, text, n, path, &err) < 0) {
        printf("# %s\n", err.text);
        CHECK(false);
    }
}

/* --- what is derived --- */

/* Eight lanes of PCIe 5, by hand: 8 x 32e9 x 128 / 130 / 8. */
#define WIRE_8 UINT64_C(31507692304)

static void the_wires_rate_is_its_generation_times_its_lanes(void) {
    CHECK_EQ(pcie_bytes_per_s((struct pcie){1, 1}), 250000000);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){2, 4}), 2000000000);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){3, 16}) / 1000000, 15753);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){4, 16}) / 1000000, 31507);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){5, 8}), WIRE_8);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){6, 16}), 121000000000);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){0, 16}), 0);
    CHECK_EQ(pcie_bytes_per_s((struct pcie){7, 16}), 0);
}

static void a_board_is_nearer_than_a_switch_and_that_than_a_node(void) {
    CHECK_EQ(
        read_text("{\"host\": {\"peer_access\": \"all\", \"numa_gb_s\": 2},"
                  "\"switches\": [{\"name\": \"s\", \"pcie_generation\": 3, \"pcie_lanes\": 4},"
                  "{\"name\": \"far\", \"numa\": 1, \"pcie_generation\": 5, \"pcie_lanes\": 16}],"
                  "\"kinds\": [{\"kind\": \"k\", \"memory_mib\": 1024, \"pcie_generation\": 5,"
                  "\"pcie_lanes\": 8}],"
                  "\"cards\": [{\"kind\": \"k\", \"switch\": \"s\", \"board\": \"b\"},"
                  "{\"kind\": \"k\", \"switch\": \"s\", \"board\": \"b\"},"
                  "{\"kind\": \"k\", \"switch\": \"s\", \"pcie_lanes\": 4},"
                  "{\"kind\": \"k\"}, {\"kind\": \"k\", \"switch\": \"far\"}]}"),
        0);
    const struct peer_link *l = box.links[0];
    CHECK(!strcmp(l[1].reason, "same board") && l[1].bytes_per_s == WIRE_8);
    CHECK(!strcmp(l[2].reason, "same switch") && l[2].bytes_per_s == WIRE_8 / 2);
    /* Out of the switch by its four lanes of PCIe 3. */
    CHECK(!strcmp(l[3].reason, "same NUMA node"));
    CHECK_EQ(l[3].bytes_per_s, pcie_bytes_per_s((struct pcie){3, 4}));
    CHECK(!strcmp(l[4].reason, "across NUMA nodes") && l[4].bytes_per_s == 2000000000);
    for (int i = 1; i < 5; i++) {
        CHECK_EQ(l[i].mode, LINK_DIRECT);
        CHECK(i == 1 || l[i].latency_ns >= l[i - 1].latency_ns);
        CHECK_EQ(box.links[i][0].bytes_per_s, l[i].bytes_per_s);
        CHECK(!l[i].stated);
    }
}

static const char two_cards[] = "{\"host\": {\"peer_access\": \"%s\"}, \"switches\": [{\"name\":"
                                "\"s\", \"pcie_generation\": 4, \"pcie_lanes\": 8, \"peer_access\":"
                                "%s}], \"cards\": [{\"memory_mib\": 9, \"switch\": \"s\","
                                "\"pcie_generation\": 5, \"pcie_lanes\": 8}, {\"memory_mib\": 9,"
                                "\"pcie_generation\": 4, \"pcie_lanes\": 8%s}]}";

static const struct peer_link *link_of(const char *reach, const char *allowed, const char *rest) {
    char text[1024];
    snprintf(text, sizeof text, two_cards, reach, allowed, rest);
    if (read_text(text) < 0) {
        printf("# %s\n", err.text);
        CHECK(false);
    }
    return &box.links[0][1];
}

static void what_peer_access_does_not_reach_goes_through_host_memory(void) {
    const struct peer_link *l = link_of("switch", "true", ", \"switch\": \"s\"");
    CHECK_EQ(l->mode, LINK_DIRECT);
    l = link_of("switch", "false", ", \"switch\": \"s\"");
    CHECK_EQ(l->mode, LINK_STAGED);
    CHECK(strstr(l->reason, "through host memory") && strstr(l->reason, "switch refuses"));
    l = link_of("switch", "true", "");
    CHECK_EQ(l->mode, LINK_STAGED);
    CHECK(strstr(l->reason, "ends at the switch"));
    l = link_of("none", "true", ", \"switch\": \"s\"");
    CHECK(l->mode == LINK_STAGED && strstr(l->reason, "no peer access"));
    l = link_of("numa", "true", ", \"numa\": 1");
    CHECK(l->mode == LINK_STAGED && strstr(l->reason, "ends at the NUMA node"));
    l = link_of("board", "true", ", \"switch\": \"s\"");
    CHECK(l->mode == LINK_STAGED && strstr(l->reason, "ends at the board"));
    /* Up and down one after the other, each by four times two lanes' worth of PCIe 4. */
    CHECK_EQ(l->bytes_per_s, pcie_bytes_per_s((struct pcie){4, 8}) / 2);
    const uint64_t staged_ns = l->latency_ns;
    CHECK(staged_ns > link_of("all", "true", "")->latency_ns);
}

static void a_way_with_an_unknown_part_is_unknown(void) {
    CHECK_EQ(read_text("{\"host\": {\"peer_access\": \"all\"}, \"cards\": [{\"memory_mib\": 9,"
                       "\"pcie_generation\": 5, \"pcie_lanes\": 8}, {\"memory_mib\": 9},"
                       "{\"memory_mib\": 9, \"pcie_generation\": 5}]}"),
             0);
    CHECK_EQ(box.links[0][1].bytes_per_s, 0);
    CHECK_EQ(box.links[1][0].bytes_per_s, 0);
    CHECK_EQ(box.links[0][2].bytes_per_s, 0);
    CHECK_EQ(read_text("{\"host\": {\"peer_access\": \"none\"}, \"cards\": [{\"memory_mib\": 9,"
                       "\"pcie_generation\": 5, \"pcie_lanes\": 8}, {\"memory_mib\": 9}]}"),
             0);
    CHECK_EQ(box.links[0][1].bytes_per_s, 0);
}

static void a_card_says_more_than_its_kind(void) {
    CHECK_EQ(read_text("{\"kinds\": [{\"kind\": \"k\", \"name\": \"K\", \"memory_mib\": 8,"
                       "\"int8_tops\": 100, \"bandwidth_gb_s\": 0.5}],"
                       "\"cards\": [{\"memory_mib\": 16, \"id\": \"one\", \"kind\": \"k\","
                       "\"slot\": \"0000:0a:00.1\"},"
                       "{\"kind\": \"k\", \"f16_tflops\": 7, \"name\": \"other\"}]}"),
             0);
    CHECK(!strcmp(box.cards[0].name, "K") && !strcmp(box.cards[1].name, "other"));
    CHECK(!strcmp(box.cards[0].id, "one") && !strcmp(box.cards[0].slot, "0000:0a:00.1"));
    CHECK_EQ(box.cards[0].memory_bytes, 16 << 20);
    CHECK_EQ(box.cards[1].memory_bytes, 8 << 20);
    CHECK_EQ(box.cards[1].bytes_per_s, 500000000);
    CHECK_EQ(box.cards[0].f16_flops_per_s, 50000000000000);
    CHECK_EQ(box.cards[1].f16_flops_per_s, 7000000000000);
    CHECK_EQ(box.cards[0].in_switch, NO_SWITCH);
}

static void one_link_is_stated_and_its_way_back_is_not(void) {
    CHECK_EQ(
        read_text("{\"host\": {\"peer_access\": \"all\"}, \"kinds\": [{\"kind\": \"k\","
                  "\"memory_mib\": 9, \"pcie_generation\": 5, \"pcie_lanes\": 8}], \"cards\":"
                  "[{\"kind\": \"k\"}, {\"kind\": \"k\"}, {\"kind\": \"k\"}], \"links\": ["
                  "{\"from\": 0, \"to\": 2, \"mode\": \"staged\", \"reason\": \"burnt\"},"
                  "{\"from\": 1, \"to\": 0, \"bandwidth_gb_s\": 10.89, \"latency_us\": 1.5}]}"),
        0);
    CHECK(box.links[0][2].mode == LINK_STAGED && !strcmp(box.links[0][2].reason, "burnt"));
    CHECK_EQ(box.links[0][2].bytes_per_s, WIRE_8 / 2); /* for the mode that was given */
    CHECK(box.links[0][2].stated && !box.links[2][0].stated);
    CHECK_EQ(box.links[2][0].mode, LINK_DIRECT);
    CHECK_EQ(box.links[1][0].mode, LINK_DIRECT);
    CHECK_EQ(box.links[1][0].bytes_per_s, 10890000000);
    CHECK_EQ(box.links[1][0].latency_ns, 1500);
    CHECK_EQ(box.links[0][1].bytes_per_s, WIRE_8);
}

/* --- what is refused --- */

static void refused(const char *text, const char *const *words) {
    struct topology before;
    CHECK_EQ(read_text("{\"cards\": [{\"memory_mib\": 3}]}"), 0);
    memcpy(&before, &box, sizeof before);
    CHECK_EQ(read_text(text), -EINVAL);
    CHECK(!memcmp(&before, &box, sizeof before));
    CHECK(!strncmp(err.text, "box.json: ", 10));
    for (; *words; words++)
        if (!strstr(err.text, *words)) {
            printf("# '%s' lacks '%s'\n", err.text, *words);
            CHECK(false);
        }
}
#define REFUSED(text, ...) refused(text, (const char *const[]){__VA_ARGS__, NULL})
#define CARD               "\"cards\": [{\"memory_mib\": 1}, {\"memory_mib\": 1}]"

static void an_error_names_the_place_and_what_is_allowed(void) {
    REFUSED("{", "byte 1");
    REFUSED("[]", "an object is needed");
    REFUSED("{}", "cards: this key is needed");
    REFUSED("{\"cards\": []}", "cards: the list is empty");
    REFUSED("{\"cards\": {}}", "cards: a list of objects");
    REFUSED("{\"cards\": [3]}", "cards: a list of objects");
    REFUSED("{\"cards\": [{}]}", "cards[0].memory_mib", "needed");
    REFUSED("{\"cards\": [{\"memory_mib\": 1}, {\"memory_mib\": 0}]}", "cards[1].memory_mib",
            "from 1 to 67108864");
    REFUSED("{\"cards\": [{\"memory_mib\": \"1G\"}]}", "cards[0].memory_mib", "number");
    REFUSED("{\"cards\": [{\"memory_mib\": 1e300}]}", "cards[0].memory_mib");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"colour\": 1}]}", "cards[0].colour", "no such key",
            "memory_mib");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"pcie_lanes\": 1.5}]}", "cards[0].pcie_lanes",
            "whole number from 1 to 16");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"kind\": \"k\"}]}", "cards[0].kind", "'k'");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"switch\": \"k\"}]}", "cards[0].switch", "'k'");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"slot\": \"3:00.0\"}]}", "cards[0].slot");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"slot\": \"0000:03:00.0\"},"
            "{\"memory_mib\": 1, \"slot\": \"0000:03:00.0\"}]}",
            "cards[1].slot", "cards[0]");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"id\": \"x\"}, {\"memory_mib\": 1, \"id\": \"x\"}]}",
            "cards[1].id", "cards[0]");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"name\": \"a\\nb\"}]}", "cards[0].name", "control");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"name\": \"\\u009B\"}]}", "control");
    REFUSED("{\"cards\": [{\"memory_mib\": 1, \"name\": \"\"}]}", "cards[0].name", "empty");
    REFUSED("{\"switches\": [{\"name\": \"s\", \"numa\": 1}], \"cards\": [{\"memory_mib\": 1,"
            "\"switch\": \"s\", \"numa\": 0}]}",
            "cards[0].numa", "node 1");
    REFUSED("{\"switches\": [{\"name\": \"s\"}, {\"name\": \"s\"}], " CARD "}", "switches[1].name");
    REFUSED("{\"switches\": [{}], " CARD "}", "switches[0].name");
    REFUSED("{\"kinds\": [{\"kind\": \"a\"}, {\"kind\": \"a\"}], " CARD "}", "kinds[1].kind");
    REFUSED("{\"host\": {\"peer_access\": \"yes\"}, " CARD "}", "host.peer_access",
            "none, board, switch, numa, all");
    REFUSED("{\"host\": {\"memory_mib\": 1, \"evacuation_mib\": 2}, " CARD "}",
            "host.evacuation_mib");
    REFUSED("{\"host\": 1, " CARD "}", "host: an object");
    REFUSED("{" CARD ", \"links\": [{\"from\": 0}]}", "links[0].to", "needed");
    REFUSED("{" CARD ", \"links\": [{\"from\": 0, \"to\": 2}]}", "links[0].to", "no card 2");
    REFUSED("{" CARD ", \"links\": [{\"from\": 8, \"to\": 0}]}", "links[0].from", "0 to 7");
    REFUSED("{" CARD ", \"links\": [{\"from\": 1, \"to\": 1}]}", "links[0]", "same card");
    REFUSED("{" CARD ", \"links\": [{\"from\": 0, \"to\": 1}, {\"from\": 0, \"to\": 1}]}",
            "links[1]", "twice");
    REFUSED("{" CARD ", \"links\": [{\"from\": 0, \"to\": 1, \"bandwidth_gb_s\": 0}]}",
            "links[0].bandwidth_gb_s");
    REFUSED("{" CARD ", \"links\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]}",
            "links: a list of objects");
    REFUSED("{" CARD ", \"description\": 3}", "description: a text");
}

static void limits_have_numbers(void) {
    char text[1024] = "{\"cards\": [";
    for (int i = 0; i < 9; i++)
        strcat(text, i ? ", {\"memory_mib\": 1}" : "{\"memory_mib\": 1}");
    strcat(text, "]}");
    REFUSED(text, "cards: 9 are in the list, at most 8");
    static char huge[TOPOLOGY_BYTES_MAX + 1];
    memset(huge, ' ', sizeof huge);
    CHECK_EQ(topology_read(&box, huge, sizeof huge, "box.json", &err), -E2BIG);
    CHECK(strstr(err.text, "65536"));
}

/* --- boxes --- */

static uint32_t count(enum link_mode mode) {
    uint32_t n = 0;
    for (uint32_t a = 0; a < box.n_cards; a++)
        for (uint32_t b = 0; b < box.n_cards; b++)
            n += a != b && box.links[a][b].mode == mode;
    return n;
}

static void the_shipped_boxes_are_what_they_are_called(void) {
    read_shipped("eight-b60-two-switches");
    CHECK_EQ(box.n_cards, 8);
    CHECK_EQ(count(LINK_DIRECT), 24);
    CHECK_EQ(count(LINK_STAGED), 32);
    read_shipped("dual-b60-boards");
    CHECK_EQ(box.n_cards, 8);
    CHECK_EQ(count(LINK_DIRECT), 24);
    CHECK(!strcmp(box.links[6][7].reason, "same board"));
    CHECK(!strcmp(box.links[0][2].reason, "same NUMA node"));
    read_shipped("one-bad-link");
    CHECK_EQ(count(LINK_DIRECT), 55);
    CHECK(box.links[2][5].stated && box.links[2][5].mode == LINK_STAGED);
    read_shipped("mixed-b50-b60-b70");
    CHECK_EQ(box.n_cards, 6);
    CHECK(box.cards[0].memory_bytes < box.cards[2].memory_bytes);
    CHECK(box.cards[2].memory_bytes < box.cards[4].memory_bytes);
    read_shipped("small-host");
    CHECK(box.host.evacuation_bytes > 0 && box.host.evacuation_bytes < box.cards[0].memory_bytes);
    read_shipped("desktop-two-b70");
    CHECK_EQ(count(LINK_STAGED), 2);
    CHECK(box.description[0]);
}

static void in_the_plain_box_each_pair_is_direct(void) {
    const uint64_t bytes[] = {5, 6, 7};
    topology_plain(&box, 3, bytes, 0);
    CHECK_EQ(count(LINK_DIRECT), 6);
    CHECK_EQ(box.cards[1].memory_bytes, 6);
    CHECK(!box.origin[0] && box.links[0][1].bytes_per_s == 0 && box.cards[0].bytes_per_s == 0);
    topology_plain(&box, 3, bytes, 12);
    CHECK_EQ(box.links[2][0].bytes_per_s, 12);
}

CHECK_MAIN(T(the_wires_rate_is_its_generation_times_its_lanes),
           T(a_board_is_nearer_than_a_switch_and_that_than_a_node),
           T(what_peer_access_does_not_reach_goes_through_host_memory),
           T(a_way_with_an_unknown_part_is_unknown), T(a_card_says_more_than_its_kind),
           T(one_link_is_stated_and_its_way_back_is_not),
           T(an_error_names_the_place_and_what_is_allowed), T(limits_have_numbers),
           T(the_shipped_boxes_are_what_they_are_called), T(in_the_plain_box_each_pair_is_direct))
