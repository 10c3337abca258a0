/* SPDX-License-Identifier: Apache-2.0 */
/* firmware.c - the versions of what runs on a card beside the kernels.  The driver shows those of
 * its controllers in debugfs, to root only; those of the board where the card tells them. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/device/drm/drm.h"

#define GTS 4 /* of a card, at most; the media engine's firmware is not the first one's */

/* "\tfound release version 70.44.1", or "version: wanted 70.5, found 70.6.4" of older drivers. */
void drm_firmware_version(const char *text, char version[DRM_VERSION_MAX]) {
    const char *at = strstr(text, "found release version ");
    if (!at)
        at = strstr(text, ", found ");
    version[0] = '\0';
    if (!at)
        return;
    at += strcspn(at, "0123456789\n");
    snprintf(version, DRM_VERSION_MAX, "%.*s", (int)strspn(at, "0123456789."), at);
}

/* Of the first of its parts that has such a controller. */
static void read_controller(const char *root, const char *folder, const char *name,
                            char version[DRM_VERSION_MAX]) {
    char path[PATH_MAX], text[SYSFS_TEXT_MAX];
    for (int gt = 0; gt < GTS && !version[0]; gt++) {
        snprintf(path, sizeof path, "%s/sys/kernel/debug/dri/%s/gt%d/uc/%s_info", root, folder, gt,
                 name);
        if (sysfs_read(path, text, sizeof text) > 0)
            drm_firmware_version(text, version);
    }
}

/* By its slot, or in older kernels by the number of its node. */
static void read_controllers(struct drm_card *card, const char *root) {
    const char *number = card->primary + strcspn(card->primary, "0123456789");
    const char *const folders[] = {card->slot, number};
    for (int i = 0; i < 2 && folders[i][0]; i++) {
        read_controller(root, folders[i], "guc", card->firmware.guc);
        read_controller(root, folders[i], "huc", card->firmware.huc);
    }
}

static void read_board(const struct drm_card *card, const char *root, const char *name,
                       char version[DRM_VERSION_MAX]) {
    char path[PATH_MAX], text[SYSFS_TEXT_MAX];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/%s", root, card->slot, name);
    if (sysfs_read(path, text, sizeof text) > 0 && isdigit((unsigned char)text[0]))
        snprintf(version, DRM_VERSION_MAX, "%.*s", (int)strspn(text, "0123456789."), text);
}

void drm_read_firmware(struct drm_card *card, const char *root) {
    card->firmware = (struct drm_firmware){{0}, {0}, {0}, {0}};
    if (!card->driver[0])
        return;
    read_controllers(card, root);
    read_board(card, root, "lb_fan_control_version", card->firmware.fan);
    read_board(card, root, "lb_voltage_regulator_version", card->firmware.regulator);
}
