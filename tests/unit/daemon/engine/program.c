/* SPDX-License-Identifier: Apache-2.0 */
/* Programs as data: what every card must compute and receive, whatever the split. */
#include "daemon/engine/program.h"

#include "daemon/placement/share.h"
#include "tests/check.h"
#include "tests/toy_model.h"

#define MIB (UINT64_C(1) << 20)

static uint64_t one_byte_a_value(uint32_t type, bool vector, uint64_t rows, uint64_t cols) {
    (void)type, (void)vector;
    return (rows * cols + 63) / 64 * 64;
}

static const struct device_ops counting = {.name = "counting", .packed_bytes = one_byte_a_value};

static struct model model;
static struct plan plan;
static struct program programs[CARDS_MAX];

static void compile(struct model_params params, uint32_t n_cards, enum split split) {
    struct plan_input in = {.model = &model,
                            .backend = &counting,
                            .n_cards = n_cards,
                            .split = split,
                            .max_sequences = 2,
                            .max_rows = 32};
    model = (struct model){.params = params};
    toy_model(&model, TENSOR_Q8_0);
    for (uint32_t i = 0; i < n_cards; i++) {
        in.online[i] = true;
        in.capacity_bytes[i] = 4096 * MIB;
    }
    CHECK_EQ(plan_build(&plan, &in, NULL), 0);
    CHECK_EQ(programs_compile(programs, &model, &plan, NULL), 0);
}

static void drop(void) {
    programs_finish(programs);
    plan_finish(&plan);
    model_finish(&model);
}

static uint32_t count(enum op_kind kind, int32_t layer) {
    uint32_t n = 0;
    for (uint32_t c = 0; c < plan.n_cards; c++)
        for (size_t i = 0; i < programs[c].n_ops; i++)
            n += programs[c].ops[i].kind == kind && programs[c].ops[i].layer == layer;
    return n;
}

static void every_kv_head_that_is_read_is_computed_or_copied(void) {
    for (uint32_t n = 1; n <= 8; n++) {
        compile(toy_smollm2(), n, SPLIT_TENSOR);
        for (uint32_t c = 0; c < n; c++) {
            const struct plan_card *pc = &plan.cards[c];
            uint32_t have = 0;
            for (uint32_t g = pc->own_begin; g < pc->own_end; g++)
                have |= 1u << g;
            for (size_t i = 0; i < programs[c].n_ops; i++) {
                const struct op *op = &programs[c].ops[i];
                if (op->kind != OP_EXCHANGE || op->exchange.kind != EXCHANGE_KV || op->layer != 3)
                    continue;
                CHECK_EQ(op->exchange.dst, c);
                const uint32_t g = pc->kv_begin + op->exchange.dst_slot;
                const struct plan_card *from = &plan.cards[op->exchange.src];
                CHECK_EQ(from->kv_begin + op->exchange.src_slot, g);
                CHECK(g >= from->own_begin && g < from->own_end);
                CHECK(!(have >> g & 1));
                have |= 1u << g;
            }
            for (uint32_t g = pc->kv_begin; g < pc->kv_end; g++)
                CHECK(have >> g & 1);
        }
        drop();
    }
}

/* Every node of the tree that any card makes reaches every card that adds the tree. */
static void every_lane_sum_reaches_every_card(void) {
    for (uint32_t n = 1; n <= 8; n++) {
        compile(toy_smollm2(), n, SPLIT_TENSOR);
        for (uint32_t c = 0; c < n; c++) {
            uint32_t filled = 0, wanted = 0;
            for (size_t i = 0; i < programs[c].n_ops; i++) {
                const struct op *op = &programs[c].ops[i];
                if (op->layer != 0)
                    continue;
                if (op->kind == OP_LANES)
                    for (int k = 1; k < TREE_NODES; k++)
                        filled |= op->lanes.slot[k] != NO_SLOT ? 1u << op->lanes.slot[k] : 0;
                if (op->kind == OP_EXCHANGE && op->exchange.kind == EXCHANGE_PLANE) {
                    const uint64_t plane = 32ull * op->exchange.row_bytes;
                    for (size_t k = 0; k < programs[c].n_ops; k++)
                        if (programs[c].ops[k].kind == OP_COMBINE && programs[c].ops[k].layer == 0)
                            filled |= 1u << (op->exchange.dst_offset -
                                             programs[c].ops[k].combine.slots.offset) /
                                                plane;
                }
                if (op->kind == OP_COMBINE) {
                    for (int k = 1; k < TREE_NODES; k++)
                        wanted |= op->combine.slot[k] != NO_SLOT ? 1u << op->combine.slot[k] : 0;
                    CHECK_EQ(filled, wanted);
                    filled = wanted = 0;
                }
            }
        }
        drop();
    }
}

static void phases_do_not_grow_with_cards_of_a_tensor_split(void) {
    uint32_t last[9] = {0};
    for (uint32_t n = 1; n <= 8; n++) {
        compile(toy_smollm2(), n, SPLIT_TENSOR);
        for (uint32_t c = 0; c < n; c++)
            for (size_t i = 0; i < programs[c].n_ops; i++) {
                CHECK(i == 0 || programs[c].ops[i].phase >= programs[c].ops[i - 1].phase);
                last[n] = programs[c].ops[i].phase > last[n] ? programs[c].ops[i].phase : last[n];
            }
        drop();
    }
    /* 30 layers: five exchanges more than on one card, however many cards: K and V, and twice the
     * sums to the card of a row's part and its norm to the others. */
    CHECK(last[2] <= last[1] + 5 * 30 + 4);
    CHECK_EQ(last[8], last[5]); /* both cut groups of heads, so both copy K and V */
}

