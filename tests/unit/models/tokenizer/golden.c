/* SPDX-License-Identifier: Apache-2.0 */
/* Real vocabularies against the ids that another implementation gave. */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <time.h>

#include "models/gguf.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/shared.h"

static struct tokenizer *open_tokenizer(const char *path) {
    struct gguf *gguf = NULL;
    struct tokenizer *t = NULL;
    struct err err = {{0}};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        SKIP("a model file is not here");
    int rc = gguf_open(&gguf, fd, path, &err);
    if (!rc)
        rc = tokenizer_create(&t, gguf, &err);
    if (rc)
        printf("# %s\n", err.text);
    CHECK_EQ(rc, 0);
    gguf_close(gguf);
    close(fd);
    return t;
}

static char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    char *text = malloc(64 << 20);
    *n = fread(text, 1, (64 << 20) - 1, f);
    text[*n] = 0;
    fclose(f);
    return text;
}

static void check_ids(const struct tokenizer *t, const char *text, unsigned flags,
                      const cJSON *want) {
    int32_t *ids;
    size_t n;
    const cJSON *id;
    size_t i = 0;
    CHECK_EQ(tokenizer_encode(t, text, strlen(text), flags, &ids, &n, NULL), 0);
    bool same = n == (size_t)cJSON_GetArraySize(want);
    cJSON_ArrayForEach(id, want) {
        same = same && ids[i] == id->valueint;
        i++;
    }
    if (!same) {
        printf("# %s of '%s': got", flags ? "special" : "plain", text);
        for (i = 0; i < n; i++)
            printf(" %d", ids[i]);
        char *json = cJSON_PrintUnformatted(want);
        printf(", want %s\n", json);
        CHECK(false);
    }
    free(ids);
}

static void check_pieces(const struct tokenizer *t, const cJSON *piece) {
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(piece, "ids"), *id;
    const char *hex = cJSON_GetObjectItemCaseSensitive(piece, "bytes_hex")->valuestring;
    cJSON_ArrayForEach(id, ids) {
        const char *bytes;
        size_t n;
        CHECK_EQ(tokenizer_piece(t, id->valueint, true, &bytes, &n), 0);
        for (size_t i = 0; i < n; i++, hex += 2) {
            char two[3];
            snprintf(two, sizeof two, "%02x", (unsigned char)bytes[i]);
            CHECK(!memcmp(two, hex, 2));
        }
    }
    CHECK_EQ(*hex, 0);
}

/* Pieces are compared where all ids are below `known`. */
static bool all_below(const cJSON *ids, double known) {
    const cJSON *id;
    cJSON_ArrayForEach(id, ids) if (id->valuedouble >= known) return false;
    return true;
}

static void compare_known(const char *model, const char *golden, uint32_t known) {
    size_t n;
    char *text = slurp(shared(golden), &n);
    cJSON *json = cJSON_Parse(text);
    struct tokenizer *t = open_tokenizer(model);
    const cJSON *item;
    CHECK(json != NULL);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(json, "encode")) {
        const char *s = cJSON_GetObjectItemCaseSensitive(item, "text")->valuestring;
        if (!*s && cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(item, "plain")))
            continue; /* begins with U+0000, where cJSON ends a string */
        check_ids(t, s, 0, cJSON_GetObjectItemCaseSensitive(item, "plain"));
        check_ids(t, s, ENCODE_SPECIAL | ENCODE_PARSE,
                  cJSON_GetObjectItemCaseSensitive(item, "special"));
    }
    const cJSON *pieces = cJSON_GetObjectItemCaseSensitive(json, "pieces");
    cJSON_ArrayForEach(item, pieces) {
        const cJSON *ids = cJSON_GetObjectItemCaseSensitive(item, "ids");
        if (cJSON_GetObjectItemCaseSensitive(item, "bytes_hex") && all_below(ids, known))
            check_pieces(t, item);
    }
    tokenizer_destroy(t);
    cJSON_Delete(json);
    free(text);
}

static void compare(const char *model, const char *golden) {
    compare_known(model, golden, UINT32_MAX);
}

static const char *cached_model(const char *file) {
    static char path[512];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache)
        snprintf(path, sizeof path, "%s/octarc/models/%s", cache, file);
    else
        snprintf(path, sizeof path, "%s/.cache/octarc/models/%s", home ? home : "", file);
    return path;
}

