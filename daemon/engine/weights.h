/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - fills the cards' weight memory from the model file, or finds it filled.
 *
 * A card's weight memory begins with a header (PLAN_WEIGHTS_HEADER bytes) that says which file and
 * which ranges it holds and a digest of each.  The header is written last: memory whose header is
 * missing, of another file, plan or layout, or whose digests do not match is filled again.
 *
 * A range that a card of the runner before holds just as it is wanted is copied from there when its
 * digest is still the one in that card's header; else it is read like any other.
 *
 * The first load leaves a checksum of every few rows of the file; a later one must find the same
 * bytes, or it fails.  What is whole in memory is used without a look at the file. */
#ifndef OCTARC_ENGINE_WEIGHTS_H
#define OCTARC_ENGINE_WEIGHTS_H

#include "daemon/engine/runner.h"

/* Where a card's weights came from; what is neither was read from the file. */
struct weights_origin {
    bool reused;                    /* its memory was found whole */
    uint64_t copied_bytes;          /* from the cards of the runner before … */
    uint64_t from_bytes[CARDS_MAX]; /* … and from which */
};

/* Fill AREA_WEIGHTS of every online card.
 * -ESTALE: the file is not what it was (err names it and the tensor); -EIO: a tensor cannot be read
 * (err names it); -ECANCELED, -ENOMEM, -E2BIG. */
int weights_load(struct device *device, const struct runner_options *options,
                 struct weights_origin origin[CARDS_MAX], struct err *err);

/* The digest of every range of the plan as the cards' headers have them, [n_ranges]; the caller
 * frees them.  -EBADMSG: a header is not whole; -ENODEV, -ENOMEM. */
int weights_digests(struct device *device, const struct runner_options *options,
                    uint64_t **digests);
/* The digests in one card's header; n: how many ranges it must have; the caller frees them.
 * -EBADMSG: the header is not whole; -ENODEV, -ENOMEM. */
int weights_card_digests(const struct device_ops *ops, struct device *device, uint32_t card,
                         uint64_t n, uint64_t **digests);
/* Read a range of the plan again, into its place, between two steps; it has `digest` then.  As
 * weights_load(); -ESTALE also when the range comes out as another than it was. */
int weights_restore(struct device *device, const struct runner_options *options, uint32_t range,
                    uint64_t digest, struct err *err);

#endif
