/* SPDX-License-Identifier: Apache-2.0 */
/* The promise "same bits on 1 to 8 cards, any split, any batch", and "a card reads nothing that an
 * exchange did not bring", on the generated tiny models (make tiny). */
#include "daemon/engine/runner.h"

#include <errno.h>
#include <math.h>

#include "daemon/engine/program.h"
#include "daemon/placement/topology.h"
#include "tests/check.h"
#include "tests/unit/daemon/engine/transcript.h"

static const char *const model_files[] = {"tiny-f32.gguf", "tiny-mixed.gguf"};
/* Of every other architecture one. */
static const char *const arch_files[] = {
    "tiny-qwen2.gguf",    "tiny-qwen3.gguf",    "tiny-gemma2.gguf",       "tiny-gemma3.gguf",
    "tiny-fused.gguf",    "tiny-mistral3.gguf", "tiny-qwen3moe.gguf",     "tiny-mixtral.gguf",
    "tiny-qwen2moe.gguf", "tiny-gpt-oss.gguf",  "tiny-gpt-oss-mxfp4.gguf"};

static float *reference(const char *file, enum kv_type kv_type) {
    struct loaded l;
    load(&l, file, &(struct setup){.n_cards = 1, .split = SPLIT_LAYER, .kv_type = kv_type});
    float *logits = transcript(&l, 0, N_TOKENS);
    float largest = 0;
    for (uint32_t i = 0; i < l.model.params.n_vocab; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    CHECK(largest > 0.01f); /* something was computed */
    unload(&l);
    return logits;
}

static void as_planned(const struct loaded *l) {
    for (uint32_t i = 0; i < l->plan.n_cards; i++) {
        struct runner_card card;
        runner_card(l->runner, i, &card);
        CHECK_EQ(card.weights_bytes, l->plan.cards[i].weights_bytes);
        CHECK_EQ(card.kv_bytes, l->plan.cards[i].kv_bytes);
        CHECK_EQ(card.scratch_bytes, l->plan.cards[i].scratch_bytes);
    }
}

static void compare(const char *file, const struct setup *s, uint32_t chunk) {
    struct loaded l;
    float *want = reference(file, s->kv_type);
    load(&l, file, s);
    as_planned(&l);
    float *got = transcript(&l, 0, chunk);
    same_bits(&l, want, got);
    unload(&l);
    free(want);
    free(got);
}

static void any_count_and_split_of_cards_gives_the_same_bits(void) {
    static const uint32_t counts[] = {2, 3, 5, 8};
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < 4; i++)
            for (int split = SPLIT_LAYER; split <= SPLIT_TENSOR; split++)
                compare(model_files[m],
                        &(struct setup){.n_cards = counts[i], .split = (enum split)split}, 16);
}

/* On one card too, in other chunks: a window begins elsewhere in each. */
static void every_architecture_has_the_same_bits_on_any_cards(void) {
    static const uint32_t counts[] = {1, 3, 8};
    for (size_t m = 0; m < sizeof arch_files / sizeof *arch_files; m++)
        for (size_t i = 0; i < 3; i++)
            for (int split = SPLIT_LAYER; split <= SPLIT_TENSOR; split++)
                compare(arch_files[m],
                        &(struct setup){.n_cards = counts[i],
                                        .split = (enum split)split,
                                        .isolate = counts[i] > 1,
                                        .isa = i == 1 ? ISA_PORTABLE : ISA_AUTO},
                        i == 0 ? 7 : 40);
}

static void with_all_other_cards_inaccessible_the_bits_are_the_same(void) {
    for (size_t m = 0; m < 2; m++)
        for (uint32_t n = 2; n <= 8; n += 3)
            for (int split = SPLIT_LAYER; split <= SPLIT_TENSOR; split++)
                compare(model_files[m],
                        &(struct setup){.n_cards = n, .split = (enum split)split, .isolate = true},
                        16);
}

/* --- plans on cards of odd sizes --- */

static uint32_t random_state = 5;
static uint32_t draw(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * below >> 32);
}

