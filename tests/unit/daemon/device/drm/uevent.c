/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/uevent.h"

#include <arpa/inet.h>
#include <errno.h>

#include "tests/check.h"

#define PORT "/devices/pci0000:00/0000:00:01.0/0000:10:00.0"
#define CARD PORT "/0000:1A:00.0"
/* Without the end that the compiler adds; the last key's own is written out. */
#define KERNEL(event, text) uevent_read(event, text, sizeof text - 1)

/* The same keys as udev would hand them on. */
static size_t make_udev(char *out, const char *keys, size_t n) {
    const uint32_t words[8] = {htonl(0xfeedcafe), 40, 40, (uint32_t)n, 1, 2, 3, 4};
    memcpy(out, "libudev", 8);
    memcpy(out + 8, words, sizeof words);
    memcpy(out + 40, keys, n);
    return 40 + n;
}

static void both_forms_say_the_same(void) {
    static const char keys[] = "ACTION=remove\0DEVPATH=" CARD
                               "\0SUBSYSTEM=pci\0PCI_CLASS=30000\0PCI_ID=8086:E211\0SEQNUM=7\0";
    static const char kernel[] = "remove@" CARD "\0ACTION=remove\0DEVPATH=" CARD
                                 "\0SUBSYSTEM=pci\0PCI_CLASS=30000\0PCI_ID=8086:E211\0SEQNUM=7\0";
    char udev[sizeof keys + 40];
    struct uevent a, b;
    CHECK_EQ(KERNEL(&a, kernel), 0);
    CHECK_EQ(uevent_read(&b, udev, make_udev(udev, keys, sizeof keys - 1)), 0);
    CHECK_EQ(a.action, UEVENT_REMOVE);
    CHECK_EQ(a.source, UEVENT_PCI);
    CHECK(!strcmp(a.slot, "0000:1a:00.0") && a.pci_class == 0x30000 && a.wedged == 0);
    CHECK(b.action == a.action && b.source == a.source && !strcmp(b.slot, a.slot) &&
          b.pci_class == a.pci_class && b.wedged == a.wedged);
}

static void a_node_belongs_to_the_card_above_it(void) {
    struct uevent e;
    CHECK_EQ(KERNEL(&e, "add@" CARD "/drm/card12\0ACTION=add\0DEVPATH=" CARD
                        "/drm/card12\0SUBSYSTEM=drm\0"),
             0);
    CHECK(e.action == UEVENT_ADD && e.source == UEVENT_DRM && !strcmp(e.slot, "0000:1a:00.0"));
    CHECK_EQ(KERNEL(&e, "remove@" CARD "/drm/renderD130\0ACTION=remove\0DEVPATH=" CARD
                        "/drm/renderD130\0SUBSYSTEM=drm\0"),
             0);
    CHECK(e.action == UEVENT_REMOVE && e.source == UEVENT_DRM && !strcmp(e.slot, "0000:1a:00.0"));
}

static void what_is_no_card_is_elsewhere(void) {
    static const char *const paths[] = {CARD "/drm/card0/card0-DP-1",
                                        CARD "/drm/card0/card0",
                                        CARD "/drm/card",
                                        CARD "/drm/cardX",
                                        CARD "/drm/renderD",
                                        CARD "/drm",
                                        "/drm/card0x",
                                        "/class/drm/version",
                                        "card0",
                                        "/",
                                        ""};
    char text[512];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct uevent e;
        const int n = snprintf(text, sizeof text,
                               "change@/x%cACTION=change%cDEVPATH=%s%cSUBSYSTEM="
                               "drm%cWEDGED=rebind",
                               0, 0, paths[i], 0, 0);
        CHECK_EQ(uevent_read(&e, text, (size_t)n), 0);
        CHECK(e.source == UEVENT_ELSEWHERE && !e.slot[0] && e.wedged == 0);
    }
    struct uevent e;
    CHECK_EQ(KERNEL(&e, "add@/devices/virtual/net/x\0ACTION=add\0DEVPATH=/devices/virtual/net/"
                        "x\0SUBSYSTEM=net\0"),
             0);
    CHECK(e.source == UEVENT_ELSEWHERE && !e.slot[0]);
    CHECK_EQ(KERNEL(&e, "bind@" CARD "\0ACTION=bind\0DEVPATH=" CARD "\0SUBSYSTEM=pci\0"), 0);
    CHECK(e.source == UEVENT_PCI && e.action == UEVENT_OTHER);
}

