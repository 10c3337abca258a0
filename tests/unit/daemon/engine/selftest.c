/* SPDX-License-Identifier: Apache-2.0 */
/* A self-test notices what a backend makes wrong: on the cpu backend, as it is and bent. */
#include "daemon/engine/selftest.h"

#include <errno.h>
#include <math.h>

#include "daemon/engine/selftest_program.h"
#include "octarc/error.h"
#include "tests/check.h"

/* All programs take a sanitizer minutes each time: one run of them is watched, that of
 * one_value_that_is_hardly_wrong_is_found(). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SKIP_WATCHED() SKIP("a sanitizer watches one run of all programs only")
#else
#define SKIP_WATCHED()
#endif

static struct device_ops bent;
static struct selftest_kernel made[SELFTEST_KERNELS_MAX];
static uint32_t n_told, n_built, n_steps, n_packs, kernel, wrong_kernel, wrong_tensor, shift;
static float add;
static int step_rc;

static void begun(void *user, uint32_t i, bool built) {
    (void)user;
    kernel = i;
    n_built += built;
}

static void told(void *user, uint32_t i, const struct selftest_kernel *k) {
    (void)user;
    CHECK_EQ(i, n_told);
    made[n_told++] = *k;
}

static const struct selftest_ears ears = {begun, told, NULL, NULL};

static int run(struct err *err) {
    const struct device_options o = {.n_cards = 1, .present = {true}, .n_threads = 1};
    n_told = n_built = n_steps = 0;
    memset(made, 0, sizeof made);
    return selftest_run_kernels(&bent, &o, ISA_PORTABLE, &ears, err);
}

static void bend(void) {
    bent = *device_backend("cpu");
}

static void all_kernels_of_the_cpu_have_the_bits_of_the_portable_ones(void) {
    SKIP_WATCHED();
    struct err err = {{0}};
    bend();
    CHECK_EQ(run(&err), 0);
    CHECK_EQ(n_told, selftest_kernels_count());
    CHECK_EQ(n_built, n_told);
    for (uint32_t i = 0; i < n_told; i++) {
        CHECK_EQ(made[i].verdict, SELFTEST_SAME);
        CHECK(made[i].difference == 0);
    }
}

/* The last one's landing is filled by its program, not by faults. */
static uint64_t fetched_bytes, fault_blocks;

static int watched_step(struct device *d, const struct step_params *p, uint32_t *card) {
    struct device_properties now;
    const int rc = device_backend("cpu")->step(d, p, card);
    CHECK_EQ(device_backend("cpu")->properties(d, 0, &now), 0);
    fetched_bytes = now.fetched_bytes;
    fault_blocks = now.faults;
    CHECK(kernel == selftest_kernels_count() - 1 || now.fetched_bytes == 0);
    return rc;
}

static void weights_in_host_memory_are_fetched(void) {
    struct err err = {{0}};
    bend();
    bent.step = watched_step;
    CHECK_EQ(run(&err), 0);
    CHECK(fetched_bytes > 0);
    CHECK_EQ(fault_blocks, 0);
}

static void each_kernel_has_a_name_of_its_own(void) {
    char a[32], b[32];
    for (uint32_t i = 0; i < selftest_kernels_count(); i++)
        for (uint32_t k = 0; k < i; k++) {
            selftest_kernel_name(i, a);
            selftest_kernel_name(k, b);
            CHECK(strcmp(a, b) != 0 && !strchr(a, '?'));
        }
}

/* The last value of the last step. */
static int bent_step(struct device *d, const struct step_params *p, uint32_t *card) {
    const int rc = device_backend("cpu")->step(d, p, card);
    if (kernel != wrong_kernel || p->n_rows > 1)
        return rc;
    p->logits[p->n_vocab - 1] += add;
    return step_rc ? step_rc : rc;
}

