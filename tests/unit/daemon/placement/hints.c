/* SPDX-License-Identifier: Apache-2.0 */
/* What the hints of a plan say, beside what the programs of the same plan do. */
#include "daemon/placement/hints.h"

#include "daemon/engine/program.h"
#include "daemon/placement/scratch.h"
#include "tests/planned.h"

struct planned {
    struct model model;
    struct plan plan;
    struct hints hints;
    struct program programs[CARDS_MAX];
};

static void make(struct planned *p, struct model_params shape, uint32_t n_cards, enum split split) {
    *p = (struct planned){.model = {.params = shape}};
    toy_model(&p->model, TENSOR_Q4_0);
    const struct plan_input in = input_for(&p->model, n_cards, UINT64_C(1) << 34, split);
    CHECK_EQ(plan_build(&p->plan, &in, NULL), 0);
    CHECK_EQ(hints_build(&p->hints, &p->model, &p->plan), 0);
}

static void drop(struct planned *p) {
    programs_finish(p->programs);
    hints_finish(&p->hints);
    plan_finish(&p->plan);
    model_finish(&p->model);
}

/* Where the card's own layers begin, of all of the model's. */
static uint64_t kv_begin(const struct planned *p, uint32_t card) {
    const struct plan_card *c = &p->plan.cards[card];
    const uint32_t n = c->layer_end - c->layer_begin;
    return n ? c->layer_begin * (c->kv_bytes / n) : 0;
}

/* The hint in which an offset of a card's area lies. */
static const struct device_advice *find(const struct planned *p, uint32_t card, enum area area,
                                        uint64_t offset) {
    for (size_t i = 0; i < p->hints.n; i++) {
        const struct device_advice *h = &p->hints.all[i];
        if (h->home == card && h->area == area && h->offset <= offset &&
            offset < h->offset + h->bytes)
            return h;
    }
    CHECK(false);
    return NULL;
}

static struct scratch scratch_of(const struct planned *p, uint32_t card) {
    struct scratch s;
    scratch_layout(&s, &p->model, &p->plan, card);
    return s;
}

/* --- examples --- */

static void neighbours_in_a_pipeline_read_hidden_rows_and_nothing_else(void) {
    struct planned p;
    struct model_params shape = toy_smollm2();
    shape.tied = false;
    make(&p, shape, 3, SPLIT_LAYER);
    CHECK(p.plan.cards[0].embd_begin < p.plan.cards[0].embd_end);
    CHECK(p.plan.cards[2].vocab_begin < p.plan.cards[2].vocab_end);
    for (uint32_t c = 0; c < 3; c++) {
        const struct scratch s = scratch_of(&p, c);
        const uint32_t self = 1u << c, next = c < 2 ? 1u << (c + 1) : 0;
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.hidden.offset)->readers, self | next);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.norm.q8)->readers, self);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.qkv.offset)->readers, self);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.slots.offset)->readers, self);
        CHECK_EQ(find(&p, c, AREA_KV, kv_begin(&p, c))->readers, self);
    }
    const struct scratch last = scratch_of(&p, 2);
    CHECK_EQ(find(&p, 2, AREA_SCRATCH, last.logits.offset)->readers, 1u << 2 | READER_HOST);
    drop(&p);
}

static void a_tensor_group_reads_sums_and_norms_of_all_its_cards(void) {
    struct planned p;
    make(&p, toy_smollm2(), 4, SPLIT_TENSOR);
    for (uint32_t c = 0; c < 4; c++) {
        const struct scratch s = scratch_of(&p, c);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.slots.offset)->readers, 0xf);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.norm.q8)->readers, 0xf);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.qkv.offset)->readers, 1u << c);
        CHECK_EQ(find(&p, c, AREA_SCRATCH, s.ffn.q8)->readers, 1u << c);
    }
    drop(&p);
}

static void weights_are_read_mostly_and_by_the_card_that_holds_them(void) {
    struct planned p;
    size_t n = 0;
    make(&p, toy_smollm2(), 2, SPLIT_TENSOR);
    for (size_t i = 0; i < p.hints.n; i++) {
        const struct device_advice *h = &p.hints.all[i];
        CHECK_EQ(h->read_mostly, h->area == AREA_WEIGHTS);
        CHECK_EQ(hint_is_prefetched(h), h->area != AREA_KV);
        if (h->area != AREA_WEIGHTS)
            continue;
        CHECK_EQ(h->readers, 1u << h->home);
        CHECK_EQ(h->offset, p.plan.ranges[n].offset);
        CHECK_EQ(h->bytes, p.plan.ranges[n].bytes);
        n++;
    }
    CHECK_EQ(n, p.plan.n_ranges);
    drop(&p);
}

