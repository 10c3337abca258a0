/* SPDX-License-Identifier: Apache-2.0 */
/* host FILE CARDS SPLIT STEPS [WARM]: decode so many tokens on cards that do nothing
 * (idle_loader.c), after WARM others (2: those in which what a step takes is recorded); prints how
 * many calls of Level Zero they took, and of which functions.  tests/bench/arc/host_cost runs it
 * under callgrind, which counts what run_steps() takes. */
#include "daemon/device/level_zero/api.h"
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

static const char *const names[] = {"all",
#define NAME(name) #name,
                                    ZE_CALLS(NAME)
#undef NAME
};
#define N_NAMES (sizeof names / sizeof *names)

static void read_calls(const char *path, uint64_t calls[N_NAMES]) {
    FILE *f = fopen(path, "r");
    CHECK(f && fread(calls, sizeof *calls, N_NAMES, f) == N_NAMES);
    fclose(f);
}

static void print_calls(const struct loaded *l, const uint64_t before[N_NAMES],
                        const uint64_t after[N_NAMES]) {
    printf("layers %u calls %llu\n", l->model.params.n_layers,
           (unsigned long long)(after[0] - before[0]));
    for (size_t i = 1; i < N_NAMES; i++)
        if (after[i] > before[i])
            printf("%s %llu\n", names[i], (unsigned long long)(after[i] - before[i]));
}

int main(int argc, char **argv) {
    const char *counters = getenv("IDLE_CALLS");
    struct loaded l;
    if (argc < 5 || argc > 6 || !counters) {
        fprintf(stderr, "usage: IDLE_CALLS=FILE host MODEL CARDS layer|tensor STEPS [WARM]\n");
        return 2;
    }
    const uint32_t n_steps = (uint32_t)atoi(argv[4]), warm = argc > 5 ? (uint32_t)atoi(argv[5]) : 2;
    uint64_t before[N_NAMES], after[N_NAMES];
    load(&l, argv[1],
         &(struct setup){.n_cards = (uint32_t)atoi(argv[2]),
                         .split = strcmp(argv[3], "tensor") ? SPLIT_LAYER : SPLIT_TENSOR,
                         .backend = device_backend("level_zero")});
    CHECK(l.model.params.n_vocab <= VOCAB_MAX && n_steps + warm <= PAGES * PAGE_TOKENS);
    for (uint32_t i = 0; i < warm; i++)
        step(&l, i);
    read_calls(counters, before);
    run_steps(&l, warm, n_steps);
    read_calls(counters, after);
    print_calls(&l, before, after);
    unload(&l);
    return 0;
}
