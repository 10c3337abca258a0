/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/vocab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/utf8.h"
#include "models/gguf.h"
#include "models/shown.h"
#include "models/tokenizer/special.h"
#include "octarc/error.h"

#define TOKENS_MAX (1u << 21)
#define NONE       UINT32_MAX

struct slot {
    uint32_t tag, id; /* the hash's other half, so that hardly a wrong token is looked at */
};

static uint64_t mix(uint64_t h) {
    const unsigned __int128 product = (unsigned __int128)h * UINT64_C(0x9e3779b97f4a7c15);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash(const char *bytes, size_t n) {
    uint64_t h = n, word;
    uint32_t first, last;
    for (; n >= sizeof word; n -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        h = mix(h ^ word);
    }
    if (n >= sizeof first) {
        memcpy(&first, bytes, sizeof first);
        memcpy(&last, bytes + n - sizeof last, sizeof last);
    } else {
        first = n ? (unsigned char)bytes[0] | (uint32_t)(unsigned char)bytes[n / 2] << 8 : 0;
        last = n ? (unsigned char)bytes[n - 1] : 0;
    }
    return mix(h ^ (first | (uint64_t)last << 32));
}

/* The byte that a code point stands for in a byte-level vocabulary, or -1: printable Latin-1
 * characters are themselves, the other bytes were numbered from 256 on. */
static int byte_of(uint32_t c) {
    static const uint8_t others[] = {127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138,
                                     139, 140, 141, 142, 143, 144, 145, 146, 147, 148, 149, 150,
                                     151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 173};
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int)c;
    if (c >= 256 && c < 256 + 33)
        return (int)c - 256;
    return c >= 256 + 33 && c < 256 + 33 + sizeof others ? others[c - 256 - 33] : -1;
}

size_t vocab_bytes_of(const char *text, size_t n, char *out) {
    size_t written = 0;
    while (n) {
        const size_t length = utf8_length(text, n);
        uint32_t c = (unsigned char)text[0];
        if (length == 2)
            c = (c & 31) << 6 | ((unsigned char)text[1] & 63);
        const int byte = length == 1 || length == 2 ? byte_of(c) : -1;
        const size_t used = length > 0 ? length : 1;
        if (byte >= 0) {
            out[written++] = (char)byte;
        } else {
            memcpy(out + written, text, used);
            written += used;
        }
        text += used;
        n -= used;
    }
    return written;
}

/* <0xHH> and nothing else. */
static int byte_spelling(const char *p, size_t n) {
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(p, "<0x", 3) || p[5] != '>')
        return -1;
    const char *high = memchr(digits, p[3], 16), *low = memchr(digits, p[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static size_t spaces_of(const char *text, size_t n, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && !memcmp(text + i, "\xe2\x96\x81", 3)) {
            out[written++] = ' ';
            i += 3;
        } else {
            out[written++] = text[i++];
        }
    }
    return written;
}

/* Fill one token from its spelling; `at` is where its bytes go, with room for 2n. */
static uint32_t fill_token(struct vocab *v, uint32_t id, const struct gguf_string *s, uint32_t at) {
    struct token *t = &v->tokens[id];
    const bool plain =
        t->type != TOKEN_CONTROL && t->type != TOKEN_UNKNOWN && t->type != TOKEN_USER;
    int byte;
    t->offset = at;
    if (t->type == TOKEN_BYTE && (byte = byte_spelling(s->bytes, s->n)) >= 0) {
        v->bytes[at] = (char)byte;
        t->n = 1;
        v->byte_token[byte] = (int32_t)id;
    } else if (v->byte_level && plain) {
        t->n = (uint32_t)vocab_bytes_of(s->bytes, s->n, v->bytes + at);
        if (t->n == 1)
            v->byte_token[(unsigned char)v->bytes[at]] = (int32_t)id;
    } else if (!v->byte_level && plain) {
        t->n = (uint32_t)spaces_of(s->bytes, s->n, v->bytes + at);
    } else {
        memcpy(v->bytes + at, s->bytes, s->n);
        t->n = (uint32_t)s->n;
    }
    at += t->n;
    t->key = t->offset;
    t->key_n = t->n;
    if (!v->byte_level) {
        t->key = at;
        t->key_n = (uint32_t)s->n;
        memcpy(v->bytes + at, s->bytes, s->n);
        at += t->key_n;
    }
    return at;
}