static void each_layer_is_computed_once_in_a_layer_split(void) {
    compile(toy_smollm2(), 5, SPLIT_LAYER);
    for (int32_t l = 0; l < 30; l++) {
        CHECK_EQ(count(OP_QKV, l), 1);
        CHECK_EQ(count(OP_ATTENTION, l), 1);
        CHECK_EQ(count(OP_GATE_UP, l), 1);
        CHECK_EQ(count(OP_COMBINE, l), 2);
    }
    CHECK_EQ(count(OP_LOGITS, -1), 1);
    drop();
}

/* --- layers that stay in host memory --- */

static void compile_spilled(uint32_t n_cards, uint32_t n_spilled) {
    struct plan_input in = {.model = &model, .backend = &counting};
    compile(toy_smollm2(), n_cards, SPLIT_LAYER);
    for (uint32_t c = 0; c < n_cards; c++) {
        const uint32_t n = plan.cards[c].layer_end - plan.cards[c].layer_begin;
        plan.cards[c].n_spilled = n_spilled < n ? n_spilled : n;
    }
    free(plan.ranges);
    CHECK_EQ(share_ranges(&plan, &in), 0);
    programs_finish(programs);
    CHECK_EQ(programs_compile(programs, &model, &plan, NULL), 0);
}

static const struct matrix *fetched_matrix(const struct op *op) {
    const struct matrix *of = op->kind == OP_QKV       ? &op->qkv.q
                              : op->kind == OP_LANES   ? &op->lanes.w
                              : op->kind == OP_GATE_UP ? &op->gate_up.gate
                                                       : NULL;
    return of && of->fetched ? of : NULL;
}

/* A fetch does not touch the half of the landing that an operation of its phase reads. */
static void check_halves(uint32_t card) {
    const uint64_t half = plan.cards[card].landing_bytes / 2;
    for (size_t i = 0; i < programs[card].n_ops; i++)
        for (size_t k = 0; k < programs[card].n_ops; k++) {
            const struct op *fetch = &programs[card].ops[i], *op = &programs[card].ops[k];
            if (fetch->kind == OP_FETCH && op->phase == fetch->phase && fetched_matrix(op))
                CHECK(fetch->fetch.to / half != fetched_matrix(op)->landing / half);
        }
}

/* A step over two rounds of the program: what a block of the landing holds when it is read. */
static void check_reads(uint32_t card) {
    const struct plan_card *c = &plan.cards[card];
    uint64_t *holds = calloc(c->landing_bytes / LANDING_BLOCK + 1, sizeof *holds);
    for (size_t i = 0; i < 2 * programs[card].n_ops; i++) {
        const struct op *op = &programs[card].ops[i % programs[card].n_ops];
        const struct matrix *w = fetched_matrix(op);
        if (op->kind == OP_FETCH)
            for (uint64_t at = 0; at < op->fetch.bytes; at += LANDING_BLOCK)
                holds[(op->fetch.to + at) / LANDING_BLOCK] = op->fetch.from + at;
        for (uint64_t at = w ? w->landing / LANDING_BLOCK * LANDING_BLOCK : 0;
             w && i >= programs[card].n_ops && at < w->landing + (uint64_t)w->rows * w->cols;
             at += LANDING_BLOCK)
            CHECK_EQ(holds[at / LANDING_BLOCK], at + (w->offset - w->landing));
    }
    free(holds);
}

static void what_is_spilled_is_fetched_once_a_step_and_in_time(void) {
    for (uint32_t n_cards = 1; n_cards <= 3; n_cards++)
        for (uint32_t n = 0; n <= 30; n += n < 5 ? 1 : 5) {
            compile_spilled(n_cards, n);
            for (uint32_t c = 0; c < n_cards; c++) {
                uint64_t bytes = 0;
                for (size_t i = 0; i < programs[c].n_ops; i++) {
                    const struct op *op = &programs[c].ops[i];
                    CHECK(i == 0 || op->phase >= op[-1].phase);
                    bytes += op->kind == OP_FETCH ? op->fetch.bytes : 0;
                }
                CHECK_EQ(bytes, plan.cards[c].spilled_bytes);
                CHECK_EQ(bytes > 0, n > 0);
                if (bytes) {
                    check_halves(c);
                    check_reads(c);
                }
            }
            drop();
        }
}

/* Where every layer is fetched each one's fetch goes on over the whole of the layer before. */
static void a_fetch_goes_beside_the_layer_before(void) {
    compile_spilled(1, 30);
    for (size_t i = 0; i < programs[0].n_ops; i++) {
        const struct op *op = &programs[0].ops[i];
        uint64_t beside = 0;
        if (!fetched_matrix(op) || op->layer == 29)
            continue;
        for (size_t k = 0; k < programs[0].n_ops; k++)
            if (programs[0].ops[k].kind == OP_FETCH && programs[0].ops[k].phase == op->phase)
                beside += programs[0].ops[k].fetch.bytes;
        CHECK(beside > 0);
    }
    drop();
}

CHECK_MAIN(T(every_kv_head_that_is_read_is_computed_or_copied),
           T(every_lane_sum_reaches_every_card), T(phases_do_not_grow_with_cards_of_a_tensor_split),
           T(each_layer_is_computed_once_in_a_layer_split),
           T(what_is_spilled_is_fetched_once_a_step_and_in_time),
           T(a_fetch_goes_beside_the_layer_before))
