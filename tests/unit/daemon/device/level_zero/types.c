/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for matrices of every tensor type, on a simulated card: the bits of the cpu backend.
 */
#include "daemon/device/device.h"
#include "octarc/error.h"
#include "tests/sim_level_zero/box.h"
#include "tests/tensor_noise.h"

#define COLS    512u                /* blocks of 256 */
#define VOCAB   40u                 /* two tiles and a half */
#define ROWS    13u                 /* passes over a tile: one and a part */
#define ROOM    (UINT64_C(3) << 19) /* of a matrix */
#define WEIGHTS (UINT64_C(8) << 20)
#define SCRATCH (UINT64_C(1) << 20)

enum { EMBD, GATE, UP, DOWN, HEAD, MATRICES };

/* Rows of a step: a full pass over a tile and a part of one, a full one, two rows, and one. */
static const uint32_t shapes[] = {ROWS, 8, 2, 1};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static float logits[2][N_SHAPES * ROWS * VOCAB];

static struct matrix matrix_of(uint32_t type, int which) {
    const uint32_t rows = which == EMBD || which == HEAD ? VOCAB : COLS;
    return (struct matrix){
        .offset = (uint64_t)which * ROOM, .type = type, .rows = rows, .cols = COLS};
}

static struct activation activation_at(uint64_t at) {
    return (struct activation){.forms = FORM_Q8 | FORM_F32,
                               .cols = COLS,
                               .q8 = at,
                               .scale = at + 16384,
                               .sum = at + 20480,
                               .f32 = at + 24576};
}

/* A token's row, normed; gate and up; down, lane by lane, added; normed; logits. */
static uint32_t make_program(struct op *ops, uint32_t type, uint64_t ones) {
    const struct rows hidden = {0, COLS}, out = {262144, 64};
    const struct planes slots = {327680, COLS};
    const struct activation a = activation_at(65536), b = activation_at(131072);
    const struct row_part all = {0, 1};
    uint32_t n = 0;
    ops[n++] =
        (struct op){.kind = OP_EMBED,
                    .embed = {.embd = matrix_of(type, EMBD), .vocab_end = VOCAB, .hidden = hidden}};
    ops[n++] = (struct op){
        .kind = OP_NORM,
        .norm = {.hidden = hidden, .weight = ones, .n = COLS, .eps = 1e-5f, .part = all, .act = a}};
    ops[n++] = (struct op){
        .kind = OP_GATE_UP,
        .gate_up = {.act = a, .gate = matrix_of(type, GATE), .up = matrix_of(type, UP), .out = b}};
    ops[n] = (struct op){
        .kind = OP_LANES,
        .lanes = {.act = b, .w = matrix_of(type, DOWN), .lane_end = LANES, .slots = slots}};
    for (uint32_t l = 0; l <= LANES; l++)
        ops[n].lanes.col[l] = l * COLS / LANES;
    memset(ops[n].lanes.slot, NO_SLOT, TREE_NODES);
    ops[n++].lanes.slot[1] = 0;
    ops[n] = (struct op){.kind = OP_COMBINE,
                         .combine = {.out = hidden, .slots = slots, .n = COLS, .part = all}};
    memset(ops[n].combine.slot, NO_SLOT, TREE_NODES);
    ops[n++].combine.slot[1] = 0;
    ops[n++] = (struct op){.kind = OP_NORM,
                           .norm = {.hidden = hidden,
                                    .weight = ones,
                                    .n = COLS,
                                    .eps = 1e-5f,
                                    .outputs = true,
                                    .part = all,
                                    .act = a}};
    ops[n++] = (struct op){.kind = OP_LOGITS,
                           .logits = {.act = a, .w = matrix_of(type, HEAD), .out = out}};
    ops[n++] = (struct op){.kind = OP_EXCHANGE,
                           .exchange = {.kind = EXCHANGE_LOGITS,
                                        .dst = CARD_HOST,
                                        .from = all,
                                        .to = all,
                                        .src_offset = out.offset,
                                        .row_bytes = VOCAB * 4,
                                        .src_stride_bytes = out.stride * 4,
                                        .vocab_end = VOCAB}};
    for (uint32_t i = 0; i < n; i++) {
        ops[i].phase = i;
        ops[i].layer = -1;
    }
    return n;
}

static void pack_all(const struct device_ops *ops, struct device *d, uint32_t type, uint64_t ones) {
    const struct tensor_type_info *info = tensor_type_info(type);
    const uint64_t row_bytes = (uint64_t)COLS / info->block_values * info->block_bytes;
    float weight[COLS];
    noise_state = 88172645463325252u + type;
    for (int which = 0; which < MATRICES; which++) {
        const struct matrix m = matrix_of(type, which);
        uint8_t *blocks = noise_blocks(type, m.rows * row_bytes / info->block_bytes);
        CHECK_EQ(
            ops->pack(d, 0, m.offset, type, false, m.rows, 0, m.rows, COLS, 0, blocks, row_bytes),
            0);
        free(blocks);
    }
    for (uint32_t i = 0; i < COLS; i++)
        weight[i] = 1.0f + noise_float() / 4;
    CHECK_EQ(ops->pack(d, 0, ones, TENSOR_F32, true, 1, 0, 1, COLS, 0, weight, sizeof weight), 0);
}

