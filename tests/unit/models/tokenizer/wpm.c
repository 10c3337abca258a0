/* SPDX-License-Identifier: Apache-2.0 */
/* WordPiece: words, the longest pieces, what cannot be spelled, and the ends of a text. */
#include <errno.h>
#include <time.h>

#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/vocabulary.h"

#define B "\xe2\x96\x81" /* begins a word */

enum {
    PAD,
    UNK,
    CLS,
    SEP,
    UN,
    WANT,
    W,
    ANTED,
    ANT,
    ED,
    COMMA,
    ZHONG,
    E,
    A,
    OPEN,
    CLS_WORD,
    BAR,
    N
};

static struct vocabulary v;

static void start_wpm(void) {
    static const char *const pieces[] = {B "un", B "want",         B "w", "anted", "ant", "ed",
                                         B ",",  B "\xe4\xb8\xad", B "e", "a",     B "[", B "cls",
                                         ("e" B)};
    memset(&v, 0, sizeof v);
    v.model = "bert";
    add_token(&v, "[PAD]", CONTROL, 0);
    add_token(&v, "[UNK]", CONTROL, 0);
    add_token(&v, "[CLS]", CONTROL, 0);
    add_token(&v, "[SEP]", CONTROL, 0);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add_token(&v, pieces[i], NORMAL, 0);
    v.ids[0].key = "tokenizer.ggml.unknown_token_id", v.ids[0].value = UNK;
    v.ids[1].key = "tokenizer.ggml.cls_token_id", v.ids[1].value = CLS;
    v.ids[2].key = "tokenizer.ggml.seperator_token_id", v.ids[2].value = SEP;
}

static struct tokenizer *made(void) {
    static struct gguf_bytes b;
    struct tokenizer *t;
    struct gguf *gguf;
    struct err err = {""};
    put_vocabulary(&b, &v);
    const int fd = bytes_file(b.data, b.n);
    CHECK_EQ(gguf_open(&gguf, fd, "test.gguf", NULL), 0);
    close(fd);
    const int rc = tokenizer_create(&t, gguf, &err);
    gguf_close(gguf);
    if (rc)
        printf("# %s\n", err.text);
    CHECK_EQ(rc, 0);
    return t;
}

static void check_text(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                       const int32_t *want, size_t n_want) {
    int32_t *ids;
    size_t n_ids;
    CHECK_EQ(tokenizer_encode(t, text, n, flags, &ids, &n_ids, NULL), 0);
    for (size_t i = 0; i < n_ids && i < n_want; i++)
        if (ids[i] != want[i])
            printf("# '%s': id %zu is %d, want %d\n", text, i, ids[i], want[i]);
    CHECK_EQ(n_ids, n_want);
    CHECK(!memcmp(ids, want, n_ids * sizeof *ids));
    free(ids);
}

#define CHECK_TEXT(t, text, flags, ...)                                                            \
    check_text(t, text, sizeof(text) - 1, flags, (const int32_t[]){__VA_ARGS__},                   \
               sizeof((const int32_t[]){__VA_ARGS__}) / 4)
#define CHECK_NOTHING(t, text) check_text(t, text, sizeof(text) - 1, 0, (const int32_t[]){0}, 0)

static void the_longest_piece_comes_first(void) {
    start_wpm();
    struct tokenizer *t = made();
    CHECK_EQ(tokenizer_n_vocab(t), N);
    CHECK_TEXT(t, "un", 0, UN);
    CHECK_TEXT(t, "wanted", 0, WANT, ED); /* not w + anted: the front decides */
    CHECK_TEXT(t, "wanteda", 0, WANT, ED, A);
    CHECK_TEXT(t, "want  un\n\twant", 0, WANT, UN, WANT);
    CHECK_TEXT(t, "unwanted", 0, UNK); /* "wanted" goes on no word */
    CHECK_TEXT(t, "uned un", 0, UN, ED, UN);
    CHECK_TEXT(t, "unedx un", 0, UNK, UN); /* all of the word, though it began well */
    CHECK_NOTHING(t, "");
    CHECK_NOTHING(t, " \t\n");
    tokenizer_destroy(t);
}

static void text_is_folded_and_marks_are_words(void) {
    start_wpm();
    struct tokenizer *t = made();
    CHECK_TEXT(t, "\xc3\x9cN", 0, UN); /* U with dots, capital N */
    CHECK_TEXT(t, "\xc3\xa9", 0, E);   /* e with an accent … */
    CHECK_TEXT(t, "e\xcc\x81", 0, E);  /* … in two characters */
    CHECK_TEXT(t, "un,want", 0, UN, COMMA, WANT);
    CHECK_TEXT(t, ",,", 0, COMMA, COMMA);
    CHECK_TEXT(t,
               "un\xe4\xb8\xad"
               "ed",
               0, UN, ZHONG, UNK);              /* "ed" begins no word */
    CHECK_TEXT(t, "u\xe2\x80\x8dn\x01", 0, UN); /* joiners and control characters go */
    CHECK_TEXT(t, "u\xffn\xc3", 0, UN);         /* so does what is no text */
    CHECK_TEXT(t, "u\0n", 0, UN);
    CHECK_TEXT(t, "un\xc2\xa0un", 0, UN, UN);
    tokenizer_destroy(t);
}