enum trait {
    CARD_HOLDS_NOTHING,
    HEAD_ALONE,
    HEAD_BEFORE_LAST_LAYER, /* its rows travel back to a card that is done with its layers */
    HEAD_CUT,
    EMBEDDING_ALONE,
    EMBEDDING_AFTER_FIRST_LAYER,
    LANES_WITHOUT_HEAD,
    TRAITS
};

static uint32_t traits_of(const struct plan *p) {
    uint32_t traits = 0, last = 0, first = CARDS_MAX;
    for (uint32_t i = 0; i < p->n_cards; i++)
        if (p->cards[i].layer_begin < p->cards[i].layer_end) {
            last = i;
            first = first == CARDS_MAX ? i : first;
        }
    for (uint32_t i = 0; i < p->n_cards; i++) {
        const struct plan_card *c = &p->cards[i];
        const bool layers = c->layer_begin < c->layer_end, head = c->vocab_begin < c->vocab_end;
        const bool embd = c->embd_begin < c->embd_end;
        traits |= (!layers && !head && !embd) << CARD_HOLDS_NOTHING;
        traits |= (!layers && head) << HEAD_ALONE;
        traits |= (head && i < last && p->split == SPLIT_LAYER) << HEAD_BEFORE_LAST_LAYER;
        traits |= (head && c->vocab_begin > 0 && p->split == SPLIT_LAYER) << HEAD_CUT;
        traits |= (!layers && !head && embd) << EMBEDDING_ALONE;
        traits |= (embd && i > first && !head) << EMBEDDING_AFTER_FIRST_LAYER;
        traits |= (layers && !head && p->split == SPLIT_TENSOR) << LANES_WITHOUT_HEAD;
    }
    return traits;
}

/* Sizes at which it hardly fits are drawn until every oddity of a plan has been met twice. */
static void cards_of_any_size_give_the_same_bits(void) {
    uint32_t met[TRAITS] = {0};
    for (size_t m = 0; m < 2; m++) {
        float *want = reference(model_files[m], KV_F16);
        for (int round = 0; round < 400; round++) {
            struct setup s = {.n_cards = 2 + draw(5),
                              .split = draw(2) ? SPLIT_LAYER : SPLIT_TENSOR,
                              .isolate = true};
            struct loaded l;
            bool wanted = false;
            for (uint32_t i = 0; i < s.n_cards; i++)
                s.capacity_bytes[i] = draw(4) ? (100u + draw(1900)) << 10 : 1u + draw(60000);
            const int rc = plan_model(&l, model_files[m], &s);
            const uint32_t traits = rc ? 0 : traits_of(&l.plan);
            for (uint32_t t = 0; t < TRAITS; t++)
                if (traits >> t & 1 && met[t] < 2 * (m + 1)) {
                    met[t]++;
                    wanted = true;
                }
            if (wanted) {
                open_runner(&l, &s);
                float *got = transcript(&l, 0, 16);
                same_bits(&l, want, got);
                free(got);
            }
            unload(&l);
        }
        free(want);
    }
    for (uint32_t t = 0; t < TRAITS; t++) {
        if (met[t] < 2)
            printf("# oddity %u was met %u times\n", t, met[t]);
        CHECK(met[t] >= 2);
    }
}

/* --- plans that are chosen by speed --- */

/* Cards and links of any rates; one link in three is staged. */
static void make_box(struct topology *box, uint32_t n_cards) {
    const uint64_t memory[CARDS_MAX] = {0};
    topology_plain(box, n_cards, memory, 1);
    for (uint32_t i = 0; i < n_cards; i++) {
        box->cards[i].bytes_per_s = UINT64_C(1000000) * (1 + draw(4));
        for (uint32_t to = 0; to < n_cards; to++) {
            struct peer_link *link = &box->links[i][to];
            link->bytes_per_s = UINT64_C(100000000) * (1 + draw(8));
            link->latency_ns = draw(2000);
            link->mode = draw(3) ? LINK_DIRECT : LINK_STAGED;
        }
    }
}

