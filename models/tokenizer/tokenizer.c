/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/shown.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/special.h"
#include "models/tokenizer/spm.h"
#include "models/tokenizer/vocab.h"
#include "models/tokenizer/wpm.h"
#include "octarc/error.h"

enum kind { KIND_BPE, KIND_SPM, KIND_WPM, KINDS };

struct tokenizer {
    struct vocab vocab;
    enum kind kind;
    struct bpe bpe; /* of these the one of its kind */
    struct spm spm;
    struct wpm wpm;
    int32_t bos, eos, unknown;
    bool adds_bos, adds_eos, space_prefix;
    int32_t *eogs; /* owned, ascending */
    size_t n_eogs;
    struct special special;
};

/* ---- making one ----------------------------------------------------------------------------- */

/* otherwise: what an absent key means; NO_TOKEN too where the vocabulary ends before it. */
static int read_id(const struct gguf *gguf, const char *key, uint32_t n_vocab, int32_t otherwise,
                   int32_t *id, struct err *err) {
    uint32_t value;
    *id = otherwise < (int32_t)n_vocab ? otherwise : NO_TOKEN;
    if (!gguf_has(gguf, key))
        return 0;
    const int rc = gguf_u32(gguf, key, &value, err);
    if (rc)
        return rc;
    if (value >= n_vocab)
        return err_set(err, -EINVAL, "%s: %s is %u, the vocabulary has %u tokens", gguf_name(gguf),
                       key, value, n_vocab);
    *id = (int32_t)value;
    return 0;
}

static int read_flag(const struct gguf *gguf, const char *key, bool otherwise, bool *flag,
                     struct err *err) {
    *flag = otherwise;
    return gguf_has(gguf, key) ? gguf_bool(gguf, key, flag, err) : 0;
}

