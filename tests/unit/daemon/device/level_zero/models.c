/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models on simulated cards, against the cpu backend: the same bits, on any number of cards,
 * with either split, over direct and staged links. */
#include <pthread.h>
#include <time.h>

#include "tests/on_cards.h"

#define WIDE_HEADS "tiny-gemma3.gguf"

static void one_card_has_the_bits_of_the_cpu(void) {
    same_as_cpu("cards=1", "tiny-f32.gguf", 1, SPLIT_LAYER, 16);
}

static void a_pipeline_of_cards_has(void) {
    same_as_cpu("cards=3", "tiny-f32.gguf", 3, SPLIT_LAYER, 40);
}

static void eight_cards_that_share_layers_have(void) {
    same_as_cpu("cards=8", "tiny-f32.gguf", 8, SPLIT_TENSOR, 7);
}

static void so_have_cards_that_do_not_reach_each_other(void) {
    same_as_cpu("cards=3 p2p=none", "tiny-f32.gguf", 3, SPLIT_TENSOR, 40);
}

static void all_types_of_tensors_do(void) {
    same_as_cpu("cards=2", "tiny-mixed.gguf", 2, SPLIT_TENSOR, 40);
}

static void so_do_all_types_in_experts(void) {
    same_as_cpu("cards=3 seed=7", "tiny-typed.gguf", 3, SPLIT_TENSOR, 40);
}

/* Biases, norms of heads, windows, soft caps, sums that are normed, tables of their own, parts of
 * one tensor. */
