/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/missing.h"

#include <errno.h>

#include "octarc/error.h"
#include "tests/check.h"

static const struct missing_libraries both = {.loader = true, .driver = true};
static struct drm_box box;
static struct missing found[MISSING_MAX];
static size_t n_found;

/* Two cards below one switch, of which nothing is missing. */
static void make_good_box(void) {
    box = (struct drm_box){.release = "7.2.13",
                           .kernel_major = 7,
                           .kernel_minor = 2,
                           .la57 = DRM_NO,
                           .gpusvm = DRM_YES,
                           .pagemap = DRM_YES,
                           .pci_p2pdma = DRM_YES,
                           .has_dri = true,
                           .n_cards = 2};
    for (int i = 0; i < 2; i++) {
        struct drm_card *c = &box.cards[i];
        *c = (struct drm_card){.vendor = DRM_VENDOR_INTEL,
                               .device = 0xe211,
                               .name = "Intel Arc Pro B60",
                               .driver = "xe",
                               .render_group = "render",
                               .xe2 = true,
                               .survivability = DRM_NO,
                               .iommu_group = -1,
                               .bar_bytes = UINT64_C(32) << 30,
                               .n_bridges = 5,
                               .bridges = {{.slot = "0000:00:01.0"}, {.slot = "0000:10:00.0"}}};
        snprintf(c->slot, sizeof c->slot, "0000:%02d:00.0", 20 + i);
        snprintf(c->render, sizeof c->render, "/dev/dri/renderD%d", 128 + i);
        snprintf(c->bridges[2].slot, SYSFS_SLOT_MAX, "0000:11:0%d.0", i);
        snprintf(c->bridges[3].slot, SYSFS_SLOT_MAX, "0000:12:0%d.0", i);
        snprintf(c->bridges[4].slot, SYSFS_SLOT_MAX, "0000:13:0%d.0", i);
    }
}

static void look(void) {
    n_found = missing_find(&box, &both, found);
}

/* The finding with that code; it must be there. */
static const struct missing *the(const char *code) {
    for (size_t i = 0; i < n_found; i++)
        if (!strcmp(found[i].code, code))
            return &found[i];
    printf("# no '%s' among %zu\n", code, n_found);
    exit(1);
}

static void of_a_good_box_nothing_is_missing(void) {
    make_good_box();
    look();
    CHECK_EQ(n_found, 0);
    CHECK_EQ(missing_count_usable(&box, &both), 2);
}

