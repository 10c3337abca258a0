/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - what goes wrong in the box, and when.
 *
 * Words like those of SIM_ZE, in it or in the file that its word faults=PATH names.  The file may
 * be replaced (by rename) while a program runs: within a call, or a few milliseconds of a wait,
 * what it says takes the place of what it said, and counts begin anew.  README.md lists the words.
 */
#ifndef OCTARC_SIM_LEVEL_ZERO_CONTROL_H
#define OCTARC_SIM_LEVEL_ZERO_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim_level_zero/options.h"

#define SIM_HOST SIM_CARDS_MAX /* among the ends of a path */

/* What a path delivers, whatever is reported of it. */
enum sim_lie { SIM_HONEST, SIM_ONES, SIM_STALE };

#define SIM_NOW UINT64_MAX

enum sim_start { SIM_START_WELL, SIM_START_FAILS, SIM_START_CRASHES, SIM_START_HANGS };

/* Counts go down with each call or command; at 1 the next is the one; 0 is never,
 * SIM_NOW as soon as it is read. */
struct sim_control {
    uint64_t lose_in[SIM_CARDS_MAX]; /* calls until the card is lost */
    uint64_t hang_in[SIM_CARDS_MAX]; /* commands until one does not end */
    uint64_t keep_in[SIM_CARDS_MAX]; /* calls of zeKernelSetArgumentValue until one does nothing */
    bool polled_aborts[SIM_CARDS_MAX];
    bool opened_aborts[SIM_CARDS_MAX]; /* in zeInit, unless ZE_AFFINITY_MASK leaves it out */
    bool opened_hangs[SIM_CARDS_MAX];  /* it never returns, likewise */
    bool broken[SIM_CARDS_MAX];
    bool deaf[SIM_CARDS_MAX];             /* to advice and prefetch, which report success */
    bool keeps_in[SIM_CARDS_MAX];         /* its memory is not exported */
    bool keeps_out[SIM_CARDS_MAX];        /* nor is any imported, though it says that it can be */
    bool leaves[SIM_CARDS_MAX];           /* a descriptor that it imports is open afterwards */
    enum sim_lie imports[SIM_CARDS_MAX];  /* what is imported, whatever is reported of it */
    uint64_t memory_bytes[SIM_CARDS_MAX]; /* 0: what SIM_ZE says */
    uint64_t degrees[SIM_CARDS_MAX];      /* Celsius; 0: as when idle */
    bool claimed[SIM_CARDS_MAX][SIM_CARDS_MAX];
    enum sim_lie lies[SIM_CARDS_MAX + 1][SIM_CARDS_MAX + 1]; /* [from][to] */
    bool slow[SIM_CARDS_MAX][SIM_CARDS_MAX];                 /* [owner][reader] */
    enum sim_start start;
};

/* One word; false when it is none of these. */
bool sim_control_word(struct sim_control *control, const char *key, const char *value);

/* What is to happen now.  The driver's lock is held. */
void sim_control_apply(void);

/* Whether this is the call or command that a count was set to. */
bool sim_control_count(uint64_t *count);

/* Reads the file anew if it is another than it was.  The driver's lock is held. */
void sim_control_poll(void);

#endif
