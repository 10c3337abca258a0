/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/spm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/utf8.h"

#define SPACE "\xe2\x96\x81" /* U+2581 */

/* ---- where tokens join ---------------------------------------------------------------------- */

/* Of the character at p: a whole one, or a byte that is none. */
static size_t symbol_length(const char *p, size_t n) {
    const size_t length = utf8_length(p, n);
    return length ? length : 1;
}

/* The bit of a place between the byte in front of p and the character at p. */
static unsigned join_bit(const char *p, size_t length) {
    uint64_t key = (unsigned char)p[-1];
    for (size_t i = 0; i < length; i++)
        key = key << 8 | (unsigned char)p[i];
    return (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> 48);
}

void spm_init(struct spm *spm, const struct vocab *v) {
    memset(spm, 0, sizeof *spm);
    for (uint32_t id = 0; id < v->n; id++) {
        const char *key = v->bytes + v->tokens[id].key;
        const size_t n = v->tokens[id].key_n;
        for (size_t i = n ? symbol_length(key, n) : 0; i < n;) {
            const size_t length = symbol_length(key + i, n - i);
            const unsigned bit = join_bit(key + i, length);
            spm->joins[bit / 8] |= (uint8_t)(1 << bit % 8);
            i += length;
        }
    }
}

static bool may_join(const struct spm *spm, const char *p, size_t length) {
    const unsigned bit = join_bit(p, length);
    return spm->joins[bit / 8] >> bit % 8 & 1;
}

/* ---- encoding ------------------------------------------------------------------------------- */

/* The higher the score, the earlier a pair is joined. */
static uint32_t order_of(float score) {
    const float rank = 0.0f - score; /* of both zeros the same one */
    uint32_t bits;
    memcpy(&bits, &rank, sizeof bits);
    return bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
}

static bool token_of(const void *user, const char *text, const struct symbol *left,
                     const struct symbol *right, struct joined *joined) {
    const struct vocab *v = user;
    const int32_t id = vocab_find(v, text + left->begin, left->n + right->n);
    if (id == NO_TOKEN)
        return false;
    *joined = (struct joined){order_of(v->tokens[id].score), id};
    return true;
}

static char *escape(const char *text, size_t n, bool prefix, size_t *escaped_n) {
    char *out = malloc(3 * n + 4);
    size_t at = 0;
    if (!out)
        return NULL;
    if (prefix) {
        memcpy(out, SPACE, 3);
        at = 3;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ') {
            memcpy(out + at, SPACE, 3);
            at += 3;
        } else {
            out[at++] = text[i];
        }
    }
    *escaped_n = at;
    return out;
}

static int add_symbol(const struct vocab *v, const char *text, const struct symbol *s,
                      int32_t unknown, struct ids *ids) {
    int rc = 0;
    if (s->id != NO_TOKEN)
        return ids_add(ids, s->id);
    for (size_t i = 0; i < s->n && !rc; i++) {
        const int32_t byte = v->byte_token[(unsigned char)text[s->begin + i]];
        if (byte == NO_TOKEN)
            return unknown == NO_TOKEN ? 0 : ids_add(ids, unknown);
        rc = ids_add(ids, byte);
    }
    return rc;
}

/* Join what the merger holds, and give it out. */
static int finish_word(const struct vocab *v, struct merger *m, const char *text, int32_t unknown,
                       struct ids *ids) {
    int rc = merger_run(m, text, token_of, v);
    for (int32_t i = m->n ? 0 : -1; i >= 0 && !rc; i = m->symbols[i].next)
        rc = add_symbol(v, text, &m->symbols[i], unknown, ids);
    merger_clear(m);
    return rc;
}

int spm_encode(const struct spm *spm, const struct vocab *v, struct merger *m, const char *text,
               size_t n, bool prefix, int32_t unknown, struct ids *ids) {
    size_t escaped_n;
    char *escaped = escape(text, n, prefix, &escaped_n);
    int rc = escaped ? 0 : -ENOMEM;
    merger_clear(m);
    for (size_t i = 0; !rc && i < escaped_n;) {
        const size_t length = symbol_length(escaped + i, escaped_n - i);
        if (i && !may_join(spm, escaped + i, length))
            rc = finish_word(v, m, escaped, unknown, ids);
        if (!rc)
            rc = merger_add(m, i, length, vocab_find(v, escaped + i, length));
        i += length;
    }
    if (!rc)
        rc = finish_word(v, m, escaped, unknown, ids);
    free(escaped);
    return rc;
}
