/* SPDX-License-Identifier: Apache-2.0 */
/* sums.h - the checksums of the model file's tensors, which outlive an engine as the weights do.
 *
 * The first load leaves one of every SUM_ROWS rows of a tensor; whatever is read later must match.
 * What was kept says of which file it is: checksums of another one, or of another state of it, are
 * none.
 * Threads: sums_match() from any number at once, for rows of their own or the same; the rest from
 * one. */
#ifndef OCTARC_ENGINE_SUMS_H
#define OCTARC_ENGINE_SUMS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/util/identity.h"
#include "octarc/model.h"

#define SUM_ROWS 16u /* of a tensor that share a checksum */

struct sums {
    _Atomic uint64_t *of; /* one tensor after the other; 0: those rows have not been read yet */
    size_t *first;        /* of each tensor */
    size_t n;
    bool known; /* they are those of an earlier engine */
};

/* From fd (-1: nothing is kept), where they are whole and of this file; else none is known.
 * -ENOMEM. */
int sums_read(struct sums *sums, const struct model *model, const struct file_identity *file,
              int fd);
/* 0, also without a descriptor; -EIO. */
int sums_write(const struct sums *sums, const struct file_identity *file, int fd);
void sums_finish(struct sums *sums);

/* Whether rows [row, end) of a tensor are the ones that were read first, by this engine or an
 * earlier one; what is new is noted.  row is a multiple of SUM_ROWS. */
bool sums_match(struct sums *sums, uint32_t tensor, const char *bytes, uint64_t row, uint64_t end,
                uint64_t row_bytes);

/* All n bytes.  -ESTALE: the file ends before; else as pread(). */
int sums_pread(int fd, char *bytes, uint64_t n, uint64_t offset);

#endif
