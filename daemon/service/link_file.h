/* SPDX-License-Identifier: Apache-2.0 */
/* link_file.h - what is known of the peer links of a box, as a member of a file (card_file.h).
 *
 * Of one box only, the last: figures and verdicts are of the cards, the places and the driver that
 * they were found with.  Threads: no shared state. */
#ifndef OCTARC_SERVICE_LINK_FILE_H
#define OCTARC_SERVICE_LINK_FILE_H

#include "daemon/placement/topology.h"
#include "daemon/service/card.h"
#include "daemon/util/json.h"

struct writer;

#define LINKS_KNOWN_MAX (CARDS_MAX * (CARDS_MAX - 1))
#define LINKS_BOX_MAX   24

struct link_known {
    char from[CARD_IDENTITY_MAX], to[CARD_IDENTITY_MAX];
    enum link_mode mode;
    uint64_t bytes_per_s, latency_ns; /* 0: not measured */
    char why[TOPOLOGY_REASON_MAX]; /* it is staged, whatever the driver says; empty: no verdict */
};

struct links_known {
    char box[LINKS_BOX_MAX]; /* links_box(); empty: nothing is known */
    uint64_t measured_ms;    /* since 1970; 0: never */
    uint32_t n;
    struct link_known links[LINKS_KNOWN_MAX];
};

/* NULL: nothing is known of it. */
const struct link_known *links_known_find(const struct links_known *known, const char *from,
                                          const char *to);

/* An object. */
void links_known_write(struct writer *w, const struct links_known *known);
/* -EINVAL; err names the place. */
int links_known_read(struct links_known *known, const struct json *json, const struct cJSON *object,
                     struct err *err);

#endif
