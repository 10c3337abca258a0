/* SPDX-License-Identifier: Apache-2.0 */
/* trial.h - find out which card, or which peer link, ended an engine that could not say so.
 *
 * A driver may end the process that asks a dying card for anything, or block it for ever.  So each
 * card is tried by a process of its own: opened, written to, read back.  Where each does well by
 * itself, so is each direct link: by opening its two cards, which tries it.  What that does to the
 * process is what it would do to an engine. */
#ifndef OCTARC_ENGINE_TRIAL_H
#define OCTARC_ENGINE_TRIAL_H

#include "daemon/channel/messages.h"
#include "daemon/device/device.h"

#define TRIAL_S_MAX 30 /* that a card may be silent; less than a starting engine may be */

struct trial_options {
    const struct device_ops *ops;
    struct device_options device; /* the cards to try are present in it */
    uint32_t silence_s;           /* that each may take; TRIAL_S_MAX is the most */
    void (*alive)(void *user);    /* called while it goes on, at least as often as that; or NULL */
    void *user;
};

/* Fills in cards, links and why of *out for what cannot be used; what cannot be tried, for lack of
 * a process, can be as far as is known.  Threads: one, and the process has no other, for it forks.
 */
void trial_run(const struct trial_options *options, struct msg_tried *out);

#endif
