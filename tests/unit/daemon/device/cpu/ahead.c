/* SPDX-License-Identifier: Apache-2.0 */
/* What a waiting member fetches: the weights of the next stage that has any, each byte once. */
#include "daemon/device/cpu/ahead.h"

#include "daemon/device/pack.h"
#include "tests/check.h"
#include "tests/unit/daemon/device/cards.h"

#define COLS 64u /* two atoms */

static const struct activation act = {.forms = FORM_F32, .cols = COLS};

/* A matrix of F32 at `offset`; its rows are padded to whole tiles. */
static struct matrix matrix_at(uint32_t offset, uint32_t rows) {
    return (struct matrix){.type = TENSOR_F32, .rows = rows, .cols = COLS, .offset = offset};
}
static uint64_t bytes_of(const struct matrix *m) {
    return (uint64_t)(m->rows + TILE - 1) / TILE * (COLS / ATOM) * pack_atom_bytes(m->type);
}

static struct op qkv_op(void) {
    return (struct op){.kind = OP_QKV,
                       .qkv = {.act = act,
                               .q = matrix_at(0, 40),
                               .k = matrix_at(16384, 16),
                               .v = matrix_at(24576, 20),
                               .out = {.offset = 8192, .stride = 80}}};
}
static struct op gate_op(void) {
    return (struct op){.kind = OP_GATE_UP,
                       .gate_up = {.act = act,
                                   .gate = matrix_at(0, 72),
                                   .up = matrix_at(32768, 72),
                                   .out = {.forms = FORM_F32, .cols = 96, .f32 = 8192}}};
}
static struct op logits_op(void) {
    return (struct op){
        .kind = OP_LOGITS,
        .logits = {.act = act, .w = matrix_at(4096, 33), .out = {.offset = 8192, .stride = 48}}};
}
static struct op lanes_op(void) {
    return (struct op){.kind = OP_LANES, .lanes = {.act = act, .w = matrix_at(4096, 50)}};
}

static struct device *open_card(void) {
    struct device_options o = {.n_cards = 1, .present = {true}, .n_threads = 3, .max_rows = 8};
    struct device *d = NULL;
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    for (int a = 0; a <= AREA_SCRATCH; a++)
        CHECK_EQ(d->ops->reserve(d, 0, (enum area)a, AREA_BYTES, AREA_BYTES, -1, NULL), 0);
    advise_own(d);
    return d;
}

static void mark(const struct device *d, const struct cpu_run *run, uint8_t *seen) {
    const uint64_t at = (uint64_t)(run->at - d->cards[0].areas[AREA_WEIGHTS].base);
    CHECK(run->bytes == 0 || at + run->bytes <= AREA_BYTES);
    for (uint64_t i = 0; i < run->bytes && at + i < AREA_BYTES; i++)
        seen[at + i]++;
}

/* Of the area, `times` the bytes of the matrices and nothing else were seen. */
static bool seen_times(const uint8_t *seen, const struct matrix *const *matrices, int n,
                       uint32_t times) {
    uint64_t wrong = 0, due = 0, all = 0;
    for (int m = 0; m < n; m++) {
        due += times * bytes_of(matrices[m]);
        for (uint64_t i = 0; i < bytes_of(matrices[m]); i++)
            wrong += seen[matrices[m]->offset + i] != times;
    }
    for (uint64_t i = 0; i < AREA_BYTES; i++)
        all += seen[i];
    return !wrong && all == due;
}

static void check_items(const struct op *op, uint32_t n_rows, const struct matrix *const *matrices,
                        int n, uint32_t times) {
    struct device *d = open_card();
    struct step_params p = {.n_rows = n_rows, .n_outputs = 1};
    static uint8_t seen[AREA_BYTES];
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < cpu_op_items(op, &p); i++) {
        struct cpu_run runs[2];
        CHECK(cpu_op_weights(d, 0, op, i, runs));
        mark(d, &runs[0], seen);
        mark(d, &runs[1], seen);
    }
    CHECK(seen_times(seen, matrices, n, times));
    d->ops->close(d);
}

