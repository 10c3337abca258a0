/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/drm.h"

#include <errno.h>

#include "octarc/error.h"
#include "tests/drm_tree.h"

static struct drm_box box;

static void find(const struct tree *tree) {
    struct err err;
    CHECK_EQ(drm_find(&box, tree->root, &err), 0);
}

static void eight_cards_are_found_with_their_links(void) {
    struct tree tree;
    tree_make(&tree);
    tree_eight(&tree);
    find(&tree);
    CHECK_EQ(box.n_cards, 8);
    CHECK(box.has_dri && !box.more);
    for (int i = 0; i < 8; i++) {
        const struct drm_card *c = &box.cards[i];
        char slot[SYSFS_SLOT_MAX], node[32];
        tree_slot(slot, i);
        CHECK(!strcmp(c->slot, slot)); /* sorted by address */
        CHECK(!strcmp(c->name, "Intel Arc Pro B60") && !strcmp(c->driver, "xe"));
        CHECK(c->vendor == 0x8086 && c->device == 0xe211 && c->revision == 0 && c->xe2);
        CHECK_EQ(c->n_bridges, 5);
        CHECK(!strcmp(c->link.at, c->bridges[3].slot));
        CHECK(c->link.generation == 5 && c->link.lanes == 8);
        CHECK(c->link.generation_most == 5 && c->link.lanes_most == 8);
        CHECK_EQ(c->numa, i / 4);
        CHECK(!strcmp(c->cpus, i < 4 ? "0-15,32-47" : "16-31,48-63"));
        CHECK_EQ(c->vram_bytes, INT64_C(24) << 30);
        CHECK_EQ(c->bar_bytes, INT64_C(32) << 30);
        snprintf(node, sizeof node, "/dev/dri/renderD%d", 128 + i);
        CHECK(!strcmp(c->render, node) && c->render_error == 0 && c->primary[0]);
        CHECK_EQ(c->survivability, DRM_NO);
        CHECK_EQ(c->iommu_group, -1);
    }
    CHECK(!strcmp(box.cards[0].bridges[1].slot, box.cards[3].bridges[1].slot));
    CHECK(strcmp(box.cards[0].bridges[1].slot, box.cards[4].bridges[1].slot) != 0);
    tree_drop(&tree);
}

static void the_machine_is_read(void) {
    struct tree tree;
    tree_make(&tree);
    tree_eight(&tree);
    find(&tree);
    CHECK(!strcmp(box.release, "7.2.13-amd64"));
    CHECK(box.kernel_major == 7 && box.kernel_minor == 2);
    CHECK_EQ(box.la57, DRM_NO);
    CHECK(box.gpusvm == DRM_YES && box.pagemap == DRM_YES && box.pci_p2pdma == DRM_YES);
    tree_drop(&tree);
}

static void sensors_have_labels_and_may_be_cold(void) {
    struct tree tree;
    tree_make(&tree);
    tree_eight(&tree);
    find(&tree);
    const struct drm_sensors *s = &box.cards[5].sensors;
    CHECK_EQ(s->n, 2);
    CHECK(!strcmp(s->temperatures[0].label, "pkg") && s->temperatures[0].milli_c == 46000);
    CHECK(!strcmp(s->temperatures[1].label, "temp3") && s->temperatures[1].milli_c == -1500);
    CHECK_EQ(s->power_most_uw, 200000000);
    CHECK_EQ(s->energy_uj, INT64_C(123456789012));
    tree_drop(&tree);
}

/* A device that shows its class and nothing else. */
static void what_cannot_be_told_is_unknown(void) {
    struct tree tree;
    tree_make(&tree);
    tree_device(&tree, "0000:03:00.0", "", "", "0x038000\n");
    find(&tree);
    CHECK_EQ(box.n_cards, 1);
    const struct drm_card *c = &box.cards[0];
    CHECK(!c->name[0] && !c->driver[0] && !c->render[0] && !c->primary[0] && !c->cpus[0]);
    CHECK(c->numa == -1 && c->vram_bytes == 0 && c->bar_bytes == 0 && c->n_bridges == 0);
    CHECK(c->link.generation == 0 && c->link.lanes == 0 && !strcmp(c->link.at, c->slot));
    CHECK(c->sensors.n == 0 && c->sensors.power_most_uw == -1 && c->sensors.energy_uj == -1);
    CHECK(!box.has_dri && box.kernel_major == 0 && box.la57 == DRM_UNKNOWN);
    CHECK_EQ(box.gpusvm, DRM_UNKNOWN);
    tree_drop(&tree);
}

