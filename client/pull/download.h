/* SPDX-License-Identifier: Apache-2.0 */
/* download.h - a resource of the web into an open file, going on where it was interrupted.
 *
 * Only http and https are spoken, and https is not left for http by a redirect.  What is there
 * already is gone on with only where the server says, by If-Range, that it is still the same; else
 * it begins anew.  A connection that breaks or says nothing for a minute is tried again, a few
 * times as long as nothing comes. */
#ifndef OCTARC_CLIENT_PULL_DOWNLOAD_H
#define OCTARC_CLIENT_PULL_DOWNLOAD_H

#include <stdint.h>

#include "client/pull/place.h"

struct err;

struct download {
    const char *url;                     /* borrowed, as are what and user */
    const char *what;                    /* for the bar; NULL: none */
    int fd;                              /* of the file; the resource begins at `at` */
    uint64_t at, have;                   /* bytes of it that are there */
    uint64_t bytes_max;                  /* more is refused */
    uint64_t bytes;                      /* expected, for the bar; 0: as the server says */
    char validator[PLACE_VALIDATOR_MAX]; /* of what is there; in and out */
    void (*begins)(void *user);          /* the validator is known; may be NULL */
    void *user;
    char final_url[2048]; /* out: behind redirects */
};

/* -EBADMSG: more bytes than bytes_max; -EREMOTEIO: the server refuses, by its status; -EIO: it
 * cannot be reached or breaks off again and again; what writing failed with.  err names the URL. */
int download_run(struct download *download, struct err *err);

#endif
