/* SPDX-License-Identifier: Apache-2.0 */
/* Cards that share layers, in many of the orders that nothing forbids: the driver draws what of
 * all that may run is next (tests/sim_level_zero), so one card is ahead of the others at times. */
#include <sys/wait.h>

#include "tests/on_cards.h"

#define SEEDS 6

/* In a process of its own, for a driver is initialised once in one. */
static bool has_bits(const char *file, uint32_t n_cards, uint32_t chunk, uint64_t want,
                     const char *options) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        begin(options);
        _exit(on_cards(file, n_cards, SPLIT_TENSOR, chunk) != want);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void all_have_the_bits(const char *file, uint32_t n_cards, uint32_t chunk) {
    begin("cards=1");
    const uint64_t want = run_model(file, &(struct setup){.n_cards = 1}, 16);
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        char options[64];
        snprintf(options, sizeof options, "cards=%u seed=%u", n_cards, 100 * n_cards + seed);
        if (!has_bits(file, n_cards, chunk, want, options)) {
            printf("# %s with %s\n", file, options);
            CHECK(false);
        }
    }
}

static void two_cards_have_the_bits(void) {
    all_have_the_bits("tiny-f32.gguf", 2, 16);
}

static void so_have_eight(void) {
    all_have_the_bits("tiny-f32.gguf", 8, 7);
}

static void so_have_those_with_many_layers(void) {
    all_have_the_bits("tiny-deep.gguf", 3, 16);
}

static void so_have_those_with_norms_of_what_is_added(void) {
    all_have_the_bits("tiny-gemma2.gguf", 4, 16);
}

static void so_have_those_with_experts(void) {
    all_have_the_bits("tiny-qwen2moe.gguf", 4, 16);
}

CHECK_MAIN(T(two_cards_have_the_bits), T(so_have_eight), T(so_have_those_with_many_layers),
           T(so_have_those_with_norms_of_what_is_added), T(so_have_those_with_experts))
