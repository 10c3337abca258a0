/* SPDX-License-Identifier: Apache-2.0 */
/* sequence.h - inside engine: one token timeline and the KV pages it uses. */
#ifndef OCTARC_ENGINE_SEQUENCE_H
#define OCTARC_ENGINE_SEQUENCE_H

#include "daemon/channel/messages.h"
#include "daemon/engine/pages.h"

struct sequence {
    struct msg_admit admit; /* owned arrays; admit.tokens has room for `context` tokens */
    uint32_t n_tokens;      /* known: prompt, replayed, generated */
    uint32_t n_computed;    /* of these, the ones whose K and V are in the pages */
    uint32_t n_cached;      /* prompt tokens found in shared pages */
    uint32_t *pages;        /* [pages of the context] */
    uint32_t n_pages;
    bool started;                   /* pages were looked up, it may run */
    uint64_t admitted_ns, first_ns; /* first_ns: the prompt was done */
    uint32_t first_row, n_rows;     /* in the batch being built; n_rows 0: not in it */
    bool tried;                     /* for the batch being built */
};

int sequence_create(struct sequence **sequence, struct msg_admit *admit, uint32_t context,
                    uint64_t now_ns);
/* Puts the pages back. */
void sequence_destroy(struct sequence *sequence, struct pages *pages);

/* Find shared pages for the front of the tokens; the last known token is always computed. */
void sequence_start(struct sequence *sequence, struct pages *pages);
/* Have pages for tokens [0, n); false when there are not enough (those taken are kept). */
bool sequence_grow(struct sequence *sequence, struct pages *pages, uint32_t n);
/* Tokens up to n are computed now: share the pages that became full. */
void sequence_advance(struct sequence *sequence, struct pages *pages, uint32_t n);

/* Tokens whose rows have still to be run. */
static inline uint32_t sequence_pending(const struct sequence *s) {
    return s->n_tokens - s->n_computed;
}

#endif
