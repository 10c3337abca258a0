/* SPDX-License-Identifier: Apache-2.0 */
/* recordings.h - steps as lists of commands, appended once for a shape of steps and submitted for
 * each step of it: what differs between these is read from the step's description.
 *
 * Steps take turns at two sets of events: a list begins with the reset of its card's events of the
 * other set, which nobody waits for any more once the host has seen the end of that step. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_RECORDINGS_H
#define OCTARC_DEVICE_LEVEL_ZERO_RECORDINGS_H

#include "daemon/device/level_zero/launches.h"

/* A recording of n rows serves fewer, too: groups beyond the step's rows end at once. */
struct ze_shape {
    uint32_t n_rows, n_outputs, turn;
    uint64_t bytes; /* of the step's description, that are copied */
};

struct ze_recording {
    struct ze_shape shape;
    bool whole;
    uint64_t as_of; /* memory that was freed before it was made is none of its */
    uint64_t used;  /* the last step that used it */
    ze_command_list_handle_t lists[CARDS_MAX]; /* NULL: none yet */
    uint32_t *due[CARDS_MAX];          /* owned; of each receipt: all ones, or 0: no launch */
    uint64_t fetched_bytes[CARDS_MAX]; /* of a step */
};

/* The groups of a launch in a step of that shape; none: it is left out. */
ze_group_count_t recordings_groups(const struct ze_launch *launch, const struct ze_shape *shape);
/* The shape that a step of so many rows is recorded as; a description of so many bytes. */
struct ze_shape recordings_shape(uint32_t n_rows, uint32_t n_outputs, uint64_t bytes,
                                 uint32_t turn);
/* The recording of a shape, made when there is none; of more than RECORDINGS the one that was used
 * longest ago makes room.  No step runs.  What a call returned, *card being whose it was. */
int recordings_find(struct device *device, const struct ze_shape *shape,
                    struct ze_recording **found, uint32_t *card);
/* All of them. */
void recordings_free(struct device *device);

#endif