enum { OUT_OF_ORDER, LANES_APART, LANES_OF_SOME_LAYERS, ORDINARY, KINDS };

static uint32_t kind_of(const struct plan *p, uint32_t n_layers) {
    for (uint32_t i = 0; i < p->n_cards; i++) {
        const uint32_t n = p->cards[i].layer_end - p->cards[i].layer_begin;
        const uint32_t lanes = p->cards[i].lane_end - p->cards[i].lane_begin;
        if (n > 0 && n < n_layers && lanes < LANES)
            return LANES_OF_SOME_LAYERS;
    }
    for (uint32_t i = 0; i < p->n_cards; i++)
        for (uint32_t k = 0; k < i; k++) {
            const struct plan_card *a = &p->cards[k], *b = &p->cards[i];
            const bool layers = a->layer_begin < a->layer_end && b->layer_begin < b->layer_end;
            if (layers && b->layer_end <= a->layer_begin)
                return OUT_OF_ORDER;
            if (layers && a->layer_begin == b->layer_begin && b->lane_end <= a->lane_begin)
                return LANES_APART;
        }
    return ORDINARY;
}

static void plans_in_the_order_of_the_links_give_the_same_bits(void) {
    static struct topology box;
    uint32_t met[KINDS] = {0};
    for (size_t m = 0; m < 2; m++) {
        float *want = reference(model_files[m], KV_F16);
        for (int round = 0; round < 400; round++) {
            struct setup s = {.n_cards = 2 + draw(7),
                              .split = (enum split)(SPLIT_LAYER + draw(SPLITS - SPLIT_LAYER)),
                              .topology = &box,
                              .isolate = true};
            struct loaded l;
            make_box(&box, s.n_cards);
            for (uint32_t i = 0; i < s.n_cards; i++)
                s.capacity_bytes[i] = (150u + draw(1900)) << 10;
            const int rc = plan_model(&l, model_files[m], &s);
            const uint32_t kind = rc ? ORDINARY : kind_of(&l.plan, l.model.params.n_layers);
            if (!rc && met[kind] < 6 * (m + 1)) {
                met[kind]++;
                open_runner(&l, &s);
                as_planned(&l);
                float *got = transcript(&l, 0, 16);
                same_bits(&l, want, got);
                free(got);
            }
            unload(&l);
        }
        free(want);
    }
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        printf("# kind %u was met %u times\n", kind, met[kind]);
        CHECK(met[kind] >= 6);
    }
}

static void a_card_that_holds_nothing_may_be_lost_and_reports_nothing(void) {
    struct loaded l;
    struct runner_card card = {.weights_bytes = 1};
    const struct setup s = {
        .n_cards = 3, .split = SPLIT_LAYER, .memfds = true, .capacity_bytes = {0, 1000, 0}};
    load(&l, model_files[0], &s);
    runner_card(l.runner, 1, &card);
    CHECK_EQ(card.weights_bytes + card.kv_bytes + card.scratch_bytes, 0);
    CHECK_EQ(runner_lose(l.runner, 1), 0);
    unload(&l);
}

static void chunks_threads_and_instruction_sets_do_not_change_a_bit(void) {
    static const enum instruction_set sets[] = {ISA_PORTABLE, ISA_AVX2, ISA_AVX512};
    for (size_t m = 0; m < 2; m++) {
        for (uint32_t chunk = 1; chunk < 40; chunk += 6)
            compare(model_files[m],
                    &(struct setup){.n_cards = 1, .split = SPLIT_LAYER, .n_threads = 1 + chunk % 4},
                    chunk);
        for (size_t i = 0; i < 3; i++) {
            if (sets[i] == ISA_AVX512 && !__builtin_cpu_supports("avx512vnni"))
                continue;
            if (sets[i] == ISA_AVX2 && !__builtin_cpu_supports("avx2"))
                continue;
            compare(model_files[m],
                    &(struct setup){.n_cards = 2, .split = SPLIT_TENSOR, .isa = sets[i]}, 7);
        }
    }
}

/* --- steps of many rows: sums strip by strip, attention by more rows where a card has few heads
 * ---
 */

