/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.h - the manifests that come with octarc: NAME.json in a folder. */
#ifndef OCTARC_CLIENT_PULL_CATALOG_H
#define OCTARC_CLIENT_PULL_CATALOG_H

#include <limits.h>

#include "client/pull/manifest.h"

#define CATALOG_MAX 256 /* manifests */

struct catalog {
    struct manifest *models; /* owned; by name */
    size_t n;
    char folder[PATH_MAX];
};

/* The folder: `folder` where it is not NULL, else $OCTARC_CATALOG, else the first that exists of
 * ../share/octarc/catalog and ../../models/catalog beside this program and where it was to be
 * installed.  Every manifest is read; one that is wrong or not named as its file is an error.
 *   -ENOENT, -EINVAL, -E2BIG (more than CATALOG_MAX), -ENOMEM, what reading failed with */
int catalog_open(struct catalog *catalog, const char *folder, struct err *err);
void catalog_close(struct catalog *catalog);
const struct manifest *catalog_find(const struct catalog *catalog, const char *name);

/* One manifest of any folder. */
int catalog_read(struct manifest *manifest, const char *path, struct err *err);

#endif