static void one_value_that_is_hardly_wrong_is_found(void) {
    struct err err = {{0}};
    bend();
    bent.step = bent_step;
    wrong_kernel = 7;
    add = 1e-4f;
    CHECK_EQ(run(&err), 0);
    for (uint32_t i = 0; i < n_told; i++)
        CHECK_EQ(made[i].verdict, i == 7 ? SELFTEST_DIFFERS : SELFTEST_SAME);
    CHECK(made[7].difference > 0 && made[7].difference < 1);
}

static void so_is_what_is_no_number(void) {
    SKIP_WATCHED();
    struct err err = {{0}};
    bend();
    bent.step = bent_step;
    wrong_kernel = 20;
    add = NAN;
    CHECK_EQ(run(&err), 0);
    CHECK_EQ(made[20].verdict, SELFTEST_DIFFERS);
    CHECK(isinf(made[20].difference));
}

static void a_card_that_is_lost_is_tried_no_more(void) {
    struct err err = {{0}};
    bend();
    bent.step = bent_step;
    wrong_kernel = 3;
    add = 0;
    step_rc = -ENODEV;
    CHECK_EQ(run(&err), -ENODEV);
    CHECK_EQ(n_told, 4);
    CHECK_EQ(made[3].verdict, SELFTEST_FAILED);
    CHECK(strstr(err.text, "layer of Q8_0: "));
}

static void what_fails_otherwise_does_not_keep_the_rest_from_being_tried(void) {
    SKIP_WATCHED();
    struct err err = {{0}};
    bend();
    bent.step = bent_step;
    wrong_kernel = 3;
    step_rc = -ENOTSUP;
    CHECK_EQ(run(&err), -ENOTSUP);
    CHECK_EQ(n_told, selftest_kernels_count());
    for (uint32_t i = 0; i < n_told; i++)
        CHECK_EQ(made[i].verdict, i == 3 ? SELFTEST_FAILED : SELFTEST_SAME);
}

static int bent_digest(struct device *d, uint32_t card, enum area area, uint64_t at, uint64_t n,
                       uint64_t *digest) {
    const int rc = device_backend("cpu")->digest(d, card, area, at, n, digest);
    CHECK(n > 0);
    *digest ^= kernel == wrong_kernel;
    return rc;
}

/* A card would take whole weights for harmed ones, or harmed ones for whole. */
static void a_digest_that_is_wrong_is_found(void) {
    SKIP_WATCHED();
    struct err err = {{0}};
    bend();
    bent.digest = bent_digest;
    wrong_kernel = 5;
    CHECK_EQ(run(&err), -EBADMSG);
    CHECK(strstr(err.text, "the digest that it takes of its weights is not theirs"));
    CHECK_EQ(n_told, selftest_kernels_count());
    for (uint32_t i = 0; i < n_told; i++)
        CHECK_EQ(made[i].verdict, i == 5 ? SELFTEST_FAILED : SELFTEST_SAME);
}

static int bent_clear(struct device *d, uint32_t card, enum area area, uint64_t at, uint64_t n) {
    n_packs = 0;
    return device_backend("cpu")->clear(d, card, area, at, n);
}

/* Of the tensor that is wrong every byte is, but for the exponents of floats. */
static int bent_pack(struct device *d, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                     uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                     uint32_t skip, const void *blocks, uint64_t row_bytes) {
    uint8_t *copy = malloc(rows * row_bytes);
    CHECK(copy);
    memcpy(copy, blocks, rows * row_bytes);
    if (n_packs++ == wrong_tensor)
        for (uint64_t i = 0; i < rows * row_bytes; i++)
            copy[i] ^= type == TENSOR_F32 && i % 4 == 3 ? 0 : 1;
    const int rc = device_backend("cpu")->pack(d, card, offset, type, vector, range_rows, row_begin,
                                               rows, cols, skip, copy, row_bytes);
    free(copy);
    return rc;
}