static int compare_ids(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int find_eogs(struct tokenizer *t, const struct gguf *gguf, struct err *err) {
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    struct ids ids = {0};
    int rc = t->eos == NO_TOKEN ? 0 : ids_add(&ids, t->eos);
    for (size_t i = 0; i < 2 && !rc; i++) {
        int32_t id;
        rc = read_id(gguf, keys[i], t->vocab.n, NO_TOKEN, &id, err);
        if (!rc && id != NO_TOKEN)
            rc = ids_add(&ids, id);
    }
    if (!rc)
        rc = special_enders(&t->special, &t->vocab, &ids);
    if (ids.n)
        qsort(ids.at, ids.n, sizeof *ids.at, compare_ids);
    for (size_t i = 0; i < ids.n; i++)
        if (i == 0 || ids.at[i] != ids.at[i - 1])
            ids.at[t->n_eogs++] = ids.at[i];
    t->eogs = ids.at;
    return rc;
}

/* Phi-3 was trained with its control tokens taking the white space behind them; its files do not
 * say so. */
static int find_stripping(struct tokenizer *t, const struct gguf *gguf, struct err *err) {
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    struct gguf_string name;
    if (!gguf_has(gguf, "general.name"))
        return 0;
    const int rc = gguf_string(gguf, "general.name", &name, err);
    bool phi3 = false;
    for (size_t i = 0; !rc && i + 4 <= name.n; i++)
        phi3 |= !strncasecmp(name.bytes + i, "phi3", 4) ||
                (i + 5 <= name.n && !strncasecmp(name.bytes + i, "phi-3", 5));
    for (size_t i = 0; phi3 && i < t->special.n; i++) {
        struct token *token = &t->vocab.tokens[t->special.ids[i]];
        token->strips = true;
        for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
            if (token->key_n == strlen(plain[k]) &&
                !memcmp(t->vocab.bytes + token->key, plain[k], token->key_n))
                token->strips = false;
    }
    return rc;
}

/* What the absent keys of a kind mean. */
static const struct {
    const char *name;
    int32_t bos, eos, unknown;
    bool adds_bos, adds_eos, space_prefix;
} kinds[KINDS] = {
    [KIND_BPE] = {"gpt2", NO_TOKEN, NO_TOKEN, NO_TOKEN, false, false, false},
    [KIND_SPM] = {"llama", 1, 2, 0, true, false, true},
    [KIND_WPM] = {"bert", 101, 102, 100, true, true, true}, /* [CLS], [SEP], [UNK] */
};

static int find_kind(struct tokenizer *t, const struct gguf *gguf, struct err *err) {
    struct gguf_string model;
    const int rc = gguf_string(gguf, "tokenizer.ggml.model", &model, err);
    if (rc)
        return rc == -ENOENT ? -EINVAL : rc;
    for (t->kind = 0; t->kind < KINDS; t->kind++)
        if (model.n == strlen(kinds[t->kind].name) &&
            !memcmp(model.bytes, kinds[t->kind].name, model.n))
            return 0;
    return err_set(err, -ENOTSUP,
                   "%s: tokenizer model '%s' is not known; known are gpt2, llama, bert",
                   gguf_name(gguf), shown(model.bytes, model.n).text);
}

static int read_vocabulary(struct tokenizer *t, const struct gguf *gguf, struct err *err) {
    const int rc = vocab_init(&t->vocab, gguf, t->kind == KIND_BPE, err);
    if (rc)
        return rc;
    if (t->kind == KIND_BPE)
        return bpe_init(&t->bpe, &t->vocab, gguf, err);
    if (t->kind == KIND_SPM)
        spm_init(&t->spm, &t->vocab);
    else
        wpm_init(&t->wpm, &t->vocab);
    return 0;
}

/* What begins and ends a text has names of its own where sentences are classified; the one key is
 * spelled so in all files. */
static int read_ends(struct tokenizer *t, const struct gguf *gguf, struct err *err) {
    const char *bos = "tokenizer.ggml.bos_token_id", *eos = "tokenizer.ggml.eos_token_id";
    const char *cls = "tokenizer.ggml.cls_token_id", *sep = "tokenizer.ggml.seperator_token_id";
    const bool wpm = t->kind == KIND_WPM;
    const uint32_t n = t->vocab.n;
    const int rc =
        read_id(gguf, wpm && !gguf_has(gguf, bos) ? cls : bos, n, kinds[t->kind].bos, &t->bos, err);
    return rc ? rc
              : read_id(gguf, wpm && !gguf_has(gguf, eos) ? sep : eos, n, kinds[t->kind].eos,
                        &t->eos, err);
}

static int read_model(struct tokenizer *t, const struct gguf *gguf, struct err *err) {
    int rc = find_kind(t, gguf, err);
    if (!rc)
        rc = read_vocabulary(t, gguf, err);
    if (!rc)
        rc = read_ends(t, gguf, err);
    if (!rc)
        rc = read_id(gguf, "tokenizer.ggml.unknown_token_id", t->vocab.n, kinds[t->kind].unknown,
                     &t->unknown, err);
    const bool adds_bos = t->kind == KIND_BPE ? !rc && splitter_adds_bos(t->bpe.splitter)
                                              : !rc && kinds[t->kind].adds_bos;
    if (!rc)
        rc = read_flag(gguf, "tokenizer.ggml.add_bos_token", adds_bos, &t->adds_bos, err);
    if (!rc)
        rc = read_flag(gguf, "tokenizer.ggml.add_eos_token", kinds[t->kind].adds_eos, &t->adds_eos,
                       err);
    if (!rc)
        rc = read_flag(gguf, "tokenizer.ggml.add_space_prefix", kinds[t->kind].space_prefix,
                       &t->space_prefix, err);
    return rc;
}

int tokenizer_create(struct tokenizer **out, const struct gguf *gguf, struct err *err) {
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, -ENOMEM, "no memory for a tokenizer");
    int rc = read_model(t, gguf, err);
    if (!rc)
        rc = special_init(&t->special, &t->vocab);
    if (!rc)
        rc = find_eogs(t, gguf, err);
    if (!rc)
        rc = find_stripping(t, gguf, err);
    if (rc == -ENOMEM)
        err_set(err, rc, "%s: no memory for the tokenizer", gguf_name(gguf));
    if (rc) {
        tokenizer_destroy(t);
        return rc;
    }
    *out = t;
    return 0;
}

void tokenizer_destroy(struct tokenizer *t) {
    if (!t)
        return;
    vocab_finish(&t->vocab);
    bpe_finish(&t->bpe);
    free(t->eogs);
    special_finish(&t->special);
    free(t);
}

/* ---- asking --------------------------------------------------------------------------------- */

uint32_t tokenizer_n_vocab(const struct tokenizer *t) {
    return t->vocab.n;
}

bool tokenizer_is_byte_level(const struct tokenizer *t) {
    return t->vocab.byte_level;
}

int32_t tokenizer_bos(const struct tokenizer *t) {
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t) {
    return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t) {
    return t->adds_bos && t->bos != NO_TOKEN;
}

const int32_t *tokenizer_eogs(const struct tokenizer *t, size_t *n) {
    *n = t->n_eogs;
    return t->eogs;
}

bool tokenizer_is_control(const struct tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->vocab.n &&
           (t->vocab.tokens[id].type == TOKEN_CONTROL || t->vocab.tokens[id].type == TOKEN_UNKNOWN);
}

