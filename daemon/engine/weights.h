/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - fills the cards' weight memory from the model file, or finds it filled.
 *
 * A card's weight memory begins with a header (PLAN_WEIGHTS_HEADER bytes, header.h) that says which
 * file, ranges and layout it holds and a digest of each.  A range that is said to lie where the
 * plan wants it, and has the digest, is kept; all else is cleared, filled, and then said to be
 * there.
 *
 * A card whose memory is the one of the runner before is filled beside what that one uses, of which
 * nothing is written; the header says of both what is there.  A range that any card of the runner
 * before holds just as it is wanted is copied from there when it arrives with its digest; else it
 * is read like any other.
 *
 * The first load leaves a checksum of every few rows of the file; a later one must find the same
 * bytes, or it fails.  What is whole in memory is used without a look at the file. */
#ifndef OCTARC_ENGINE_WEIGHTS_H
#define OCTARC_ENGINE_WEIGHTS_H

#include "daemon/engine/runner.h"

/* Where a card's weights came from; what is neither was read from the file. */
struct weights_origin {
    uint64_t kept_bytes;            /* were there; with the header where that is all */
    uint64_t copied_bytes;          /* from the cards of the runner before … */
    uint64_t from_bytes[CARDS_MAX]; /* … and from which */
};

/* Fill AREA_WEIGHTS of every online card; digests: of every range of the plan, [n_ranges].
 * in_place: its memory is the one that the same card has in the runner before.
 * -ESTALE: the file is not what it was (err names it and the tensor); -EIO: a tensor cannot be read
 * (err names it); -EBADMSG: what is in use in place was harmed; -ECANCELED, -ENOMEM, -E2BIG. */
int weights_load(struct device *device, const struct runner_options *options,
                 const bool in_place[CARDS_MAX], uint64_t *digests,
                 struct weights_origin origin[CARDS_MAX], struct err *err);

/* Read a range of the plan again, into its place, between two steps; it has `digest` then.  As
 * weights_load(); -ESTALE also when the range comes out as another than it was. */
int weights_restore(struct device *device, const struct runner_options *options, uint32_t range,
                    uint64_t digest, struct err *err);

#endif