static void what_blocks_a_card_blocks_no_other(void) {
    static const struct {
        const char *code, *remedy;
        struct drm_card with; /* what is laid over the good card, where it is not empty */
        int32_t error;
        enum drm_answer survivability;
        bool no_driver, no_node, other_maker;
    } cases[] = {
        {"driver", "i915.force_probe=!e211 xe.force_probe=e211", {.driver = "i915"}, 0, 0, 0, 0, 0},
        {"driver", "/sys/bus/pci/drivers/vfio-pci/unbind", {.driver = "vfio-pci"}, 0, 0, 0, 0, 0},
        {"no_driver", "modprobe xe", {.slot = ""}, 0, DRM_NO, true, false, false},
        {"no_node", "udevadm trigger", {.slot = ""}, 0, DRM_NO, false, true, false},
        {"permission", "usermod -aG render octarc", {.slot = ""}, -EACCES, DRM_NO, 0, 0, 0},
        {"permission", "DeviceAllow=char-drm rw", {.slot = ""}, -EPERM, DRM_NO, 0, 0, 0},
        {"no_node", "journalctl -k", {.slot = ""}, -ENODEV, DRM_NO, 0, 0, 0},
        {"survivability", "firmware", {.slot = ""}, 0, DRM_YES, 0, 0, 0},
        {"not_intel", "", {.slot = ""}, 0, DRM_NO, false, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_good_box();
        struct drm_card *c = &box.cards[1];
        if (cases[i].with.driver[0])
            memcpy(c->driver, cases[i].with.driver, sizeof c->driver);
        if (cases[i].no_driver)
            c->driver[0] = '\0';
        if (cases[i].no_node)
            c->render[0] = '\0';
        if (cases[i].other_maker)
            c->vendor = 0x1002;
        c->render_error = cases[i].error;
        c->survivability = cases[i].survivability;
        look();
        const struct missing *m = the(cases[i].code);
        CHECK_EQ(n_found, 1);
        CHECK_EQ(m->card, 1);
        CHECK_EQ(m->weight, MISSING_BLOCKS);
        CHECK(strstr(m->remedy, cases[i].remedy));
        CHECK_EQ(missing_count_usable(&box, &both), 1);
        CHECK(missing_usable(&box.cards[0]) && !missing_usable(&box.cards[1]));
    }
}

static void unknown_is_not_held_against_a_card(void) {
    make_good_box();
    box.cards[0].survivability = DRM_UNKNOWN;
    box.cards[0].bar_bytes = box.cards[0].vram_bytes = 0;
    box.cards[0].name[0] = '\0';
    box.la57 = box.gpusvm = box.pagemap = box.pci_p2pdma = DRM_UNKNOWN;
    box.kernel_major = box.kernel_minor = 0;
    look();
    CHECK_EQ(n_found, 0);
    CHECK_EQ(missing_count_usable(&box, &both), 2);
}

/* A container that was given none, or a machine without udev. */
static void without_any_node_it_is_the_folder_that_is_named(void) {
    make_good_box();
    box.has_dri = false;
    box.cards[0].render[0] = box.cards[1].render[0] = '\0';
    look();
    CHECK_EQ(n_found, 2);
    CHECK(!strcmp(found[1].what, "/dev/dri is not there") && found[1].card == 1);
    CHECK(strstr(found[1].remedy, "--device /dev/dri"));
    CHECK_EQ(missing_count_usable(&box, &both), 0);
}

static void what_limits_does_not_block(void) {
    make_good_box();
    box.la57 = DRM_YES;
    box.gpusvm = DRM_NO;
    box.cards[1].bar_bytes = UINT64_C(256) << 20;
    box.cards[0].xe2 = false;
    look();
    CHECK_EQ(n_found, 4);
    for (size_t i = 0; i < n_found; i++)
        CHECK_EQ(found[i].weight, MISSING_LIMITS);
    CHECK(strstr(the("la57")->remedy, "no5lvl"));
    CHECK(strstr(the("kernel_option")->remedy, "CONFIG_DRM_XE_GPUSVM=y"));
    CHECK(the("small_bar")->card == 1 && strstr(the("small_bar")->remedy, "Resizable BAR"));
    CHECK(strstr(the("small_bar")->what, "256 MiB"));
    CHECK(the("no_svm")->card == 0);
    CHECK_EQ(missing_count_usable(&box, &both), 2);
}

static void old_kernels_are_told_what_they_lack(void) {
    static const struct {
        uint32_t major, minor;
        const char *what; /* NULL: nothing */
    } kernels[] = {{6, 8, "no shared virtual memory"},
                   {6, 14, "no shared virtual memory"},
                   {6, 15, "for one card at a time"},
                   {6, 19, "for one card at a time"},
                   {7, 0, NULL},
                   {10, 0, NULL}};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        make_good_box();
        box.kernel_major = kernels[i].major;
        box.kernel_minor = kernels[i].minor;
        look();
        CHECK_EQ(n_found, kernels[i].what != NULL);
        CHECK(!kernels[i].what || strstr(the("kernel")->what, kernels[i].what));
    }
}

static void ports_that_redirect_are_named_for_the_command_line(void) {
    make_good_box();
    for (int i = 0; i < 2; i++)
        box.cards[i].bridges[2].redirects = DRM_YES;
    box.cards[0].bridges[0].redirects = DRM_YES; /* the root port is not on the way */
    look();
    CHECK_EQ(n_found, 1);
    CHECK(!strcmp(the("acs")->remedy, "boot with pci=disable_acs_redir=0000:11:00.0;0000:11:01.0"));
    box.cards[1].bridges[2].redirects = DRM_NO;
    look();
    CHECK(!strcmp(the("acs")->remedy, "boot with pci=disable_acs_redir=0000:11:00.0"));
    /* Below different switches it is not their ports that matter. */
    snprintf(box.cards[1].bridges[1].slot, SYSFS_SLOT_MAX, "0000:50:00.0");
    look();
    CHECK_EQ(n_found, 0);
}

