/* SPDX-License-Identifier: Apache-2.0 */
/* trial.h - find out which card ended an engine that could not say so.
 *
 * A driver may end the process that asks a dying card for anything, or block it for ever.  So each
 * card is tried by a process of its own: opened, written to, read back.  What a card does to the
 * one that tries it is what it would do to an engine. */
#ifndef OCTARC_ENGINE_TRIAL_H
#define OCTARC_ENGINE_TRIAL_H

#include "daemon/channel/messages.h"
#include "daemon/device/device.h"

#define TRIAL_S_MAX 30 /* that a card may be silent; less than a starting engine may be */

/* Try the cards that `options` has present, all at once, each for at most so many seconds, and at
 * most TRIAL_S_MAX.  Fills in cards and why of *out for those that cannot be used; a card that
 * cannot be tried, for lack of a process, can be used as far as is known.  Threads: one, and the
 * process has no other, for it forks. */
void trial_run(const struct device_ops *ops, const struct device_options *options,
               uint32_t silence_s, struct msg_tried *out);

#endif