int tokenizer_piece(const struct tokenizer *t, int32_t id, bool control, const char **bytes,
                    size_t *n) {
    if (id < 0 || (uint32_t)id >= t->vocab.n)
        return -EINVAL;
    *bytes = t->vocab.bytes + t->vocab.tokens[id].offset;
    const bool shown =
        t->vocab.tokens[id].type != TOKEN_UNUSED && (control || !tokenizer_is_control(t, id));
    *n = shown ? t->vocab.tokens[id].n : 0;
    return 0;
}

/* ---- encoding ------------------------------------------------------------------------------- */

static int encode_plain(const struct tokenizer *t, struct bpe_work *work, const char *text,
                        size_t n, struct ids *ids) {
    if (n == 0)
        return 0;
    if (t->kind == KIND_BPE)
        return bpe_encode(&t->bpe, &t->vocab, work, text, n, ids);
    if (t->kind == KIND_WPM)
        return wpm_encode(&t->wpm, &t->vocab, text, n, t->unknown, ids);
    return spm_encode(&t->spm, &t->vocab, &work->merger, text, n, t->space_prefix, t->unknown, ids);
}

static size_t skip_space(const char *text, size_t n, size_t at) {
    while (at < n && (text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r')))
        at++;
    return at;
}

static int encode(const struct tokenizer *t, struct bpe_work *work, const char *text, size_t n,
                  unsigned flags, struct ids *ids) {
    size_t begin = 0, at = 0;
    int rc = 0;
    if (flags & ENCODE_SPECIAL && tokenizer_adds_bos(t))
        rc = ids_add(ids, t->bos);
    while (at < n && !rc) {
        const int32_t id =
            special_find(&t->special, &t->vocab, text + at, n - at, flags & ENCODE_PARSE);
        if (id == NO_TOKEN) {
            at++;
            continue;
        }
        rc = encode_plain(t, work, text + begin, at - begin, ids);
        if (!rc)
            rc = ids_add(ids, id);
        at += t->vocab.tokens[id].key_n;
        if (t->vocab.tokens[id].strips)
            at = skip_space(text, n, at);
        begin = at;
    }
    if (!rc)
        rc = encode_plain(t, work, text + begin, at - begin, ids);
    if (!rc && flags & ENCODE_SPECIAL && t->adds_eos && t->eos != NO_TOKEN)
        rc = ids_add(ids, t->eos);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                     int32_t **out, size_t *n_out, struct err *err) {
    struct ids ids = {0};
    if (n > TOKENIZER_TEXT_MAX)
        return err_set(err, -E2BIG, "a text of %zu bytes, at most %u can be tokenized", n,
                       TOKENIZER_TEXT_MAX);
    struct bpe_work work = {0};
    int rc = t->vocab.byte_level ? bpe_work_init(&work, &t->bpe) : 0;
    if (!rc)
        rc = encode(t, &work, text, n, flags, &ids);
    bpe_work_finish(&work);
    if (!rc && !ids.at)
        rc = (ids.at = malloc(sizeof *ids.at)) ? 0 : -ENOMEM;
    if (rc) {
        free(ids.at);
        return err_set(err, rc,
                       rc == -E2BIG ? "the text cannot be cut into words within limits"
                                    : "no memory to tokenize %zu bytes",
                       n);
    }
    *out = ids.at;
    *n_out = ids.n;
    return 0;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool control,
                     char **text, size_t *n, struct err *err) {
    size_t room = 0, at = 0, piece_n;
    const char *piece;
    for (size_t i = 0; i < n_ids; i++) {
        if (tokenizer_piece(t, ids[i], control, &piece, &piece_n))
            return err_set(err, -EINVAL, "token %d (number %zu) is not of the vocabulary of %u",
                           ids[i], i, t->vocab.n);
        room += piece_n;
    }
    char *out = malloc(room + 1);
    if (!out)
        return err_set(err, -ENOMEM, "no memory for a text of %zu bytes", room);
    bool first = t->space_prefix;
    for (size_t i = 0; i < n_ids; i++) {
        tokenizer_piece(t, ids[i], control, &piece, &piece_n);
        /* The space that encoding put in front. */
        if (first && piece_n && !tokenizer_is_control(t, ids[i])) {
            const size_t skip = piece[0] == ' ';
            piece += skip;
            piece_n -= skip;
            first = false;
        }
        memcpy(out + at, piece, piece_n);
        at += piece_n;
    }
    out[at] = 0;
    *text = out;
    *n = at;
    return 0;
}
