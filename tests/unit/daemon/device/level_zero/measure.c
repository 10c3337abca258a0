/* SPDX-License-Identifier: Apache-2.0 */
/* What cards can do at most.  How fast simulated ones are says nothing; what was read and
 * multiplied for it does. */
#include "daemon/device/level_zero/limits.h"
#include "tests/on_cards.h"

#define GB 1e9

/* Of all words of all cards' weights, as the host finds them. */
static uint32_t words_of(struct device *d, uint32_t n_cards, uint64_t *bytes) {
    const struct device_ops *ops = device_backend("level_zero");
    uint32_t sum = 0;
    *bytes = 0;
    for (uint32_t card = 0; card < n_cards; card++) {
        struct device_properties p;
        CHECK_EQ(ops->properties(d, card, &p), 0);
        const uint64_t n = p.room_bytes[AREA_WEIGHTS];
        uint32_t *all = malloc(n);
        CHECK(all);
        CHECK_EQ(ops->peek(d, card, 0, all, n), 0);
        for (uint64_t i = 0; i < n / 4; i++)
            sum += all[i];
        *bytes += n;
        free(all);
    }
    return sum;
}

static void measures(const char *options, const char *file, uint32_t n_cards, enum split split,
                     enum device_storage storage, const char *isa) {
    begin(options);
    if (!strcmp(isa, "xmx"))
        BOX_NEEDS_MATRIX();
    const struct setup s = {.n_cards = n_cards,
                            .split = split,
                            .storage = storage,
                            .backend = device_backend("level_zero")};
    struct device_limits limits;
    struct loaded l;
    uint64_t bytes;
    load(&l, file, &s);
    const uint64_t want = run_loaded(&l, 16);
    CHECK_EQ(runner_measure(l.runner, &limits), 0);
    CHECK(limits.read_bytes_per_s > 0);
    CHECK(limits.int8_ops_per_s > 0);
    CHECK(!strcmp(limits.isa, isa));
    const uint32_t words = words_of(runner_device(l.runner), n_cards, &bytes);
    CHECK_EQ(limits.weights_bytes, bytes);
    CHECK_EQ(limits.weights_words, words);
    CHECK(words != 0);
    CHECK_EQ(run_loaded(&l, 16), want); /* nothing was written */
    unload(&l);
}

static void the_sweep_reads_every_word_of_the_weights(void) {
    measures("cards=1", "tiny-deep.gguf", 1, SPLIT_LAYER, DEVICE_USM, "xmx");
}

static void of_every_card(void) {
    measures("cards=3 seed=3", "tiny-deep.gguf", 3, SPLIT_LAYER, DEVICE_USM, "xmx");
}

static void of_cards_that_share_layers(void) {
    measures("cards=2 seed=4", "tiny-typed.gguf", 2, SPLIT_TENSOR, DEVICE_USM, "xmx");
}

static void products_are_those_that_steps_make(void) {
    measures("cards=1 xmx=no", "tiny-typed.gguf", 1, SPLIT_LAYER, DEVICE_USM, "dot4");
}

static void so_it_is_without_kernels_for_a_matrix_engine(void) {
    measures("cards=1 xmx=claimed", "tiny-typed.gguf", 1, SPLIT_LAYER, DEVICE_USM, "dot4");
}

/* With what goes wrong meanwhile. */
static void is_refused(const char *words, int want) {
    char path[] = "/tmp/octarc-measure-XXXXXX", options[PATH_MAX];
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    snprintf(options, sizeof options, "cards=2 seed=5 faults=%s", path);
    begin(options);
    const struct setup s = {
        .n_cards = 2, .split = SPLIT_LAYER, .backend = device_backend("level_zero")};
    struct device_limits limits = {.n_threads = 77};
    struct loaded l;
    load(&l, "tiny-deep.gguf", &s);
    CHECK_EQ(write(fd, words, strlen(words)), (ssize_t)strlen(words));
    close(fd);
    char moved[PATH_MAX];
    snprintf(moved, sizeof moved, "%s.new", path);
    CHECK_EQ(rename(path, moved), 0);
    CHECK_EQ(rename(moved, path), 0);
    CHECK_EQ(runner_measure(l.runner, &limits), want);
    CHECK_EQ(limits.n_threads, 77); /* untouched */
    unlink(path);
    unload(&l);
}

