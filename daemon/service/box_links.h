/* SPDX-License-Identifier: Apache-2.0 */
/* box_links.h - the links of a box of real cards: what was measured of them, and what is known from
 * before.
 *
 * Plain values.  A link is known by the identities of its two cards, and only in the box that it
 * was found in.  Threads: no shared state. */
#ifndef OCTARC_SERVICE_BOX_LINKS_H
#define OCTARC_SERVICE_BOX_LINKS_H

#include "daemon/engine/selftest.h"
#include "daemon/service/link_file.h"

/* The identities of a box's cards, by number. */
typedef char box_identities[CARDS_MAX][CARD_IDENTITY_MAX];

/* What figures are of: the cards, where they are, what the driver says of their links, the kernel,
 * octarc.  Another text is another box. */
void box_links_key(const struct topology *topology, const struct device_found *found,
                   char key[LINKS_BOX_MAX]);

/* Figures and verdicts that are known become the topology's; true: every pair has figures. */
bool box_links_apply(struct topology *topology, const box_identities identities,
                     const struct links_known *known);

/* So do those that were measured; a link without any is left as it was.  The driver's word does not
 * count where it was tried.  Returns how many have some. */
uint32_t box_links_take(struct topology *topology, const struct selftest_report *report,
                        uint64_t now_ms);

/* What is known now; box and measured_ms of *known are the caller's. */
void box_links_note(const struct topology *topology, const box_identities identities,
                    struct links_known *known);

/* A link turned out to be other than the driver says: it is staged from now on.  Its figures, if
 * they were measured, are assumed to be half as good: what goes through the host goes two ways. */
void box_links_demote(struct peer_link *link, const char *why);

#endif
