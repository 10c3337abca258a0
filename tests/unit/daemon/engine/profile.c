/* SPDX-License-Identifier: Apache-2.0 */
/* Where a step's time went: nothing counted twice, nothing that did not run, and every matrix's
 * bytes with the operation that reads it. */
#include "tests/loaded_model.h"

#define STEPS 5u

static int read_profile(struct loaded *l, struct device_profile *profile) {
    return device_backend("cpu")->profile(runner_device(l->runner), profile);
}

static void run_steps(struct loaded *l, uint32_t n_rows) {
    static float logits[65536];
    struct step_row rows[MAX_ROWS];
    uint32_t page[4] = {0, 1, 2, 3}, output = n_rows - 1, card;
    struct step_sequence sequence = {page, 4};
    for (uint32_t i = 0; i < n_rows; i++)
        rows[i] = (struct step_row){(int32_t)i, i, 0};
    struct step_params params = {.rows = rows,
                                 .n_rows = n_rows,
                                 .sequences = &sequence,
                                 .n_sequences = 1,
                                 .outputs = &output,
                                 .n_outputs = 1,
                                 .logits = logits};
    CHECK(l->model.params.n_vocab <= 65536);
    for (uint32_t i = 0; i < STEPS; i++)
        CHECK_EQ(runner_step(l->runner, &params, &card), 0);
}

static double sum_of(const struct device_profile *p) {
    double sum = p->strips + p->wait;
    for (uint32_t k = 0; k < OP_KINDS; k++)
        sum += p->ops[k].seconds;
    return sum;
}

/* Bytes of the plan's matrices that a step reads whole. */
static uint64_t matrix_bytes(const struct loaded *l) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < l->plan.n_ranges; i++) {
        const struct model_tensor *t = &l->model.tensors[l->plan.ranges[i].tensor];
        if (!model_tensor_is_vector(t) && (t->role != ROLE_TOKEN_EMBD || l->model.params.tied))
            bytes += l->plan.ranges[i].bytes;
    }
    return bytes;
}

static void check_cards(uint32_t n_cards, uint32_t n_rows) {
    struct loaded l;
    struct device_profile p;
    uint64_t bytes = 0;
    load(&l, "tiny-f32.gguf",
         &(struct setup){.n_cards = n_cards, .split = SPLIT_TENSOR, .profile = true});
    run_steps(&l, n_rows);
    CHECK_EQ(read_profile(&l, &p), 0);
    CHECK_EQ(p.steps, STEPS);
    CHECK(sum_of(&p) > 0 && sum_of(&p) <= p.whole);
    CHECK(p.ops[OP_QKV].pieces >= STEPS * l.model.params.n_layers);
    CHECK(p.ops[OP_QKV].seconds > 0 && p.ops[OP_ATTENTION].seconds > 0);
    CHECK_EQ(p.ops[OP_ROUTE].pieces, 0);
    for (uint32_t k = 0; k < OP_KINDS; k++)
        bytes += p.weight_bytes[k];
    CHECK_EQ(bytes, matrix_bytes(&l));
    CHECK_EQ(read_profile(&l, &p), 0); /* begun anew */
    CHECK_EQ(p.steps, 0);
    CHECK(sum_of(&p) == 0 && p.whole == 0);
    unload(&l);
}

static void steps_are_counted(void) {
    check_cards(1, 1);
    check_cards(3, 1);
    check_cards(3, 48);
}

static void without_one_there_is_none(void) {
    struct loaded l;
    struct device_profile p;
    load(&l, "tiny-f32.gguf", &(struct setup){.n_cards = 1});
    run_steps(&l, 1);
    CHECK_EQ(read_profile(&l, &p), -ENOTSUP);
    unload(&l);
}

CHECK_MAIN(T(steps_are_counted), T(without_one_there_is_none))
