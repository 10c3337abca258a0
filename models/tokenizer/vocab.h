/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - inside tokenizer: ids, their bytes, and the way back.
 *
 * A byte-level vocabulary spells bytes with printable stand-ins; pieces here are the bytes
 * themselves.  The others spell a space, or the beginning of a word, as U+2581; SPM single bytes as
 * <0x41>. */
#ifndef OCTARC_MODELS_TOKENIZER_VOCAB_H
#define OCTARC_MODELS_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct gguf;

enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER,
    TOKEN_UNUSED,
    TOKEN_BYTE
};

struct token {
    uint32_t offset, n;  /* of its bytes as text shows them, in vocab.bytes */
    uint32_t key, key_n; /* of its spelling for look-up (SPM: with U+2581), in vocab.bytes */
    float score;
    uint8_t type;
    bool strips; /* white space behind it in text belongs to it */
};

struct vocab {
    struct token *tokens; /* owned */
    uint32_t n;
    char *bytes;        /* owned */
    struct slot *slots; /* owned; normal, user-defined and unused tokens by spelling */
    uint32_t n_slots;
    bool byte_level;
    int32_t byte_token[256]; /* NO_TOKEN: none; byte-level: a rare byte */
};

#define NO_TOKEN (-1)

/* -EINVAL names what is wrong: a spelling of two tokens, a byte that a byte-level vocabulary cannot
 * spell, numbers out of range. */
int vocab_init(struct vocab *vocab, const struct gguf *gguf, bool byte_level, struct err *err);
void vocab_finish(struct vocab *vocab);

/* The normal, user-defined or unused token spelled so, or NO_TOKEN. */
int32_t vocab_find(const struct vocab *vocab, const char *key, size_t n);

/* A byte-level spelling as bytes into out (n bytes are enough); characters that stand for no byte
 * are kept as they are.  Returns the length. */
size_t vocab_bytes_of(const char *text, size_t n, char *out);

#endif
