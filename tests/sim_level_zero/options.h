/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - what box of cards the driver shows.
 *
 * Words of the form key=value, parted by blanks or newlines, in the environment variable SIM_ZE;
 * README.md lists them. */
#ifndef OCTARC_SIM_LEVEL_ZERO_OPTIONS_H
#define OCTARC_SIM_LEVEL_ZERO_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_CARDS_MAX 8
#define SIM_PATH_MAX  256

/* The matrix engine: there is one; none; one for sub-groups of 8, as in DG2; or the driver says
 * that there is one and builds nothing for it. */
enum sim_xmx {
    SIM_XMX_YES,
    SIM_XMX_NO,
    SIM_XMX_NARROW,
    SIM_XMX_CLAIMED,
    SIM_XMX_REFUSED,
    SIM_XMX_COUNT
};

struct sim_options {
    unsigned n_cards;
    uint64_t memory_bytes[SIM_CARDS_MAX];
    unsigned minor;                             /* of the specification's version, 1.minor */
    bool reaches[SIM_CARDS_MAX][SIM_CARDS_MAX]; /* [card][whose memory]: peer access */
    unsigned system;                            /* capabilities on the host's own memory */
    enum sim_xmx xmx;
    unsigned ordinal; /* of the first card, in ZE_AFFINITY_MASK */
    unsigned ip;      /* the version of their processor, as ze_device_ip_version_ext_t has it */
    bool strange;     /* images for it are refused */
    bool lazy;        /* commands run while the host waits, not before */
    bool shuffled;    /* commands that nothing orders run in any order */
    uint64_t seed;
    char faults[SIM_PATH_MAX];   /* a file of control.h's words, or "" */
    char counters[SIM_PATH_MAX]; /* a file that counts what is done, or "" */
    char box[SIM_PATH_MAX / 4];  /* whose cards these are, or "": this process's alone */
};

struct sim_control;

/* Defaults, then every word of `text` (may be NULL); those of control.h go to *control.  Returns 0,
 * or -EINVAL and the word that is not understood in *bad, which points into text. */
int sim_options_read(struct sim_options *options, struct sim_control *control, const char *text,
                     const char **bad);

/* A number, K, M or G behind it; *end is what follows. */
bool sim_size_read(const char *text, char **end, uint64_t *out);

#endif
