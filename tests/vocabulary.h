/* SPDX-License-Identifier: Apache-2.0 */
/* vocabulary.h - small vocabularies as GGUF files, for tests: right ones and wrong ones.
 *
 * Byte-level: ids 0 .. 255 are the bytes, then the tokens below.  SPM: <unk>, <s>, </s>, the bytes
 * from id 3 on, then the tokens. */
#ifndef OCTARC_TESTS_VOCABULARY_H
#define OCTARC_TESTS_VOCABULARY_H

#include <stdio.h>

#include "tests/gguf_bytes.h"

#define VOCABULARY_MAX 512

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };

struct vocabulary {
    const char *name, *model, *pre; /* NULL: no such key, but for the model */
    struct {
        char text[32];
        int32_t type;
        float score;
    } tokens[VOCABULARY_MAX];
    uint32_t n;
    const char *merges[32];
    uint32_t n_merges;
    uint32_t n_scores, n_types; /* entries written */
    struct {
        const char *key;
        uint32_t value;
    } ids[4]; /* bos_token_id and so on */
    struct {
        const char *key;
        bool value;
    } flags[4];
};

static inline void add_token(struct vocabulary *v, const char *text, int32_t type, float score) {
    if (v->n == VOCABULARY_MAX)
        abort();
    snprintf(v->tokens[v->n].text, sizeof v->tokens[0].text, "%s", text);
    v->tokens[v->n].type = type;
    v->tokens[v->n].score = score;
    v->n_scores = v->n_types = ++v->n;
}

/* The printable stand-in of a byte: itself where Latin-1 prints it, else the next from U+0100. */
static inline void add_byte_stand_ins(struct vocabulary *v) {
    unsigned next = 256;
    for (unsigned c = 0; c < 256; c++) {
        const bool prints = (c > 32 && c < 127) || (c > 160 && c != 173);
        const unsigned point = prints ? c : next++;
        char text[3] = {(char)point};
        if (point > 127) {
            text[0] = (char)(0xc0 | point >> 6);
            text[1] = (char)(0x80 | (point & 63));
        }
        add_token(v, text, NORMAL, 0);
    }
}

static inline void start_bpe(struct vocabulary *v, const char *pre) {
    memset(v, 0, sizeof *v);
    v->model = "gpt2";
    v->pre = pre;
    add_byte_stand_ins(v);
}

static inline void start_spm(struct vocabulary *v) {
    memset(v, 0, sizeof *v);
    v->model = "llama";
    add_token(v, "<unk>", UNKNOWN, 0);
    add_token(v, "<s>", CONTROL, 0);
    add_token(v, "</s>", CONTROL, 0);
    for (int c = 0; c < 256; c++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", c);
        add_token(v, text, BYTE, 0);
    }
}

/* A merge and the token it makes; both sides may not hold a space. */
static inline void add_merge(struct vocabulary *v, const char *merge, const char *token) {
    if (v->n_merges == sizeof v->merges / sizeof *v->merges)
        abort();
    v->merges[v->n_merges++] = merge;
    add_token(v, token, NORMAL, 0);
}

static inline void put_vocabulary(struct gguf_bytes *b, const struct vocabulary *v) {
    uint64_t n_keys = 4 + (v->name != NULL) + (v->pre != NULL) + (v->merges[0] != NULL);
    for (int i = 0; i < 4; i++)
        n_keys += (v->ids[i].key != NULL) + (v->flags[i].key != NULL);
    put_header(b, 0, n_keys);
    if (v->name)
        put_key_string(b, "general.name", v->name);
    put_key_string(b, "tokenizer.ggml.model", v->model);
    if (v->pre)
        put_key_string(b, "tokenizer.ggml.pre", v->pre);
    put_key(b, "tokenizer.ggml.tokens", GGUF_ARRAY), put_u32(b, GGUF_STRING), put_u64(b, v->n);
    for (uint32_t i = 0; i < v->n; i++)
        put_string(b, v->tokens[i].text);
    put_key(b, "tokenizer.ggml.scores", GGUF_ARRAY), put_u32(b, GGUF_F32), put_u64(b, v->n_scores);
    for (uint32_t i = 0; i < v->n_scores; i++)
        put(b, &v->tokens[i].score, 4);
    put_key(b, "tokenizer.ggml.token_type", GGUF_ARRAY), put_u32(b, GGUF_I32);
    put_u64(b, v->n_types);
    for (uint32_t i = 0; i < v->n_types; i++)
        put(b, &v->tokens[i].type, 4);
    if (v->merges[0]) {
        put_key(b, "tokenizer.ggml.merges", GGUF_ARRAY), put_u32(b, GGUF_STRING);
        put_u64(b, v->n_merges);
        for (uint32_t i = 0; i < v->n_merges; i++)
            put_string(b, v->merges[i]);
    }
    for (int i = 0; i < 4; i++) {
        if (v->ids[i].key)
            put_key_u32(b, v->ids[i].key, v->ids[i].value);
        if (v->flags[i].key)
            put_key(b, v->flags[i].key, GGUF_BOOL), put(b, &v->flags[i].value, 1);
    }
}

#endif
