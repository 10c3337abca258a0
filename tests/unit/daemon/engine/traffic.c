/* SPDX-License-Identifier: Apache-2.0 */
/* What a step carries over each peer link, against what its exchanges copy row by row. */
#include "daemon/engine/traffic.h"

#include "daemon/engine/program.h"
#include "tests/planned.h"

#define ROWS 9u

static struct model model;
static struct plan plan;
static struct program programs[CARDS_MAX];
static struct traffic traffic;
static struct step_row rows[ROWS];
static uint32_t outputs[ROWS];

static void compile(struct model_params shape, uint32_t n_cards, enum split split) {
    model = (struct model){.params = shape};
    toy_model(&model, TENSOR_Q8_0);
    const struct plan_input in = input_for(&model, n_cards, UINT64_C(1) << 34, split);
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    CHECK_EQ(programs_compile(programs, &model, &plan, NULL), 0);
    CHECK_EQ(traffic_build(&traffic, programs), 0);
}

static void drop(void) {
    traffic_finish(&traffic);
    programs_finish(programs);
    plan_finish(&plan);
    model_finish(&model);
}

/* Of `n` rows of any tokens, some of which want logits. */
static struct step_params any_step(uint32_t n) {
    struct step_params p = {.rows = rows, .n_rows = n, .outputs = outputs};
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = (struct step_row){(int32_t)draw(model.params.n_vocab), i, 0};
        if (draw(2))
            outputs[p.n_outputs++] = i;
    }
    return p;
}

static bool wants_logits(const struct step_params *p, uint32_t row) {
    for (uint32_t i = 0; i < p->n_outputs; i++)
        if (p->outputs[i] == row)
            return true;
    return false;
}

/* Bytes of one row that an exchange copies, by what program.h says of it; 0: not this row. */
static uint64_t copied(const struct op *op, const struct step_params *p, uint32_t row) {
    const struct row_part parts[2] = {op->exchange.from, op->exchange.to};
    for (int i = 0; i < 2; i++)
        if (row < row_part_begin(parts[i], p->n_rows) || row >= row_part_end(parts[i], p->n_rows))
            return 0;
    const struct activation *act = &op->exchange.act_to;
    const uint32_t token = (uint32_t)p->rows[row].token;
    switch (op->exchange.kind) {
    case EXCHANGE_OUTPUTS:
        return wants_logits(p, row) ? op->exchange.row_bytes : 0;
    case EXCHANGE_TOKENS:
        return token >= op->exchange.vocab_begin && token < op->exchange.vocab_end
                   ? op->exchange.row_bytes
                   : 0;
    case EXCHANGE_ACTIVATION: /* a byte a value, a scale and a sum of 32 of them */
        return (act->forms & FORM_Q8 ? act->cols + act->cols / 32 * (4 + 4) : 0) +
               (act->forms & FORM_F32 ? act->cols * 4 : 0);
    case EXCHANGE_KV: /* f16 */
        return 2ull * op->exchange.head_dim * 2;
    case EXCHANGE_LOGITS:
        return 0;
    default:
        return op->exchange.row_bytes;
    }
}

static void check_step(const struct step_params *p) {
    struct link_bytes want = {{{0}}}, got = {{{0}}};
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        for (size_t i = 0; i < programs[c].n_ops; i++)
            for (uint32_t row = 0; row < p->n_rows; row++) {
                const struct op *op = &programs[c].ops[i];
                if (op->kind == OP_EXCHANGE && op->exchange.dst != CARD_HOST)
                    want.n[op->exchange.src][op->exchange.dst] += copied(op, p, row);
            }
    traffic_add(&traffic, p, &got);
    for (uint32_t from = 0; from < CARDS_MAX; from++)
        for (uint32_t to = 0; to < CARDS_MAX; to++)
            CHECK_EQ(got.n[from][to], want.n[from][to]);
}

static void bytes_are_those_of_the_exchanges_for_any_plan_and_step(void) {
    random_state = 4;
    for (int round = 0; round < 120; round++) {
        compile(random_shape(), 1 + draw(8), draw(2) ? SPLIT_LAYER : SPLIT_TENSOR);
        for (int i = 0; i < 5; i++) {
            const struct step_params p = any_step(1 + draw(ROWS));
            check_step(&p);
        }
        drop();
    }
}

/* 576 values of f32 a row go from card to card, the residual stream; the last card has the head. */
static void a_pipeline_hands_its_rows_on(void) {
    struct model_params shape = toy_smollm2();
    struct link_bytes got = {{{0}}};
    shape.tied = false;
    compile(shape, 3, SPLIT_LAYER);
    const struct step_params p = any_step(7);
    traffic_add(&traffic, &p, &got);
    for (uint32_t from = 0; from < CARDS_MAX; from++)
        for (uint32_t to = 0; to < CARDS_MAX; to++)
            CHECK_EQ(got.n[from][to], from < 2 && to == from + 1 ? 7 * 576 * 4 : 0);
    drop();
}

static void alike_exchanges_are_one_entry(void) {
    compile(toy_smollm2(), 8, SPLIT_TENSOR);
    size_t n = 0;
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        for (size_t i = 0; i < programs[c].n_ops; i++)
            n += programs[c].ops[i].kind == OP_EXCHANGE;
    CHECK(n > 5000);
    CHECK(traffic.n <= 8 * 7 * 5); /* pairs of cards, kinds of parts */
    drop();
}

CHECK_MAIN(T(bytes_are_those_of_the_exchanges_for_any_plan_and_step),
           T(a_pipeline_hands_its_rows_on), T(alike_exchanges_are_one_entry))
