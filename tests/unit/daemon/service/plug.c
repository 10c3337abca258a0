/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/plug.h"

#include "tests/check.h"

#define SLOT "0000:1a:00.0"

static struct uevent event_of(enum uevent_source source, enum uevent_action action,
                              uint32_t wedged) {
    return (struct uevent){.source = source, .action = action, .slot = SLOT, .wedged = wedged};
}

static void every_way_of_being_wedged_has_its_consequence_and_its_remedy(void) {
    static const struct {
        uint32_t ways;
        enum card_event event;
        const char *why, *remedy;
    } table[] = {
        {WEDGED_NONE, CARD_LOSE, "nothing is asked for", "octarc online"},
        {WEDGED_REBIND, CARD_LOSE, "rebind it",
         "echo " SLOT " > /sys/bus/pci/drivers/xe/unbind; echo " SLOT
         " > /sys/bus/pci/drivers/xe/bind"},
        {WEDGED_BUS_RESET, CARD_LOSE, "reset it on the bus",
         "/unbind; echo 1 > /sys/bus/pci/devices/" SLOT "/reset; echo " SLOT " > "},
        {WEDGED_VENDOR, CARD_BREAK, "new firmware", "fwupdmgr update"},
        {WEDGED_COLD_RESET, CARD_BREAK, "cut its power", "switch the machine off"},
        {WEDGED_UNKNOWN, CARD_LOSE, "does not say", "else restart the machine"},
        {WEDGED_REBIND | WEDGED_BUS_RESET, CARD_LOSE, "rebind it, else reset it on the bus",
         "/bind"},
        {WEDGED_BUS_RESET | WEDGED_COLD_RESET, CARD_LOSE, "reset it on the bus, else cut its power",
         "/reset"},
        {WEDGED_COLD_RESET | WEDGED_VENDOR, CARD_BREAK, "cut its power, else give it new firmware",
         "switch the machine off"},
        {WEDGED_VENDOR | WEDGED_UNKNOWN, CARD_BREAK, "firmware, else it does not say", "fwupdmgr"},
        {WEDGED_REBIND | WEDGED_UNKNOWN, CARD_LOSE, "rebind it, else it does not say", "/bind"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct uevent e = event_of(UEVENT_DRM, UEVENT_CHANGE, table[i].ways);
        struct plug_meaning m = {.event = CARD_EVENT_COUNT};
        CHECK(plug_mean(&e, &m));
        CHECK_EQ(m.event, table[i].event);
        CHECK(!strncmp(m.why, "its driver gave it up: ", 23));
        CHECK(strstr(m.why, table[i].why) && strstr(m.remedy, table[i].remedy));
        CHECK(!strchr(m.remedy, '%'));
    }
    const struct uevent all = event_of(UEVENT_DRM, UEVENT_CHANGE, 63);
    struct plug_meaning m;
    CHECK(plug_mean(&all, &m)); /* too long for the reason, which is cut */
    CHECK_EQ(m.event, CARD_LOSE);
    CHECK_EQ(strlen(m.why), CARD_WHY_MAX - 1);
}

static void what_goes_is_lost_and_comes_back_with_its_driver(void) {
    static const struct {
        enum uevent_source source;
        enum uevent_action action;
        uint32_t class;
        int event; /* -1: it means nothing */
    } table[] = {
        {UEVENT_PCI, UEVENT_REMOVE, 0x30000, CARD_LOSE},
        {UEVENT_PCI, UEVENT_REMOVE, 0x38000, CARD_LOSE},
        {UEVENT_PCI, UEVENT_REMOVE, 0, CARD_LOSE},
        {UEVENT_PCI, UEVENT_REMOVE, 0x10802, -1}, /* a disk in that slot */
        {UEVENT_PCI, UEVENT_ADD, 0x30000, -1},
        {UEVENT_PCI, UEVENT_CHANGE, 0x30000, -1},
        {UEVENT_PCI, UEVENT_OTHER, 0x30000, -1},
        {UEVENT_DRM, UEVENT_REMOVE, 0, CARD_LOSE},
        {UEVENT_DRM, UEVENT_ADD, 0, CARD_RETURN},
        {UEVENT_DRM, UEVENT_CHANGE, 0, -1},
        {UEVENT_DRM, UEVENT_OTHER, 0, -1},
        {UEVENT_ELSEWHERE, UEVENT_REMOVE, 0, -1},
        {UEVENT_ELSEWHERE, UEVENT_ADD, 0, -1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct uevent e = event_of(table[i].source, table[i].action, 0);
        struct plug_meaning m = {.event = CARD_EVENT_COUNT};
        e.pci_class = table[i].class;
        CHECK_EQ(plug_mean(&e, &m), table[i].event >= 0);
        CHECK_EQ(m.event, table[i].event >= 0 ? table[i].event : CARD_EVENT_COUNT);
        e.slot[0] = '\0';
        CHECK(!plug_mean(&e, &m));
    }
}

CHECK_MAIN(T(every_way_of_being_wedged_has_its_consequence_and_its_remedy),
           T(what_goes_is_lost_and_comes_back_with_its_driver))
