/* SPDX-License-Identifier: Apache-2.0 */
/* sensors.c - temperatures and power, by the driver's hwmon folder. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/device/drm/drm.h"

#define TEMPERATURES_MOST 6 /* numbers above are single memory channels */

static int read_text(const char *folder, const char *name, char *text, size_t size) {
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return sysfs_read(path, text, size);
}

static bool read_number(const char *folder, const char *name, int64_t *value) {
    char text[64];
    return read_text(folder, name, text, sizeof text) > 0 && sysfs_number(text, value);
}

static void read_temperatures(struct drm_sensors *s, const char *folder) {
    for (int i = 1; i <= TEMPERATURES_MOST && s->n < DRM_SENSORS_MAX; i++) {
        char name[32], text[64];
        int64_t milli;
        snprintf(name, sizeof name, "temp%d_input", i);
        if (!read_number(folder, name, &milli) || milli < INT32_MIN || milli > INT32_MAX)
            continue;
        struct drm_temperature *made = &s->temperatures[s->n++];
        made->milli_c = (int32_t)milli;
        snprintf(name, sizeof name, "temp%d_label", i);
        if (read_text(folder, name, text, sizeof text) > 0)
            snprintf(made->label, sizeof made->label, "%.*s", (int)strcspn(text, "\n"), text);
        else
            snprintf(made->label, sizeof made->label, "temp%d", i);
    }
}

static void read_folder(struct drm_sensors *s, const char *folder) {
    static const char *const limits[] = {"power1_max", "power1_cap", "power2_max", "power2_cap"};
    read_temperatures(s, folder);
    for (size_t i = 0; i < sizeof limits / sizeof *limits && s->power_most_uw < 0; i++)
        if (!read_number(folder, limits[i], &s->power_most_uw) || s->power_most_uw == 0)
            s->power_most_uw = -1;
    if (!read_number(folder, "energy1_input", &s->energy_uj) || s->energy_uj < 0)
        s->energy_uj = -1;
}

void drm_read_sensors(struct drm_sensors *sensors, const char *root, const char *slot) {
    char path[PATH_MAX / 2], folder[PATH_MAX];
    struct drm_sensors made = {.power_most_uw = -1, .energy_uj = -1};
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%s/hwmon", root, slot);
    DIR *all = opendir(path);
    for (const struct dirent *entry; all && (entry = readdir(all));) {
        if (strncmp(entry->d_name, "hwmon", 5) != 0)
            continue;
        snprintf(folder, sizeof folder, "%s/%s", path, entry->d_name);
        read_folder(&made, folder);
        break;
    }
    if (all)
        closedir(all);
    *sensors = made;
}
