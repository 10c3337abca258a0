/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass against figures that another implementation made: tests/golden/tiny.json,
 * written by make_tiny.py in double precision from the dequantised weights. */
#include <cjson/cJSON.h>
#include <math.h>

#include "tests/loaded_model.h"

#define PROMPT_MAX 512u

static cJSON *read_json(const char *path) {
    static char text[1 << 20];
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    cJSON *json = cJSON_Parse(text);
    CHECK(json != NULL);
    return json;
}

/* Append tokens at `position`; the logits of the last one. */
static void feed(struct loaded *l, const int32_t *tokens, uint32_t n, uint32_t position,
                 float *logits) {
    struct step_row rows[MAX_ROWS];
    uint32_t pages[PROMPT_MAX / PAGE_TOKENS + 2], card;
    for (uint32_t i = 0; i < sizeof pages / sizeof *pages; i++)
        pages[i] = i;
    for (uint32_t at = 0; at < n; at += MAX_ROWS) {
        const uint32_t some = n - at < MAX_ROWS ? n - at : MAX_ROWS, last = some - 1;
        const struct step_sequence sequence = {pages, sizeof pages / sizeof *pages};
        for (uint32_t i = 0; i < some; i++)
            rows[i] = (struct step_row){tokens[at + i], position + at + i, 0};
        struct step_params p = {.rows = rows,
                                .n_rows = some,
                                .sequences = &sequence,
                                .n_sequences = 1,
                                .outputs = &last,
                                .n_outputs = 1,
                                .logits = logits};
        CHECK_EQ(runner_step(l->runner, &p, &card), 0);
    }
}

struct distance {
    double worst, squares, size; /* of the errors; size: squares of the logits themselves */
    uint64_t n;
};

static void compare_case(struct loaded *l, const cJSON *c, double tolerance, struct distance *d) {
    const uint32_t n_vocab = l->model.params.n_vocab;
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(c, "tokens");
    const cJSON *want = cJSON_GetObjectItemCaseSensitive(c, "first_logits");
    const cJSON *greedy = cJSON_GetObjectItemCaseSensitive(c, "greedy");
    const cJSON *gaps = cJSON_GetObjectItemCaseSensitive(c, "gaps");
    float *logits = calloc(n_vocab, sizeof *logits);
    int32_t tokens[PROMPT_MAX];
    uint32_t n = 0, i = 0;
    const cJSON *item, *gap = gaps ? gaps->child : NULL;
    cJSON_ArrayForEach(item, ids) {
        CHECK(n < PROMPT_MAX);
        tokens[n++] = item->valueint;
    }
    CHECK_EQ(cJSON_GetArraySize(want), n_vocab);
    feed(l, tokens, n, 0, logits);
    cJSON_ArrayForEach(item, want) {
        const double error = fabs((double)logits[i++] - item->valuedouble);
        d->worst = error > d->worst ? error : d->worst;
        d->squares += error * error;
        d->size += item->valuedouble * item->valuedouble;
        d->n++;
    }
    cJSON_ArrayForEach(item, greedy) {
        uint32_t best = 0;
        for (uint32_t v = 1; v < n_vocab; v++)
            best = logits[v] > logits[best] ? v : best;
        if (gap && gap->valuedouble > tolerance)
            CHECK_EQ(best, item->valueint);
        gap = gap ? gap->next : NULL;
        const int32_t forced = item->valueint;
        feed(l, &forced, 1, n++, logits);
    }
    free(logits);
}

static void compare_file(const char *file, double tolerance, struct distance *d) {
    cJSON *json = read_json("tests/golden/tiny.json");
    const cJSON *model, *c;
    struct loaded l;
    uint32_t found = 0;
    load(&l, file,
         &(struct setup){.n_cards = 3, .split = SPLIT_TENSOR, .kv_type = KV_F32, .context = 384});
    cJSON_ArrayForEach(model, cJSON_GetObjectItemCaseSensitive(json, "models")) {
        if (strcmp(cJSON_GetObjectItemCaseSensitive(model, "file")->valuestring, file))
            continue;
        cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(model, "cases")) {
            compare_case(&l, c, tolerance, d);
            found++;
        }
    }
    CHECK(found >= 3);
    unload(&l);
    cJSON_Delete(json);
}

static void float_weights_match_the_reference(void) {
    static const char *const files[] = {"tiny-f32.gguf",     "tiny-gemma2.gguf",
                                        "tiny-gemma3.gguf",  "tiny-mistral3.gguf",
                                        "tiny-mixtral.gguf", "tiny-gpt-oss.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct distance d = {0};
        compare_file(files[i], 1e-3, &d);
        printf("# %s: largest error of a logit %.2g\n", files[i], d.worst);
        CHECK(d.worst < 1e-3);
    }
}

static void stays_near(const char *file) {
    struct distance d = {0};
    compare_file(file, 0.5, &d);
    const double relative = sqrt(d.squares / d.size);
    printf("# %s: root mean square error %.3g of their size, largest error %.3g\n", file, relative,
           d.worst);
    /* Activations of 8 bits an atom are off by about 0.4 % each, in some ten products in a row. */
    CHECK(relative < 0.03);
}

static void quantised_weights_stay_near_the_reference(void) {
    stays_near("tiny-mixed.gguf");
}

static void other_architectures_stay_near_the_reference(void) {
    stays_near("tiny-qwen2.gguf");
    stays_near("tiny-qwen3.gguf");
    stays_near("tiny-fused.gguf");
    stays_near("tiny-qwen3moe.gguf");
    stays_near("tiny-qwen2moe.gguf");
    stays_near("tiny-gpt-oss-mxfp4.gguf");
}

CHECK_MAIN(T(float_weights_match_the_reference), T(quantised_weights_stay_near_the_reference),
           T(other_architectures_stay_near_the_reference))
