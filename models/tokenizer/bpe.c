/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/utf8.h"
#include "models/gguf.h"
#include "models/shown.h"
#include "octarc/error.h"

struct merge_slot {
    int32_t left, right; /* left NO_TOKEN: empty */
    uint32_t order;      /* the number of the merge */
    int32_t id;          /* of both; NO_TOKEN: no token, and of no other merge */
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

/* The slot of the two, or the empty one where they would be. */
static struct merge_slot *find_slot(const struct bpe *b, int32_t left, int32_t right) {
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    const uint64_t h = (key ^ key >> 29) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t i = (uint32_t)(h >> 32) & (b->n_slots - 1); /* at least twice the merges: never full */
    while (b->slots[i].left != NO_TOKEN && (b->slots[i].left != left || b->slots[i].right != right))
        i = (i + 1) & (b->n_slots - 1);
    return &b->slots[i];
}

/* "left right": the first space that is not the first character separates them.  bytes: room for
 * the merge's length. */
static int add_merge(struct bpe *b, const struct vocab *v, const struct gguf_string *s,
                     uint32_t order, char *bytes) {
    const char *space = s->n > 2 ? memchr(s->bytes + 1, ' ', s->n - 2) : NULL;
    if (!space)
        return -EINVAL;
    const size_t n = vocab_bytes_of(s->bytes, (size_t)(space - s->bytes), bytes);
    const size_t more = vocab_bytes_of(space + 1, (size_t)(s->bytes + s->n - space - 1), bytes + n);
    const int32_t left = vocab_find(v, bytes, n), right = vocab_find(v, bytes + n, more);
    if (left == NO_TOKEN || right == NO_TOKEN)
        return -EINVAL;
    struct merge_slot *slot = find_slot(b, left, right);
    if (slot->left == NO_TOKEN) /* one that stands twice keeps its first rank */
        *slot = (struct merge_slot){left, right, order, vocab_find(v, bytes, n + more)};
    const unsigned char after = (unsigned char)bytes[n];
    b->joins[(unsigned char)bytes[n - 1]][after / 8] |= (uint8_t)(1 << after % 8);
    return 0;
}

static int add_merges(struct bpe *b, const struct vocab *v, const struct gguf *gguf,
                      const struct gguf_string *merges, size_t n, struct err *err) {
    size_t longest = 0;
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        longest = merges[i].n > longest ? merges[i].n : longest;
    for (b->n_slots = 1024; b->n_slots < 2 * n;)
        b->n_slots *= 2;
    b->slots = malloc(b->n_slots * sizeof *b->slots);
    char *bytes = malloc(longest + 1);
    if (!b->slots || !bytes) {
        free(bytes);
        return err_set(err, -ENOMEM, "%s: no memory for %zu merges", gguf_name(gguf), n);
    }
    memset(b->slots, 0xff, b->n_slots * sizeof *b->slots);
    for (size_t i = 0; i < n && !rc; i++)
        if ((rc = add_merge(b, v, &merges[i], (uint32_t)i, bytes)))
            err_set(err, rc, "%s: merge %zu ('%s') is not two tokens with a space between",
                    gguf_name(gguf), i, shown(merges[i].bytes, merges[i].n).text);
    free(bytes);
    return rc;
}

int bpe_init(struct bpe *bpe, const struct vocab *v, const struct gguf *gguf, struct err *err) {
    struct bpe b = {0};
    struct gguf_string *merges = NULL, pre = {"default", 7};
    size_t n = 0;
    int rc = gguf_strings(gguf, "tokenizer.ggml.merges", &merges, &n, err);
    if (rc)
        return rc == -ENOENT ? -EINVAL : rc;
    if (gguf_has(gguf, "tokenizer.ggml.pre"))
        rc = gguf_string(gguf, "tokenizer.ggml.pre", &pre, err);
    if (!rc) /* What is left out or replaced makes a name that is not known. */
        rc = splitter_create(&b.splitter, shown(pre.bytes, pre.n).text, err);
    if (!rc)
        rc = add_merges(&b, v, gguf, merges, n, err);
    free(merges);
    if (rc) {
        bpe_finish(&b);
        return rc;
    }
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c;
        b.byte_id[c] = vocab_find(v, &byte, 1);
    }
    *bpe = b;
    return 0;
}

void bpe_finish(struct bpe *b) {
    splitter_destroy(b->splitter);
    free(b->slots);
    *b = (struct bpe){0};
}

static bool merge_of(const void *user, const char *text, const struct symbol *left,
                     const struct symbol *right, struct joined *joined) {
    (void)text;
    if (left->id == NO_TOKEN || right->id == NO_TOKEN)
        return false;
    const struct merge_slot *slot = find_slot(user, left->id, right->id);
    *joined = (struct joined){slot->order, slot->id};
    return slot->left != NO_TOKEN;
}

/* A piece that is no token is spelled byte by byte, a rare byte without a token as U+FFFD, so that
 * nothing is left out without a trace. */
static int add_bytes(const struct vocab *v, const char *p, size_t n, struct ids *ids) {
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        const int32_t byte = v->byte_token[(unsigned char)p[i]];
        const int32_t other = byte != NO_TOKEN ? byte : vocab_find(v, "\xef\xbf\xbd", 3);
        rc = other != NO_TOKEN ? ids_add(ids, other) : add_bytes(v, "\xef\xbf\xbd", 3, ids);
    }
    return rc;
}

static int add_symbol(const struct vocab *v, const char *text, const struct symbol *s,
                      struct ids *ids) {
    return s->id != NO_TOKEN ? ids_add(ids, s->id) : add_bytes(v, text + s->begin, s->n, ids);
}

/* Join what the merger holds, and give it out. */
static int finish_run(const struct bpe *b, const struct vocab *v, struct merger *m,
                      const char *text, struct ids *ids) {
    int rc = merger_run(m, text, merge_of, b);
    for (int32_t i = m->n ? 0 : -1; i >= 0 && !rc; i = m->symbols[i].next)
        rc = add_symbol(v, text, &m->symbols[i], ids);
    merger_clear(m);
    return rc;
}

/* Where no merge joins two bytes the word may as well end: long ones cost no more than short ones.
 */
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
    for (size_t i = word.begin; i < word.end && !rc; i++) {
        const unsigned char byte = (unsigned char)text[i];
        if (i > word.begin && !(b->joins[(unsigned char)text[i - 1]][byte / 8] >> byte % 8 & 1))
            rc = finish_run(b, v, m, text, ids);
        if (!rc)
            rc = merger_add(m, i, 1, b->byte_id[byte]);
    }
    return rc ? rc : finish_run(b, v, m, text, ids);
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
        const int32_t id = b->byte_id[(unsigned char)text[at]];
        if (!rc)
            rc = id != NO_TOKEN ? ids_add(ids, id) : add_bytes(v, text + at, 1, ids);
        begin = ++at;
    }
    return rc ? rc : encode_valid(b, v, work, text + begin, at - begin, ids);
}
