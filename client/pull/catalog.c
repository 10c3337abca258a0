/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "octarc/error.h"

int catalog_read(struct manifest *manifest, const char *path, struct err *err) {
    char *text = malloc(MANIFEST_BYTES_MAX + 1);
    if (!text)
        return err_set(err, -ENOMEM, "no memory to read %s", path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t n = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && n <= MANIFEST_BYTES_MAX) {
        got = read(fd, text + n, MANIFEST_BYTES_MAX + 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    int rc = got < 0 ? err_set(err, -errno, "cannot read %s: %s", path, strerror(errno)) : 0;
    if (fd >= 0)
        close(fd);
    if (!rc && n > MANIFEST_BYTES_MAX)
        rc = err_set(err, -E2BIG, "%s: more than %u bytes", path, MANIFEST_BYTES_MAX);
    if (!rc)
        rc = manifest_read(manifest, text, n, path, err);
    free(text);
    return rc;
}

static bool is_folder(const char *path) {
    DIR *dir = opendir(path);
    if (dir)
        closedir(dir);
    return dir;
}

static void find_folder(const char *folder, char out[PATH_MAX]) {
    static const char *const beside[] = {"../share/octarc/catalog", "../../models/catalog"};
    char self[PATH_MAX];
    const char *set = folder ? folder : getenv("OCTARC_CATALOG");
    if (set && *set) {
        snprintf(out, PATH_MAX, "%s", set);
        return;
    }
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++) {
        const int length = snprintf(out, PATH_MAX, "%.*s/%s", (int)(slash - self), self, beside[i]);
        if (length > 0 && length < PATH_MAX && is_folder(out))
            return;
    }
    snprintf(out, PATH_MAX, "%s", OCTARC_DATADIR "/octarc/catalog");
}

static int is_manifest(const struct dirent *entry) {
    const size_t n = strlen(entry->d_name);
    return n > 5 && entry->d_name[0] != '.' && !strcmp(entry->d_name + n - 5, ".json");
}

static int add(struct catalog *c, const char *file, struct err *err) {
    char path[PATH_MAX + 256];
    struct manifest *grown = realloc(c->models, (c->n + 1) * sizeof *grown);
    if (!grown)
        return err_set(err, -ENOMEM, "no memory for the catalog");
    c->models = grown;
    snprintf(path, sizeof path, "%s/%s", c->folder, file);
    const int rc = catalog_read(&grown[c->n], path, err);
    if (rc)
        return rc;
    const char *name = grown[c->n].name;
    if (strncmp(file, name, strlen(name)) != 0 || strcmp(file + strlen(name), ".json") != 0)
        return err_set(err, -EINVAL, "%s: it names '%s', which is not its file's name", path, name);
    c->n++;
    return 0;
}

int catalog_open(struct catalog *catalog, const char *folder, struct err *err) {
    struct catalog c = {0};
    struct dirent **entries = NULL;
    find_folder(folder, c.folder);
    const int n = scandir(c.folder, &entries, is_manifest, alphasort);
    if (n < 0)
        return err_set(err, -errno, "cannot read the catalog %s: %s", c.folder, strerror(errno));
    int rc = n > CATALOG_MAX ? err_set(err, -E2BIG, "the catalog %s has more than %d manifests",
                                       c.folder, CATALOG_MAX)
                             : 0;
    for (int i = 0; i < n; i++) {
        if (!rc)
            rc = add(&c, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    if (rc) {
        free(c.models);
        return rc;
    }
    *catalog = c;
    return 0;
}

void catalog_close(struct catalog *c) {
    free(c->models);
    *c = (struct catalog){0};
}

const struct manifest *catalog_find(const struct catalog *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->models[i].name, name))
            return &c->models[i];
    return NULL;
}