static void where_ports_are_not_shown_groups_are_a_hint(void) {
    make_good_box();
    box.cards[0].iommu_group = 4;
    box.cards[1].iommu_group = 5;
    look();
    CHECK(strstr(the("acs")->what, "1 pairs") && strstr(the("acs")->remedy, "as root"));
    box.cards[1].iommu_group = 4;
    look();
    CHECK_EQ(n_found, 0);
    box.cards[1].iommu_group = 5;
    box.cards[0].bridges[2].redirects = box.cards[1].bridges[2].redirects = DRM_NO;
    look();
    CHECK_EQ(n_found, 0); /* seen to be off */
}

static void integrated_graphics_have_no_memory_but_a_passed_on_card_has(void) {
    make_good_box();
    box.cards[0] = (struct drm_card){
        .vendor = DRM_VENDOR_INTEL, .slot = "0000:00:02.0", .driver = "xe", .render = "/dev/x"};
    look();
    CHECK_EQ(the("integrated")->card, 0);
    snprintf(box.cards[0].name, DRM_NAME_MAX, "Intel Arc Pro B60");
    box.cards[0].xe2 = true;
    look();
    CHECK_EQ(n_found, 0);
}

static void without_libraries_no_card_is_of_use(void) {
    const struct missing_libraries none = {.why = "libze_loader.so.1: not found"};
    const struct missing_libraries loader = {.loader = true, .why = "libze_intel_gpu.so.1: no"};
    char why[512];
    make_good_box();
    n_found = missing_find(&box, &none, found);
    CHECK(strstr(the("no_loader")->remedy, "libze1"));
    CHECK_EQ(missing_count_usable(&box, &none), 0);
    missing_explain(&box, &none, why, sizeof why);
    CHECK(strstr(why, "libze_loader.so.1"));
    n_found = missing_find(&box, &loader, found);
    CHECK(strstr(the("no_ze_driver")->remedy, "libze-intel-gpu1"));
    CHECK_EQ(missing_count_usable(&box, &loader), 0);
}

static void why_no_card_can_be_used_is_a_sentence_of_all_reasons(void) {
    char why[640], little[24];
    box = (struct drm_box){.n_cards = 0};
    missing_explain(&box, &both, why, sizeof why);
    CHECK(!strcmp(why, "there is no graphics card"));
    make_good_box();
    snprintf(box.cards[0].driver, DRM_PATH_MAX, "i915");
    box.cards[1].render_error = -EACCES;
    missing_explain(&box, &both, why, sizeof why);
    CHECK(!strcmp(why,
                  "0000:20:00.0: its driver is i915; octarc needs xe (boot with "
                  "i915.force_probe=!e211 xe.force_probe=e211); 0000:21:00.0: no permission on "
                  "/dev/dri/renderD129 (usermod -aG render octarc, or whichever user octarcd runs "
                  "as; then start it again)"));
    missing_explain(&box, &both, little, sizeof little);
    CHECK_EQ(strlen(little), sizeof little - 1);
}

static void what_several_cards_lack_is_said_once(void) {
    char why[640];
    make_good_box();
    box.has_dri = false;
    box.cards[0].render[0] = box.cards[1].render[0] = '\0';
    missing_explain(&box, &both, why, sizeof why);
    CHECK(!strncmp(why, "0000:20:00.0, 0000:21:00.0: /dev/dri is not there (in a", 55));
    make_good_box();
    box.cards[0].render_error = box.cards[1].render_error = -EACCES;
    missing_explain(&box, &both, why, sizeof why);
    CHECK(strstr(why, "0000:20:00.0: no permission on /dev/dri/renderD128; 0000:21:00.0: no "
                      "permission on /dev/dri/renderD129 (usermod"));
}