static void after_rows(struct loaded *l, uint32_t n, uint32_t chunk, float *logits) {
    for (uint32_t at = 0; at < n; at += chunk)
        step(l, 0, 1, at, n - at < chunk ? n - at : chunk, logits);
    step(l, 0, 1, n, 1, logits + l->model.params.n_vocab);
}

static void many_rows_at_once_give_the_bits_of_a_few(void) {
    static const uint32_t counts[] = {32, 33, 47, 49, 61, 64};
    static const struct setup setups[] = {
        {.n_cards = 1, .split = SPLIT_LAYER, .n_threads = 3},
        {.n_cards = 2, .split = SPLIT_TENSOR, .n_threads = 1},
        {.n_cards = 3, .split = SPLIT_TENSOR, .n_threads = 5},
        {.n_cards = 8, .split = SPLIT_TENSOR, .n_threads = 3},
        {.n_cards = 8, .split = SPLIT_TENSOR, .isolate = true},
        {.n_cards = 8, .split = SPLIT_TENSOR, .isa = ISA_PORTABLE},
    };
    static const char *const files[] = {"tiny-f32.gguf", "tiny-mixed.gguf", "tiny-gemma3.gguf"};
    for (size_t m = 0; m < sizeof files / sizeof *files; m++)
        for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
            struct loaded few, many;
            load(&few, files[m], &(struct setup){.n_cards = 1, .split = SPLIT_LAYER});
            load(&many, files[m], &setups[k]);
            const uint32_t n_vocab = few.model.params.n_vocab;
            float *want = calloc(2ull * n_vocab, sizeof *want);
            float *got = calloc(2ull * n_vocab, sizeof *got);
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                after_rows(&few, counts[i], 16, want);
                after_rows(&many, counts[i], counts[i], got);
                CHECK(!memcmp(want, got, 2ull * n_vocab * sizeof *want));
            }
            free(want);
            free(got);
            unload(&few);
            unload(&many);
        }
}

static void every_kv_type_keeps_the_promise(void) {
    static const enum kv_type types[] = {KV_F16, KV_F32, KV_Q8_0};
    for (size_t i = 0; i < 3; i++)
        compare(model_files[1],
                &(struct setup){.n_cards = 5, .split = SPLIT_TENSOR, .kv_type = types[i]}, 9);
}

static void a_sequence_does_not_notice_its_neighbours(void) {
    static const char *const files[] = {"tiny-f32.gguf", "tiny-mixed.gguf", "tiny-gemma2.gguf",
                                        "tiny-mistral3.gguf", "tiny-gpt-oss.gguf"};
    struct loaded l;
    for (size_t m = 0; m < sizeof files / sizeof *files; m++) {
        load(&l, files[m], &(struct setup){.n_cards = 3, .split = SPLIT_TENSOR});
        const uint32_t n_vocab = l.model.params.n_vocab;
        float *alone = calloc(n_vocab, sizeof *alone),
              *together = calloc(3 * n_vocab, sizeof *alone);
        step(&l, 0, 3, 0, 12, together);
        step(&l, 0, 3, 12, 1, together);
        for (uint32_t s = 0; s < 3; s++) {
            step(&l, s, 1, 0, 12, alone);
            step(&l, s, 1, 12, 1, alone);
            CHECK(!memcmp(alone, together + (size_t)s * n_vocab, n_vocab * sizeof *alone));
        }
        free(alone);
        free(together);
        unload(&l);
    }
}

