/* SPDX-License-Identifier: Apache-2.0 */
/* box.h - a box in JSON: the same members wherever cards are told of.  What is unknown is null. */
#ifndef OCTARC_PROTOCOL_BOX_H
#define OCTARC_PROTOCOL_BOX_H

#include "daemon/placement/plan.h"
#include "daemon/placement/topology.h"
#include "daemon/protocol/writer.h"

/* "topology": where the figures come from, the host and the switches. */
void write_box(struct writer *w, const struct topology *topology);
/* "links": every ordered pair, with what it has carried unless that is NULL. */
void write_links(struct writer *w, const struct topology *topology,
                 const struct link_bytes *carried);
/* A card's members but for its number: what it is and where. */
void write_described(struct writer *w, const struct topology_card *card);

/* "key": [begin, end] */
void write_range(struct writer *w, const char *key, uint64_t begin, uint64_t end);
/* Bytes by purpose; all on the card but what is spilled, which is in host memory. */
struct account {
    uint64_t weights, kv, scratch, landing, spilled;
};
static inline struct account account_of(const struct plan_card *c) {
    return (struct account){c->weights_bytes - c->spilled_bytes, c->kv_bytes, c->scratch_bytes,
                            c->landing_bytes, c->spilled_bytes};
}
/* "key": {…} */
void write_account(struct writer *w, const char *key, const struct account *account);

#endif
