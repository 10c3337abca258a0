/* SPDX-License-Identifier: Apache-2.0 */
/* Programs are looked at before weights are read, and a limit that one passes is named. */
#include "daemon/device/check.h"

#include "daemon/engine/program.h"
#include "tests/loaded_model.h"

#define EXPERTS "tiny-qwen3moe.gguf"

static struct device_ops own;
static uint32_t n_packed;

static int pack(struct device *device, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    __atomic_fetch_add(&n_packed, 1, __ATOMIC_RELAXED);
    return device_backend("cpu")->pack(device, card, offset, type, vector, range_rows, row_begin,
                                       rows, cols, col_skip, blocks, row_bytes);
}

static struct op *first(struct program *program, enum op_kind kind) {
    for (size_t i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == kind)
            return &program->ops[i];
    CHECK(!"there is such an operation");
    return NULL;
}

static void pass_heads(struct program *p) {
    first(p, OP_ATTENTION)->attention.head_dim = HEAD_DIM_MAX + 32;
}
static void pass_experts(struct program *p) {
    first(p, OP_ROUTE)->route.router.rows = EXPERTS_MAX + 1;
}
static void pass_used(struct program *p) {
    first(p, OP_ROUTE)->route.routes.n_used = USED_MAX + 1;
}
static void pass_experts_of_a_card(struct program *p) {
    first(p, OP_DISPATCH)->dispatch.hits.n_experts = EXPERTS_MAX + 1;
}
static void leave_scratch(struct program *p) {
    first(p, OP_QKV)->qkv.out.offset = UINT64_C(1) << 40;
}
static void leave_weights(struct program *p) {
    first(p, OP_LANES)->lanes.w.offset = UINT64_C(1) << 40;
}
static void turn_back(struct program *p) {
    p->ops[p->n_ops - 1].phase = 0;
}
static void leave_planes(struct program *p) {
    first(p, OP_COMBINE)->combine.slots.offset = UINT64_C(1) << 40;
}
static void go_to_no_card(struct program *p) {
    first(p, OP_EXCHANGE)->exchange.src = CARDS_MAX;
}
static void leave_exchange(struct program *p) {
    first(p, OP_EXCHANGE)->exchange.src_offset = UINT64_C(1) << 40;
}

static const struct {
    void (*harm)(struct program *program);
    int rc;
    const char *says;
} harms[] = {
    {pass_heads, -ENOTSUP, "values of a head: 544, at most 512"},
    {pass_experts, -ENOTSUP, "experts of a layer: 513, at most 512"},
    {pass_used, -ENOTSUP, "experts that a row uses: 65, at most 64"},
    {pass_experts_of_a_card, -ENOTSUP, "experts of a card: 513, at most 512"},
    {leave_scratch, -EINVAL, "is not sound"},
    {leave_weights, -EINVAL, "is not sound"},
    {turn_back, -EINVAL, "is not sound"},
    {leave_planes, -EINVAL, "is not sound"},
    {go_to_no_card, -EINVAL, "is not sound"},
    {leave_exchange, -EINVAL, "is not sound"},
};

static void what_is_wrong_is_refused_and_limits_are_named(void) {
    const struct setup s = {.n_cards = 2, .split = SPLIT_TENSOR};
    struct loaded l;
    load(&l, EXPERTS, &s);
    const struct device_ops *ops = device_backend("cpu");
    for (size_t i = 0; i < sizeof harms / sizeof *harms; i++)
        for (uint32_t card = 0; card < 2; card++) {
            struct program programs[CARDS_MAX] = {{0}};
            struct err err = {{0}};
            CHECK_EQ(programs_compile(programs, &l.model, &l.plan, &err), 0);
            CHECK_EQ(ops->check(runner_device(l.runner), programs, &err), 0);
            harms[i].harm(&programs[card]);
            CHECK_EQ(ops->check(runner_device(l.runner), programs, &err), harms[i].rc);
            CHECK(strstr(err.text, harms[i].says));
            programs_finish(programs);
        }
    unload(&l);
}

static int check_harmed(struct device *device, const struct program *programs, struct err *err) {
    first((struct program *)(uintptr_t)&programs[0], OP_ATTENTION)->attention.head_dim = 1024;
    return device_backend("cpu")->check(device, programs, err);
}

static void no_weights_are_read_for_what_is_refused(void) {
    struct loaded l;
    struct err err = {{0}};
    own = *device_backend("cpu");
    own.pack = pack;
    const struct setup s = {.n_cards = 2, .split = SPLIT_LAYER, .backend = &own};
    load(&l, EXPERTS, &s);
    CHECK(n_packed > 0);
    unload(&l);
    n_packed = 0;
    own.check = check_harmed;
    CHECK_EQ(plan_model(&l, EXPERTS, &s), 0);
    CHECK_EQ(try_runner(&l, &s, &err), -ENOTSUP);
    CHECK(strstr(err.text, "values of a head: 1024, at most 512"));
    CHECK_EQ(n_packed, 0);
    l.runner = NULL;
    unload(&l);
}

CHECK_MAIN(T(what_is_wrong_is_refused_and_limits_are_named),
           T(no_weights_are_read_for_what_is_refused))
