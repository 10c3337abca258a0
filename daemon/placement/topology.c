/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/topology.h"

#include <stdio.h>
#include <string.h>

/* What a copy between two cards takes however short it is.  8 to 10 us were reported for a pair of
 * Arc Pro B70 (octarc-topology(5)); the steps between the levels are assumed. */
static const uint64_t latency_of[] = {
    [LEVEL_BOARD] = 8000, [LEVEL_SWITCH] = 8000, [LEVEL_NUMA] = 10000, [LEVEL_ALL] = 12000};

const char *link_mode_name(enum link_mode mode) {
    return mode == LINK_DIRECT ? "direct" : "staged";
}

uint64_t pcie_bytes_per_s(struct pcie pcie) {
    /* 8b/10b twice, 128b/130b three times, 242 of 256 bytes of a flit. */
    static const uint64_t lane[] = {0,          250000000,  500000000, 984615385,
                                    1969230769, 3938461538, 7562500000};
    return pcie.generation < sizeof lane / sizeof *lane ? lane[pcie.generation] * pcie.lanes : 0;
}

static enum topology_level level_of(const struct topology_card *a, const struct topology_card *b) {
    if (a->board[0] && !strcmp(a->board, b->board))
        return LEVEL_BOARD;
    if (a->in_switch != NO_SWITCH && a->in_switch == b->in_switch)
        return LEVEL_SWITCH;
    return a->numa == b->numa ? LEVEL_NUMA : LEVEL_ALL;
}

/* The rate of two parts of a way together.  One that is unknown, 0, makes the whole unknown. */
static uint64_t slower(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* From a card to the host's memory, or back. */
static uint64_t way_up(const struct topology *t, const struct topology_card *card) {
    const uint64_t own = pcie_bytes_per_s(card->pcie);
    return card->in_switch == NO_SWITCH
               ? own
               : slower(own, pcie_bytes_per_s(t->switches[card->in_switch].pcie));
}

uint64_t topology_fetch_rate(const struct topology *t, uint32_t card) {
    const uint64_t way = way_up(t, &t->cards[card]), host = t->host.bytes_per_s;
    return host ? slower(way, host) : way;
}

static uint64_t between_nodes(const struct topology *t, enum topology_level level) {
    return level == LEVEL_ALL && t->host.numa_bytes_per_s ? t->host.numa_bytes_per_s : UINT64_MAX;
}

static uint64_t direct_rate(const struct topology *t, const struct topology_card *a,
                            const struct topology_card *b, enum topology_level level) {
    if (level == LEVEL_BOARD || level == LEVEL_SWITCH)
        return slower(pcie_bytes_per_s(a->pcie), pcie_bytes_per_s(b->pcie));
    return slower(slower(way_up(t, a), way_up(t, b)), between_nodes(t, level));
}

/* A piece goes to the host and then from it; the memory there is written and read. */
static uint64_t staged_rate(const struct topology *t, const struct topology_card *a,
                            const struct topology_card *b, enum topology_level level) {
    const double up = (double)way_up(t, a);
    const double down = (double)slower(way_up(t, b), between_nodes(t, level));
    if (up <= 0 || down <= 0)
        return 0;
    const uint64_t rate = (uint64_t)(up * down / (up + down)), most = t->host.bytes_per_s / 2;
    return most && most < rate ? most : rate;
}

void topology_derive_link(struct topology *t, uint32_t from, uint32_t to, enum link_mode mode,
                          const char *reason) {
    const struct topology_card *a = &t->cards[from], *b = &t->cards[to];
    struct peer_link *link = &t->links[from][to];
    const enum topology_level level = level_of(a, b);
    *link = (struct peer_link){.mode = mode};
    if (mode == LINK_DIRECT) {
        link->bytes_per_s = direct_rate(t, a, b, level);
        link->latency_ns = latency_of[level];
    } else {
        link->bytes_per_s = staged_rate(t, a, b, level);
        link->latency_ns = 2 * latency_of[level == LEVEL_ALL ? LEVEL_ALL : LEVEL_NUMA];
    }
    snprintf(link->reason, sizeof link->reason, "%s", reason);
}

/* NULL: direct; else why not, in words. */
static const char *refusal(const struct topology *t, const struct topology_card *a,
                           const struct topology_card *b) {
    static const char *const beyond[] = {
        [LEVEL_NONE] = "through host memory: the box gives no peer access",
        [LEVEL_BOARD] = "through host memory: peer access ends at the board",
        [LEVEL_SWITCH] = "through host memory: peer access ends at the switch",
        [LEVEL_NUMA] = "through host memory: peer access ends at the NUMA node",
    };
    if (level_of(a, b) > t->host.peer_access)
        return beyond[t->host.peer_access];
    if (a->in_switch != NO_SWITCH && a->in_switch == b->in_switch &&
        !t->switches[a->in_switch].peer_access)
        return "through host memory: the switch refuses peer access";
    return NULL;
}

void topology_derive(struct topology *t) {
    static const char *const near[] = {[LEVEL_BOARD] = "same board",
                                       [LEVEL_SWITCH] = "same switch",
                                       [LEVEL_NUMA] = "same NUMA node",
                                       [LEVEL_ALL] = "across NUMA nodes"};
    for (uint32_t from = 0; from < t->n_cards; from++)
        for (uint32_t to = 0; to < t->n_cards; to++) {
            if (from == to)
                continue;
            const struct topology_card *a = &t->cards[from], *b = &t->cards[to];
            const char *why = refusal(t, a, b);
            if (why)
                topology_derive_link(t, from, to, LINK_STAGED, why);
            else
                topology_derive_link(t, from, to, LINK_DIRECT, near[level_of(a, b)]);
        }
}

void topology_plain(struct topology *t, uint32_t n_cards, const uint64_t *memory_bytes,
                    uint64_t host_bytes_per_s) {
    *t = (struct topology){.n_cards = n_cards,
                           .host = {.bytes_per_s = host_bytes_per_s, .peer_access = LEVEL_ALL}};
    for (uint32_t i = 0; i < n_cards; i++) {
        t->cards[i].memory_bytes = memory_bytes[i];
        t->cards[i].in_switch = NO_SWITCH;
        snprintf(t->cards[i].name, sizeof t->cards[i].name, "simulated card");
        for (uint32_t to = 0; to < n_cards; to++)
            if (to != i) {
                struct peer_link *link = &t->links[i][to];
                *link = (struct peer_link){.mode = LINK_DIRECT, .bytes_per_s = host_bytes_per_s};
                snprintf(link->reason, sizeof link->reason,
                         "simulated cards share the host's memory");
            }
    }
}
