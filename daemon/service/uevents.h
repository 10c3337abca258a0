/* SPDX-License-Identifier: Apache-2.0 */
/* uevents.h - the kernel's news of cards, heard on its netlink group.
 *
 * Cards are known by their slot here; one whose slot is not known hears nothing.  Only what comes
 * from the kernel itself counts.  Where the kernel told more than could be heard, its /sys says
 * what became of each card.  Where no such socket is to be had the service does without. Threads:
 * one, the loop's. */
#ifndef OCTARC_SERVICE_UEVENTS_H
#define OCTARC_SERVICE_UEVENTS_H

#include <sys/socket.h>
#include <uv.h>

#include "daemon/service/engines.h"

struct uevents {
    uv_poll_t poll;
    int fd; /* owned; -1: none */
    struct engines *engines;
    const char *root;      /* what stands before /sys: empty, but in a test */
    bool bound[CARDS_MAX]; /* a driver has held the card: it is no simulated one */
};

/* Listen, where any card has a slot; failing is only told.  `root`: as of drm_find(). */
void uevents_start(struct uevents *uevents, uv_loop_t *loop, struct engines *engines,
                   const char *root);
/* After the loop. */
void uevents_finish(struct uevents *uevents);

/* One datagram.  A card that cannot change so (it is known to be gone) stays as it is. */
void uevents_take(struct engines *engines, const void *bytes, size_t n);
/* Look at each card that a driver has held, instead of hearing of it. */
void uevents_look(struct uevents *uevents);
/* Is it the kernel that sent this?  A process may send to the group, but not as port 0. */
bool uevents_from_kernel(struct msghdr *message);

#endif
