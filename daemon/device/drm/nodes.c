/* SPDX-License-Identifier: Apache-2.0 */
/* nodes.c - which device nodes belong to which card, and who may open them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xf86drm.h>

#include "daemon/device/drm/drm.h"

static struct drm_card *find_card(struct drm_box *box, const char *slot) {
    for (uint32_t i = 0; i < box->n_cards; i++)
        if (!strcasecmp(box->cards[i].slot, slot))
            return &box->cards[i];
    return NULL;
}

static void take_node(const drmDevice *device, int type, char out[DRM_PATH_MAX]) {
    if (device->available_nodes & 1 << type)
        snprintf(out, DRM_PATH_MAX, "%s", device->nodes[type]);
}

/* The paths only: what libdrm asks of an open node cannot be asked of one in a test. */
static void ask_libdrm(struct drm_box *box) {
    drmDevicePtr devices[64];
    char slot[SYSFS_SLOT_MAX];
    const int n = drmGetDevices2(0, devices, sizeof devices / sizeof *devices);
    for (int i = 0; i < n; i++) {
        if (devices[i]->bustype != DRM_BUS_PCI)
            continue;
        const drmPciBusInfo *at = devices[i]->businfo.pci;
        snprintf(slot, sizeof slot, "%04x:%02x:%02x.%u", at->domain, at->bus, at->dev, at->func);
        struct drm_card *card = find_card(box, slot);
        if (!card)
            continue;
        take_node(devices[i], DRM_NODE_PRIMARY, card->primary);
        take_node(devices[i], DRM_NODE_RENDER, card->render);
    }
    if (n > 0)
        drmFreeDevices(devices, n);
}

/* A tree of a test: nodes that sysfs names, where they are in its /dev. */
static void search_tree(struct drm_card *card, const char *root) {
    char path[PATH_MAX / 2], node[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/drm", root, card->slot);
    DIR *all = opendir(path);
    for (const struct dirent *entry; all && (entry = readdir(all));) {
        const bool renders = !strncmp(entry->d_name, "renderD", 7);
        if ((!renders && strncmp(entry->d_name, "card", 4) != 0) || strlen(entry->d_name) > 16)
            continue;
        snprintf(node, sizeof node, "%s/dev/dri/%s", root, entry->d_name);
        if (access(node, F_OK) == 0)
            snprintf(renders ? card->render : card->primary, DRM_PATH_MAX, "/dev/dri/%.16s",
                     entry->d_name);
    }
    if (all)
        closedir(all);
}

/* access() would not know of what a control group forbids. */
static void try_render(struct drm_card *card, const char *root) {
    char path[PATH_MAX], names[1024];
    struct stat st;
    struct group group, *found;
    if (!card->render[0])
        return;
    snprintf(path, sizeof path, "%s%s", root, card->render);
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    card->render_error = fd < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    if (stat(path, &st) == 0 && st.st_gid != 0 && (st.st_mode & 060) == 060 &&
        !getgrgid_r(st.st_gid, &group, names, sizeof names, &found) && found)
        snprintf(card->render_group, sizeof card->render_group, "%s", group.gr_name);
}

void drm_find_nodes(struct drm_box *box, const char *root) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/dev/dri", root);
    box->has_dri = access(path, F_OK) == 0;
    if (!root[0])
        ask_libdrm(box);
    for (uint32_t i = 0; i < box->n_cards; i++) {
        if (root[0])
            search_tree(&box->cards[i], root);
        try_render(&box->cards[i], root);
    }
}
