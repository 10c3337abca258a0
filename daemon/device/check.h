/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - every operation of a program is looked at once, so that a step checks nothing.
 *
 * Of any backend: what it computes with lies inside the areas of its cards, and within limits that
 * the kernels of all backends keep. */
#ifndef OCTARC_DEVICE_CHECK_H
#define OCTARC_DEVICE_CHECK_H

#include "daemon/device/program.h"

struct err;

#define HEAD_DIM_MAX    512 /* values of a head: attention keeps a unit of them */
#define UNIT_HEADS_MAX  32
#define UNIT_VALUES_MAX (2 * HEAD_DIM_MAX)

/* Heads whose attention ends on whole atoms: the unit of work of OP_ATTENTION; 0: too many. */
uint32_t check_unit_heads(uint32_t head_dim);

struct check_box {
    uint32_t n_cards, max_rows;
    struct {
        bool present;
        uint64_t room[AREA_COUNT]; /* of addresses; 0: not reserved */
        uint64_t on_card;          /* where the weights end that are not in host memory */
    } cards[CARDS_MAX];
};

/* -EINVAL: an offset outside its area, phases not ascending, a part that is none ...; -ENOTSUP:
 * more than a limit, which err names with both numbers. */
int programs_check(const struct check_box *box, const struct program *programs, struct err *err);

#endif
