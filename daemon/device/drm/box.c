/* SPDX-License-Identifier: Apache-2.0 */
/* box.c - which cards there are, and what of the machine matters to them. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/device/drm/drm.h"
#include "octarc/error.h"

#define CLASS_DISPLAY 0x03u
#define CONFIG_BYTES  (1u << 20) /* of a kernel's configuration; they have a quarter of it */
#define CPU_BYTES     (1u << 16) /* of /proc/cpuinfo: the first processor speaks for all */

static int compare_slots(const void *a, const void *b) {
    return strcasecmp(((const struct drm_card *)a)->slot, ((const struct drm_card *)b)->slot);
}

static bool is_display(const char *root, const char *slot) {
    char path[PATH_MAX], text[32];
    uint32_t class;
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%.16s/class", root, slot);
    return sysfs_read(path, text, sizeof text) > 0 && sysfs_hex(text, &class) &&
           class >> 16 == CLASS_DISPLAY;
}

/* A machine without PCI has no such folder, which is as good as an empty one. */
static int find_cards(struct drm_box *box, const char *root, struct err *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices", root);
    DIR *all = opendir(path);
    if (!all && errno == ENOENT)
        return 0;
    if (!all)
        return err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(all));) {
        if (!sysfs_is_slot(entry->d_name, strlen(entry->d_name)) ||
            !is_display(root, entry->d_name))
            continue;
        box->more |= box->n_cards == DRM_CARDS_MAX;
        if (box->n_cards < DRM_CARDS_MAX)
            drm_read_card(&box->cards[box->n_cards++], root, entry->d_name);
    }
    closedir(all);
    qsort(box->cards, box->n_cards, sizeof *box->cards, compare_slots);
    return 0;
}

static void read_kernel(struct drm_box *box, const char *root) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/sys/kernel/osrelease", root);
    if (sysfs_read(path, box->release, sizeof box->release) < 0)
        box->release[0] = '\0';
    box->release[strcspn(box->release, "\n")] = '\0';
    sysfs_release(box->release, &box->kernel_major, &box->kernel_minor);
    char *text = malloc(CONFIG_BYTES);
    if (!text)
        return;
    if (drm_read_config(root, box->release, text, CONFIG_BYTES)) {
        box->gpusvm = sysfs_option(text, "CONFIG_DRM_XE_GPUSVM");
        box->pagemap = sysfs_option(text, "CONFIG_DRM_XE_PAGEMAP");
        box->pci_p2pdma = sysfs_option(text, "CONFIG_PCI_P2PDMA");
    }
    snprintf(path, sizeof path, "%s/proc/cpuinfo", root);
    if (sysfs_read(path, text, CPU_BYTES) > 0)
        box->la57 = sysfs_flag(text, "flags", "la57");
    free(text);
}

/* In-tree modules have no version of their own, but may have a sum of what they were made of. */
static void read_module(struct drm_box *box, const char *root) {
    static const char *const names[] = {"version", "srcversion"};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/drivers/xe", root);
    box->has_xe = access(path, F_OK) == 0;
    for (int i = 0; i < 2 && !box->module[0]; i++) {
        snprintf(path, sizeof path, "%s/sys/module/xe/%s", root, names[i]);
        if (sysfs_read(path, box->module, sizeof box->module) < 0)
            box->module[0] = '\0';
        box->module[strcspn(box->module, "\n")] = '\0';
    }
}

int drm_find(struct drm_box *box, const char *root, struct err *err) {
    struct drm_box *made = calloc(1, sizeof *made);
    if (!made)
        return err_set(err, -ENOMEM, "no memory to look for cards");
    const int rc = find_cards(made, root, err);
    if (rc == 0) {
        read_kernel(made, root);
        read_module(made, root);
        drm_find_nodes(made, root);
        for (uint32_t i = 0; i < made->n_cards; i++)
            drm_read_firmware(&made->cards[i], root);
        *box = *made;
    }
    free(made);
    return rc;
}
