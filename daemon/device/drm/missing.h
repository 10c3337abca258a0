/* SPDX-License-Identifier: Apache-2.0 */
/* missing.h - what a machine lacks for its cards to be used, or to be used fully, and the remedy.
 *
 * Pure functions of what drm_find() saw; what is unknown is never held against a card.
 * Threads: no shared state. */
#ifndef OCTARC_DEVICE_DRM_MISSING_H
#define OCTARC_DEVICE_DRM_MISSING_H

#include <stddef.h>

#include "daemon/device/drm/drm.h"

#define MISSING_MAX      64
#define MISSING_TEXT_MAX 224

enum missing_weight {
    MISSING_BLOCKS, /* the card, or all of them, cannot be used */
    MISSING_LIMITS, /* it works, without something */
};

struct missing {
    const char *code; /* a word, for scripts; static */
    enum missing_weight weight;
    int32_t card;                  /* index of the box's; -1: the machine */
    char what[MISSING_TEXT_MAX];   /* for people */
    char remedy[MISSING_TEXT_MAX]; /* what to do; empty: nothing can be done */
};

#define MISSING_REFUSED_MAX 112

/* The libraries through which cards are driven, and what they make of the cards. */
struct missing_libraries {
    bool loader, driver; /* libze_loader.so.1, libze_intel_gpu.so.1 can be loaded */
    char why[128];       /* not; empty: both can */
    char none[160];      /* they can, and no card can be used by them; empty: some can */
    char refused[DRM_CARDS_MAX][MISSING_REFUSED_MAX]; /* of the box's cards: it cannot; empty */
};

/* Cards in order, then the machine; how many were written, at most MISSING_MAX. */
size_t missing_find(const struct drm_box *box, const struct missing_libraries *libraries,
                    struct missing found[MISSING_MAX]);

/* Nothing of the card's own is in its way. */
bool missing_usable(const struct drm_card *card);
/* Nor do the libraries, where they are there, say that they cannot use the box's card. */
bool missing_works(const struct drm_box *box, const struct missing_libraries *libraries,
                   uint32_t card);
/* How many cards can be used, libraries and all. */
uint32_t missing_count_usable(const struct drm_box *box, const struct missing_libraries *libraries);
/* Why none can be, in a sentence with the remedies; only where none can. */
void missing_explain(const struct drm_box *box, const struct missing_libraries *libraries,
                     char *out, size_t size);

#endif
