/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h - what a place gets: a resource of the web, what wheels carry, or a local file.
 *
 * Each goes on with what a pull before it has left there.  Errors are those of download.h, zip.h
 * and of the file system; the place stays open. */
#ifndef OCTARC_CLIENT_PULL_FETCH_H
#define OCTARC_CLIENT_PULL_FETCH_H

#include "client/pull/manifest.h"
#include "client/pull/place.h"

#define FETCH_BYTES_MAX (UINT64_C(1) << 42) /* where nobody says how many */

/* bytes 0: not known. */
int fetch_url(struct place *place, const char *url, uint64_t bytes, struct err *err);
/* Of the index with this address. */
int fetch_wheels(struct place *place, const struct manifest *manifest, const char *index,
                 struct err *err);
int fetch_file(struct place *place, const char *path, struct err *err);

#endif