static void so_do_architectures(void) {
    static const char *const files[] = {"tiny-qwen2.gguf",    "tiny-qwen3.gguf",
                                        "tiny-gemma2.gguf",   "tiny-gemma3.gguf",
                                        "tiny-mistral3.gguf", "tiny-fused.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        same_as_cpu("cards=3", files[i], 3, i % 2 ? SPLIT_LAYER : SPLIT_TENSOR, 40);
}

static void so_do_types_of_kv(void) {
    begin("cards=3");
    for (enum kv_type type = KV_F32; type <= KV_Q8_0; type++) {
        const char *file = type == KV_Q8_0 ? WIDE_HEADS : "tiny-f32.gguf";
        struct setup s = {.n_cards = 1, .kv_type = type};
        const uint64_t cpu = run_model(file, &s, 16);
        s = (struct setup){.n_cards = 3,
                           .kv_type = type,
                           .split = SPLIT_TENSOR,
                           .backend = device_backend("level_zero")};
        CHECK_EQ(run_model(file, &s, 7), cpu);
    }
}

/* Sinks, biases of every projection, of a router and of experts, a gate with limits. */
static void so_does_gpt_oss(void) {
    same_as_cpu("cards=3 p2p=none seed=11", "tiny-gpt-oss.gguf", 3, SPLIT_TENSOR, 40);
}

static void so_does_it_in_a_pipeline(void) {
    same_as_cpu("cards=2 seed=12", "tiny-gpt-oss.gguf", 2, SPLIT_LAYER, 7);
}

/* Softmax over all and over those used, more experts than lanes of a sub-group's half, a shared
 * one. */
static void experts_have(const char *options, uint32_t n_cards, enum split split, uint32_t chunk) {
    static const char *const files[] = {"tiny-mixtral.gguf", "tiny-qwen3moe.gguf",
                                        "tiny-qwen2moe.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        same_as_cpu(options, files[i], n_cards, split, chunk);
}

static void layers_with_experts_do(void) {
    experts_have("cards=1", 1, SPLIT_LAYER, 16);
}

static void so_do_they_in_a_pipeline(void) {
    experts_have("cards=2 seed=3", 2, SPLIT_LAYER, 40);
}

static void so_do_cards_that_share_experts(void) {
    experts_have("cards=3 p2p=none seed=4", 3, SPLIT_TENSOR, 40);
}

/* Some have one expert, some a shared one's columns alone; many rows use none of a card's. */
static void so_do_eight_that_have_an_expert_or_two(void) {
    experts_have("cards=8 seed=5", 8, SPLIT_TENSOR, 7);
}

static void a_lost_card_ends_a_step_and_is_named(void) {
    struct loaded l;
    struct step_row row = {.token = 1};
    uint32_t page = 0, output = 0, card = 9;
    const struct step_sequence sequence = {&page, 1};
    begin("cards=3 memory=64M lose=1@400");
    load(&l, "tiny-f32.gguf",
         &(struct setup){.n_cards = 3,
                         .backend = device_backend("level_zero"),
                         .capacity_bytes = {16 * MIB, 16 * MIB, 16 * MIB}});
    struct step_params p = {.rows = &row,
                            .n_rows = 1,
                            .sequences = &sequence,
                            .n_sequences = 1,
                            .outputs = &output,
                            .n_outputs = 1,
                            .logits = logits};
    int rc = 0;
    for (int i = 0; i < 400 && !rc; i++)
        rc = runner_step(l.runner, &p, &card);
    CHECK_EQ(rc, -ENODEV);
    CHECK_EQ(card, 1);
    CHECK_EQ(runner_step(l.runner, &p, &card), -ENODEV);
    unload(&l);
}

/* Opens a model in a process of its own, for a driver is initialised once in one; what it says of
 * the cards that are lost, or 255 where it is open; 254: nobody knows which, for links were tried.
 */
static int lost_in_opening(const char *options) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        uint32_t lost = 0;
        struct loaded l;
        struct err err = {{0}};
        begin(options);
        const struct setup s = {.n_cards = 3,
                                .split = SPLIT_TENSOR,
                                .backend = device_backend("level_zero"),
                                .lost = &lost};
        CHECK_EQ(plan_model(&l, "tiny-f32.gguf", &s), 0);
        const int rc = try_runner(&l, &s, &err);
        if (rc == -EIO)
            CHECK_EQ(lost, 0);
        else if (rc)
            CHECK_EQ(rc, -ENODEV);
        _exit(rc == -EIO ? 254 : rc ? (int)lost : 255);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Wherever it falls off: while it is opened, filled, or its kernels are built. */
static void a_card_that_dies_while_a_model_is_loaded_is_named(void) {
    uint32_t n_lost = 0, n_opened = 0, n_tried = 0, n_filled = 0;
    begin("cards=3");
    for (uint32_t call = 1; call < 3000; call += 1 + call / 3) {
        char options[64];
        snprintf(options, sizeof options, "cards=3 memory=256M lose=1@%u", call);
        const int lost = lost_in_opening(options);
        n_lost += lost == 1 << 1;
        n_opened += lost == 255;
        CHECK(lost == 1 << 1 || lost == 254 || lost == 255);
        CHECK(lost != 254 || n_filled == 0);
        n_filled += lost == 1 << 1 && n_tried;
        n_tried += lost == 254;
        CHECK(n_opened == 0 || lost == 255);
    }
    CHECK(n_lost > 4 && n_filled > 2 && n_tried > 0 && n_opened > 0);
}

static void so_is_one_that_cannot_be_opened(void) {
    begin("cards=3");
    CHECK_EQ(lost_in_opening("cards=3 memory=256M broken=2"), 1 << 2);
    CHECK_EQ(lost_in_opening("cards=2 memory=256M"), 1 << 2); /* it is not there any more */
}

/* A model that is opened by a thread, and what that waits for. */
struct opening {
    struct device_calls calls;
    const struct setup *setup;
    struct loaded loaded;
    _Atomic bool ended;
};

static void *open_it(void *arg) {
    struct opening *o = arg;
    struct err err = {{0}};
    try_runner(&o->loaded, o->setup, &err);
    o->ended = true;
    return NULL;
}

/* When nothing was done for a second: what it waits for, a bit per card; 255: it is open. */
static int wait_stuck(struct opening *o) {
    uint64_t done = UINT64_MAX;
    for (int still = 0; !o->ended && still < 50; still++) {
        const struct timespec t = {0, 20000000};
        nanosleep(&t, NULL);
        if (o->calls.done != done || o->calls.builds)
            still = 0;
        done = o->calls.done;
    }
    uint32_t cards = 0;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        cards |= o->calls.waits[i] ? 1u << i : 0;
    return o->ended ? 255 : (int)cards;
}

static int waited_for(const char *options) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        static struct opening o;
        begin(options);
        const struct setup s = {.n_cards = 3,
                                .split = SPLIT_TENSOR,
                                .backend = device_backend("level_zero"),
                                .calls = &o.calls};
        o.setup = &s;
        CHECK_EQ(plan_model(&o.loaded, "tiny-f32.gguf", &s), 0);
        CHECK_EQ(pthread_create(&thread, NULL, open_it, &o), 0);
        _exit(wait_stuck(&o));
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* In whatever command of its it hangs; of one that tries a link nobody knows whose silence it is.
 */
static void a_card_that_hangs_while_a_model_is_loaded_is_waited_for(void) {
    static const struct {
        uint32_t command;
        int cards;
    } hangs[] = {{1, 1 << 1}, {7, 0}, {9, 1 << 1}, {40, 1 << 1}, {400, 255}};
    begin("cards=3");
    for (size_t i = 0; i < sizeof hangs / sizeof *hangs; i++) {
        char options[64];
        snprintf(options, sizeof options, "cards=3 memory=256M hang=1@%u", hangs[i].command);
        CHECK_EQ(waited_for(options), hangs[i].cards);
    }
}

/* Two sequences whose positions pass several segments of attention, and a window's edge in each;
 * most steps want no logits. */
static uint64_t run_long(const char *file, const struct setup *s) {
    struct loaded l;
    struct step_row rows[MAX_ROWS];
    uint32_t pages[2][16], card = 0, at[2] = {0, 0};
    const uint32_t output = MAX_ROWS - 1;
    struct step_sequence sequences[2];
    uint64_t digest = 0;
    load(&l, file, s);
    const uint32_t n_vocab = l.model.params.n_vocab;
    for (uint32_t q = 0; q < 2; q++) {
        for (uint32_t i = 0; i < 16; i++)
            pages[q][i] = q * 16 + (i * 5 + q) % 16;
        sequences[q] = (struct step_sequence){pages[q], 16};
    }
    for (uint32_t k = 0; k < 14; k++) {
        const uint32_t first =
            8 + 48 * (k % 2); /* rows of the first sequence; the rest is the other's */
        for (uint32_t i = 0; i < MAX_ROWS; i++) {
            const uint32_t q = i >= first;
            rows[i] = (struct step_row){(int32_t)((i * 7 + k * 13) % n_vocab), at[q]++, q};
        }
        struct step_params p = {.rows = rows,
                                .n_rows = MAX_ROWS,
                                .sequences = sequences,
                                .n_sequences = 2,
                                .outputs = &output,
                                .n_outputs = k % 5 == 3,
                                .logits = logits};
        CHECK_EQ(runner_step(l.runner, &p, &card), 0);
        if (p.n_outputs)
            digest = digest * 31 + device_digest(logits, n_vocab * 4);
    }
    CHECK(at[0] > 400 && at[1] > 400);
    unload(&l);
    return digest;
}

static void long_sequences_do_too(void) {
    static const char *const files[] = {"tiny-f32.gguf", "tiny-gemma2.gguf"};
    begin("cards=2");
    for (int i = 0; i < 2; i++) {
        const struct setup cpu = {.n_cards = 1, .context = 512};
        const struct setup cards = {.n_cards = 2,
                                    .split = SPLIT_TENSOR,
                                    .context = 512,
                                    .backend = device_backend("level_zero")};
        CHECK_EQ(run_long(files[i], &cards), run_long(files[i], &cpu));
    }
}

/* Small steps, large ones that need more memory, and small ones again, which are recorded anew;
 * shapes that are rounded up, with outputs or none. */
static uint64_t run_sizes(const struct setup *s) {
    static const uint32_t sizes[] = {1, 1, 3, 3, 40, 1, 1, 3, 3, 17, 19, 9, 11, 1, 1};
    struct loaded l;
    struct step_row rows[MAX_ROWS];
    uint32_t pages[4] = {3, 1, 2, 0}, outputs[MAX_ROWS], card = 0, at = 0;
    const struct step_sequence sequence = {pages, 4};
    uint64_t digest = 0;
    load(&l, "tiny-f32.gguf", s);
    const uint32_t n_vocab = l.model.params.n_vocab;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const uint32_t n = sizes[k], n_outputs = k % 4 == 3 ? 0 : n;
        for (uint32_t i = 0; i < n; i++, at++) {
            rows[i] = (struct step_row){(int32_t)(at * 37 % n_vocab), at, 0};
            outputs[i] = i;
        }
        struct step_params p = {.rows = rows,
                                .n_rows = n,
                                .sequences = &sequence,
                                .n_sequences = 1,
                                .outputs = outputs,
                                .n_outputs = n_outputs,
                                .logits = logits};
        CHECK_EQ(runner_step(l.runner, &p, &card), 0);
        digest = digest * 31 + device_digest(logits, (uint64_t)n_outputs * n_vocab * 4);
    }
    unload(&l);
    return digest;
}

static void steps_of_all_sizes_do(void) {
    begin("cards=3");
    const uint64_t cpu = run_sizes(&(struct setup){.n_cards = 1});
    for (int split = 0; split < 2; split++) {
        const struct setup s = {.n_cards = 3,
                                .split = split ? SPLIT_TENSOR : SPLIT_LAYER,
                                .backend = device_backend("level_zero")};
        CHECK_EQ(run_sizes(&s), cpu);
    }
}

/* Whatever the driver says of it: what delivers something else is not used. */
static void so_have_cards_whose_link_lies(void) {
    same_as_cpu("cards=3 ones=1>0", "tiny-f32.gguf", 3, SPLIT_TENSOR, 40);
}

static void so_have_cards_whose_link_delivers_nothing(void) {
    same_as_cpu("cards=3 stale=2>1", "tiny-f32.gguf", 3, SPLIT_TENSOR, 40);
}

/* K and V of a head that some of the cards share only, while the others go on. */
static void staged_exchanges_do_not_meet_in_their_memory(void) {
    same_as_cpu("cards=3 p2p=none seed=1", "tiny-deep.gguf", 3, SPLIT_TENSOR, 16);
}

static void nor_do_those_of_five_cards(void) {
    same_as_cpu("cards=5 p2p=none seed=2", "tiny-deep.gguf", 5, SPLIT_TENSOR, 16);
}

CHECK_MAIN(T(long_sequences_do_too), T(steps_of_all_sizes_do), T(so_have_cards_whose_link_lies),
           T(so_have_cards_whose_link_delivers_nothing), T(nor_do_those_of_five_cards),
           T(staged_exchanges_do_not_meet_in_their_memory), T(a_lost_card_ends_a_step_and_is_named),
           T(a_card_that_dies_while_a_model_is_loaded_is_named), T(so_is_one_that_cannot_be_opened),
           T(a_card_that_hangs_while_a_model_is_loaded_is_waited_for), T(so_does_gpt_oss),
           T(so_does_it_in_a_pipeline), T(so_do_architectures), T(so_do_types_of_kv),
           T(layers_with_experts_do), T(so_do_they_in_a_pipeline),
           T(so_do_cards_that_share_experts), T(so_do_eight_that_have_an_expert_or_two),
           T(one_card_has_the_bits_of_the_cpu), T(a_pipeline_of_cards_has),
           T(eight_cards_that_share_layers_have), T(so_have_cards_that_do_not_reach_each_other),
           T(all_types_of_tensors_do), T(so_do_all_types_in_experts))
