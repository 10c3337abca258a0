/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536u

void stream_init(struct stream *stream, int fd) {
    *stream = (struct stream){.fd = fd};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void drop_out_fds(struct stream *stream) {
    for (uint32_t i = 0; i < stream->n_out_fds; i++)
        close(stream->out_fds[i]);
    stream->n_out_fds = 0;
}

void stream_finish(struct stream *stream) {
    for (uint32_t i = 0; i < stream->n_fds; i++)
        close(stream->fds[i]);
    drop_out_fds(stream);
    if (stream->fd >= 0)
        close(stream->fd);
    buffer_finish(&stream->in);
    buffer_finish(&stream->out);
    *stream = (struct stream){.fd = -1};
}

bool stream_wants_write(const struct stream *stream) {
    return stream->out_at < stream->out.n;
}

size_t stream_unsent(const struct stream *stream) {
    return stream->out.n - stream->out_at;
}

/* What is unsent up to the frame that descriptors ride on; else all, with them on its first byte.
 */
static ssize_t send_some(struct stream *stream) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * STREAM_FDS_MAX)];
    } control;
    const bool before = stream->n_out_fds && stream->out_at < stream->out_fds_at;
    const size_t end = before ? stream->out_fds_at : stream->out.n;
    struct iovec iov = {stream->out.bytes + stream->out_at, end - stream->out_at};
    struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
    if (stream->n_out_fds && !before) {
        const size_t bytes = sizeof(int) * stream->n_out_fds;
        memset(&control, 0, sizeof control);
        hdr.msg_control = control.bytes;
        hdr.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(cmsg), stream->out_fds, bytes);
    }
    const ssize_t n = sendmsg(stream->fd, &hdr, MSG_NOSIGNAL);
    if (n > 0 && !before)
        drop_out_fds(stream);
    return n;
}

int stream_flush(struct stream *stream) {
    while (stream_wants_write(stream)) {
        const ssize_t n = send_some(stream);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) /* -ENOMEM is for what could not be queued */
            return errno == EWOULDBLOCK ? -EAGAIN : errno == ENOMEM ? -ENOBUFS : -errno;
        stream->out_at += (size_t)n;
    }
    stream->out.n = stream->out_at = 0;
    return 0;
}

int stream_queue(struct stream *stream, enum message_type type, const void *msg) {
    if (stream->out_at > STREAM_OUT_MAX / 2) {
        buffer_drop(&stream->out, stream->out_at);
        stream->out_fds_at -= stream->out_at;
        stream->out_at = 0;
    }
    if (stream_unsent(stream) > STREAM_OUT_MAX)
        return -ENOBUFS;
    if (stream->n_out_fds == 0)
        stream->out_fds_at = stream->out.n;
    return message_encode(&stream->out, type, msg);
}

int stream_send(struct stream *stream, enum message_type type, const void *msg) {
    int rc = stream_queue(stream, type, msg);
    if (!rc)
        rc = stream_flush(stream);
    return rc == -EAGAIN ? 0 : rc;
}

int stream_send_fds(struct stream *stream, enum message_type type, const void *msg, const int *fds,
                    uint32_t n_fds) {
    if (n_fds > STREAM_FDS_MAX)
        return -EINVAL;
    if (stream->n_out_fds)
        return -EBUSY;
    int rc = stream_queue(stream, type, msg);
    if (rc)
        return rc;
    /* Nothing is sent until all of them are there: the frame could not be taken back. */
    const size_t begin = stream->out_fds_at;
    for (uint32_t i = 0; i < n_fds; i++) {
        const int own = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (own < 0) {
            rc = -errno;
            drop_out_fds(stream);
            stream->out.n = begin;
            return rc;
        }
        stream->out_fds[stream->n_out_fds++] = own;
    }
    rc = stream_flush(stream);
    return rc == -EAGAIN ? 0 : rc;
}

/* More fds than there is room for are closed: the message they belong to is refused later. */
static void keep_fds(struct stream *stream, struct msghdr *hdr) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (stream->n_fds < STREAM_FDS_MAX)
                stream->fds[stream->n_fds++] = fd;
            else
                close(fd);
        }
    }
}

static int receive(struct stream *stream) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * STREAM_FDS_MAX)];
    } control;
    if (stream->in_at) {
        buffer_drop(&stream->in, stream->in_at);
        stream->in_at = 0;
    }
    int rc = buffer_reserve(&stream->in, READ_BYTES);
    if (rc)
        return rc;
    struct iovec iov = {stream->in.bytes + stream->in.n, stream->in.capacity - stream->in.n};
    struct msghdr hdr = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(stream->fd, &hdr, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : errno == ECONNRESET ? -EPIPE : -errno;
    if (n == 0)
        return -EPIPE;
    keep_fds(stream, &hdr);
    stream->in.n += (size_t)n;
    return 0;
}

static uint32_t u32_at(const char *bytes) {
    const uint8_t *p = (const uint8_t *)bytes;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int stream_read(struct stream *stream, struct message *msg) {
    for (;;) {
        const char *at = stream->in.bytes + stream->in_at;
        const size_t have = stream->in.n - stream->in_at;
        if (have >= FRAME_HEADER_BYTES) {
            const uint32_t n = u32_at(at), type = u32_at(at + 4);
            if (n > CHANNEL_FRAME_MAX || type > UINT16_MAX)
                return -EPROTO;
            if (have - FRAME_HEADER_BYTES >= n) {
                stream->in_at += FRAME_HEADER_BYTES + n;
                return message_decode(msg, (uint16_t)type, at + FRAME_HEADER_BYTES, n);
            }
        }
        const int rc = receive(stream);
        if (rc)
            return rc;
    }
}

uint32_t stream_take_fds(struct stream *stream, int fds[STREAM_FDS_MAX]) {
    const uint32_t n = stream->n_fds;
    memcpy(fds, stream->fds, n * sizeof *fds);
    stream->n_fds = 0;
    return n;
}