static void a_card_without_a_bridge_aboard_has_its_own_link(void) {
    struct tree tree;
    tree_make(&tree);
    tree_device(&tree, "0000:00:01.0", "0x8086\n", "0x352a\n", "0x060400\n");
    tree_device(&tree, "0000:00:01.0/0000:01:00.0", "0x8086\n", "0xe20b\n", "0x030000\n");
    tree_pcie(&tree, "0000:00:01.0", "8.0 GT/s PCIe\n", "4\n");
    tree_pcie(&tree, "0000:01:00.0", "16.0 GT/s PCIe\n", "16\n");
    /* A switch's bridges are of another maker. */
    tree_device(&tree, "0000:00:01.0/0000:02:00.0", "0x1000\n", "0xc030\n", "0x060400\n");
    tree_device(&tree, "0000:00:01.0/0000:02:00.0/0000:03:00.0", "0x8086\n", "0xe20b\n",
                "0x030000\n");
    tree_set(&tree, "0000:01:00.0", "resource", TREE_BARS_32G);
    tree_set(&tree, "0000:03:00.0", "resource", TREE_BARS_SMALL);
    find(&tree);
    CHECK_EQ(box.n_cards, 2);
    CHECK(!strcmp(box.cards[0].link.at, "0000:01:00.0") && box.cards[0].link.generation == 4);
    CHECK_EQ(box.cards[0].link.lanes, 16);
    CHECK(!strcmp(box.cards[1].link.at, "0000:03:00.0") && box.cards[1].link.generation == 0);
    /* No data sheet: the window, where it is not the small one. */
    CHECK_EQ(box.cards[0].vram_bytes, INT64_C(32) << 30);
    CHECK_EQ(box.cards[1].vram_bytes, 0);
    CHECK_EQ(box.cards[1].bar_bytes, INT64_C(256) << 20);
    tree_drop(&tree);
}

static void a_node_that_may_not_be_opened_says_why(void) {
    struct tree tree;
    char path[PATH_MAX];
    tree_make(&tree);
    tree_eight(&tree);
    snprintf(path, sizeof path, "%s/dev/dri/renderD130", tree.root);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(mkdir(path, 0755), 0); /* it can be opened, but not for writing, by root either */
    find(&tree);
    CHECK_EQ(box.cards[2].render_error, -EISDIR);
    CHECK_EQ(box.cards[3].render_error, 0);
    tree_drop(&tree);
}

static void a_card_that_only_takes_firmware_is_seen(void) {
    struct tree tree;
    tree_make(&tree);
    tree_eight(&tree);
    char slot[SYSFS_SLOT_MAX];
    tree_slot(slot, 6);
    tree_set(&tree, slot, "survivability_mode", "Boot\n");
    find(&tree);
    CHECK_EQ(box.cards[6].survivability, DRM_YES);
    CHECK_EQ(box.cards[5].survivability, DRM_NO);
    tree_drop(&tree);
}

static void a_serial_number_is_read_where_it_is_shown(void) {
    struct tree tree;
    char slot[SYSFS_SLOT_MAX];
    tree_make(&tree);
    tree_eight(&tree);
    tree_slot(slot, 3);
    tree_set(&tree, slot, "serial_number", "a1-b2-c3-d4-e5-f6-07-18\n");
    tree_slot(slot, 4);
    tree_set(&tree, slot, "serial_number", "12\n");
    find(&tree);
    CHECK(!strcmp(box.cards[3].serial, "a1-b2-c3-d4-e5-f6-07-18"));
    CHECK(!box.cards[4].serial[0] && !box.cards[5].serial[0]);
    tree_drop(&tree);
}

#define GUC(found)                                                                                 \
    "GuC firmware: xe/bmg_guc_70.bin\n\tstatus: RUNNING\n\twanted version 70.29.2\n\tfound "       \
    "release version " found "\n\tfound compatibility version 1.22.1\n\nGuC status 0x8002f0ec:\n"

