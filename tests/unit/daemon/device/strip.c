/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of lanes, phase by phase and strip by strip. */
#include <pthread.h>

#include "daemon/device/cpu/cpu.h"
#include "tests/check.h"
#include "tests/unit/daemon/device/cards.h"

#define COLS     32u
#define SUM_ROWS 61u /* two blocks, the second one shorter */
#define SUM_COLS 40u /* three tiles, the last one half empty */

/* Card 0 has lanes 0 to 3, card 1 the others, each an atom of columns; a row's sum is added by the
 * card whose part it is in. */
struct sum {
    struct op ops[2][3];
    struct program programs[CARDS_MAX];
    struct step_row rows[SUM_ROWS];
};

static const uint64_t sum_act = 0, sum_hidden = 8192, sum_planes = 20480;

static uint64_t plane_at(uint32_t slot) {
    return sum_planes + slot * (uint64_t)SUM_ROWS * 48 * sizeof(float);
}

static void make_sum(struct sum *sum) {
    *sum = (struct sum){0};
    for (uint8_t c = 0; c < 2; c++) {
        struct op *ops = sum->ops[c];
        const struct row_part part = {c, 2};
        for (uint32_t i = 0; i < 3; i++)
            ops[i] = (struct op){.phase = i};
        ops[0].kind = OP_LANES;
        ops[0].lanes.act = (struct activation){.forms = FORM_F32, .cols = COLS, .f32 = sum_act};
        ops[0].lanes.w = (struct matrix){.type = TENSOR_F32, .rows = SUM_COLS, .cols = COLS};
        for (uint32_t l = 4u * c + 1; l <= LANES; l++)
            ops[0].lanes.col[l] = COLS;
        memset(ops[0].lanes.slot, NO_SLOT, TREE_NODES);
        ops[0].lanes.slot[2 + c] = (int8_t)c;
        ops[0].lanes.slots = (struct planes){sum_planes, 48};
        ops[1].kind = OP_EXCHANGE;
        ops[1].exchange.kind = EXCHANGE_PLANE;
        ops[1].exchange.src = !c;
        ops[1].exchange.dst = c;
        ops[1].exchange.from = (struct row_part){0, 1};
        ops[1].exchange.to = part;
        ops[1].exchange.src_offset = ops[1].exchange.dst_offset = plane_at(!c);
        ops[1].exchange.row_bytes = 48 * sizeof(float);
        ops[2].kind = OP_COMBINE;
        ops[2].combine.out = (struct rows){sum_hidden, 48};
        ops[2].combine.slots = (struct planes){sum_planes, 48};
        memset(ops[2].combine.slot, NO_SLOT, TREE_NODES);
        ops[2].combine.slot[2] = 0;
        ops[2].combine.slot[3] = 1;
        ops[2].combine.n = SUM_COLS;
        ops[2].combine.part = part;
        sum->programs[c] = (struct program){ops, 3};
    }
}

/* Small whole numbers, so that every sum is exact in any order. */
static float sum_weight(uint32_t card, uint32_t row, uint32_t col) {
    return (float)((card + row * 3 + col * 5) % 7) - 3;
}
static float sum_input(uint32_t card, uint32_t row, uint32_t col) {
    return (float)((card * 2 + row + col * 3) % 5) - 2;
}

static struct device *open_sum(const struct sum *sum, bool isolate) {
    struct device_options o = {.n_cards = 2,
                               .present = {true, true},
                               .n_threads = 3,
                               .max_rows = SUM_ROWS,
                               .isolate = isolate};
    struct device *d = NULL;
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    for (uint32_t c = 0; c < 2; c++) {
        float blocks[SUM_COLS][COLS];
        for (int a = 0; a <= AREA_SCRATCH; a++)
            CHECK_EQ(d->ops->reserve(d, c, (enum area)a, AREA_BYTES, AREA_BYTES, -1, NULL), 0);
        for (uint32_t r = 0; r < SUM_COLS; r++)
            for (uint32_t k = 0; k < COLS; k++)
                blocks[r][k] = sum_weight(c, r, k);
        CHECK_EQ(d->ops->pack(d, c, 0, TENSOR_F32, false, SUM_COLS, 0, SUM_COLS, COLS, 0, blocks,
                              sizeof blocks[0]),
                 0);
        float *act = (float *)(void *)(d->cards[c].areas[AREA_SCRATCH].base + sum_act);
        for (uint32_t i = 0; i < SUM_ROWS * COLS; i++)
            act[i] = sum_input(c, i / COLS, i % COLS);
    }
    advise_own(d);
    for (uint32_t c = 0; c < 2; c++)
        CHECK_EQ(advise(d, c, AREA_SCRATCH, 0x3), 0);
    CHECK_EQ(d->ops->load(d, sum->programs, NULL), 0);
    return d;
}

static int run_sum(struct device *d, const struct sum *sum, uint32_t n_rows) {
    const struct step_params p = {.rows = sum->rows, .n_rows = n_rows};
    uint32_t card;
    for (uint32_t c = 0; c < 2; c++)
        memset(d->cards[c].areas[AREA_SCRATCH].base + sum_hidden, 0, AREA_BYTES - sum_hidden);
    return d->ops->step(d, &p, &card);
}

static float summed(uint32_t row, uint32_t col) {
    float sum = 0;
    for (uint32_t c = 0; c < 2; c++)
        for (uint32_t k = 0; k < COLS; k++)
            sum += sum_weight(c, col, k) * sum_input(c, row, k);
    return sum;
}