/* The slot that holds the token of that spelling, or the empty one where it would be. */
static struct slot *find_slot(const struct vocab *v, const char *key, size_t n) {
    const uint64_t h = hash(key, n);
    const uint32_t tag = (uint32_t)(h >> 32), mask = v->n_slots - 1;
    uint32_t i = (uint32_t)h & mask; /* at least twice the tokens: never full */
    for (; v->slots[i].id != NONE; i = (i + 1) & mask) {
        const struct token *t = &v->tokens[v->slots[i].id];
        if (v->slots[i].tag == tag && t->key_n == n && !memcmp(v->bytes + t->key, key, n))
            break;
    }
    return &v->slots[i];
}

static void index_token(struct vocab *v, uint32_t id) {
    const struct token *t = &v->tokens[id];
    if (t->type == TOKEN_CONTROL || t->type == TOKEN_UNKNOWN || t->type == TOKEN_BYTE || !t->key_n)
        return; /* never made from text; an empty spelling is a hole that files do have */
    struct slot *slot = find_slot(v, v->bytes + t->key, t->key_n);
    if (slot->id == NONE) /* the same bytes spelled in two ways: text becomes the first id */
        *slot = (struct slot){(uint32_t)(hash(v->bytes + t->key, t->key_n) >> 32), id};
}

int32_t vocab_find(const struct vocab *v, const char *key, size_t n) {
    const uint32_t id = find_slot(v, key, n)->id;
    return id == NONE ? NO_TOKEN : (int32_t)id;
}

/* Scores and types are optional; when there they have one entry a token. */
static int read_attributes(struct vocab *v, const struct gguf *gguf, struct err *err) {
    float *scores = NULL;
    int32_t *types = NULL;
    size_t n_scores = 0, n_types = 0;
    int rc = 0;
    if (gguf_has(gguf, "tokenizer.ggml.scores"))
        rc = gguf_f32s(gguf, "tokenizer.ggml.scores", &scores, &n_scores, err);
    if (!rc && gguf_has(gguf, "tokenizer.ggml.token_type"))
        rc = gguf_i32s(gguf, "tokenizer.ggml.token_type", &types, &n_types, err);
    if (!rc && ((scores && n_scores != v->n) || (types && n_types != v->n)))
        rc = err_set(err, -EINVAL,
                     "%s: %u tokens, but %zu scores and %zu types (tokenizer.ggml.scores, "
                     "tokenizer.ggml.token_type)",
                     gguf_name(gguf), v->n, n_scores, n_types);
    for (uint32_t i = 0; i < v->n && !rc; i++) {
        v->tokens[i].score = scores ? scores[i] : 0;
        if (v->tokens[i].score != v->tokens[i].score)
            rc = err_set(err, -EINVAL, "%s: the score of token %u is not a number", gguf_name(gguf),
                         i);
        v->tokens[i].type = TOKEN_NORMAL;
        if (types && (types[i] < 0 || types[i] > TOKEN_BYTE))
            rc = err_set(err, -EINVAL, "%s: token %u has type %d, expected 1 to %d",
                         gguf_name(gguf), i, types[i], TOKEN_BYTE);
        else if (types && types[i])
            v->tokens[i].type = (uint8_t)types[i];
    }
    free(scores);
    free(types);
    return rc;
}