static void what_the_libraries_refuse_is_not_usable(void) {
    static struct missing_libraries l;
    char why[640];
    l = both;
    make_good_box();
    snprintf(l.refused[1], sizeof l.refused[1], "the driver does not show it");
    n_found = missing_find(&box, &l, found);
    CHECK_EQ(n_found, 1);
    CHECK_EQ(the("refused")->card, 1);
    CHECK_EQ(the("refused")->weight, MISSING_BLOCKS);
    CHECK(strstr(the("refused")->what, "the driver does not show it"));
    CHECK(strstr(the("refused")->remedy, "echo 1 > devices/0000:21:00.0/reset"));
    CHECK(missing_works(&box, &l, 0) && !missing_works(&box, &l, 1));
    CHECK_EQ(missing_count_usable(&box, &l), 1);
    box.cards[1].bar_bytes = UINT64_C(256) << 20;
    n_found = missing_find(&box, &l, found);
    CHECK(strstr(the("refused")->remedy, "Resizable BAR"));
    /* What is known of the card already is not said again. */
    box.cards[1].render_error = -EACCES;
    n_found = missing_find(&box, &l, found);
    for (size_t i = 0; i < n_found; i++)
        CHECK(strcmp(found[i].code, "refused") != 0);
    make_good_box();
    l = both;
    snprintf(l.none, sizeof l.none, "zeInit: no driver");
    n_found = missing_find(&box, &l, found);
    CHECK(the("no_ze_card")->card == -1 &&
          strstr(the("no_ze_card")->remedy, "journalctl -k -g xe"));
    CHECK_EQ(missing_count_usable(&box, &l), 0);
    missing_explain(&box, &l, why, sizeof why);
    CHECK(!strncmp(why, "Level Zero has no card to use: zeInit: no driver (look", 54));
}

static void a_driver_that_did_not_take_a_card_may_lack_firmware(void) {
    make_good_box();
    box.cards[0].driver[0] = '\0';
    look();
    CHECK(strstr(the("no_driver")->remedy, "modprobe xe"));
    box.has_xe = true;
    look();
    CHECK(strstr(the("no_driver")->what, "did not take it"));
    CHECK(strstr(the("no_driver")->remedy, "firmware-intel-graphics"));
    CHECK(strstr(the("no_driver")->remedy, "xe.force_probe=e211"));
}

/* To add somebody to root's group is no remedy. */
static void a_node_that_no_group_may_open_needs_one(void) {
    make_good_box();
    box.cards[0].render_error = -EACCES;
    box.cards[0].render_group[0] = '\0';
    look();
    CHECK(strstr(the("permission")->remedy, "chgrp render /dev/dri/renderD*"));
}

static void more_than_the_list_holds_is_left_out(void) {
    make_good_box();
    for (int i = 0; i < DRM_CARDS_MAX; i++) {
        box.cards[i] = box.cards[0];
        box.cards[i].bar_bytes = 1u << 20;
        box.cards[i].xe2 = false;
        box.cards[i].render_error = -EACCES;
    }
    box.n_cards = DRM_CARDS_MAX;
    look();
    CHECK_EQ(n_found, MISSING_MAX);
}

CHECK_MAIN(T(of_a_good_box_nothing_is_missing), T(what_blocks_a_card_blocks_no_other),
           T(unknown_is_not_held_against_a_card),
           T(without_any_node_it_is_the_folder_that_is_named), T(what_limits_does_not_block),
           T(old_kernels_are_told_what_they_lack),
           T(ports_that_redirect_are_named_for_the_command_line),
           T(where_ports_are_not_shown_groups_are_a_hint),
           T(integrated_graphics_have_no_memory_but_a_passed_on_card_has),
           T(without_libraries_no_card_is_of_use),
           T(why_no_card_can_be_used_is_a_sentence_of_all_reasons),
           T(what_several_cards_lack_is_said_once), T(what_the_libraries_refuse_is_not_usable),
           T(a_driver_that_did_not_take_a_card_may_lack_firmware),
           T(a_node_that_no_group_may_open_needs_one), T(more_than_the_list_holds_is_left_out))
