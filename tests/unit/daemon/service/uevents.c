/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel tells of cards while generations serve. */
#include "daemon/service/uevents.h"

#include <linux/netlink.h>

#include "tests/unit/daemon/service/engines_world.h"

#define SERVES(n) WAIT_FOR(w.engines.number == (n) && w.engines.state == ENGINES_SERVING)
/* An event of the node of the card in slot 0000:21:00.0, card 1 of the world. */
#define NODE(action, more)                                                                         \
    action "@/devices/pci0000:00/0000:21:00.0/drm/renderD129\0ACTION=" action                      \
           "\0DEVPATH=/devices/pci0000:00/0000:21:00.0/drm/renderD129\0SUBSYSTEM=drm\0" more
#define TAKE(text) uevents_take(&w.engines, text, sizeof text - 1)

static enum card_state state_of(uint32_t card) {
    return w.engines.cards[card].card.state;
}

static void open_slots(uint32_t n, const char *script) {
    open_world(n, script);
    w.config.card_quiet_s = 0;
    w.config.engine_silence_s = 1; /* of one that waits and does not hear */
    for (uint32_t i = 0; i < n; i++)
        snprintf(w.topology.cards[i].slot, sizeof w.topology.cards[i].slot, "0000:2%u:00.0", i);
}

static void a_card_that_goes_is_lost_and_one_that_returns_is_used_again(void) {
    struct err err;
    open_slots(3, "woo");
    SERVES(1);
    CHECK_EQ(submit(&err), 0);
    TAKE(NODE("remove", ""));
    CHECK_EQ(state_of(1), CARD_LOST);
    CHECK(strstr(w.engines.cards[1].card.history[0].why, "let go"));
    WAIT_FOR(c.ends);
    CHECK_EQ(c.finish, FINISH_LENGTH); /* nothing was lost */
    CHECK_EQ(c.n, TOKENS);
    SERVES(2);
    CHECK(!w.engines.plan.cards[1].online);
    TAKE(NODE("remove", "")); /* its second node: nothing new */
    CHECK_EQ(w.engines.cards[1].card.faults[CARD_FAULT_LOST], 1);
    TAKE(NODE("add", ""));
    TAKE(NODE("add", ""));
    CHECK_EQ(state_of(1), CARD_PROBING);
    engines_tick(&w.engines);
    SERVES(3);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK(w.engines.plan.cards[1].online);
    is_answered();
    close_world();
}

static void a_card_that_only_hands_can_mend_waits_for_an_operator(void) {
    open_slots(2, "o");
    SERVES(1);
    TAKE(NODE("change", "WEDGED=rebind,bus-reset\0"));
    CHECK_EQ(state_of(1), CARD_LOST);
    TAKE(NODE("change", "WEDGED=cold-reset\0"));
    CHECK_EQ(state_of(1), CARD_QUARANTINED);
    CHECK_EQ(w.engines.cards[1].memory.fd, -1);
    TAKE(NODE("add", ""));
    CHECK_EQ(state_of(1), CARD_QUARANTINED);
    SERVES(2);
    is_answered();
    CHECK_EQ(engines_want(&w.engines, 1, NULL), 0);
    SERVES(3);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    close_world();
}

static void news_of_what_is_not_ours_changes_nothing(void) {
    static const char *const others[] = {
        "remove@/devices/pci0000:00/0000:99:00.0", /* cut short */
        "hello",
        "",
    };
    open_slots(2, "o");
    SERVES(1);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        uevents_take(&w.engines, others[i], strlen(others[i]));
    TAKE("remove@/x\0ACTION=remove\0DEVPATH=/devices/0000:99:00.0\0SUBSYSTEM=pci\0");
    TAKE("remove@/x\0ACTION=remove\0DEVPATH=/devices/0000:21:00.0\0SUBSYSTEM=net\0");
    TAKE(NODE("change", "HOTPLUG=1\0"));
    CHECK(state_of(0) == CARD_ONLINE && state_of(1) == CARD_ONLINE);
    is_answered();
    CHECK_EQ(w.engines.number, 1);
    close_world();
}

/* As recvmsg() fills it in. */
static bool is_heard(struct sockaddr_nl from, int level, int type, uid_t uid) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    const struct ucred sender = {.uid = uid};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = level;
    part->cmsg_type = type;
    part->cmsg_len = CMSG_LEN(sizeof sender);
    memcpy(CMSG_DATA(part), &sender, sizeof sender);
    return uevents_from_kernel(&message);
}

