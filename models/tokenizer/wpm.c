/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/wpm.h"

#include <string.h>

#include "daemon/util/utf8.h"
#include "models/tokenizer/fold.h"

#define BEGIN       "\xe2\x96\x81" /* U+2581 */
#define BEGIN_BYTES 3u

/* The word under way, folded, behind the mark of its beginning. */
struct word {
    char bytes[BEGIN_BYTES + 4 * WPM_WORD_MAX];
    size_t n;
    uint32_t n_chars; /* those beyond the limit are counted, and not kept */
};

struct run {
    const struct wpm *wpm;
    const struct vocab *vocab;
    int32_t unknown;
    struct ids *ids;
    struct word word;
};

void wpm_init(struct wpm *wpm, const struct vocab *v) {
    *wpm = (struct wpm){.longest = 0};
    for (uint32_t i = 0; i < v->n; i++)
        if (v->tokens[i].key_n > wpm->longest)
            wpm->longest = v->tokens[i].key_n;
}

static void start_word(struct word *w) {
    memcpy(w->bytes, BEGIN, BEGIN_BYTES);
    w->n = BEGIN_BYTES;
    w->n_chars = 0;
}

static uint32_t char_at(const char *p, size_t length) {
    const unsigned char *u = (const unsigned char *)p;
    switch (length) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 31u) << 6 | (u[1] & 63u);
    case 3:
        return (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u);
    default:
        return (u[0] & 7u) << 18 | (u[1] & 63u) << 12 | (u[2] & 63u) << 6 | (u[3] & 63u);
    }
}

static size_t put_char(uint32_t c, char *out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 63));
    out[0] = (char)(0xf00 >> length | c);
    return length;
}

static void add_chars(struct word *w, const uint32_t *chars, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (w->n_chars++ < WPM_WORD_MAX)
            w->n += put_char(chars[i], w->bytes + w->n);
}

/* The end of the longest piece that begins at `at`, and the piece; `at`: there is none. */
static size_t longest_piece(const struct run *r, size_t at, int32_t *id) {
    const struct word *w = &r->word;
    const size_t least = at ? at + 1 : BEGIN_BYTES + 1, longest = r->wpm->longest;
    size_t end = w->n - at < longest ? w->n : at + longest;
    /* In the middle of a word that character is one of the text, and begins no word. */
    if (at && w->n - at >= BEGIN_BYTES && !memcmp(w->bytes + at, BEGIN, BEGIN_BYTES))
        return at;
    for (; end >= least; end--) {
        if (end < w->n && ((unsigned char)w->bytes[end] & 0xc0) == 0x80)
            continue; /* inside a character */
        *id = vocab_find(r->vocab, w->bytes + at, end - at);
        if (*id != NO_TOKEN)
            return end;
    }
    return at;
}

static int finish_word(struct run *r) {
    const size_t before = r->ids->n;
    int rc = 0;
    size_t at = 0;
    if (r->word.n_chars == 0)
        return 0;
    bool known = r->word.n_chars <= WPM_WORD_MAX;
    while (known && at < r->word.n && !rc) {
        int32_t id;
        const size_t end = longest_piece(r, at, &id);
        known = end > at;
        if (known)
            rc = ids_add(r->ids, id);
        at = end;
    }
    if (!known) {
        r->ids->n = before;
        rc = r->unknown == NO_TOKEN ? 0 : ids_add(r->ids, r->unknown);
    }
    start_word(&r->word);
    return rc;
}

static int take_char(struct run *r, uint32_t c) {
    uint32_t to[FOLD_MAX];
    size_t n;
    const enum fold_kind kind = fold(c, to, &n);
    int rc = kind == FOLD_SPACE || kind == FOLD_MARK ? finish_word(r) : 0;
    add_chars(&r->word, to, n);
    if (kind == FOLD_MARK && !rc)
        rc = finish_word(r);
    return rc;
}

int wpm_encode(const struct wpm *wpm, const struct vocab *v, const char *text, size_t n,
               int32_t unknown, struct ids *ids) {
    struct run r = {.wpm = wpm, .vocab = v, .unknown = unknown, .ids = ids};
    int rc = 0;
    start_word(&r.word);
    for (size_t i = 0; i < n && !rc;) {
        const size_t length = utf8_length(text + i, n - i);
        if (length)
            rc = take_char(&r, char_at(text + i, length));
        i += length ? length : 1;
    }
    return rc ? rc : finish_word(&r);
}
