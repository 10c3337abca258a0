/* SPDX-License-Identifier: Apache-2.0 */
/* codec_plan.h - inside channel: a plan, and the message that brings the first one, as bytes. */
#ifndef OCTARC_CHANNEL_CODEC_PLAN_H
#define OCTARC_CHANNEL_CODEC_PLAN_H

#include "daemon/channel/bytes.h"
#include "daemon/channel/messages.h"

/* A plan that was read owns its ranges, plan_finish(), also where the reader is bad. */
void put_plan(struct writer *w, const struct plan *plan);
void get_plan(struct reader *r, struct plan *plan);

void put_setup(struct writer *w, const struct msg_setup *setup);
void get_setup(struct reader *r, struct msg_setup *setup);

#endif
