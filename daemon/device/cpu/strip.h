/* SPDX-License-Identifier: Apache-2.0 */
/* strip.h - the sums of lanes, some tiles of columns and some rows at a time.
 *
 * The planes of a step with many rows are far larger than a cache: eight cards that fill theirs,
 * copy them and add them, phase after phase, wait for memory.  But a sum needs no other columns and
 * no other rows than its own, so LANES and COMBINE may follow each other strip by strip, on one
 * thread, while what they made is still near; an EXCHANGE_PLANE between them is a read of the
 * COMBINE (crossings.c).  No sum has another order. */
#ifndef OCTARC_DEVICE_CPU_STRIP_H
#define OCTARC_DEVICE_CPU_STRIP_H

#include "daemon/device/cpu/cpu.h"

/* Tiles [tile, tile + n_tiles) of rows [row, row + n_rows), and where they lie in every plane: tile
 * after tile, tile_rows rows apart, `at` bytes behind the plane's beginning. */
struct strip {
    uint32_t tile, n_tiles;
    uint32_t row, n_rows;
    uint32_t tile_rows;
    uint64_t at;
};

/* What OP_LANES and OP_COMBINE do with a strip; a COMBINE with those of its rows that are in its
 * card's part.  The panel: gathered of the strip's rows; next: the weights that are read then, or
 * NULL. */
void strip_lanes(const struct device *device, uint32_t card, const struct op *op,
                 const struct strip *strip, const struct panel *panel, const uint8_t *next);
void strip_combine(const struct device *device, const struct cpu_task *task,
                   const struct step_params *params, const struct strip *strip);

/* How many phases from this one on may run strip by strip: 0, 2 (LANES, COMBINE) or 3. */
uint32_t strip_phases(const struct device *device, uint32_t phase);
/* Whether a step of so many rows is worth it, and the cells (a tile of a block of rows) that its
 * strips are made of. */
bool strip_wanted(uint32_t n_rows);
uint32_t strip_cells(const struct device *device, uint32_t phase, uint32_t n_rows);

/* What a member has made of a stage: its strips all take the place of its first one, which
 * therefore stays in its cache.  All zero before the first. */
struct strip_place {
    uint64_t at, bytes;
};

/* Cells [begin, end) of the strips that begin with a phase.  0, or what cpu_isolate() returned.
 * *finished: how many are done, none when a hung card has a part in them. */
int strip_run(struct device *device, uint32_t phase, const struct step_params *params,
              uint32_t begin, uint32_t end, struct cpu_work *work, struct strip_place *place,
              uint32_t *finished);

#endif
