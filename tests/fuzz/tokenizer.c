/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses: a right vocabulary and any text, which must come back from its tokens; or
 * a model file with a damaged vocabulary (behind one byte of length and a text of that length). */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"
#include "tests/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const pres[] = {"default",        "gpt-2",  "smollm", "falcon",
                                   "llama-bpe",      "qwen2",  "gpt-4o", "deepseek-llm",
                                   "deepseek-coder", "tekken", "glm4",   "deepseek-v3"};
enum { N_PRES = sizeof pres / sizeof *pres, WPM };

static void check(bool holds) {
    if (!holds)
        abort();
}

static int create(struct tokenizer **t, const uint8_t *bytes, size_t n) {
    struct gguf *gguf;
    struct err err;
    const int fd = bytes_file(bytes, n);
    int rc = gguf_open(&gguf, fd, "fuzz", &err);
    close(fd);
    if (rc)
        return rc;
    rc = tokenizer_create(t, gguf, &err);
    gguf_close(gguf);
    check(rc == 0 || rc == -EINVAL || rc == -ENOTSUP);
    return rc;
}

/* Pieces that words of a few letters can be spelled with, and marks. */
static void fill_wpm(struct vocabulary *v) {
    static const char *const pieces[] = {"\xe2\x96\x81"
                                         "a",
                                         "\xe2\x96\x81"
                                         "ab",
                                         "a",
                                         "b",
                                         "aab",
                                         "\xe2\x96\x81,",
                                         "\xe2\x96\x81\xe4\xb8\xad"};
    memset(v, 0, sizeof *v);
    v->model = "bert";
    add_token(v, "[UNK]", CONTROL, 0);
    add_token(v, "[CLS]", CONTROL, 0);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add_token(v, pieces[i], NORMAL, 0);
    v->ids[0].key = "tokenizer.ggml.unknown_token_id";
}

static void fill(struct vocabulary *v, size_t kind) {
    if (kind == WPM) {
        fill_wpm(v);
        return;
    }
    if (kind == N_PRES) {
        start_spm(v);
        add_token(v, "\xe2\x96\x81", NORMAL, -10);
        add_token(v, "a", NORMAL, -10);
        add_token(v, "aa", NORMAL, -2);
        add_token(v, "\xe2\x96\x81\xe2\x96\x81", NORMAL, -1);
        add_token(v,
                  "\xe2\x96\x81"
                  "a",
                  NORMAL, -1);
        return;
    }
    start_bpe(v, pres[kind]);
    add_merge(v, "a a", "aa");
    add_merge(v, "\xc4\xa0 \xc4\xa0", "\xc4\xa0\xc4\xa0");
    add_merge(v, "aa a", "aaa");
    add_merge(v, "1 2", "12");
    add_token(v, "<|a|>", CONTROL, 0);
    add_token(v, "<|a|>b", CONTROL, 0);
    add_token(v, "<a>", USER, 0);
}

static const struct tokenizer *right(size_t kind) {
    static struct tokenizer *made[WPM + 1];
    static struct vocabulary v;
    static struct gguf_bytes b;
    if (!made[kind]) {
        fill(&v, kind);
        put_vocabulary(&b, &v);
        check(create(&made[kind], b.data, b.n) == 0);
    }
    return made[kind];
}

static void round_trip(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                       bool same) {
    int32_t *ids;
    char *back;
    size_t n_ids, n_back;
    const int rc = tokenizer_encode(t, text, n, flags, &ids, &n_ids, NULL);
    check(rc == 0);
    for (size_t i = 0; i < n_ids; i++)
        check(ids[i] >= 0 && (uint32_t)ids[i] < tokenizer_n_vocab(t));
    check(tokenizer_decode(t, ids, n_ids, true, &back, &n_back, NULL) == 0);
    check(!same || (n_back == n && !memcmp(back, text, n)));
    free(ids);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct tokenizer *t;
    if (n < 2)
        return 0;
    const char *text = (const char *)data + 1;
    if (data[0] < N_PRES) {
        round_trip(right(data[0]), text, n - 1, 0, true);
        round_trip(right(data[0]), text, n - 1, ENCODE_PARSE, true);
        return 0;
    }
    if (data[0] == N_PRES) { /* U+2581 in the text is a space to SPM */
        round_trip(right(N_PRES), text, n - 1, 0, !memmem(text, n - 1, "\xe2\x96\x81", 3));
        return 0;
    }
    if (data[0] == WPM) { /* which keeps neither white space nor capitals */
        for (unsigned flags = 0; flags < 4; flags++)
            round_trip(right(WPM), text, n - 1, flags, false);
        return 0;
    }
    const size_t length = data[1] < n - 2 ? data[1] : n - 2;
    if (create(&t, data + 2 + length, n - 2 - length))
        return 0;
    for (unsigned flags = 0; flags < 4; flags++)
        round_trip(t, text + 1, length, flags, false);
    size_t n_ends;
    const int32_t *ends = tokenizer_eogs(t, &n_ends);
    for (size_t i = 0; i < n_ends; i++)
        check(ends[i] >= 0 && (uint32_t)ends[i] < tokenizer_n_vocab(t) &&
              (i == 0 || ends[i] > ends[i - 1]));
    tokenizer_destroy(t);
    return 0;
}
