/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - the options that the running kernel was built with: a file beside it, or what it shows
 * itself, which is compressed. */
#include <limits.h>
#include <stdio.h>
#include <zlib.h>

#include "daemon/device/drm/drm.h"

static int read_compressed(const char *path, char *text, size_t size) {
    gzFile file = gzopen(path, "rb");
    if (!file)
        return -1;
    const int n = gzread(file, text, (unsigned)size - 1);
    gzclose(file);
    if (n >= 0)
        text[n] = '\0';
    return n;
}

bool drm_read_config(const char *root, const char *release, char *text, size_t size) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/boot/config-%s", root, release);
    if (sysfs_read(path, text, size) > 0)
        return true;
    snprintf(path, sizeof path, "%s/lib/modules/%s/config", root, release);
    if (sysfs_read(path, text, size) > 0)
        return true;
    snprintf(path, sizeof path, "%s/proc/config.gz", root);
    return read_compressed(path, text, size) > 0;
}
