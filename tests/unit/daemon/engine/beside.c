/* SPDX-License-Identifier: Apache-2.0 */
/* Weights are loaded, copied and proven beside steps: with what those leave of the cores. */
#include <sched.h>
#include <stdatomic.h>

#include "daemon/engine/prove.h"
#include "tests/check.h"
#include "tests/unit/daemon/engine/transcript.h"

#define MIXED "tiny-mixed.gguf"

/* The cpu backend, which notes who asks it for something that takes long. */
static struct device_ops noted;
static _Atomic uint32_t behind, before;

static void note(void) {
    if (sched_getscheduler(0) == SCHED_IDLE)
        behind++;
    else
        before++;
}

static int pack(struct device *device, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                uint64_t rows, uint64_t first_row, uint64_t n_rows, uint64_t cols, uint32_t skip,
                const void *blocks, uint64_t stride) {
    note();
    return device_backend("cpu")->pack(device, card, offset, type, vector, rows, first_row, n_rows,
                                       cols, skip, blocks, stride);
}

static int digest_part(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes,
                       uint64_t first_leaf, uint64_t *sum) {
    note();
    return device_backend("cpu")->digest_part(device, card, offset, bytes, first_leaf, sum);
}

static void take_notes(void) {
    noted = *device_backend("cpu");
    noted.pack = pack;
    noted.digest_part = digest_part;
    behind = before = 0;
}

static void what_serves_meanwhile_goes_first(void) {
    struct loaded l;
    struct setup s = {.n_cards = 2, .split = SPLIT_LAYER};
    load(&l, MIXED, &s);
    float *want = transcript(&l, 0, N_TOKENS);
    runner_close(l.runner);
    take_notes();
    s.backend = &noted;
    s.behind = true;
    open_runner(&l, &s);
    CHECK(behind > 0); /* of a busy machine's the caller did some, too */
    float *got = transcript(&l, 0, N_TOKENS);
    same_bits(&l, want, got);
    free(got);
    free(want);
    unload(&l);
}

static void what_is_left_is_proven_behind_the_steps(void) {
    struct loaded l;
    const struct setup s = {.n_cards = 2, .split = SPLIT_LAYER};
    bool whole = false;
    load(&l, MIXED, &s);
    take_notes();
    const struct runner_options o = {.backend = &noted, .before = l.runner};
    CHECK_EQ(prove_left(&o, &whole), 0);
    CHECK(whole);
    CHECK(behind > 0); /* of a busy machine's the caller did some, too */
    unload(&l);
}

static void who_serves_nobody_yet_waits_for_nobody(void) {
    struct loaded l;
    const struct setup s = {.n_cards = 2, .split = SPLIT_LAYER, .backend = &noted};
    take_notes();
    load(&l, MIXED, &s);
    CHECK_EQ(behind, 0);
    CHECK(before > 0);
    unload(&l);
}

CHECK_MAIN(T(what_serves_meanwhile_goes_first), T(what_is_left_is_proven_behind_the_steps),
           T(who_serves_nobody_yet_waits_for_nobody))
