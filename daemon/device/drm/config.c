/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - the options that the running kernel was built with: a file beside it, or what it shows
 * itself, which is compressed. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/device/drm/drm.h"

/* zlib, where the machine has it: there is no other use for it. */
static int read_compressed(const char *path, char *text, size_t size) {
    void *zlib = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
    void *(*open_it)(const char *path, const char *mode);
    int (*read_it)(void *file, void *to, unsigned n);
    int (*close_it)(void *file);
    int n = -1;
    if (!zlib)
        return n;
    *(void **)&open_it = dlsym(zlib, "gzopen");
    *(void **)&read_it = dlsym(zlib, "gzread");
    *(void **)&close_it = dlsym(zlib, "gzclose");
    void *file = open_it && read_it && close_it ? open_it(path, "rb") : NULL;
    if (file) {
        n = read_it(file, text, (unsigned)size - 1);
        close_it(file);
    }
    dlclose(zlib);
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
