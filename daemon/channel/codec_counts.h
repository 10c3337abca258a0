/* SPDX-License-Identifier: Apache-2.0 */
/* codec_counts.h - the messages in which an engine says what it has and has done, as bytes. */
#ifndef OCTARC_CHANNEL_CODEC_COUNTS_H
#define OCTARC_CHANNEL_CODEC_COUNTS_H

#include "daemon/channel/bytes.h"
#include "daemon/channel/messages.h"

void put_ready(struct writer *w, const struct msg_ready *m);
void get_ready(struct reader *r, struct msg_ready *m);
void put_credit(struct writer *w, const struct msg_credit *m);
void get_credit(struct reader *r, struct msg_credit *m);

#endif
