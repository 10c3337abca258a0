/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a real socket pair: what is queued waits for a flush, and nothing is lost or out of
 * order, however little the other side takes. */
#include "daemon/channel/stream.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/check.h"

static struct stream near, far;

static void open_pair(void) {
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    stream_init(&near, fds[0]);
    stream_init(&far, fds[1]);
}

static void close_pair(void) {
    stream_finish(&near);
    stream_finish(&far);
}

/* A memfd that holds one number. */
static int numbered(int number) {
    const int fd = memfd_create("number", MFD_CLOEXEC);
    CHECK_EQ(write(fd, &number, sizeof number), (ssize_t)sizeof number);
    return fd;
}

static int number_of(int fd) {
    int number = 0;
    CHECK_EQ(pread(fd, &number, sizeof number, 0), (ssize_t)sizeof number);
    close(fd);
    return number;
}

static int read_far(struct message *msg) {
    int rc = stream_read(&far, msg);
    if (rc == -EAGAIN && stream_wants_write(&near)) {
        const int flushed = stream_flush(&near);
        CHECK(flushed == 0 || flushed == -EAGAIN);
        rc = read_far(msg);
    }
    return rc;
}

/* As many as a model of all the parts that are read, on all cards, needs. */
static void as_many_descriptors_as_there_can_be(void) {
    static int fds[STREAM_FDS_MAX + 1];
    int got[STREAM_FDS_MAX];
    const struct msg_cancel with = {77};
    struct message msg;
    open_pair();
    for (uint32_t i = 0; i <= STREAM_FDS_MAX; i++)
        fds[i] = numbered((int)i);
    CHECK_EQ(stream_send_fds(&near, MSG_CANCEL, &with, fds, STREAM_FDS_MAX + 1), -EINVAL);
    CHECK_EQ(stream_send_fds(&near, MSG_CANCEL, &with, fds, STREAM_FDS_MAX), 0);
    CHECK_EQ(read_far(&msg), 0);
    message_finish(&msg);
    CHECK_EQ(stream_take_fds(&far, got), STREAM_FDS_MAX);
    for (uint32_t i = 0; i < STREAM_FDS_MAX; i++)
        CHECK_EQ(number_of(got[i]), (int)i);
    for (uint32_t i = 0; i <= STREAM_FDS_MAX; i++)
        close(fds[i]);
    close_pair();
}

/* Descriptors come with their own message, though the socket was full of others before it. */
static void descriptors_ride_on_their_frame(void) {
    struct msg_failed text = {.error = -1};
    memset(text.text, 'x', sizeof text.text - 1);
    for (uint32_t unsent = 0; unsent < 3000; unsent += 1499) {
        const struct msg_cancel before = {unsent}, with = {77}, after = {88};
        const int fds[] = {numbered(1), numbered(2)};
        struct message msg;
        int got[STREAM_FDS_MAX];
        open_pair();
        for (uint32_t i = 0; i < unsent; i++)
            CHECK_EQ(stream_send(&near, MSG_FAILED, &text), 0);
        CHECK_EQ(stream_send(&near, MSG_CANCEL, &before), 0);
        CHECK_EQ(stream_send_fds(&near, MSG_CANCEL, &with, fds, 2), 0);
        close(fds[0]); /* they were borrowed */
        close(fds[1]);
        CHECK_EQ(stream_send(&near, MSG_CANCEL, &after), 0);
        for (uint32_t i = 0; i < unsent + 1; i++) {
            CHECK_EQ(read_far(&msg), 0);
            message_finish(&msg);
        }
        CHECK_EQ(read_far(&msg), 0);
        CHECK_EQ(msg.cancel.sequence, 77);
        CHECK_EQ(stream_take_fds(&far, got), 2);
        CHECK_EQ(number_of(got[0]), 1);
        CHECK_EQ(number_of(got[1]), 2);
        CHECK_EQ(read_far(&msg), 0);
        CHECK_EQ(msg.cancel.sequence, 88);
        CHECK_EQ(stream_take_fds(&far, got), 0);
        close_pair();
    }
}