/* --- any plan --- */

/* In order, without overlap; all bytes but the weights' header are of one hint. */
static void check_covered(const struct planned *p) {
    uint64_t end[CARDS_MAX][AREA_COUNT] = {{0}};
    for (size_t i = 0; i < p->hints.n; i++) {
        const struct device_advice *h = &p->hints.all[i];
        CHECK(i == 0 || h[-1].home < h->home || (h[-1].home == h->home && h[-1].area <= h->area));
        CHECK(h->readers >> h->home & 1);
        CHECK_EQ(h->offset, end[h->home][h->area]     ? end[h->home][h->area]
                            : h->area == AREA_WEIGHTS ? PLAN_WEIGHTS_HEADER
                            : h->area == AREA_KV      ? kv_begin(p, h->home)
                                                      : 0);
        end[h->home][h->area] = h->offset + h->bytes;
    }
    for (uint32_t c = 0; c < p->plan.n_cards; c++) {
        CHECK_EQ(end[c][AREA_WEIGHTS], p->plan.cards[c].weights_bytes);
        CHECK_EQ(end[c][AREA_KV],
                 p->plan.cards[c].kv_bytes ? kv_begin(p, c) + p->plan.cards[c].kv_bytes : 0);
        CHECK_EQ(end[c][AREA_SCRATCH], p->plan.cards[c].scratch_bytes);
    }
}

/* Where an exchange begins to read. */
static uint64_t source_of(const struct op *op, enum area *area) {
    *area = op->exchange.kind == EXCHANGE_KV ? AREA_KV : AREA_SCRATCH;
    if (op->exchange.kind == EXCHANGE_KV)
        return op->exchange.src_kv.offset;
    if (op->exchange.kind == EXCHANGE_ACTIVATION)
        return op->exchange.act_from.forms & FORM_Q8 ? op->exchange.act_from.q8
                                                     : op->exchange.act_from.f32;
    return op->exchange.src_offset;
}

/* What the exchanges read is advised for who reads it; and, but for the sums of lanes, some of
 * which may be empty, nothing else is. */
static void check_exchanges(struct planned *p) {
    uint32_t *unread = calloc(p->hints.n, sizeof *unread);
    CHECK_EQ(programs_compile(p->programs, &p->model, &p->plan, NULL), 0);
    for (size_t i = 0; i < p->hints.n; i++)
        unread[i] = p->hints.all[i].readers & ~(1u << p->hints.all[i].home);
    for (uint32_t c = 0; c < p->plan.n_cards; c++)
        for (size_t i = 0; i < p->programs[c].n_ops; i++) {
            const struct op *op = &p->programs[c].ops[i];
            enum area area;
            if (op->kind != OP_EXCHANGE)
                continue;
            const uint64_t from = source_of(op, &area);
            const struct device_advice *h = find(p, op->exchange.src, area, from);
            const uint32_t reader =
                op->exchange.dst == CARD_HOST ? READER_HOST : 1u << op->exchange.dst;
            CHECK(h->readers & reader);
            unread[h - p->hints.all] &= ~reader;
        }
    for (size_t i = 0; i < p->hints.n; i++) {
        const struct device_advice *h = &p->hints.all[i];
        const struct plan_card *c = &p->plan.cards[h->home];
        if (h->area != AREA_SCRATCH || c->layer_begin == c->layer_end ||
            h->offset != scratch_of(p, h->home).slots.offset)
            CHECK_EQ(unread[i], 0);
    }
    free(unread);
}

static void hints_and_programs_agree_on_any_plan(void) {
    uint32_t built = 0;
    random_state = 77;
    for (int round = 0; round < 400; round++) {
        struct planned p = {.model = {.params = random_shape()}};
        toy_model(&p.model, draw(2) ? TENSOR_Q4_0 : TENSOR_F16);
        const enum split split = draw(2) ? SPLIT_LAYER : SPLIT_TENSOR;
        const struct plan_input in =
            draw(2) ? tight_input(&p.model, 1 + draw(8), split, 256)
                    : input_for(&p.model, 1 + draw(8), UINT64_C(1) << 34, split);
        if (plan_build(&p.plan, &in, NULL) == 0) {
            CHECK_EQ(hints_build(&p.hints, &p.model, &p.plan), 0);
            check_covered(&p);
            check_exchanges(&p);
            built++;
        }
        drop(&p);
    }
    CHECK(built > 200);
}

CHECK_MAIN(T(neighbours_in_a_pipeline_read_hidden_rows_and_nothing_else),
           T(a_tensor_group_reads_sums_and_norms_of_all_its_cards),
           T(weights_are_read_mostly_and_by_the_card_that_holds_them),
           T(hints_and_programs_agree_on_any_plan))
