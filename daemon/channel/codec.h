/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h - messages to bytes and back.
 *
 * encode appends a whole frame (header and payload) to a buffer; decode reads one payload.  Every
 * decode checks counts against the bytes that are there before it allocates; -EPROTO on anything
 * that does not fit, with nothing left to free. */
#ifndef OCTARC_CHANNEL_CODEC_H
#define OCTARC_CHANNEL_CODEC_H

#include "daemon/channel/messages.h"
#include "daemon/util/buffer.h"

#define FRAME_HEADER_BYTES 8u

/* Append the frame of a message.  msg points to the struct of that type (NULL for STOP and
 * MEASURE). -ENOMEM, or -EMSGSIZE beyond CHANNEL_FRAME_MAX; the buffer is unchanged then. */
int message_encode(struct buffer *out, enum message_type type, const void *msg);

/* A decoded message; free its owned parts with message_finish(). */
struct message {
    enum message_type type;
    union {
        struct msg_hello hello;
        struct msg_setup setup;
        struct msg_admit admit;
        struct msg_cancel cancel;
        struct msg_lose lose;
        struct msg_hang hang;
        struct msg_pressed pressed;
        struct msg_yield yield;
        struct msg_progress progress;
        struct msg_ready ready;
        struct msg_failed failed;
        struct msg_token token;
        struct msg_prompt prompt;
        struct msg_end end;
        struct msg_credit credit;
        struct msg_preempted preempted;
        struct msg_lost lost;
        struct msg_fenced fenced;
        struct msg_tried tried;
        struct msg_limits limits;
        struct msg_replan replan;
        struct msg_replanned replanned;
        struct msg_verify verify;
        struct msg_corrupt corrupt;
        struct msg_harmed harmed;
        struct msg_verified verified;
    };
};

int message_decode(struct message *msg, uint16_t type, const void *payload, size_t n);
void message_finish(struct message *msg);

#endif
