/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/fold.h"

#include <stdbool.h>

#define REPLACEMENT 0xfffd

/* The last of n entries, `size` bytes apart and each beginning with its first character, that does
 * not begin behind c; NULL: all do. */
static const void *find(const void *table, size_t n, size_t size, uint32_t c) {
    const char *low = table;
    while (n > 0) {
        const char *middle = low + n / 2 * size;
        if (*(const uint32_t *)(const void *)middle <= c) {
            low = middle + size;
            n -= n / 2 + 1;
        } else {
            n /= 2;
        }
    }
    return low == table ? NULL : low - size;
}

static bool is_ideograph(uint32_t c) {
    static const uint32_t blocks[][2] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},
                                         {0x20000, 0x2a6df}, {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f},
                                         {0x2b820, 0x2ceaf}, {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (c >= blocks[i][0] && c <= blocks[i][1])
            return true;
    return false;
}

static enum fold_kind kind_of(uint32_t c) {
    const struct fold_class *k = find(fold_classes, fold_n_classes, sizeof *k, c);
    if (c == REPLACEMENT)
        return FOLD_DROPPED;
    if (k && c <= k->last)
        return (enum fold_kind)k->kind;
    return is_ideograph(c) ? FOLD_MARK : FOLD_LETTER;
}

/* A Hangul syllable is made of two or three letters, by arithmetic (Unicode, section 3.12). */
static size_t take_apart(uint32_t c, uint32_t to[FOLD_MAX]) {
    enum { SYLLABLES = 0xac00, LEADS = 0x1100, VOWELS = 0x1161, TAILS = 0x11a7 };
    const uint32_t at = c - SYLLABLES;
    to[0] = LEADS + at / (21 * 28);
    to[1] = VOWELS + at / 28 % 21;
    to[2] = TAILS + at % 28;
    return at % 28 ? 3 : 2;
}

static size_t fold_letter(uint32_t c, uint32_t to[FOLD_MAX]) {
    const struct fold_run *run = find(fold_runs, fold_n_runs, sizeof *run, c);
    const struct fold_pair *pair = find(fold_pairs, fold_n_pairs, sizeof *pair, c);
    const struct fold_several *many = find(fold_several, fold_n_several, sizeof *many, c);
    to[0] = c;
    if (c >= 0xac00 && c < 0xac00 + 11172)
        return take_apart(c, to);
    if (many && many->from == c) {
        size_t n = 0;
        for (; n < FOLD_MAX && many->to[n]; n++)
            to[n] = many->to[n];
        return n;
    }
    if (pair && pair->from == c)
        to[0] = pair->to;
    else if (run && c <= run->last && (c - run->first) % run->step == 0)
        to[0] = run->to + run->slope * (c - run->first);
    return to[0] != 0;
}

enum fold_kind fold(uint32_t c, uint32_t to[FOLD_MAX], size_t *n) {
    if (c < 0x80 && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) { /* most of any text */
        to[0] = c;
        *n = 1;
        return FOLD_LETTER;
    }
    const enum fold_kind kind = kind_of(c);
    *n = kind == FOLD_LETTER || kind == FOLD_MARK ? fold_letter(c, to) : 0;
    return kind;
}
