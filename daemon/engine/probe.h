/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h - what octarc-engine --probe finds out about the machine's cards, and says.
 *
 * A process of its own, which may be lost: to look at a dying card may block for ever, and a
 * driver's library may crash when it is loaded.  The report is one plain value, written at once to
 * a descriptor; both ends are of one version, and who reads it makes sure of that. */
#ifndef OCTARC_ENGINE_PROBE_H
#define OCTARC_ENGINE_PROBE_H

#include "daemon/device/device.h"
#include "daemon/device/drm/missing.h"

#define PROBE_MAGIC     0x6f707262u
#define PROBE_LIBRARY_S 10 /* that loading a library may take */

/* What comes of loading the libraries that drive cards, and of asking them. */
struct probe_driver {
    struct missing_libraries libraries;
    struct device_found cards; /* that the level_zero backend knows of */
};

struct probe_report {
    uint32_t magic, bytes; /* PROBE_MAGIC; of all of this */
    char version[32];      /* of the program */
    char error[160];       /* the box could not be looked at; empty: it is below */
    struct probe_driver driver;
    struct drm_box box;
};

/* Look, and write the report.  0 or -errno of writing it. */
int probe_answer(int fd);

/* Is what was read a report of this version?  Texts in it end, and counts are within bounds, from
 * then on.  -EPROTO: it is none; err says so. */
int probe_accept(struct probe_report *report, size_t n, struct err *err);

/* Which of driver.cards the box's card is; -1: none that can be used. */
int probe_opened(const struct probe_report *report, uint32_t card);

/* Load the libraries and ask them, in processes of their own: where who asks for all cards is ended
 * or hears of none, each that the kernel has nothing against is shown to one by itself.  Of cards
 * that cannot be used `driver` says why, also of those that no library speaks of.  It may take
 * three times PROBE_LIBRARY_S. */
void probe_driver(struct probe_driver *driver, const struct drm_box *box);

/* --- inside probe --- */

/* What the libraries say in a process that sees those cards of `only`, or all (NULL). */
void probe_libraries(struct probe_driver *driver, const struct device_options *only);
/* probe_cards.c: the cards by themselves; driver->cards are those that can be used then. */
void probe_one_by_one(struct probe_driver *driver, const struct drm_box *box);
/* The box's cards that the libraries say nothing of, and what they say of the others. */
void probe_compare(struct probe_driver *driver, const struct drm_box *box);

#endif
