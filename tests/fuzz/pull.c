/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a page of a package index and as a manifest of the catalog. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/pull/index.h"
#include "client/pull/manifest.h"
#include "octarc/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(bool holds) {
    if (!holds)
        abort();
}

static void check_manifest(const struct manifest *m) {
    char part[MANIFEST_NAME_MAX + 16];
    check(*m->name && *m->file && !strchr(m->name, '/') && !strchr(m->file, '/'));
    check(strlen(m->sha256) == SHA256_TEXT - 1);
    check(*m->url ? !*m->package : *m->package && *m->version && *m->member && m->parts);
    manifest_part(m->package, m->parts, 2, part, sizeof part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct index_link link;
    struct manifest manifest;
    struct err err;
    char *text = malloc(n + 1);
    check(text);
    memcpy(text, data, n);
    text[n] = 0;
    if (index_find(text, n, "a-b", "1.0", &link))
        check(*link.href && (!*link.sha256 || strlen(link.sha256) == SHA256_TEXT - 1));
    const int rc = manifest_read(&manifest, text, n, "fuzz.json", &err);
    if (rc == 0)
        check_manifest(&manifest);
    free(text);
    return 0;
}
