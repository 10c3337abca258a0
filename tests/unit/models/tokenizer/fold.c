/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/fold.h"

#include "tests/check.h"

static void becomes(uint32_t c, enum fold_kind kind, uint32_t a, uint32_t b, uint32_t third) {
    const uint32_t want[FOLD_MAX] = {a, b, third};
    uint32_t to[FOLD_MAX] = {0};
    size_t n = 99;
    CHECK_EQ(fold(c, to, &n), kind);
    CHECK_EQ(n, third ? 3 : b ? 2 : a ? 1 : 0);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(to[i], want[i]);
}

static void letters_lose_case_and_accents(void) {
    becomes('a', FOLD_LETTER, 'a', 0, 0);
    becomes('Z', FOLD_LETTER, 'z', 0, 0);
    becomes('7', FOLD_LETTER, '7', 0, 0);
    becomes(0xc4, FOLD_LETTER, 'a', 0, 0);        /* A with dots */
    becomes(0x1ec7, FOLD_LETTER, 'e', 0, 0);      /* Vietnamese e with two marks */
    becomes(0x419, FOLD_LETTER, 0x438, 0, 0);     /* Cyrillic short I */
    becomes(0x130, FOLD_LETTER, 'i', 0, 0);       /* Turkish I with a dot */
    becomes(0x3a3, FOLD_LETTER, 0x3c3, 0, 0);     /* sigma */
    becomes(0xdf, FOLD_LETTER, 0xdf, 0, 0);       /* sharp s has no other case here */
    becomes(0xbd, FOLD_LETTER, 0xbd, 0, 0);       /* one half is itself: only canonical parts */
    becomes(0x10400, FOLD_LETTER, 0x10428, 0, 0); /* Deseret */
    becomes(0x1f999, FOLD_LETTER, 0x1f999, 0, 0); /* an animal */
    becomes(0x301, FOLD_LETTER, 0, 0, 0);         /* a mark alone is nothing */
    becomes(0x9cb, FOLD_LETTER, 0x9c7, 0x9be, 0); /* a Bengali vowel in two parts */
    becomes(0x212b, FOLD_LETTER, 'a', 0, 0);      /* Angstrom */
}

static void hangul_is_taken_apart(void) {
    becomes(0xac00, FOLD_LETTER, 0x1100, 0x1161, 0);
    becomes(0xd55c, FOLD_LETTER, 0x1112, 0x1161, 0x11ab);
    becomes(0xd7a3, FOLD_LETTER, 0x1112, 0x1175, 0x11c2);
}

static void what_is_no_letter(void) {
    static const char marks[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    for (const char *p = marks; *p; p++)
        becomes((uint32_t)*p, FOLD_MARK, (uint32_t)*p, 0, 0);
    becomes(0x3002, FOLD_MARK, 0x3002, 0, 0); /* ideographic full stop */
    becomes(0x4e2d, FOLD_MARK, 0x4e2d, 0, 0);
    becomes(0xf900, FOLD_MARK, 0x8c48, 0, 0); /* an ideograph that has another number, too */
    becomes(0x20000, FOLD_MARK, 0x20000, 0, 0);
    becomes(0x20ac, FOLD_LETTER, 0x20ac, 0, 0); /* the euro is a symbol, not punctuation */
    for (const char *p = " \t\n\r"; *p; p++)
        becomes((uint32_t)*p, FOLD_SPACE, 0, 0, 0);
    becomes(0xa0, FOLD_SPACE, 0, 0, 0);
    becomes(0x3000, FOLD_SPACE, 0, 0, 0);
    becomes(0, FOLD_DROPPED, 0, 0, 0);
    becomes(0x7f, FOLD_DROPPED, 0, 0, 0);
    becomes(0x200d, FOLD_DROPPED, 0, 0, 0);
    becomes(0xfffd, FOLD_DROPPED, 0, 0, 0);
    becomes(0xe000, FOLD_DROPPED, 0, 0, 0);
    becomes(0x10ffff, FOLD_LETTER, 0x10ffff, 0, 0); /* not given to anybody */
}

/* The search finds one entry only, so each begins behind the end of the one before. */
static void the_tables_are_in_order(void) {
    for (size_t i = 1; i < fold_n_classes; i++)
        CHECK(fold_classes[i].first > fold_classes[i - 1].last);
    for (size_t i = 1; i < fold_n_runs; i++)
        CHECK(fold_runs[i].first > fold_runs[i - 1].last);
    for (size_t i = 1; i < fold_n_pairs; i++)
        CHECK(fold_pairs[i].from > fold_pairs[i - 1].from);
    for (size_t i = 1; i < fold_n_several; i++)
        CHECK(fold_several[i].from > fold_several[i - 1].from);
}

/* What was folded is not folded again into something else. */
static void folding_twice_is_folding_once(void) {
    uint32_t to[FOLD_MAX], again[FOLD_MAX];
    size_t n, m;
    for (uint32_t c = 0; c < 0x110000; c++) {
        fold(c, to, &n);
        for (size_t i = 0; i < n; i++) {
            fold(to[i], again, &m);
            CHECK(m == 1 && again[0] == to[i]);
        }
    }
}

CHECK_MAIN(T(letters_lose_case_and_accents), T(hangul_is_taken_apart), T(what_is_no_letter),
           T(the_tables_are_in_order), T(folding_twice_is_folding_once))