static void a_second_lot_waits_for_the_first(void) {
    struct msg_failed text = {.error = -1};
    const struct msg_cancel msg = {1};
    const int fd = numbered(3);
    open_pair();
    while (!stream_wants_write(&near))
        CHECK_EQ(stream_send(&near, MSG_FAILED, &text), 0);
    CHECK_EQ(stream_send_fds(&near, MSG_CANCEL, &msg, &fd, 1), 0);
    const size_t unsent = stream_unsent(&near);
    CHECK_EQ(stream_send_fds(&near, MSG_CANCEL, &msg, &fd, 1), -EBUSY);
    CHECK_EQ(stream_unsent(&near), unsent);
    close(fd);
    close_pair();
}

static void a_descriptor_that_is_none_takes_the_frame_back(void) {
    const struct msg_cancel msg = {1}, other = {2};
    const int fds[] = {numbered(4), -1};
    struct message got;
    open_pair();
    CHECK_EQ(stream_send_fds(&near, MSG_CANCEL, &msg, fds, 2), -EBADF);
    CHECK_EQ(stream_send(&near, MSG_CANCEL, &other), 0);
    CHECK_EQ(read_far(&got), 0);
    CHECK_EQ(got.cancel.sequence, 2);
    CHECK_EQ(far.n_fds, 0);
    close(fds[0]);
    close_pair();
}

/* The next message of the far end must be TOKEN `position`. */
static void reads_token(uint32_t position) {
    struct message msg;
    CHECK_EQ(stream_read(&far, &msg), 0);
    CHECK_EQ(msg.type, MSG_TOKEN);
    CHECK_EQ(msg.token.position, position);
    message_finish(&msg);
}

static void reads_nothing(void) {
    struct message msg;
    CHECK_EQ(stream_read(&far, &msg), -EAGAIN);
}

static void what_is_queued_goes_with_the_next_flush_or_send(void) {
    struct msg_token token = {.generation = 1};
    open_pair();
    for (; token.position < 3; token.position++)
        CHECK_EQ(stream_queue(&near, MSG_TOKEN, &token), 0);
    CHECK(stream_wants_write(&near) && stream_unsent(&near) > 0);
    reads_nothing();
    CHECK_EQ(stream_flush(&near), 0);
    CHECK(!stream_wants_write(&near));
    for (uint32_t i = 0; i < 3; i++)
        reads_token(i);
    CHECK_EQ(stream_queue(&near, MSG_TOKEN, &token), 0);
    token.position++;
    CHECK_EQ(stream_send(&near, MSG_TOKEN, &token), 0);
    reads_token(3);
    reads_token(4);
    reads_nothing();
    close_pair();
}

/* Of a few MiB the socket takes a part at a time. */
static void a_reader_that_is_slow_gets_all_in_order(void) {
    static struct token_logprob top[2000];
    struct msg_token token = {.generation = 1, .n_top = 2000, .top = top};
    uint32_t read = 0;
    bool was_full = false;
    open_pair();
    for (; token.position < 300; token.position++) {
        CHECK_EQ(stream_queue(&near, MSG_TOKEN, &token), 0);
        const int rc = token.position % 7 ? 0 : stream_flush(&near);
        CHECK(rc == 0 || rc == -EAGAIN);
        was_full |= rc == -EAGAIN;
    }
    CHECK(was_full);
    while (read < 300) {
        reads_token(read++);
        const int rc = stream_flush(&near);
        CHECK(rc == 0 || rc == -EAGAIN);
    }
    CHECK(!stream_wants_write(&near));
    reads_nothing();
    close_pair();
}

static void the_other_side_gone_is_an_error(void) {
    const struct msg_token token = {.generation = 1};
    open_pair();
    CHECK_EQ(stream_queue(&near, MSG_TOKEN, &token), 0);
    stream_finish(&far);
    CHECK_EQ(stream_flush(&near), -EPIPE);
    stream_finish(&near);
}

CHECK_MAIN(T(as_many_descriptors_as_there_can_be), T(descriptors_ride_on_their_frame),
           T(a_second_lot_waits_for_the_first), T(a_descriptor_that_is_none_takes_the_frame_back),
           T(what_is_queued_goes_with_the_next_flush_or_send),
           T(a_reader_that_is_slow_gets_all_in_order), T(the_other_side_gone_is_an_error))