static void step(const struct device_ops *backend, struct device *d, uint32_t n_rows, float *out) {
    struct step_row rows[ROWS];
    uint32_t page = 0, outputs[ROWS], card = 0;
    const struct step_sequence sequence = {&page, 1};
    for (uint32_t i = 0; i < n_rows; i++) {
        rows[i] = (struct step_row){(int32_t)(i * 7 % VOCAB), i, 0};
        outputs[i] = i;
    }
    const struct step_params p = {.rows = rows,
                                  .n_rows = n_rows,
                                  .sequences = &sequence,
                                  .n_sequences = 1,
                                  .outputs = outputs,
                                  .n_outputs = n_rows,
                                  .n_vocab = VOCAB,
                                  .logits = out};
    CHECK_EQ(backend->step(d, &p, &card), 0);
}

/* A step of each number of rows; what the card says of itself then. */
static struct device_properties run_on(const struct device_ops *backend, uint32_t type,
                                       float *out) {
    const struct device_options o = {
        .n_cards = 1, .present = {true}, .n_threads = 2, .max_rows = ROWS};
    const uint64_t ones = matrix_of(type, MATRICES).offset;
    struct device_properties properties;
    struct op ops[16];
    struct device *d = NULL;
    struct err err = {{0}};
    const struct program programs[CARDS_MAX] = {{ops, make_program(ops, type, ones)}};
    if (backend->open(&d, &o, &err))
        printf("# %s\n", err.text);
    CHECK(d);
    CHECK_EQ(backend->reserve(d, 0, AREA_WEIGHTS, WEIGHTS, WEIGHTS, -1, NULL), 0);
    CHECK_EQ(backend->reserve(d, 0, AREA_SCRATCH, SCRATCH, SCRATCH, -1, NULL), 0);
    pack_all(backend, d, type, ones);
    CHECK_EQ(backend->load(d, programs, &err), 0);
    for (size_t i = 0; i < N_SHAPES; i++, out += ROWS * VOCAB)
        step(backend, d, shapes[i], out);
    CHECK_EQ(backend->properties(d, 0, &properties), 0);
    backend->close(d);
    return properties;
}

/* Returns the card's own word. */
static struct device_properties same_bits(uint32_t type) {
    memset(logits, 0, sizeof logits);
    run_on(device_backend("cpu"), type, logits[0]);
    const struct device_properties p = run_on(device_backend("level_zero"), type, logits[1]);
    for (size_t i = 0; i < N_SHAPES; i++) {
        const float *want = logits[0] + i * ROWS * VOCAB, *got = logits[1] + i * ROWS * VOCAB;
        float most = 0;
        for (uint32_t k = 0; k < shapes[i] * VOCAB; k++)
            most = want[k] > most ? want[k] : most;
        if (memcmp(want, got, shapes[i] * VOCAB * sizeof *got) || !(most > 0))
            printf("# %u rows, tensors of type %s\n", shapes[i], tensor_type_info(type)->name);
        CHECK(most > 0 && most < 1e30f); /* or nothing would be compared */
        CHECK(!memcmp(want, got, shapes[i] * VOCAB * sizeof *got));
    }
    return p;
}

static void every_type(bool xmx) {
    for (size_t t = 0; t < N_NOISE_TYPES; t++)
        CHECK_EQ(same_bits(noise_types[t]).xmx, xmx);
}

static void every_type_has_the_bits_of_the_cpu(void) {
    box_environment("cards=1 memory=64M");
    BOX_NEEDS_MATRIX();
    every_type(true);
}

static void so_it_has_without_a_matrix_engine(void) {
    box_environment("cards=1 memory=64M xmx=no");
    box_needs_kernels();
    every_type(false);
}

static void one_that_cannot_be_used_is_not_used(const char *words, const char *why) {
    box_environment(words);
    box_needs_kernels();
    const struct device_properties p = same_bits(TENSOR_Q4_K);
    printf("# %s\n", p.xmx_why);
    CHECK(!p.xmx && strstr(p.xmx_why, why));
}

static void an_engine_for_other_sub_groups_is_not_used(void) {
    one_that_cannot_be_used_is_not_used("cards=1 memory=64M xmx=narrow", "sub-groups");
}

static void nor_is_one_that_nothing_can_be_built_for(void) {
    one_that_cannot_be_used_is_not_used("cards=1 memory=64M xmx=claimed", "cannot build");
}

static void a_driver_that_refuses_to_be_asked_is_asked_for_less(void) {
    one_that_cannot_be_used_is_not_used("cards=1 memory=64M xmx=refused", "refuses to be asked");
}

/* Whichever runtime is there; tests/sim_level_zero/on_pocl runs them all. */
static void it_has_where_pocl_stands_in(void) {
    if (access(BOX_POCL, R_OK))
        SKIP("no PoCL: package pocl-opencl-icd");
    setenv("OCL_ICD_VENDORS", BOX_POCL, 1);
    box_environment("cards=1 memory=64M");
    const struct device_properties p = same_bits(TENSOR_IQ4_NL);
    CHECK(!p.xmx && strstr(p.xmx_why, "PoCL is given no matrix functions"));
}

CHECK_MAIN(T(every_type_has_the_bits_of_the_cpu), T(so_it_has_without_a_matrix_engine),
           T(it_has_where_pocl_stands_in), T(an_engine_for_other_sub_groups_is_not_used),
           T(nor_is_one_that_nothing_can_be_built_for),
           T(a_driver_that_refuses_to_be_asked_is_asked_for_less))