static void items_read_their_matrices(void) {
    const struct op qkv = qkv_op(), gate = gate_op(), logits = logits_op(), lanes = lanes_op();
    check_items(&qkv, 1, (const struct matrix *[]){&qkv.qkv.q, &qkv.qkv.k, &qkv.qkv.v}, 3, 1);
    check_items(&gate, 1, (const struct matrix *[]){&gate.gate_up.gate, &gate.gate_up.up}, 2, 1);
    check_items(&logits, 1, (const struct matrix *[]){&logits.logits.w}, 1, 1);
    check_items(&lanes, 1, (const struct matrix *[]){&lanes.lanes.w}, 1, 1);
}

/* A panel's rows make every tile an item anew. */
static void many_rows_are_items_panel_by_panel(void) {
    const struct op qkv = qkv_op(), gate = gate_op();
    const struct matrix *const three[] = {&qkv.qkv.q, &qkv.qkv.k, &qkv.qkv.v};
    const struct matrix *const two[] = {&gate.gate_up.gate, &gate.gate_up.up};
    check_items(&qkv, PANEL_ROWS_MAX, three, 3, 1);
    check_items(&qkv, PANEL_ROWS_MAX + 1, three, 3, 2);
    check_items(&gate, 2 * PANEL_ROWS_MAX, two, 2, 2);
    check_items(&gate, 5 * PANEL_ROWS_MAX - 1, two, 2, 5);
}

static void an_operation_without_weights_reads_none(void) {
    struct device *d = open_card();
    struct cpu_run runs[2];
    CHECK_EQ(cpu_op_weights(d, 0, &(struct op){.kind = OP_ROPE_STORE}, 0, runs), 0);
    CHECK_EQ(runs[0].bytes + runs[1].bytes, 0);
    d->ops->close(d);
}

/* Two stages with weights: from the first the members fetch the second's, between them all of it,
 * and from the last nothing. */
static void members_share_the_next_weights(void) {
    struct device *d = open_card();
    struct op ops[] = {qkv_op(), gate_op()};
    const struct program program = {ops, 2};
    struct step_row row = {0};
    const struct step_params p = {.rows = &row, .n_rows = 1};
    static uint8_t seen[AREA_BYTES];
    uint32_t card;
    memset(seen, 0, sizeof seen);
    ops[1].phase = 1;
    CHECK_EQ(d->ops->load(d, &program, NULL), 0);
    CHECK_EQ(d->ops->step(d, &p, &card), 0);
    CHECK_EQ(d->n_stages, 2);
    for (uint32_t member = 0; member < 3; member++) {
        struct ahead ahead;
        ahead_begin(&ahead, d, 0, member);
        for (struct ahead before = ahead; ahead_some(&ahead); before = ahead)
            for (int i = 0; i < 2; i++) {
                /* What an item has left shrinks from its beginning, or is of a new item. */
                const bool fresh = ahead.item != before.item;
                const struct cpu_run *now = &ahead.runs[i];
                struct cpu_run got = {before.runs[i].at, before.runs[i].bytes - now->bytes};
                if (fresh) {
                    struct cpu_run whole[2];
                    cpu_op_weights(d, 0, &ops[1], ahead.item - 1, whole);
                    got = (struct cpu_run){whole[i].at, whole[i].bytes - now->bytes};
                }
                mark(d, &got, seen);
            }
        ahead_begin(&ahead, d, 1, member);
        CHECK(!ahead_some(&ahead));
    }
    CHECK(seen_times(seen, (const struct matrix *[]){&ops[1].gate_up.gate, &ops[1].gate_up.up}, 2,
                     1));
    d->ops->close(d);
}

CHECK_MAIN(T(items_read_their_matrices), T(many_rows_are_items_panel_by_panel),
           T(an_operation_without_weights_reads_none), T(members_share_the_next_weights))
