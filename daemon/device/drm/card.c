/* SPDX-License-Identifier: Apache-2.0 */
/* card.c - one card's identity, place and link. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/device/drm/drm.h"
#include "daemon/device/drm/known.h"

#define BAR_VRAM       2 /* where the driver finds the card's memory */
#define VRAM_BAR_LEAST (UINT64_C(1) << 30)

struct device {
    const char *root, *slot;
};

/* 0, or -errno: no such file, or it is not for us. */
static int read_attribute(const struct device *d, const char *name, char *text, size_t size) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/%s", d->root, d->slot, name);
    const int n = sysfs_read(path, text, size);
    return n < 0 ? n : 0;
}

static uint32_t read_hex(const struct device *d, const char *name) {
    char text[32];
    uint32_t value;
    return read_attribute(d, name, text, sizeof text) == 0 && sysfs_hex(text, &value) ? value : 0;
}

/* The last part of where a link of the device points to; empty: there is none. */
static void read_link(const struct device *d, const char *name, char *out, size_t size) {
    char path[PATH_MAX], target[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/%s", d->root, d->slot, name);
    const ssize_t n = readlink(path, target, sizeof target - 1);
    out[0] = '\0';
    if (n <= 0)
        return;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(out, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
}

static enum drm_answer read_redirects(const struct device *d) {
    uint8_t config[4096 + 1];
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/config", d->root, d->slot);
    const int n = sysfs_read(path, (char *)config, sizeof config);
    return n < 0 ? DRM_UNKNOWN : sysfs_redirects(config, (size_t)n);
}

/* Both ways are root's alone. */
static void read_serial(struct drm_card *card, const struct device *d) {
    static const char form[] = "0123456789abcdefABCDEF-";
    uint8_t config[4096 + 1];
    char path[PATH_MAX], text[SYSFS_TEXT_MAX];
    if (read_attribute(d, "serial_number", text, sizeof text) == 0 &&
        strspn(text, form) == SYSFS_SERIAL_MAX - 1) {
        snprintf(card->serial, sizeof card->serial, "%.*s", SYSFS_SERIAL_MAX - 1, text);
        return;
    }
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/config", d->root, d->slot);
    const int n = sysfs_read(path, (char *)config, sizeof config);
    if (n > 0)
        sysfs_serial(config, (size_t)n, card->serial);
}

/* The device's real folder names every bridge above it, the root port first. */
static void read_bridges(struct drm_card *card, const char *root) {
    char path[PATH_MAX], real[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s", root, card->slot);
    if (!realpath(path, real))
        return;
    for (char *at = real + strlen(root), *next; at && *at; at = next) {
        const size_t n = strcspn(at, "/");
        next = at[n] ? at + n + 1 : NULL;
        if (!next || !sysfs_is_slot(at, n) || card->n_bridges == DRM_BRIDGES_MAX)
            continue;
        struct drm_bridge *bridge = &card->bridges[card->n_bridges++];
        snprintf(bridge->slot, sizeof bridge->slot, "%.*s", (int)n, at);
        const struct device d = {root, bridge->slot};
        bridge->vendor = read_hex(&d, "vendor");
        bridge->device = read_hex(&d, "device");
        bridge->redirects = read_redirects(&d);
    }
}

/* The maker's own bridge below another bridge is on the card: a root port hangs below none. */
static bool has_bridges_aboard(const struct drm_card *card) {
    return card->n_bridges >= 2 && card->bridges[card->n_bridges - 1].vendor == DRM_VENDOR_INTEL &&
           card->vendor == DRM_VENDOR_INTEL;
}

static void read_link_of(struct drm_card *card, const char *root) {
    char text[64];
    const char *at =
        has_bridges_aboard(card) ? card->bridges[card->n_bridges - 2].slot : card->slot;
    const struct device d = {root, at};
    struct drm_link *link = &card->link;
    snprintf(link->at, sizeof link->at, "%s", at);
    if (read_attribute(&d, "current_link_speed", text, sizeof text) == 0)
        link->generation = sysfs_generation(text);
    if (read_attribute(&d, "max_link_speed", text, sizeof text) == 0)
        link->generation_most = sysfs_generation(text);
    if (read_attribute(&d, "current_link_width", text, sizeof text) == 0)
        link->lanes = sysfs_lanes(text);
    if (read_attribute(&d, "max_link_width", text, sizeof text) == 0)
        link->lanes_most = sysfs_lanes(text);
}

static int32_t read_small(const char *text) {
    int64_t value;
    return sysfs_number(text, &value) && value >= 0 && value <= INT32_MAX ? (int32_t)value : -1;
}

static void read_place(struct drm_card *card, const struct device *d) {
    char text[SYSFS_TEXT_MAX];
    card->numa = card->iommu_group = -1;
    if (read_attribute(d, "numa_node", text, sizeof text) == 0)
        card->numa = read_small(text);
    if (read_attribute(d, "local_cpulist", text, sizeof text) == 0)
        snprintf(card->cpus, sizeof card->cpus, "%.*s", (int)strcspn(text, "\n"), text);
    read_link(d, "iommu_group", text, sizeof text);
    if (text[0])
        card->iommu_group = read_small(text);
}

/* A data sheet's figure, else the window's size where it is more than the small one that firmware
 * sets up by itself: it may be twice the memory, for it is a power of two. */
static void read_memory(struct drm_card *card, const struct device *d) {
    char text[SYSFS_TEXT_MAX];
    uint64_t bars[SYSFS_BARS];
    const struct known_card *known =
        card->vendor == DRM_VENDOR_INTEL ? known_find(card->device) : NULL;
    if (read_attribute(d, "resource", text, sizeof text) == 0 && sysfs_bars(text, bars))
        card->bar_bytes = bars[BAR_VRAM];
    if (known) {
        snprintf(card->name, sizeof card->name, "%s", known->name);
        card->xe2 = known->xe2;
        card->vram_bytes = known->vram_bytes;
    }
    if (!card->vram_bytes && card->bar_bytes >= VRAM_BAR_LEAST)
        card->vram_bytes = card->bar_bytes;
}

/* The file is there in that mode only, and for root only. */
static enum drm_answer read_survivability(const struct device *d) {
    char text[SYSFS_TEXT_MAX];
    const int rc = read_attribute(d, "survivability_mode", text, sizeof text);
    return rc == -ENOENT ? DRM_NO : rc == 0 && text[0] ? DRM_YES : DRM_UNKNOWN;
}

bool drm_is_bound(const char *root, const char *slot) {
    char driver[64];
    read_link(&(struct device){root, slot}, "driver", driver, sizeof driver);
    return driver[0] != '\0';
}

void drm_read_card(struct drm_card *card, const char *root, const char *slot) {
    *card = (struct drm_card){.vendor = 0};
    snprintf(card->slot, sizeof card->slot, "%s", slot);
    const struct device d = {root, card->slot};
    card->vendor = read_hex(&d, "vendor");
    card->device = read_hex(&d, "device");
    card->revision = read_hex(&d, "revision");
    read_serial(card, &d);
    read_link(&d, "driver", card->driver, sizeof card->driver);
    read_bridges(card, root);
    read_link_of(card, root);
    read_place(card, &d);
    read_memory(card, &d);
    card->survivability = read_survivability(&d);
    drm_read_sensors(&card->sensors, root, slot);
}