static void a_lost_card_measures_nothing(void) {
    is_refused("lose=1@9", -ENODEV);
}

/* A time of what was not done, or of what nobody knows whether it was, is no rate. */
static void nor_does_one_whose_results_do_not_come(void) {
    is_refused("stale=1>h", -EIO);
}

/* ---- what the cards' rates come to ---------------------------------------------------------- */

#define ROWS 1024u
#define COLS 4096u

static struct op matrix_of(uint32_t rows, int32_t layer) {
    struct op op = {.kind = OP_LANES, .layer = layer};
    op.lanes.w = (struct matrix){.type = TENSOR_Q8_0, .rows = rows, .cols = COLS};
    return op;
}

/* Card, phase and rows of each launch. */
static struct device_limits limits(const uint32_t (*of)[3], size_t n, const double *read,
                                   const double *int8) {
    struct op ops[8];
    struct ze_launch launches[8];
    struct device d = {.n_cards = 4, .launches = launches, .n_launches = n};
    struct device_limits found = {0};
    CHECK(n <= 8);
    for (size_t i = 0; i < n; i++) {
        ops[i] = matrix_of(of[i][2], (int32_t)i);
        launches[i] = (struct ze_launch){.card = of[i][0], .phase = of[i][1], .op = &ops[i]};
    }
    limits_of(&d, read, int8, &found);
    return found;
}

#define NEAR(a, b) CHECK(fabs((a) - (b)) < 1e-6 * (b))

static void cards_that_pass_layers_on_have_the_rate_of_one(void) {
    static const uint32_t of[][3] = {{0, 1, ROWS}, {1, 2, ROWS}, {2, 3, ROWS}, {3, 4, ROWS}};
    const double read[CARDS_MAX] = {400 * GB, 400 * GB, 400 * GB, 400 * GB};
    const double int8[CARDS_MAX] = {9 * GB, 9 * GB, 9 * GB, 9 * GB};
    const struct device_limits found = limits(of, 4, read, int8);
    NEAR(found.read_bytes_per_s, 400 * GB);
    NEAR(found.int8_ops_per_s, 9 * GB);
}

static void cards_that_share_them_that_of_all(void) {
    static const uint32_t of[][3] = {{0, 1, ROWS}, {1, 1, ROWS}, {0, 2, ROWS}, {1, 2, ROWS}};
    const double read[CARDS_MAX] = {400 * GB, 400 * GB};
    const double int8[CARDS_MAX] = {9 * GB, 9 * GB};
    const struct device_limits found = limits(of, 4, read, int8);
    NEAR(found.read_bytes_per_s, 800 * GB);
    NEAR(found.int8_ops_per_s, 18 * GB);
}

/* The one that is slower, or has more, is waited for. */
static void and_uneven_ones_less(void) {
    static const uint32_t even[][3] = {{0, 1, ROWS}, {1, 1, ROWS}};
    static const uint32_t more[][3] = {{0, 1, 3 * ROWS}, {1, 1, ROWS}};
    const double read[CARDS_MAX] = {400 * GB, 100 * GB}, same[CARDS_MAX] = {9 * GB, 9 * GB};
    NEAR(limits(even, 2, read, same).read_bytes_per_s, 200 * GB);
    NEAR(limits(more, 2, same, same).int8_ops_per_s, 12 * GB);
}

static void without_programs_it_is_all_there_is(void) {
    const double read[CARDS_MAX] = {400 * GB, 100 * GB};
    NEAR(limits(NULL, 0, read, read).read_bytes_per_s, 500 * GB);
}

CHECK_MAIN(T(the_sweep_reads_every_word_of_the_weights), T(of_every_card),
           T(of_cards_that_share_layers), T(products_are_those_that_steps_make),
           T(so_it_is_without_kernels_for_a_matrix_engine), T(a_lost_card_measures_nothing),
           T(nor_does_one_whose_results_do_not_come),
           T(cards_that_pass_layers_on_have_the_rate_of_one), T(cards_that_share_them_that_of_all),
           T(and_uneven_ones_less), T(without_programs_it_is_all_there_is))
