/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/uevents.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/device/drm/drm.h"
#include "daemon/service/plug.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define KERNEL_GROUP 1
#define BUFFER_BYTES (1 << 20) /* a box of cards that goes at once tells a few hundred events */
#define READ_MOST    64        /* datagrams before others of the loop have their turn */

static uint32_t find_card(const struct engines *e, const char *slot) {
    uint32_t i = 0;
    while (i < e->n_cards && strcasecmp(e->topology->cards[i].slot, slot) != 0)
        i++;
    return i;
}

void uevents_take(struct engines *e, const void *bytes, size_t n) {
    struct uevent event;
    struct plug_meaning meaning;
    struct err why;
    if (uevent_read(&event, bytes, n) < 0) {
        log_debug("an event of %zu bytes is in no form of the kernel's", n);
        return;
    }
    if (!plug_mean(&event, &meaning))
        return;
    const uint32_t card = find_card(e, event.slot);
    if (card == e->n_cards) {
        log_info("the card at %s is none of this service's: %s", event.slot, meaning.why);
        return;
    }
    if (engines_hear(e, card, meaning.event, meaning.why, &why) < 0)
        log_debug("%s: %s", meaning.why, why.text);
    else if (meaning.remedy[0])
        log_notice("to bring card %u back: %s", card, meaning.remedy);
}

void uevents_look(struct uevents *u) {
    for (uint32_t i = 0; i < u->engines->n_cards; i++) {
        const char *slot = u->engines->topology->cards[i].slot;
        const bool bound = slot[0] && drm_is_bound(u->root, slot);
        struct err why;
        u->bound[i] |= bound;
        if (u->bound[i] && engines_hear(u->engines, i, bound ? CARD_RETURN : CARD_LOSE,
                                        bound ? "its driver has it" : "no driver has it", &why) < 0)
            log_debug("card %u, looked at: %s", i, why.text);
    }
}

bool uevents_from_kernel(struct msghdr *message) {
    const struct sockaddr_nl *from = message->msg_name;
    if (message->msg_namelen < offsetof(struct sockaddr_nl, nl_groups) ||
        from->nl_family != AF_NETLINK || from->nl_pid != 0)
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct ucred sender;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS ||
            c->cmsg_len < CMSG_LEN(sizeof sender))
            continue;
        memcpy(&sender, CMSG_DATA(c), sizeof sender);
        return sender.uid == 0;
    }
    return false;
}

static void missed(struct uevents *u) {
    log_warning("the kernel told more of cards than could be heard; each is looked at");
    uevents_look(u);
}

/* False: there is no more now. */
static bool read_one(struct uevents *u) {
    char bytes[UEVENT_BYTES_MAX];
    struct sockaddr_nl from = {0};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    const ssize_t n = recvmsg(u->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == ENOBUFS) {
        missed(u);
        return true;
    }
    if (n < 0)
        return errno == EINTR;
    if (uevents_from_kernel(&message) && !(message.msg_flags & MSG_TRUNC))
        uevents_take(u->engines, bytes, (size_t)n);
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int what);

/* What the socket could not hold is an error of it, at which libuv has stopped and says EBADF. */
static bool hear_again(struct uevents *u) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(u->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != ENOBUFS ||
        uv_poll_start(&u->poll, UV_READABLE, on_readable) < 0)
        return false;
    missed(u);
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int what) {
    struct uevents *u = poll->data;
    (void)what;
    if (status < 0 && !hear_again(u)) {
        log_warning("the kernel's events of cards are not heard any more: %s", uv_strerror(status));
        return;
    }
    for (int i = 0; i < READ_MOST && read_one(u); i++)
        ;
}

static int open_socket(void) {
    const struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    const int one = 1, size = BUFFER_BYTES;
    const int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0 ||
        bind(fd, (const struct sockaddr *)&group, sizeof group) < 0) {
        const int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

void uevents_start(struct uevents *u, uv_loop_t *loop, struct engines *engines, const char *root) {
    bool any = false;
    *u = (struct uevents){.fd = -1, .engines = engines, .root = root};
    for (uint32_t i = 0; i < engines->n_cards; i++) {
        const char *slot = engines->topology->cards[i].slot;
        any |= slot[0] != '\0';
        u->bound[i] = slot[0] && drm_is_bound(root, slot);
    }
    if (!any)
        return;
    u->fd = open_socket();
    int rc = u->fd < 0 ? u->fd : uv_poll_init(loop, &u->poll, u->fd);
    if (rc == 0) {
        u->poll.data = u;
        rc = uv_poll_start(&u->poll, UV_READABLE, on_readable);
    }
    if (rc < 0)
        log_warning("the kernel's events of cards are not heard: %s", uv_strerror(rc));
}

void uevents_finish(struct uevents *u) {
    if (u->fd > 0)
        close(u->fd);
    u->fd = -1;
}
