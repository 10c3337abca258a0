/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - frames and descriptors over one non-blocking stream socket, for both sides.
 *
 * The owner polls the descriptor: readable -> stream_read until -EAGAIN; stream_wants_write ->
 * poll for writable and stream_flush.  Threads: one. */
#ifndef OCTARC_CHANNEL_STREAM_H
#define OCTARC_CHANNEL_STREAM_H

#include "daemon/channel/codec.h"

#define STREAM_OUT_MAX (256u << 20) /* bytes that may wait; more is -ENOBUFS */
#define STREAM_FDS_MAX                                                                             \
    (1 + 2 * GGUF_PARTS_MAX + CARDS_MAX * (DEVICE_PIECES_MAX + 1) +                                \
     1) /* the kernel takes 253 at once */

struct stream {
    int fd; /* owned */
    struct buffer in, out;
    size_t in_at, out_at;
    int fds[STREAM_FDS_MAX]; /* received, not yet taken; owned */
    uint32_t n_fds;
    int out_fds[STREAM_FDS_MAX]; /* to be sent with the byte out.bytes[out_fds_at]; owned */
    uint32_t n_out_fds;
    size_t out_fds_at;
};

void stream_init(struct stream *stream, int fd); /* takes over fd, sets O_NONBLOCK | CLOEXEC */
void stream_finish(struct stream *stream);       /* closes all */

/* Queue a message; it goes with the next flush or send.  -ENOMEM, -EMSGSIZE: it was not queued, and
 * the stream is as it was; -ENOBUFS. */
int stream_queue(struct stream *stream, enum message_type type, const void *msg);
/* Queue a message and try to send.  -ENOMEM, -EMSGSIZE: it was not queued, and the stream is as it
 * was; -ENOBUFS, -EPIPE. */
int stream_send(struct stream *stream, enum message_type type, const void *msg);
/* The same with descriptors (borrowed).  -EBUSY: earlier ones are still unsent; also -EMFILE. */
int stream_send_fds(struct stream *stream, enum message_type type, const void *msg, const int *fds,
                    uint32_t n_fds);
int stream_flush(struct stream *stream); /* 0 all sent, -EAGAIN more to send, -EPIPE … */
bool stream_wants_write(const struct stream *stream);
size_t stream_unsent(const struct stream *stream); /* bytes */

/* The next message: 0, -EAGAIN none whole yet, -EPIPE the other side is gone, -EPROTO. */
int stream_read(struct stream *stream, struct message *msg);
/* Hand over the descriptors that came with the message that was read last; returns how many, the
 * caller owns them. */
uint32_t stream_take_fds(struct stream *stream, int fds[STREAM_FDS_MAX]);

#endif