/* Another tensor of each program. */
static void choose_tensor(void *user, uint32_t i, bool built) {
    static struct trial_program program;
    const struct trial_layer layer = {.type = TENSOR_F32, .experts = i >= 16 && i < 32};
    (void)user;
    trial_program_make(&program, &bent, &layer);
    wrong_tensor = (i + shift) % program.n_tensors;
    kernel = i;
    n_built += built;
}

/* A program has no part that nothing depends on. */
static void each_tensor_of_each_program_counts(void) {
    SKIP_WATCHED();
    const struct device_options o = {.n_cards = 1, .present = {true}, .n_threads = 1};
    const struct selftest_ears choosing = {choose_tensor, told, NULL, NULL};
    struct err err = {{0}};
    bend();
    bent.pack = bent_pack;
    bent.clear = bent_clear;
    for (shift = 0; shift < 18; shift += 9) {
        n_told = 0;
        CHECK_EQ(selftest_run_kernels(&bent, &o, ISA_PORTABLE, &choosing, &err), 0);
        for (uint32_t i = 0; i < n_told; i++) {
            if (made[i].verdict != SELFTEST_DIFFERS)
                printf("# kernel %u, shift %u\n", i, shift);
            CHECK_EQ(made[i].verdict, SELFTEST_DIFFERS);
        }
    }
}

static struct selftest_report *well(void) {
    struct selftest_report *r = calloc(1, sizeof *r);
    CHECK(r);
    r->found.n_cards = 2;
    r->cpu.n = r->cards[0].kernels.n = r->cards[1].kernels.n = 2;
    for (uint32_t i = 0; i < 2; i++) {
        r->cpu.of[i].verdict = SELFTEST_SAME;
        r->cards[0].kernels.of[i].verdict = r->cards[1].kernels.of[i].verdict = SELFTEST_SAME;
        r->links[i][1 - i].tried = true;
        r->links[i][1 - i].n_exchanges = 2;
        for (uint32_t k = 0; k < 2; k++)
            r->links[i][1 - i].exchanges[k].verdict = SELFTEST_SAME;
    }
    return r;
}

static void all_is_well_only_where_everything_is(void) {
    struct selftest_report *r = well();
    CHECK(selftest_is_well(r));
    for (uint32_t what = 0; what < 12; what++) {
        struct selftest_report *bad = well();
        if (what == 0)
            bad->cpu.of[1].verdict = SELFTEST_DIFFERS;
        if (what == 1)
            bad->cards[1].kernels.of[0].verdict = SELFTEST_UNTRIED;
        if (what == 2)
            bad->cards[1].kernels.n = 0;
        if (what == 3)
            strcpy(bad->cards[0].why, "it is lost");
        if (what == 4)
            strcpy(bad->cards[0].kernels.why, "it hangs");
        if (what == 5)
            bad->links[0][1].tried = false;
        if (what == 6)
            strcpy(bad->links[1][0].why, "it reads wrong bytes");
        if (what == 7)
            strcpy(bad->links_why, "it hangs");
        if (what == 8)
            bad->links[0][1].exchanges[1].verdict = SELFTEST_DIFFERS;
        if (what == 9)
            bad->links[1][0].n_exchanges = 0;
        if (what == 10)
            strcpy(bad->links[1][0].exchanges_why, "a step failed");
        if (what == 11)
            strcpy(bad->exchanges_why, "it hangs");
        CHECK(!selftest_is_well(bad));
        free(bad);
    }
    free(r);
}

CHECK_MAIN(T(all_kernels_of_the_cpu_have_the_bits_of_the_portable_ones),
           T(weights_in_host_memory_are_fetched), T(each_kernel_has_a_name_of_its_own),
           T(one_value_that_is_hardly_wrong_is_found), T(so_is_what_is_no_number),
           T(a_card_that_is_lost_is_tried_no_more), T(a_digest_that_is_wrong_is_found),
           T(what_fails_otherwise_does_not_keep_the_rest_from_being_tried),
           T(each_tensor_of_each_program_counts), T(all_is_well_only_where_everything_is))
