/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the state directory: what the service knows over a restart.
 *
 * One file, cards.json, replaced as a whole: written beside it, flushed to the disk, renamed.  That
 * is done on a thread of the loop's pool; the loop never waits for a disk.  Threads: one, the
 * loop's. */
#ifndef OCTARC_SERVICE_STATE_H
#define OCTARC_SERVICE_STATE_H

#include <limits.h>
#include <uv.h>

#include "daemon/service/card_file.h"
#include "daemon/util/buffer.h"

#define STATE_FILE      "cards.json"
#define STATE_BYTES_MAX (4u << 20)

struct state {
    uv_loop_t *loop; /* borrowed */
    char dir[PATH_MAX];
    bool kept;                 /* there is a directory */
    struct cards_known *known; /* owned */
    uv_work_t work;
    struct buffer text; /* that is being written */
    int rc;
    bool busy, again, failed; /* failed: the last time, which was said */
};

/* The directory: `dir` (key state_dir), which is made where it is missing; where that is empty the
 * first one of $STATE_DIRECTORY, which systemd sets; else none, which is said once. -ENOMEM, or
 * what making or opening the directory failed with; err names it */
int state_open(struct state *state, uv_loop_t *loop, const char *dir, struct err *err);
/* Read the file; one that cannot be read is said, moved aside and forgotten. */
void state_load(struct state *state);
/* What is known of the card with this identity; NULL: nothing. */
const struct card *state_find(const struct state *state, const char *identity);
/* The card changed: write the file soon. */
void state_save(struct state *state, const struct card *card);
/* What is known of the links between cards, of the box that it was found with. */
const struct links_known *state_links(const struct state *state);
/* Other things are known: write the file soon. */
void state_save_links(struct state *state, const struct links_known *links);
/* When the loop has ended. */
void state_finish(struct state *state);

#endif