static void every_way_back_and_every_list_of_them_is_known(void) {
    static const struct {
        const char *words;
        uint32_t ways;
    } lists[] = {
        {"none", WEDGED_NONE},
        {"rebind", WEDGED_REBIND},
        {"bus-reset", WEDGED_BUS_RESET},
        {"vendor-specific", WEDGED_VENDOR},
        {"cold-reset", WEDGED_COLD_RESET},
        {"unknown", WEDGED_UNKNOWN},
        {"rebind,bus-reset", WEDGED_REBIND | WEDGED_BUS_RESET},
        {"rebind,bus-reset,cold-reset", WEDGED_REBIND | WEDGED_BUS_RESET | WEDGED_COLD_RESET},
        {"rebind,of-tomorrow", WEDGED_REBIND | WEDGED_UNKNOWN},
        {"", WEDGED_UNKNOWN},
        {"rebind,", WEDGED_REBIND | WEDGED_UNKNOWN},
        {"Rebind", WEDGED_UNKNOWN},
        {"rebind bus-reset", WEDGED_UNKNOWN},
    };
    char text[512];
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct uevent e;
        CHECK_EQ(uevent_wedged(lists[i].words, strlen(lists[i].words)), lists[i].ways);
        const int n = snprintf(text, sizeof text,
                               "change@%s/drm/card0%cACTION=change%cDEVPATH=%s/drm/"
                               "card0%cSUBSYSTEM=drm%cWEDGED=%s%cPID=12%cTASK=a,b",
                               CARD, 0, 0, CARD, 0, 0, lists[i].words, 0, 0);
        CHECK_EQ(uevent_read(&e, text, (size_t)n), 0);
        CHECK_EQ(e.wedged, lists[i].ways);
        text[n - 1] = '\0'; /* an event that has its last end */
        CHECK_EQ(uevent_read(&e, text, (size_t)n), 0);
    }
}

static void being_wedged_is_said_by_a_change_of_the_node_only(void) {
    struct uevent e;
    CHECK_EQ(KERNEL(&e, "add@" CARD "/drm/card0\0ACTION=add\0DEVPATH=" CARD
                        "/drm/card0\0SUBSYSTEM=drm\0WEDGED=rebind\0"),
             0);
    CHECK_EQ(e.wedged, 0);
    CHECK_EQ(KERNEL(&e, "change@" CARD "\0ACTION=change\0DEVPATH=" CARD
                        "\0SUBSYSTEM=pci\0WEDGED=rebind\0"),
             0);
    CHECK_EQ(e.wedged, 0);
    CHECK_EQ(KERNEL(&e, "change@" CARD "/drm/card0\0ACTION=change\0DEVPATH=" CARD
                        "/drm/card0\0SUBSYSTEM=drm\0HOTPLUG=1\0"),
             0);
    CHECK_EQ(e.wedged, 0);
}

static void what_is_in_neither_form_is_refused(void) {
    static const char *const wrong[] = {"", "add", "@/devices", "add@devices", "libudev"};
    struct uevent e = {.wedged = 77};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(uevent_read(&e, wrong[i], strlen(wrong[i]) + 1), -EINVAL);
    CHECK_EQ(uevent_read(&e, wrong[0], 0), -EINVAL);
    CHECK_EQ(KERNEL(&e, "add@/x\0ACTION=add\0"), -EINVAL); /* no path */
    CHECK_EQ(KERNEL(&e, "add@/x\0DEVPATH=/x\0"), -EINVAL); /* no action */
    CHECK_EQ(e.wedged, 77);
}

static void a_header_that_points_outside_is_refused(void) {
    static const char keys[] = "ACTION=add\0DEVPATH=" CARD "\0SUBSYSTEM=pci\0";
    static const struct {
        size_t at;
        uint32_t value;
    } wrong[] = {{8, 0},     {8, 0xfeedcafe},  {12, 39},         {16, 39},
                 {16, 4000}, {16, UINT32_MAX}, {20, UINT32_MAX}, {20, sizeof keys}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char udev[sizeof keys + 40];
        struct uevent e;
        const size_t n = make_udev(udev, keys, sizeof keys - 1);
        CHECK_EQ(uevent_read(&e, udev, n), 0);
        memcpy(udev + wrong[i].at, &wrong[i].value, 4);
        CHECK_EQ(uevent_read(&e, udev, n), -EINVAL);
    }
    char udev[sizeof keys + 40];
    struct uevent e;
    make_udev(udev, keys, sizeof keys - 1);
    for (size_t n = 0; n < 40; n++)
        CHECK_EQ(uevent_read(&e, udev, n), -EINVAL);
}

static void limits_have_an_error(void) {
    static char text[UEVENT_BYTES_MAX + 1];
    struct uevent e;
    memset(text, 'a', sizeof text);
    CHECK_EQ(uevent_read(&e, text, sizeof text), -E2BIG);
    static const char head[] = "add@/x\0ACTION=add\0DEVPATH=/x\0";
    memcpy(text, head, sizeof head - 1);
    memset(text + sizeof head - 1, '\0', UEVENT_KEYS_MAX - 2); /* empty keys count too */
    CHECK_EQ(uevent_read(&e, text, sizeof head - 1 + UEVENT_KEYS_MAX - 2), 0);
    text[sizeof head - 1 + UEVENT_KEYS_MAX - 2] = '\0';
    CHECK_EQ(uevent_read(&e, text, sizeof head + UEVENT_KEYS_MAX - 2), -E2BIG);
}

CHECK_MAIN(T(both_forms_say_the_same), T(a_node_belongs_to_the_card_above_it),
           T(what_is_no_card_is_elsewhere), T(every_way_back_and_every_list_of_them_is_known),
           T(being_wedged_is_said_by_a_change_of_the_node_only),
           T(what_is_in_neither_form_is_refused), T(a_header_that_points_outside_is_refused),
           T(limits_have_an_error))