/* What is pulled is added where it lies: nothing was written to the slot that it is pulled into. */
static void check_not_copied(const struct device *d, uint32_t card) {
    static const char zeros[SUM_ROWS * 48 * sizeof(float)];
    CHECK(!memcmp(d->cards[card].areas[AREA_SCRATCH].base + plane_at(!card), zeros, sizeof zeros));
}

static void check_sum(const struct device *d, uint32_t n_rows) {
    for (uint32_t c = 0; c < 2; c++) {
        const struct row_part part = {(uint8_t)c, 2};
        const float *hidden = (float *)(void *)(d->cards[c].areas[AREA_SCRATCH].base + sum_hidden);
        for (uint32_t r = 0; r < SUM_ROWS; r++) {
            const bool mine = r >= row_part_begin(part, n_rows) && r < row_part_end(part, n_rows);
            for (uint32_t k = 0; k < 48; k++)
                CHECK(hidden[r * 48 + k] == (mine && k < SUM_COLS ? summed(r, k) : 0));
        }
    }
}

/* Few rows run phase by phase, many strip by strip. */
static void strips_and_phases_sum_every_row_once_on_the_card_of_its_part(void) {
    struct sum sum;
    make_sum(&sum);
    for (int isolate = 0; isolate < 2; isolate++) {
        struct device *d = open_sum(&sum, isolate);
        for (uint32_t n = 1; n <= SUM_ROWS; n++) {
            CHECK_EQ(run_sum(d, &sum, n), 0);
            check_sum(d, n);
            check_not_copied(d, 0);
            check_not_copied(d, 1);
        }
        d->ops->close(d);
    }
}

/* A phase stands between them, so that the plane must be taken away. */
static void a_plane_that_is_not_read_at_once_is_copied(void) {
    struct sum sum;
    make_sum(&sum);
    sum.ops[0][2].phase = sum.ops[1][2].phase = 3;
    for (int isolate = 0; isolate < 2; isolate++) {
        struct device *d = open_sum(&sum, isolate);
        for (uint32_t n = 1; n <= SUM_ROWS; n += 15) {
            CHECK_EQ(run_sum(d, &sum, n), 0);
            check_sum(d, n);
        }
        d->ops->close(d);
    }
}

static struct sum crossing;

static void run_many_rows(struct device *d) {
    if (run_sum(d, &crossing, SUM_ROWS))
        _exit(0);
}

/* What the receiver was not advised to use of the sender's memory it cannot add in isolation. */
static void a_plane_is_read_by_whom_it_is_for(void) {
    struct sum sum;
    make_sum(&sum);
    struct device *d = open_sum(&sum, true);
    crossing = sum;
    CHECK(!crashes(run_many_rows, d));
    for (uint32_t c = 0; c < 2; c++)
        cpu_forget_advice(&d->cards[c], AREA_SCRATCH);
    for (uint32_t c = 0; c < 2; c++)
        CHECK_EQ(advise(d, c, AREA_SCRATCH, 1u << c), 0);
    CHECK(crashes(run_many_rows, d));
    d->ops->close(d);
}

static void a_strip_reads_no_other_card_in_isolation(void) {
    make_sum(&crossing);
    struct device *d = open_sum(&crossing, true);
    const char *base[2] = {d->cards[0].areas[AREA_SCRATCH].base,
                           d->cards[1].areas[AREA_SCRATCH].base};
    CHECK(!crashes(run_many_rows, d));
    /* The program is borrowed: an operation of each kind reaches for the other card's memory. */
    crossing.ops[0][0].lanes.act.f32 += (uint64_t)(base[1] - base[0]);
    CHECK(crashes(run_many_rows, d));
    make_sum(&crossing);
    crossing.ops[1][2].combine.out.offset += (uint64_t)(base[0] - base[1]);
    CHECK(crashes(run_many_rows, d));
    make_sum(&crossing);
    CHECK(!crashes(run_many_rows, d));
    d->ops->close(d);
}

static void *sum_for_ever(void *arg) {
    run_sum(arg, &crossing, SUM_ROWS);
    exit(1);
}

static void a_card_that_hangs_in_a_strip_is_waited_for_and_named(void) {
    struct device_pending p;
    pthread_t thread;
    make_sum(&crossing);
    struct device *d = open_sum(&crossing, false);
    CHECK_EQ(run_sum(d, &crossing, SUM_ROWS), 0);
    d->ops->pending(d, &p);
    CHECK_EQ(p.cards, 0);
    CHECK_EQ(d->ops->hang(d, 1), 0);
    CHECK_EQ(pthread_create(&thread, NULL, sum_for_ever, d), 0);
    CHECK_EQ(pthread_detach(thread), 0);
    p = wait_silent(d, 3 * 6); /* card 0's three operations, in three tiles of two blocks each */
    CHECK_EQ(p.cards, 0x2);
    CHECK_EQ(p.needed, 0x3);
    CHECK_EQ(p.done, 3 * 6);
    fflush(stdout);
    _exit(0); /* the device cannot be closed any more */
}

CHECK_MAIN(T(strips_and_phases_sum_every_row_once_on_the_card_of_its_part),
           T(a_plane_that_is_not_read_at_once_is_copied), T(a_plane_is_read_by_whom_it_is_for),
           T(a_strip_reads_no_other_card_in_isolation),
           T(a_card_that_hangs_in_a_strip_is_waited_for_and_named))
