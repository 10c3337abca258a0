/* SPDX-License-Identifier: Apache-2.0 */
/* card_file.h - what is known of cards, as the text of a file.
 *
 * Cards are known by their identity, not by their number: one that is plugged in elsewhere keeps
 * its history, and one that is not there now is remembered.  Threads: no shared state. */
#ifndef OCTARC_SERVICE_CARD_FILE_H
#define OCTARC_SERVICE_CARD_FILE_H

#include <stddef.h>

#include "daemon/service/card.h"
#include "daemon/service/link_file.h"

#define CARDS_KNOWN_MAX                                                                            \
    64 /* that one file holds; those that were not there the longest make room */

struct buffer;

struct cards_known {
    struct card cards[CARDS_KNOWN_MAX]; /* no identity twice */
    uint32_t n;
    struct links_known links; /* between them */
};

/* Put `card` in the place of the one with its identity, at the front; the last one may have to go.
 */
void cards_known_put(struct cards_known *known, const struct card *card);
/* NULL: none has this identity. */
const struct card *cards_known_find(const struct cards_known *known, const char *identity);

/* 0, -ENOMEM. */
int card_file_write(const struct cards_known *known, struct buffer *out);
/* The text is written to.  -EINVAL, -E2BIG: it is not such a file; err names the place; -ENOMEM.
 * *known is untouched then. */
int card_file_read(struct cards_known *known, char *text, size_t n, struct err *err);

#endif
