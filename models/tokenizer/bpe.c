/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/utf8.h"
#include "models/gguf.h"
#include "models/shown.h"
#include "octarc/error.h"

#define NONE UINT32_MAX

struct merge_rule {
    uint32_t offset, left, right; /* in bpe.bytes */
    uint32_t next;
};

int ids_add(struct ids *ids, int32_t id) {
    if (ids->n == ids->capacity) {
        const size_t more = ids->capacity ? 2 * ids->capacity : 64;
        int32_t *grown = realloc(ids->at, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        ids->at = grown;
        ids->capacity = more;
    }
    ids->at[ids->n++] = id;
    return 0;
}

static uint32_t bucket_of(const struct bpe *b, const char *bytes, size_t left, size_t right) {
    return (uint32_t)vocab_hash(bytes, left + right, left) & (b->n_buckets - 1);
}

/* "left right": the first space that is not the first character separates them. */
static int add_rule(struct bpe *b, const struct vocab *v, const struct gguf_string *s,
                    uint32_t *at) {
    const char *space = s->n > 2 ? memchr(s->bytes + 1, ' ', s->n - 2) : NULL;
    if (!space)
        return -EINVAL;
    struct merge_rule *r = &b->rules[b->n_rules];
    char *bytes = b->bytes + *at;
    r->offset = *at;
    r->left = (uint32_t)vocab_bytes_of(s->bytes, (size_t)(space - s->bytes), bytes);
    r->right =
        (uint32_t)vocab_bytes_of(space + 1, (size_t)(s->bytes + s->n - space - 1), bytes + r->left);
    if (vocab_find(v, bytes, r->left) == NO_TOKEN ||
        vocab_find(v, bytes + r->left, r->right) == NO_TOKEN)
        return -EINVAL;
    uint32_t *bucket = &b->buckets[bucket_of(b, bytes, r->left, r->right)];
    for (; *bucket != NONE; bucket = &b->rules[*bucket].next) {
        const struct merge_rule *known = &b->rules[*bucket];
        /* A rule that stands twice keeps its first rank, and makes no chain longer. */
        if (known->left == r->left && known->right == r->right &&
            !memcmp(b->bytes + known->offset, bytes, r->left + r->right))
            return 0;
    }
    *at += r->left + r->right;
    r->next = NONE;
    *bucket = b->n_rules++;
    return 0;
}

int bpe_init(struct bpe *bpe, const struct vocab *v, const struct gguf *gguf, struct err *err) {
    struct bpe b = {0};
    struct gguf_string *merges = NULL, pre = {"default", 7};
    size_t n = 0, room = 0;
    uint32_t at = 0;
    int rc = gguf_strings(gguf, "tokenizer.ggml.merges", &merges, &n, err);
    if (rc)
        return rc == -ENOENT ? -EINVAL : rc;
    if (gguf_has(gguf, "tokenizer.ggml.pre") &&
        (rc = gguf_string(gguf, "tokenizer.ggml.pre", &pre, err)))
        goto fail;
    /* What is left out or replaced makes a name that is not known. */
    rc = splitter_create(&b.splitter, shown(pre.bytes, pre.n).text, err);
    if (rc)
        goto fail;
    for (size_t i = 0; i < n; i++)
        room += merges[i].n;
    for (b.n_buckets = 1024; b.n_buckets < 2 * n;)
        b.n_buckets *= 2;
    b.rules = calloc(n + 1, sizeof *b.rules);
    b.bytes = room < UINT32_MAX ? malloc(room + 1) : NULL;
    b.buckets = malloc(b.n_buckets * sizeof *b.buckets);
    if (!b.rules || !b.bytes || !b.buckets) {
        rc = err_set(err, -ENOMEM, "%s: no memory for %zu merges", gguf_name(gguf), n);
        goto fail;
    }
    memset(b.buckets, 0xff, b.n_buckets * sizeof *b.buckets);
    for (size_t i = 0; i < n && !rc; i++)
        if ((rc = add_rule(&b, v, &merges[i], &at)))
            err_set(err, rc, "%s: merge %zu ('%s') is not two tokens with a space between",
                    gguf_name(gguf), i, shown(merges[i].bytes, merges[i].n).text);
    if (rc)
        goto fail;
    free(merges);
    *bpe = b;
    return 0;

fail:
    free(merges);
    bpe_finish(&b);
    return rc;
}

void bpe_finish(struct bpe *b) {
    splitter_destroy(b->splitter);
    free(b->rules);
    free(b->bytes);
    free(b->buckets);
    *b = (struct bpe){0};
}

static bool rule_rank(const void *user, const char *text, size_t begin, size_t left, size_t right,
                      float *rank) {
    const struct bpe *b = user;
    uint32_t i = b->buckets[bucket_of(b, text + begin, left, right)];
    for (; i != NONE; i = b->rules[i].next)
        if (b->rules[i].left == left && b->rules[i].right == right &&
            !memcmp(b->bytes + b->rules[i].offset, text + begin, left + right)) {
            *rank = (float)i; /* exact below 2^24, more merges than any vocabulary has */
            return true;
        }
    return false;
}

/* A piece that is no token is spelled byte by byte, a rare byte without a token as U+FFFD, so that
 * nothing is left out without a trace. */
static int add_piece(const struct vocab *v, const char *p, size_t n, struct ids *ids) {
    const int32_t id = vocab_find(v, p, n);
    int rc = 0;
    if (id != NO_TOKEN)
        return ids_add(ids, id);
    for (size_t i = 0; i < n && !rc; i++) {
        const int32_t byte = v->byte_token[(unsigned char)p[i]];
        rc = byte != NO_TOKEN ? ids_add(ids, byte) : add_piece(v, "\xef\xbf\xbd", 3, ids);
    }
    return rc;
}

static int encode_word(const struct bpe *b, const struct vocab *v, struct merger *m,
                       const char *text, struct span word, struct ids *ids) {
    const size_t n = word.end - word.begin;
    int rc = 0;
    if (splitter_whole_words(b->splitter)) {
        const int32_t id = vocab_find(v, text + word.begin, n);
        if (id != NO_TOKEN)
            return ids_add(ids, id);
    }
    merger_clear(m);
    for (size_t i = word.begin; i < word.end && !rc; i++)
        rc = merger_add(m, i, 1);
    if (!rc)
        rc = merger_run(m, text, rule_rank, b);
    for (int32_t i = 0; i >= 0 && !rc; i = m->symbols[i].next)
        rc = add_piece(v, text + m->symbols[i].begin, m->symbols[i].n, ids);
    return rc;
}

int bpe_work_init(struct bpe_work *work, const struct bpe *b) {
    *work = (struct bpe_work){0};
    return cutter_init(&work->cutter, b->splitter);
}

void bpe_work_finish(struct bpe_work *work) {
    cutter_finish(&work->cutter);
    merger_finish(&work->merger);
}

static int encode_valid(const struct bpe *b, const struct vocab *v, struct bpe_work *work,
                        const char *text, size_t n, struct ids *ids) {
    int rc = n ? cutter_run(&work->cutter, text, n) : 0;
    if (n == 0 || rc)
        return rc;
    for (size_t i = 0; i < work->cutter.n_spans && !rc; i++)
        rc = encode_word(b, v, &work->merger, text, work->cutter.spans[i], ids);
    return rc;
}

int bpe_encode(const struct bpe *b, const struct vocab *v, struct bpe_work *work, const char *text,
               size_t n, struct ids *ids) {
    size_t begin = 0, at = 0;
    int rc = 0;
    while (at < n && !rc) {
        const size_t length = utf8_length(text + at, n - at);
        if (length) {
            at += length;
            continue;
        }
        rc = encode_valid(b, v, work, text + begin, at - begin, ids);
        if (!rc)
            rc = add_piece(v, text + at, 1, ids);
        begin = ++at;
    }
    return rc ? rc : encode_valid(b, v, work, text + begin, at - begin, ids);
}