static void a_lost_card_is_named_and_its_weights_are_gone(void) {
    struct loaded l;
    uint32_t card = 99;
    uint8_t header[64] = {1};
    float *logits;
    const uint32_t page = 0, output = 0;
    const struct step_row row = {1, 0, 0};
    const struct step_sequence sequence = {&page, 1};
    load(&l, model_files[0], &(struct setup){.n_cards = 3, .split = SPLIT_TENSOR, .memfds = true});
    logits = calloc(l.model.params.n_vocab, sizeof *logits);
    struct step_params params = {.rows = &row,
                                 .n_rows = 1,
                                 .sequences = &sequence,
                                 .n_sequences = 1,
                                 .outputs = &output,
                                 .n_outputs = 1,
                                 .logits = logits};
    CHECK_EQ(runner_step(l.runner, &params, &card), 0);
    CHECK_EQ(runner_lose(l.runner, 1), 0);
    CHECK_EQ(runner_step(l.runner, &params, &card), -ENODEV);
    CHECK_EQ(card, 1);
    CHECK_EQ(pread(l.weight_fds[1], header, sizeof header, 0), (ssize_t)sizeof header);
    for (size_t i = 0; i < sizeof header; i++)
        CHECK_EQ(header[i], 0);
    free(logits);
    unload(&l);
}

static void refused(struct loaded *l, const char *part, const char *part2) {
    struct err err = {{0}};
    CHECK_EQ(try_runner(l, &(struct setup){.n_cards = 1}, &err), -EINVAL);
    if (!strstr(err.text, part) || !strstr(err.text, part2))
        printf("# %s\n", err.text);
    CHECK(strstr(err.text, part) && strstr(err.text, part2));
}

/* Such a file must not be found out by a step: that would end every engine of the line. */
static void rotations_that_cannot_be_are_refused_at_the_load(void) {
    struct loaded l;
    static const float freqs[][2] = {{1, 0}, {-1, 0}, {1, NAN}, {1, INFINITY}, {1, 1e-12f}};
    load(&l, model_files[0], &(struct setup){.n_cards = 1, .split = SPLIT_LAYER});
    const struct rope_params rope = l.model.params.rope;
    l.model.params.rope.scaling = ROPE_LINEAR, l.model.params.rope.factor = 1e-9f;
    refused(&l, "position 127", "rope.scaling.factor 1e-09");
    l.model.params.rope = rope;

    const uint32_t pairs = rope.dims / 2;
    l.model.tensors = realloc(l.model.tensors, (l.model.n_tensors + 1) * sizeof *l.model.tensors);
    CHECK(l.model.tensors != NULL);
    l.model.tensors[l.model.n_tensors++] = (struct model_tensor){.name = "rope_freqs.weight",
                                                                 .role = ROLE_ROPE_FREQS,
                                                                 .type = TENSOR_F32,
                                                                 .layer = -1,
                                                                 .rows = 1,
                                                                 .cols = pairs,
                                                                 .bytes = 4 * pairs};
    for (size_t i = 0; i < sizeof freqs / sizeof *freqs; i++) {
        float all[256];
        for (uint32_t k = 0; k < pairs; k++)
            all[k] = freqs[i][0];
        all[pairs - 1] = freqs[i][0] > 0 ? freqs[i][1] : 1;
        char value[64];
        const uint32_t at = freqs[i][0] > 0 ? pairs - 1 : 0;
        snprintf(value, sizeof value, "value %u of tensor 'rope_freqs.weight' is %g", at,
                 (double)all[at]);
        l.head_fd = memfd_create("freqs", MFD_CLOEXEC);
        CHECK_EQ(write(l.head_fd, all, 4 * pairs), 4 * pairs);
        refused(&l, value, "");
        close(l.head_fd);
    }
    unload(&l);
}

CHECK_MAIN(T(any_count_and_split_of_cards_gives_the_same_bits),
           T(every_architecture_has_the_same_bits_on_any_cards),
           T(with_all_other_cards_inaccessible_the_bits_are_the_same),
           T(cards_of_any_size_give_the_same_bits),
           T(plans_in_the_order_of_the_links_give_the_same_bits),
           T(a_card_that_holds_nothing_may_be_lost_and_reports_nothing),
           T(chunks_threads_and_instruction_sets_do_not_change_a_bit),
           T(many_rows_at_once_give_the_bits_of_a_few), T(every_kv_type_keeps_the_promise),
           T(a_sequence_does_not_notice_its_neighbours),
           T(a_lost_card_is_named_and_its_weights_are_gone),
           T(rotations_that_cannot_be_are_refused_at_the_load))