static void only_the_kernel_is_heard(void) {
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK, .nl_groups = 1};
    const struct sockaddr_nl process = {.nl_family = AF_NETLINK, .nl_pid = 4711, .nl_groups = 1};
    const struct sockaddr_nl other = {.nl_family = AF_UNIX};
    CHECK(is_heard(kernel, SOL_SOCKET, SCM_CREDENTIALS, 0));
    CHECK(!is_heard(kernel, SOL_SOCKET, SCM_CREDENTIALS, 1000));
    CHECK(!is_heard(kernel, SOL_SOCKET, SCM_RIGHTS, 0));
    CHECK(!is_heard(process, SOL_SOCKET, SCM_CREDENTIALS, 0));
    CHECK(!is_heard(other, SOL_SOCKET, SCM_CREDENTIALS, 0));
    struct sockaddr_nl from = kernel;
    struct msghdr bare = {.msg_name = &from, .msg_namelen = sizeof from};
    CHECK(!uevents_from_kernel(&bare));
    bare.msg_namelen = 0;
    CHECK(!uevents_from_kernel(&bare));
}

/* --- more than could be heard --- */

static char root[64];

/* A driver takes hold of the device in a slot, or lets go of it. */
static void bind_slot(uint32_t card, bool bound) {
    char command[200], link[200];
    snprintf(command, sizeof command, "mkdir -p %s/sys/bus/pci/devices/0000:2%u:00.0", root, card);
    snprintf(link, sizeof link, "%s/driver", command + strlen("mkdir -p "));
    CHECK_EQ(system(command), 0);
    if (bound)
        CHECK_EQ(symlink("../../drivers/xe", link), 0);
    else
        CHECK_EQ(unlink(link), 0);
}

static void make_root(void) {
    snprintf(root, sizeof root, "/tmp/octarc-uevents-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

static void drop_root(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK_EQ(system(command), 0);
}

/* Cards 0 and 1 are real, card 2 is simulated: no driver has ever held it. */
static void what_was_not_heard_is_looked_at(void) {
    struct uevents u = {.fd = -1, .engines = &w.engines, .root = root};
    make_root();
    open_slots(3, "woo");
    SERVES(1);
    bind_slot(0, true);
    bind_slot(1, true);
    uevents_look(&u);
    CHECK(state_of(0) == CARD_ONLINE && state_of(1) == CARD_ONLINE && state_of(2) == CARD_ONLINE);
    bind_slot(1, false);
    uevents_look(&u);
    CHECK_EQ(state_of(0), CARD_ONLINE);
    CHECK_EQ(state_of(1), CARD_LOST);
    CHECK_EQ(state_of(2), CARD_ONLINE);
    CHECK(strstr(w.engines.cards[1].card.history[0].why, "no driver has it"));
    SERVES(2);
    bind_slot(1, true);
    uevents_look(&u);
    CHECK_EQ(state_of(1), CARD_PROBING);
    engines_tick(&w.engines);
    SERVES(3);
    CHECK_EQ(state_of(1), CARD_ONLINE);
    is_answered();
    close_world();
    drop_root();
}

/* Events beyond what the socket holds: the kernel says so once, when it is read. */
static void a_flood_of_events_has_the_cards_looked_at(void) {
    static const char nothing[1024] = "change@/devices/virtual/nothing";
    const struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = 1};
    const int from = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    struct uevents u;
    make_root();
    open_slots(2, "wo");
    SERVES(1);
    bind_slot(1, true);
    uevents_start(&u, &w.loop, &w.engines, root);
    bind_slot(1, false);
    for (int i = 0; i < 8192; i++)
        if (sendto(from, nothing, sizeof nothing, 0, (const struct sockaddr *)&group,
                   sizeof group) < 0 &&
            errno != ENOBUFS) {
            drop_root();
            SKIP("no event can be sent here");
        }
    const uint64_t end = uv_hrtime() + 10 * UINT64_C(1000000000);
    WAIT_FOR(state_of(1) == CARD_LOST || uv_hrtime() > end);
    CHECK_EQ(state_of(1), CARD_LOST);
    SERVES(2);
    is_answered();
    close(from);
    uv_close((uv_handle_t *)&u.poll, NULL);
    uevents_finish(&u);
    close_world();
    drop_root();
}

CHECK_MAIN(T(a_card_that_goes_is_lost_and_one_that_returns_is_used_again),
           T(a_card_that_only_hands_can_mend_waits_for_an_operator),
           T(news_of_what_is_not_ours_changes_nothing), T(only_the_kernel_is_heard),
           T(what_was_not_heard_is_looked_at), T(a_flood_of_events_has_the_cards_looked_at))
