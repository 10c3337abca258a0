/* SPDX-License-Identifier: Apache-2.0 */
/* Samples to ranges, ratios, names and JSON. */
#include "client/bench/figures.h"

#include <math.h>

#include "tests/check.h"

static bool is(struct range r, double min, double median, double max) {
    return r.min == min && r.median == median && r.max == max;
}

static void the_median_is_in_the_middle(void) {
    const double odd[] = {3, 1, 9}, even[] = {8, 2, 4, 1}, same[] = {5, 5};
    CHECK(is(range_of(odd, 1), 3, 3, 3));
    CHECK(is(range_of(odd, 3), 1, 3, 9));
    CHECK(is(range_of(even, 4), 1, 3, 8));
    CHECK(is(range_of(same, 2), 5, 5, 5));
    CHECK(odd[0] == 3 && even[3] == 1); /* not sorted in place */
    double many[RUNS_MAX];
    for (int i = 0; i < RUNS_MAX; i++)
        many[i] = (i * 37) % RUNS_MAX;
    CHECK(is(range_of(many, RUNS_MAX), 0, (RUNS_MAX - 1) / 2.0, RUNS_MAX - 1));
}

static struct figures all;

static void a_figure_is_made_once(void) {
    struct figure *a = figures_at(&all, "streams", "4", "tokens/s");
    CHECK(a == figures_at(&all, "streams", "4", "tokens/s"));
    CHECK(a != figures_at(&all, "streams", "8", "tokens/s"));
    CHECK(a != figures_at(&all, "streams", NULL, "tokens/s"));
    struct figure *s = figures_shard(&all, "decode_tokens_per_s", 4, "tensor", "tokens/s");
    CHECK(s == figures_shard(&all, "decode_tokens_per_s", 4, "tensor", "tokens/s"));
    CHECK(s != figures_shard(&all, "decode_tokens_per_s", 4, "layer", "tokens/s"));
    CHECK(s != figures_shard(&all, "decode_tokens_per_s", 8, "tensor", "tokens/s"));
    CHECK(s != figures_at(&all, "decode_tokens_per_s", NULL, "tokens/s"));
    CHECK_EQ(all.n, 7);
    for (int i = 0; i < 2 * FIGURES_MAX; i++) { /* too many: no harm */
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        figure_add(figures_at(&all, "more", key, ""), OURS, 1);
    }
    CHECK(all.n < FIGURES_MAX);
}

static void only_samples_that_can_be_are_kept(void) {
    struct figure *f = figures_at(&all, "ttft_ms", NULL, "ms");
    figure_add(f, OURS, NAN);
    figure_add(f, OURS, INFINITY);
    figure_add(f, OURS, 0);
    figure_add(f, OURS, -1);
    CHECK_EQ(f->n[OURS], 0);
    for (int i = 0; i < RUNS_MAX + 5; i++)
        figure_add(f, OURS, 2);
    CHECK_EQ(f->n[OURS], RUNS_MAX);
    CHECK_EQ(f->n[PEER], 0);
}

static void ratios_are_taken_round_by_round(void) {
    struct figure *f = figures_at(&all, "decode_tokens_per_s", NULL, "tokens/s");
    struct range r = {0};
    figure_add(f, OURS, 100);
    CHECK(!figure_ratio(f, &r));
    figure_add(f, OURS, 50);
    figure_add(f, OURS, 70);
    figure_add(f, PEER, 20);
    figure_add(f, PEER, 25); /* it failed in the third round */
    CHECK(figure_ratio(f, &r));
    CHECK(is(r, 2, 3.5, 5));
}

static void names_are_for_people(void) {
    static const struct {
        const char *group, *key, *name;
        uint32_t cards;
    } cases[] = {
        {"prefill_tokens_per_s", "512", "prefill 512", 0},
        {"decode_tokens_per_s", "", "decode", 0},
        {"streams", "16", "streams 16", 0},
        {"ready_ms", "cold", "ready cold", 0},
        {"rss_bytes", "", "rss", 0},
        {"read_bytes_per_s", "", "read", 0},
        {"int8_ops_per_s", "", "int8", 0},
        {"fraction_of_int8_peak", "", "of int8 peak", 0},
        {"decode_tokens_per_s", "", "decode, 1 card, layer", 1},
        {"prefill_tokens_per_s", "", "prefill, 8 cards, layer", 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        const struct figure *f =
            cases[i].cards ? figures_shard(&all, cases[i].group, cases[i].cards, "layer", "")
                           : figures_at(&all, cases[i].group, cases[i].key, "");
        CHECK(!strcmp(figure_name(f, name, sizeof name), cases[i].name));
    }
}

static void each_figure_has_its_place(void) {
    figure_add(figures_at(&all, "prefill_tokens_per_s", "512", "tokens/s"), OURS, 4);
    figure_add(figures_at(&all, "prefill_tokens_per_s", "1000", "tokens/s"), OURS, 5);
    figure_add(figures_at(&all, "ttft_ms", NULL, "ms"), OURS, 6);
    figure_add(figures_at(&all, "ttft_ms", NULL, "ms"), PEER, 12);
    figures_at(&all, "rss_bytes", NULL, "bytes"); /* no sample */
    figure_add(figures_shard(&all, "decode_tokens_per_s", 2, "layer", "tokens/s"), OURS, 7);
    figure_add(figures_shard(&all, "prefill_tokens_per_s", 2, "layer", "tokens/s"), OURS, 8);
    figure_add(figures_shard(&all, "decode_tokens_per_s", 2, "tensor", "tokens/s"), OURS, 9);
    static const char *const wants[] = {
        "{\"prefill_tokens_per_s\":{\"512\":{\"min\":4,\"median\":4,\"max\":4},"
        "\"1000\":{\"min\":5,\"median\":5,\"max\":5}},"
        "\"ttft_ms\":{\"min\":6,\"median\":6,\"max\":6},"
        "\"sharding\":[{\"cards\":2,\"split\":\"layer\","
        "\"decode_tokens_per_s\":{\"min\":7,\"median\":7,\"max\":7},"
        "\"prefill_tokens_per_s\":{\"min\":8,\"median\":8,\"max\":8}},"
        "{\"cards\":2,\"split\":\"tensor\","
        "\"decode_tokens_per_s\":{\"min\":9,\"median\":9,\"max\":9}}]}",
        "{\"ttft_ms\":{\"min\":12,\"median\":12,\"max\":12}}",
        "{\"ttft_ms\":{\"min\":0.5,\"median\":0.5,\"max\":0.5}}"};
    for (int i = 0; i < 3; i++) {
        cJSON *object = cJSON_CreateObject();
        if (i < 2)
            figures_add_json(&all, (enum side)i, object);
        else
            figures_add_ratios(&all, object);
        char *text = cJSON_PrintUnformatted(object);
        if (strcmp(text, wants[i]) != 0)
            printf("# %s\n", text);
        CHECK(!strcmp(text, wants[i]));
        free(text);
        cJSON_Delete(object);
    }
}

CHECK_MAIN(T(the_median_is_in_the_middle), T(a_figure_is_made_once),
           T(only_samples_that_can_be_are_kept), T(ratios_are_taken_round_by_round),
           T(names_are_for_people), T(each_figure_has_its_place))
