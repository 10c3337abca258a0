/* SPDX-License-Identifier: Apache-2.0 */
/* host FILE CARDS SPLIT STEPS: decode so many tokens on cards that do nothing (idle_loader.c);
 * prints how many calls of Level Zero they took.  tests/bench/arc/host_cost runs it under
 * callgrind, which counts what run_steps() takes. */
#include "tests/loaded_model.h"

#define PAGES     4u
#define VOCAB_MAX 4096u

static void step(struct loaded *l, uint32_t position) {
    static float logits[VOCAB_MAX];
    uint32_t pages[PAGES] = {3, 1, 2, 0}, output = 0, card = 0;
    const struct step_sequence sequence = {pages, PAGES};
    const struct step_row row = {(int32_t)(position % l->model.params.n_vocab), position, 0};
    struct step_params p = {.rows = &row,
                            .n_rows = 1,
                            .sequences = &sequence,
                            .n_sequences = 1,
                            .outputs = &output,
                            .n_outputs = 1,
                            .logits = logits};
    CHECK_EQ(runner_step(l->runner, &p, &card), 0);
}

/* callgrind knows it by its name */
__attribute__((noinline)) void run_steps(struct loaded *l, uint32_t from, uint32_t n);

void run_steps(struct loaded *l, uint32_t from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        step(l, from + i);
}

static uint64_t calls(const char *path) {
    uint64_t n;
    FILE *f = fopen(path, "r");
    CHECK(f && fread(&n, sizeof n, 1, f) == 1);
    fclose(f);
    return n;
}

int main(int argc, char **argv) {
    const char *counters = getenv("IDLE_CALLS");
    struct loaded l;
    if (argc != 5 || !counters) {
        fprintf(stderr, "usage: IDLE_CALLS=FILE host MODEL CARDS layer|tensor STEPS\n");
        return 2;
    }
    const uint32_t n_steps = (uint32_t)atoi(argv[4]), warm = 2;
    load(&l, argv[1],
         &(struct setup){.n_cards = (uint32_t)atoi(argv[2]),
                         .split = strcmp(argv[3], "tensor") ? SPLIT_LAYER : SPLIT_TENSOR,
                         .backend = device_backend("level_zero")});
    CHECK(l.model.params.n_vocab <= VOCAB_MAX && n_steps + warm <= PAGES * PAGE_TOKENS);
    for (uint32_t i = 0; i < warm; i++)
        step(&l, i);
    const uint64_t before = calls(counters);
    run_steps(&l, warm, n_steps);
    printf("layers %u calls %llu\n", l.model.params.n_layers,
           (unsigned long long)(calls(counters) - before));
    unload(&l);
    return 0;
}
