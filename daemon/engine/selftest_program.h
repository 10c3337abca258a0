/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_program.h - the programs that a self-test runs: small layers that use every operation of
 * one card, with all their matrices of one tensor type; and pairs of programs that use every
 * exchange between two. */
#ifndef OCTARC_ENGINE_SELFTEST_PROGRAM_H
#define OCTARC_ENGINE_SELFTEST_PROGRAM_H

#include "daemon/device/device.h"

#define TRIAL_COLS     512u /* two blocks of 256 */
#define TRIAL_VOCAB    40u  /* two tiles and a half */
#define TRIAL_ROWS     36u  /* of the first step: more than a page */
#define TRIAL_OPS_MAX  32
#define TRIAL_TENSORS  20
#define TRIAL_EXPERTS  8u
#define TRIAL_USED     2u
#define TRIAL_HEADS    8u
#define TRIAL_KV_HEADS 2u
#define TRIAL_HEAD_DIM 64u
#define TRIAL_PAGES    2u

struct trial_layer {
    uint32_t type; /* of the matrices */
    bool experts;  /* a layer with experts behind the attention, else an FFN */
    enum kv_type kv;
    enum gate gate;
    uint32_t window; /* 0: none */
    float soft_cap;  /* of scores and logits; 0: none */
    /* Not 0: the matrices of what is behind the attention lie in host memory, from this offset of
     * AREA_WEIGHTS on (a multiple of LANDING_BLOCK), and are fetched. */
    uint64_t host_at;
};

/* What lies in AREA_WEIGHTS. */
struct trial_tensor {
    struct matrix matrix;
    bool vector;
};

struct trial_program {
    struct op ops[TRIAL_OPS_MAX];
    uint32_t n_ops;
    struct trial_tensor tensors[TRIAL_TENSORS];
    uint32_t n_tensors;
    uint64_t bytes[AREA_COUNT]; /* that it needs of each area */
};

/* Of card 0; ops is of *program then.  `apart`: of the backend (device_ops). */
void trial_program_make(struct trial_program *program, const struct device_ops *backend,
                        const struct trial_layer *layer);

/* Two that run together: the first makes on card `owner`, the second on card `reader` takes by each
 * kind of exchange, and computes with it.  Of the layer the types count; `experts` and host_at do
 * not. */
void trial_pair_make(struct trial_program of[2], const struct device_ops *backend,
                     const struct trial_layer *layer, uint32_t owner, uint32_t reader);

#endif
