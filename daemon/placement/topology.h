/* SPDX-License-Identifier: Apache-2.0 */
/* topology.h - the box: its cards, what they hang from, and the peer link of every ordered pair.
 *
 * A plain value.  It comes from a description file (topology_read.c) that stands in for hardware,
 * or is the plain box of cards that are simulated in host memory.  What a file leaves out of a peer
 * link is derived from where the two cards are: on one board, under one switch, in one NUMA node,
 * or further apart; the bandwidth is that of the slowest part of the way.  A rate is that of the
 * wire, and so an upper bound, until a file states what was measured.
 *
 * Numbers of 0 are unknown.  Rates are per second, latencies nanoseconds, sizes bytes.
 * Threads: no shared state. */
#ifndef OCTARC_PLACEMENT_TOPOLOGY_H
#define OCTARC_PLACEMENT_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "octarc/model.h"

#define TOPOLOGY_BYTES_MAX    65536 /* of a description file */
#define TOPOLOGY_SWITCHES_MAX 8
#define TOPOLOGY_KINDS_MAX    8
#define TOPOLOGY_NUMA_MAX     16
#define TOPOLOGY_NAME_MAX     64
#define TOPOLOGY_REASON_MAX   128
#define TOPOLOGY_TEXT_MAX     512 /* of the description */
#define TOPOLOGY_ORIGIN_MAX   256
#define NO_SWITCH             UINT32_MAX

struct err;

struct pcie {
    uint32_t generation, lanes; /* 0: unknown */
};

struct topology_card {
    char name[TOPOLOGY_NAME_MAX];
    char slot[16]; /* PCI address, "0000:03:00.0"; empty: unknown */
    char id[64];   /* UUID or serial; empty: unknown */
    bool uuid;     /* it is what a driver made up for the card */
    uint64_t memory_bytes;
    uint64_t bytes_per_s;     /* that it reads of its own memory */
    uint64_t int8_ops_per_s;  /* multiplications and additions of bytes */
    uint64_t f16_flops_per_s; /* the same of half floats; left out of a file: half of int8's */
    struct pcie pcie;         /* of the card: its own link, and not the one inside its board */
    uint32_t numa;
    char
        board[TOPOLOGY_NAME_MAX]; /* cards with the same text are on one; empty: alone on its own */
    uint32_t in_switch;           /* index of switches; NO_SWITCH: at a root port */
};

struct topology_switch {
    char name[TOPOLOGY_NAME_MAX];
    uint32_t numa;
    struct pcie pcie; /* upstream */
    bool peer_access; /* may cards below reach each other without the host (ACS) */
};

/* How far from a card peer access reaches. */
enum topology_level { LEVEL_NONE, LEVEL_BOARD, LEVEL_SWITCH, LEVEL_NUMA, LEVEL_ALL };

struct topology_host {
    uint64_t memory_bytes;
    uint64_t bytes_per_s;
    uint64_t evacuation_bytes; /* what a card holds must fit here; left out: half of the memory */
    uint64_t numa_bytes_per_s; /* between two NUMA nodes */
    uint64_t spill_bytes;      /* that weights of the cards' plans may take of its memory */
    enum topology_level peer_access;
};

enum link_mode { LINK_STAGED, LINK_DIRECT }; /* staged: through host memory */

struct peer_link {
    enum link_mode mode;
    uint64_t bytes_per_s;
    uint64_t latency_ns;
    bool stated;          /* in the file, one by one; else derived */
    bool judged;          /* staged for what was found of it, whatever its driver says */
    uint64_t measured_ms; /* when it was, since 1970; 0: it was not */
    char reason[TOPOLOGY_REASON_MAX];
};

struct topology {
    char origin[TOPOLOGY_ORIGIN_MAX]; /* the file; empty: the plain box */
    char description[TOPOLOGY_TEXT_MAX];
    struct topology_host host;
    uint32_t n_switches;
    struct topology_switch switches[TOPOLOGY_SWITCHES_MAX];
    uint32_t n_cards;
    struct topology_card cards[CARDS_MAX];
    struct peer_link links[CARDS_MAX][CARDS_MAX]; /* [from][to]; the diagonal is unused */
};

/* Cards that one host simulates: each pair is direct, for their memory is the host's.  The host's
 * bandwidth may be 0. */
void topology_plain(struct topology *topology, uint32_t n_cards, const uint64_t *memory_bytes,
                    uint64_t host_bytes_per_s);

/* Read a description.  The text is written to and not needed afterwards; `origin` names it in
 * messages.  On failure *topology is untouched: -EINVAL (err names file, place and what is allowed
 * there), -E2BIG (a limit, which err names), -ENOMEM. */
int topology_read(struct topology *topology, char *text, size_t n, const char *origin,
                  struct err *err);

/* Inside placement: fill all links from what is known of the cards. */
void topology_derive(struct topology *topology);
/* The same of one link, in a mode that is not chosen but given. */
void topology_derive_link(struct topology *topology, uint32_t from, uint32_t to,
                          enum link_mode mode, const char *reason);

/* From host memory to a card; 0: unknown. */
uint64_t topology_fetch_rate(const struct topology *topology, uint32_t card);

/* Bytes per second of the wire in one direction, after its line coding; 0: unknown. */
uint64_t pcie_bytes_per_s(struct pcie pcie);

const char *link_mode_name(enum link_mode mode);

#endif