static void versions_of_firmware_are_read_where_they_are_shown(void) {
    struct tree tree;
    char slot[SYSFS_SLOT_MAX];
    tree_make(&tree);
    tree_eight(&tree);
    tree_slot(slot, 2);
    tree_file(&tree, GUC("70.44.1"), "sys/kernel/debug/dri/%s/gt0/uc/guc_info", slot);
    tree_file(&tree, "HuC firmware: \n\tstatus: N/A\n", "sys/kernel/debug/dri/%s/gt0/uc/huc_info",
              slot);
    tree_file(&tree, "HuC firmware: xe/bmg_huc.bin\n\tfound release version 8.2.10\n",
              "sys/kernel/debug/dri/%s/gt1/uc/huc_info", slot);
    tree_set(&tree, slot, "lb_fan_control_version", "203.0.0.0\n");
    tree_set(&tree, slot, "lb_voltage_regulator_version", "not provisioned\n");
    /* Another kernel has it by the node's number, and said it in another way. */
    tree_file(&tree, "GuC firmware: x\n\tversion: wanted 70.5, found 70.6.4\n\tuCode: 3 bytes\n",
              "sys/kernel/debug/dri/3/gt0/uc/guc_info");
    tree_file(&tree, "0123456789ABCDEF0123456\n", "sys/module/xe/srcversion");
    find(&tree);
    const struct drm_firmware *f = &box.cards[2].firmware;
    CHECK(!strcmp(f->guc, "70.44.1") && !strcmp(f->huc, "8.2.10"));
    CHECK(!strcmp(f->fan, "203.0.0.0") && !f->regulator[0]);
    CHECK(!strcmp(box.cards[3].firmware.guc, "70.6.4"));
    CHECK(!box.cards[4].firmware.guc[0] && !box.cards[4].firmware.fan[0]);
    CHECK(!strcmp(box.module, "0123456789ABCDEF0123456"));
    tree_drop(&tree);
}

/* A version that is longer than its place, or none. */
static void a_text_without_a_version_has_none(void) {
    char version[DRM_VERSION_MAX];
    drm_firmware_version("\tfound release version \n1.2.3\n", version);
    CHECK(!version[0]);
    drm_firmware_version("status: RUNNING\n", version);
    CHECK(!version[0]);
    drm_firmware_version("found release version 1111111111.2222222222.3333333333", version);
    CHECK_EQ(strlen(version), DRM_VERSION_MAX - 1);
}

/* The kernel's own copy is compressed. */
static void options_of_the_kernel_are_found_in_three_places(void) {
    static const char *const places[] = {"boot/config-7.2.13-amd64",
                                         "lib/modules/7.2.13-amd64/config", "proc/config.gz"};
    for (int i = 0; i < 3; i++) {
        struct tree tree;
        char path[PATH_MAX], command[192];
        tree_make(&tree);
        tree_eight(&tree);
        snprintf(path, sizeof path, "%s/boot/config-7.2.13-amd64", tree.root);
        CHECK_EQ(unlink(path), 0);
        tree_file(&tree, "CONFIG_PCI_P2PDMA=y\nCONFIG_DRM_XE=m\nCONFIG_DRM_XE_GPUSVM=y\n", "%s",
                  places[i]);
        snprintf(command, sizeof command, "cd %s/proc && mv config.gz config && gzip config",
                 tree.root);
        if (i == 2)
            CHECK_EQ(system(command), 0);
        find(&tree);
        CHECK(box.gpusvm == DRM_YES && box.pagemap == DRM_NO && box.pci_p2pdma == DRM_YES);
        tree_drop(&tree);
    }
}

static void more_cards_than_the_list_holds_are_left_out_and_said(void) {
    struct tree tree;
    char slot[32];
    tree_make(&tree);
    for (int i = 0; i < DRM_CARDS_MAX; i++) {
        snprintf(slot, sizeof slot, "0000:%02x:00.0", i + 1);
        tree_device(&tree, slot, "0x8086\n", "0xe211\n", "0x030000\n");
    }
    find(&tree);
    CHECK(box.n_cards == DRM_CARDS_MAX && !box.more);
    tree_device(&tree, "0000:fe:00.0", "0x8086\n", "0xe211\n", "0x030000\n");
    find(&tree);
    CHECK(box.n_cards == DRM_CARDS_MAX && box.more);
    tree_drop(&tree);
}

static void a_machine_without_pci_has_no_card(void) {
    struct tree tree;
    tree_make(&tree);
    find(&tree);
    CHECK_EQ(box.n_cards, 0);
    tree_device(&tree, "0000:02:00.0", "0x8086\n", "0x1533\n", "0x020000\n");
    find(&tree);
    CHECK_EQ(box.n_cards, 0); /* a network card */
    tree_drop(&tree);
}

CHECK_MAIN(T(eight_cards_are_found_with_their_links), T(the_machine_is_read),
           T(sensors_have_labels_and_may_be_cold), T(what_cannot_be_told_is_unknown),
           T(a_card_without_a_bridge_aboard_has_its_own_link),
           T(a_node_that_may_not_be_opened_says_why), T(a_card_that_only_takes_firmware_is_seen),
           T(a_serial_number_is_read_where_it_is_shown),
           T(versions_of_firmware_are_read_where_they_are_shown),
           T(a_text_without_a_version_has_none), T(options_of_the_kernel_are_found_in_three_places),
           T(more_cards_than_the_list_holds_are_left_out_and_said),
           T(a_machine_without_pci_has_no_card))