static const char *default_model(void) {
    return cached_model("SmolLM2-135M-Instruct.Q4_1.gguf");
}

static void smollm2(void) {
    compare(default_model(), "goldens/tokenizer/smollm2.json");
}

static void gemma3(void) {
    compare(cached_model("gemma-3-270m-q4_k_m.gguf"), "goldens/tokenizer/gemma3.json");
}

static void qwen2_of_a_model(void) {
    compare(cached_model("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            "goldens/tokenizer/qwen2.json");
}

static void spm_with_prefix(void) {
    compare(shared("goldens/tiny/llama-mha-tied-spm.gguf"), "goldens/tokenizer/tiny-spm.json");
    compare(shared("goldens/tiny/phi3-fused.gguf"), "goldens/tokenizer/tiny-spm.json");
}

static void spm_without_prefix(void) {
    compare(shared("goldens/tiny/gemma3.gguf"), "goldens/tokenizer/tiny-spm-noprefix.json");
}

static void qwen2(void) {
    /* The golden model names a few ids that this file of the same vocabulary leaves unnamed. */
    compare_known(shared("goldens/vocab/ggml-vocab-qwen2.gguf"), "goldens/tokenizer/qwen2.json",
                  151646);
}

static void llama3(void) {
    compare(shared("goldens/tiny/llama-gqa-untied.gguf"), "goldens/tokenizer/tiny-bpe-llama3.json");
}

static void gpt4o(void) {
    compare(shared("goldens/tiny/gpt-oss-f32.gguf"), "goldens/tokenizer/tiny-bpe-gpt4o.json");
}

/* The prompts of the model goldens, as their tokens say. */
static void prompts_of_every_tiny_model(void) {
    static const char *const names[] = {"gemma2",
                                        "gemma3",
                                        "gpt-oss-f32",
                                        "gpt-oss-mxfp4",
                                        "llama-gqa-untied",
                                        "llama-linear-rope",
                                        "llama-mha-tied-spm",
                                        "llama-moe",
                                        "llama-mqa",
                                        "llama-rope-freqs",
                                        "llama-yarn",
                                        "mistral3-tempscale",
                                        "phi3-fused",
                                        "phi3-longrope",
                                        "qwen2-bias",
                                        "qwen2-tied",
                                        "qwen2moe-shexp",
                                        "qwen3-qknorm",
                                        "qwen3-tied",
                                        "qwen3moe"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        size_t n;
        const cJSON *c;
        snprintf(path, sizeof path, "goldens/tiny/%s.gguf", names[i]);
        struct tokenizer *t = open_tokenizer(shared(path));
        snprintf(path, sizeof path, "goldens/tiny/%s.json", names[i]);
        char *text = slurp(shared(path), &n);
        cJSON *json = cJSON_Parse(text);
        CHECK(json != NULL);
        cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(json, "cases"))
            check_ids(t, cJSON_GetObjectItemCaseSensitive(c, "prompt")->valuestring,
                      ENCODE_SPECIAL | ENCODE_PARSE, cJSON_GetObjectItemCaseSensitive(c, "tokens"));
        tokenizer_destroy(t);
        cJSON_Delete(json);
        free(text);
    }
}

/* The .inp/.out vectors: texts between marker lines, one line of ids for each. */
static void vectors(const char *name) {
    char path[256];
    size_t n_in, n_out;
    snprintf(path, sizeof path, "goldens/vocab/ggml-vocab-%s.gguf", name);
    struct tokenizer *t = open_tokenizer(shared(path));
    snprintf(path, sizeof path, "goldens/vocab/ggml-vocab-%s.gguf.inp", name);
    char *in = slurp(shared(path), &n_in);
    snprintf(path, sizeof path, "goldens/vocab/ggml-vocab-%s.gguf.out", name);
    char *out = slurp(shared(path), &n_out), *line = out;
    const char *mark = "\n__ggml_vocab_test__\n", *text = in;
    int seen = 0;
    while (*line) {
        const char *end = strstr(text, mark);
        const size_t n = end ? (size_t)(end - text) : strlen(text);
        int32_t *ids;
        size_t n_ids, i = 0;
        char *stop = strchr(line, '\n'), *at = line;
        CHECK_EQ(tokenizer_encode(t, text, n, ENCODE_PARSE, &ids, &n_ids, NULL), 0);
        *stop = 0;
        for (;; i++) {
            char *next;
            const long id = strtol(at, &next, 10);
            if (next == at)
                break;
            if (i >= n_ids || ids[i] != id) {
                printf("# %s: '%.*s': id %zu is %d, want %ld\n", name, (int)n, text, i,
                       i < n_ids ? ids[i] : -1, id);
                CHECK(false);
            }
            at = next;
        }
        CHECK_EQ(i, n_ids);
        free(ids);
        seen++;
        line = stop + 1;
        if (!end)
            break;
        text = end + strlen(mark);
    }
    CHECK(seen > 20);
    tokenizer_destroy(t);
    free(in);
    free(out);
}

static void vectors_gpt2(void) {
    vectors("gpt-2");
}

static void vectors_llama_bpe(void) {
    vectors("llama-bpe");
}

static void vectors_qwen2(void) {
    vectors("qwen2");
}

static void vectors_phi3(void) {
    vectors("phi-3");
}

static void vectors_bert(void) {
    vectors("bert-bge");
}

static void vectors_deepseek_llm(void) {
    vectors("deepseek-llm");
}

static void vectors_deepseek_coder(void) {
    vectors("deepseek-coder");
}

static double seconds(const struct tokenizer *t, const char *text, size_t n) {
    struct timespec a, b;
    int32_t *ids;
    size_t n_ids;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    CHECK_EQ(tokenizer_encode(t, text, n, 0, &ids, &n_ids, NULL), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    free(ids);
    return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}

static void twice_the_text_takes_about_twice_the_time(void) {
    struct tokenizer *t = open_tokenizer(default_model());
    const size_t n = 1 << 18;
    char *text = malloc(4 * n);
    uint32_t random = 1;
    for (int kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < 4 * n; i++) {
            random = random * 1664525u + 1013904223u;
            text[i] = kind == 0   ? 'A'
                      : kind == 1 ? " the quick brown fox"[i % 20]
                      : kind == 2 ? ' '
                                  : (char)('a' + (random >> 24) % 26);
        }
        bool even = false; /* what else the machine does may lengthen a single try */
        for (int i = 0; i < 5 && !even; i++) {
            const double one = seconds(t, text, n), four = seconds(t, text, 4 * n);
            printf("# kind %d: %.3f s, %.3f s for four times as much\n", kind, one, four);
            even = four < 12 * one + 0.05;
        }
        CHECK(even);
    }
    free(text);
    tokenizer_destroy(t);
}

static void generated_model(void) {
    size_t n;
    char path[512], *text = slurp("tests/golden/tiny.json", &n);
    const char *dir = getenv("OCTARC_TINY");
    const cJSON *model, *c;
    if (!dir)
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    cJSON *json = cJSON_Parse(text);
    cJSON_ArrayForEach(model, cJSON_GetObjectItemCaseSensitive(json, "models")) {
        snprintf(path, sizeof path, "%s/%s", dir,
                 cJSON_GetObjectItemCaseSensitive(model, "file")->valuestring);
        struct tokenizer *t = open_tokenizer(path);
        cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(model, "cases")) {
            const char *prompt = cJSON_GetObjectItemCaseSensitive(c, "prompt")->valuestring;
            int32_t *ids;
            char *back;
            check_ids(t, prompt, ENCODE_PARSE, cJSON_GetObjectItemCaseSensitive(c, "tokens"));
            CHECK_EQ(tokenizer_encode(t, prompt, strlen(prompt), ENCODE_PARSE, &ids, &n, NULL), 0);
            CHECK_EQ(tokenizer_decode(t, ids, n, true, &back, &n, NULL), 0);
            CHECK(!strcmp(back, prompt));
            free(ids);
            free(back);
        }
        tokenizer_destroy(t);
    }
    cJSON_Delete(json);
    free(text);
}

CHECK_MAIN(T(generated_model), T(smollm2), T(gemma3), T(qwen2_of_a_model), T(spm_with_prefix),
           T(spm_without_prefix), T(qwen2), T(llama3), T(gpt4o), T(prompts_of_every_tiny_model),
           T(vectors_gpt2), T(vectors_llama_bpe), T(vectors_qwen2), T(vectors_phi3),
           T(vectors_bert), T(vectors_deepseek_llm), T(vectors_deepseek_coder),
           T(twice_the_text_takes_about_twice_the_time))
