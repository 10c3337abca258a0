/* SPDX-License-Identifier: Apache-2.0 */
/* index.h - a wheel in a page of a Python package index (the simple repository API, HTML). */
#ifndef OCTARC_CLIENT_PULL_INDEX_H
#define OCTARC_CLIENT_PULL_INDEX_H

#include <stdbool.h>
#include <stddef.h>

#include "client/pull/sha256.h"

#define INDEX_LINK_MAX 2048
#define INDEX_PAGE_MAX (16u << 20) /* bytes of a page */

struct index_link {
    char href[INDEX_LINK_MAX]; /* as the page has it, without the fragment; may be relative */
    char sha256[SHA256_TEXT];  /* "": the page names none */
};

/* The wheel of this package and version, the first the page has.  False: none. */
bool index_find(const char *page, size_t n, const char *package, const char *version,
                struct index_link *link);

/* As the index writes a package's name: lower case, one dash where there are dashes, dots or
 * underscores.  False: it does not fit. */
bool index_name(const char *package, char *out, size_t size);

#endif