/* Two tokens of one spelling: no way to tell which one text becomes. */
static int check_spellings(const struct vocab *v, const struct gguf *gguf,
                           const struct gguf_string *s, struct err *err) {
    const uint32_t mask = v->n_slots - 1; /* at least twice the tokens: never full */
    uint32_t *seen = malloc(v->n_slots * sizeof *seen);
    int rc = seen ? 0 : -ENOMEM;
    if (rc)
        return err_set(err, rc, "%s: no memory for %u tokens", gguf_name(gguf), v->n);
    memset(seen, 0xff, v->n_slots * sizeof *seen);
    for (uint32_t i = 0; i < v->n && !rc; i++) {
        if (s[i].n == 0)
            continue;
        uint32_t k = (uint32_t)hash(s[i].bytes, s[i].n) & mask;
        for (; seen[k] != NONE; k = (k + 1) & mask)
            if (s[seen[k]].n == s[i].n && !memcmp(s[seen[k]].bytes, s[i].bytes, s[i].n))
                break;
        if (seen[k] != NONE)
            rc = err_set(err, -EINVAL, "%s: tokens %u and %u are both '%s'", gguf_name(gguf),
                         seen[k], i, shown(s[i].bytes, s[i].n).text);
        seen[k] = i;
    }
    free(seen);
    return rc;
}

/* Bytes that published vocabularies lack: control characters, leads of planes without characters,
 * and what valid UTF-8 never holds. */
static bool rare_byte(unsigned c) {
    return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f || c == 0xc0 ||
           c == 0xc1 || c == 0xf1 || c == 0xf2 || c >= 0xf5;
}

/* Text is made of bytes, so without the token of one of them it could not be encoded. */
static int check_bytes(struct vocab *v, const struct gguf *gguf, struct err *err) {
    for (unsigned c = 0; c < 256; c++) {
        const char byte = (char)c;
        if (v->byte_token[c] == NO_TOKEN)
            v->byte_token[c] = vocab_find(v, &byte, 1); /* of another type */
        if (v->byte_token[c] == NO_TOKEN && !rare_byte(c))
            return err_set(err, -EINVAL, "%s: no token spells the byte 0x%02X", gguf_name(gguf), c);
    }
    return 0;
}

static int allocate(struct vocab *v, const struct gguf_string *spellings, size_t n) {
    uint64_t room = 0;
    for (size_t i = 0; i < n; i++)
        room += 2 * spellings[i].n + 1;
    v->n = (uint32_t)n;
    for (v->n_slots = 1024; v->n_slots < 2 * n;)
        v->n_slots *= 2;
    v->tokens = calloc(n, sizeof *v->tokens);
    v->bytes = room < UINT32_MAX ? malloc(room) : NULL;
    v->slots = malloc(v->n_slots * sizeof *v->slots);
    if (!v->tokens || !v->bytes || !v->slots)
        return -ENOMEM;
    memset(v->slots, 0xff, v->n_slots * sizeof *v->slots);
    return 0;
}

int vocab_init(struct vocab *vocab, const struct gguf *gguf, bool byte_level, struct err *err) {
    struct vocab v = {.byte_level = byte_level};
    struct gguf_string *spellings = NULL;
    size_t n = 0;
    uint32_t at = 0;
    int rc = gguf_strings(gguf, "tokenizer.ggml.tokens", &spellings, &n, err);
    if (rc)
        return rc == -ENOENT ? -EINVAL : rc;
    if (n == 0 || n > TOKENS_MAX)
        rc = err_set(err, -EINVAL, "%s: a vocabulary of %zu tokens, expected 1 to %u",
                     gguf_name(gguf), n, TOKENS_MAX);
    if (!rc && (rc = allocate(&v, spellings, n)))
        err_set(err, rc, "%s: no memory for %zu tokens", gguf_name(gguf), n);
    if (!rc)
        rc = check_spellings(&v, gguf, spellings, err);
    if (!rc)
        rc = read_attributes(&v, gguf, err);
    memset(v.byte_token, 0xff, sizeof v.byte_token);
    for (uint32_t i = 0; i < n && !rc; i++) {
        if (special_named(spellings[i].bytes, spellings[i].n))
            v.tokens[i].type = TOKEN_CONTROL;
        at = fill_token(&v, i, &spellings[i], at);
        index_token(&v, i);
    }
    free(spellings);
    if (!rc && byte_level)
        rc = check_bytes(&v, gguf, err);
    if (rc) {
        vocab_finish(&v);
        return rc;
    }
    *vocab = v;
    return 0;
}

void vocab_finish(struct vocab *v) {
    free(v->tokens);
    free(v->bytes);
    free(v->slots);
    *v = (struct vocab){0};
}