/* What begins a word in the vocabulary is a character that text may hold. */
static void the_mark_of_a_beginning_in_the_text_is_none(void) {
    start_wpm();
    struct tokenizer *t = made();
    CHECK_TEXT(t, "un" B "want", 0, UNK);
    CHECK_TEXT(t, B "un", 0, UNK);
    CHECK_TEXT(t, "e" B, 0, UNK);
    tokenizer_destroy(t);
}

static void a_word_of_200_characters_is_spelled_and_a_longer_one_is_not(void) {
    char text[2 * 201 + 4] = "e";
    int32_t want[200] = {E};
    start_wpm();
    struct tokenizer *t = made();
    memset(text + 1, 'a', 200);
    for (int i = 1; i < 200; i++)
        want[i] = A;
    check_text(t, text, 200, 0, want, 200);
    check_text(t, text, 201, 0, (const int32_t[]){UNK}, 1);
    text[0] = 'x'; /* characters of two bytes are counted as one */
    for (int i = 0; i < 200; i++)
        memcpy(text + 1 + 2 * i, "\xd0\xb6", 2);
    check_text(t, text + 1, 400, 0, (const int32_t[]){UNK}, 1);
    tokenizer_destroy(t);
}

static void beginnings_and_ends_are_the_files(void) {
    start_wpm();
    struct tokenizer *t = made();
    CHECK_EQ(tokenizer_bos(t), CLS);
    CHECK_EQ(tokenizer_eos(t), SEP);
    CHECK(!tokenizer_is_byte_level(t));
    CHECK_TEXT(t, "un", ENCODE_SPECIAL, CLS, UN, SEP);
    CHECK_TEXT(t, "[CLS]un", ENCODE_PARSE, CLS, UN);
    CHECK_TEXT(t, "[cls", 0, OPEN, CLS_WORD);
    tokenizer_destroy(t);
    v.flags[0].key = "tokenizer.ggml.add_bos_token", v.flags[0].value = false;
    v.flags[1].key = "tokenizer.ggml.add_eos_token", v.flags[1].value = false;
    t = made();
    CHECK_TEXT(t, "un", ENCODE_SPECIAL, UN);
    tokenizer_destroy(t);
    v.ids[0].key = NULL; /* 100 then, which this vocabulary does not reach */
    t = made();
    CHECK_NOTHING(t, "xyz");
    tokenizer_destroy(t);
}

static void words_come_back_with_spaces_between(void) {
    const int32_t ids[] = {CLS, UN, COMMA, WANT, ED, SEP};
    char *text;
    size_t n;
    start_wpm();
    struct tokenizer *t = made();
    CHECK_EQ(tokenizer_decode(t, ids, 6, false, &text, &n, NULL), 0);
    CHECK(n == 11 && !strcmp(text, "un , wanted"));
    free(text);
    tokenizer_destroy(t);
}

static double seconds(const struct tokenizer *t, const char *text, size_t n) {
    struct timespec a, b;
    int32_t *ids;
    size_t n_ids;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    CHECK_EQ(tokenizer_encode(t, text, n, 0, &ids, &n_ids, NULL), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    free(ids);
    return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}

static void four_times_the_text_takes_about_four_times_the_time(void) {
    const size_t n = 1 << 18;
    char *text = malloc(4 * n);
    start_wpm();
    add_token(&v, B "aaaaaaaaaaaaaaaaaaaaaaaaab", NORMAL, 0); /* tried at every place */
    struct tokenizer *t = made();
    CHECK(text != NULL);
    for (int kind = 0; kind < 3; kind++) {
        bool even = false; /* what else the machine does may lengthen a single try */
        for (size_t i = 0; i < 4 * n; i++)
            text[i] = kind == 0 ? 'a' : kind == 1 ? "eaaaaaaaa "[i % 150 ? i % 9 : 9] : ' ';
        for (int i = 0; i < 5 && !even; i++)
            even = seconds(t, text, 4 * n) < 12 * seconds(t, text, n) + 0.05;
        CHECK(even);
    }
    free(text);
    tokenizer_destroy(t);
}

CHECK_MAIN(T(the_longest_piece_comes_first), T(text_is_folded_and_marks_are_words),
           T(the_mark_of_a_beginning_in_the_text_is_none),
           T(a_word_of_200_characters_is_spelled_and_a_longer_one_is_not),
           T(beginnings_and_ends_are_the_files), T(words_come_back_with_spaces_between),
           T(four_times_the_text_takes_about_four_times_the_time))
