/* SPDX-License-Identifier: Apache-2.0 */
/* place.h - a file that comes into a folder: in pieces beside its place, then there in one step.
 *
 * What has come lies in .FILE.part, and .FILE.from says from where, so that an interrupted pull
 * goes on.  A lock keeps two pulls of one file apart.  FILE.ok says of which digest FILE is, so
 * that a large one need not be read again. */
#ifndef OCTARC_CLIENT_PULL_PLACE_H
#define OCTARC_CLIENT_PULL_PLACE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/pull/sha256.h"

#define PLACE_SOURCE_MAX    2560
#define PLACE_VALIDATOR_MAX 512

struct err;

struct place_note {
    char source[PLACE_SOURCE_MAX]; /* one line */
    char
        validator[PLACE_VALIDATOR_MAX]; /* how the server calls this state of it; "": it does not */
    uint32_t parts;                     /* that are there in whole */
    uint64_t parts_bytes;               /* of these */
};

struct place {
    char path[PATH_MAX], part[PATH_MAX], from[PATH_MAX], stamp[PATH_MAX];
    int fd; /* of the part; -1: not open */
};

/* ${XDG_CACHE_HOME:-~/.cache}/octarc/models */
int place_folder(char folder[PATH_MAX], struct err *err);

/* Name the paths only. */
int place_init(struct place *place, const char *folder, const char *file, struct err *err);
/* Make the folder, open and lock the part.  -EBUSY: another pull has it. */
int place_open(struct place *place, struct err *err);
void place_close(struct place *place); /* what has come stays */

/* What is noted of the part; a zeroed note where that is nothing, or of another source. */
void place_read_note(const struct place *place, const char *source, struct place_note *note);
int place_write_note(const struct place *place, const struct place_note *note, struct err *err);

/* Whether the file is there and right.  sha256 "": whether it is there.  bytes 0: not known. */
bool place_has(const struct place *place, uint64_t bytes, const char *sha256);

/* Compare the part with bytes (0: not known) and sha256 ("": not known).  *got, which may be NULL,
 * tells its digest.  -EBADMSG tells both; the part is emptied then. */
int place_check(struct place *place, uint64_t bytes, const char *sha256, char got[SHA256_TEXT],
                struct err *err);
/* Put it in its place, as a file of that digest.  The place is closed. */
int place_finish(struct place *place, const char *sha256, struct err *err);

#endif
