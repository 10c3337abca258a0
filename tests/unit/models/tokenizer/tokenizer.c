/* SPDX-License-Identifier: Apache-2.0 */
/* Vocabularies small enough to follow by hand. */
#include "models/tokenizer/tokenizer.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <time.h>

#include "octarc/error.h"
#include "tests/check.h"
#include "tests/vocabulary.h"

static struct gguf_bytes b;
static struct vocabulary v;

static int create(struct tokenizer **t, struct err *err) {
    struct gguf *gguf;
    put_vocabulary(&b, &v);
    const int fd = bytes_file(b.data, b.n);
    CHECK_EQ(gguf_open(&gguf, fd, "test.gguf", err), 0);
    const int rc = tokenizer_create(t, gguf, err);
    gguf_close(gguf);
    close(fd);
    return rc;
}

static struct tokenizer *made(void) {
    struct tokenizer *t = NULL;
    struct err err = {""};
    const int rc = create(&t, &err);
    if (rc)
        printf("# %s\n", err.text);
    CHECK_EQ(rc, 0);
    return t;
}

static void check_refused(int code, const char *part) {
    struct tokenizer *t = (void *)&b;
    struct err err = {""};
    const int rc = create(&t, &err);
    if (rc != code || !strstr(err.text, part))
        printf("# %d: '%s', expected '%s'\n", rc, err.text, part);
    CHECK_EQ(rc, code);
    CHECK(strstr(err.text, part));
    CHECK(t == (void *)&b);
}

static void check_text(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                       const int32_t *want, size_t n_want) {
    int32_t *ids;
    size_t n_ids;
    CHECK_EQ(tokenizer_encode(t, text, n, flags, &ids, &n_ids, NULL), 0);
    for (size_t i = 0; i < n_ids && (n_ids != n_want || memcmp(ids, want, n_want * 4)); i++)
        printf("# got %d\n", ids[i]);
    CHECK_EQ(n_ids, n_want);
    CHECK(!memcmp(ids, want, n_want * sizeof *want));
    free(ids);
}

#define CHECK_TEXT(t, text, flags, ...)                                                            \
    check_text(t, text, sizeof(text) - 1, flags, (const int32_t[]){__VA_ARGS__},                   \
               sizeof((const int32_t[]){__VA_ARGS__}) / 4)

enum { HE = 256, LL, HELL, HELLO, SPACE_W, AA, X, XY, DIGITS, USER_TAG, END_TURN, WHOLE };

static void start_hello(const char *pre) {
    start_bpe(&v, pre);
    add_merge(&v, "h e", "he");
    add_merge(&v, "l l", "ll");
    add_merge(&v, "he ll", "hell");
    add_merge(&v, "hell o", "hello");
    add_merge(&v, "\xc4\xa0 w", "\xc4\xa0w");
    add_merge(&v, "a a", "aa");
    add_token(&v, "<|x|>", CONTROL, 0);
    add_token(&v, "<|x|>y", CONTROL, 0);
    add_merge(&v, "1 2", "12");
    add_token(&v, "<tag>", USER, 0);
    add_token(&v, "<|im_end|>", CONTROL, 0);
    add_token(&v, "xyz", NORMAL, 0);
}

static void merges_join_the_best_pair_first_and_the_leftmost_of_equals(void) {
    start_hello("gpt-2");
    struct tokenizer *t = made();
    CHECK_EQ(tokenizer_n_vocab(t), WHOLE + 1);
    CHECK_TEXT(t, "hello w", 0, HELLO, SPACE_W);
    CHECK_TEXT(t, "hell", 0, HELL);
    CHECK_TEXT(t, "hel", 0, HE, 'l');
    CHECK_TEXT(t, "aaaaa", 0, AA, AA, 'a');
    CHECK_TEXT(t, "lll", 0, LL, 'l');
    CHECK_TEXT(t, "l l", 0, 'l', ' ', 'l');
    check_text(t, "", 0, 0, (const int32_t[]){0}, 0);
    tokenizer_destroy(t);
}

static void bytes_that_are_no_text_stand_for_themselves(void) {
    start_hello("gpt-2");
    struct tokenizer *t = made();
    CHECK_TEXT(t,
               "a\xff"
               "a",
               0, 'a', 255, 'a');
    CHECK_TEXT(t, "h\0e", 0, 'h', 0, 'e');
    CHECK_TEXT(t, "\xc3\xa9\xc3", 0, 0xc3, 0xa9, 0xc3);
    CHECK_TEXT(t, "\xed\xa0\x80", 0, 0xed, 0xa0, 0x80);
    tokenizer_destroy(t);
}

static void the_pre_tokenizer_decides_where_words_end(void) {
    start_hello("gpt-2");
    struct tokenizer *t = made();
    CHECK_TEXT(t, "12 xyz", 0, DIGITS, ' ', 'x', 'y', 'z');
    tokenizer_destroy(t);
    start_hello("smollm");
    t = made();
    CHECK_TEXT(t, "12", 0, '1', '2');
    tokenizer_destroy(t);
    start_hello("llama-bpe"); /* a word that is a token needs no merges */
    t = made();
    CHECK_TEXT(t, "12 xyz", 0, DIGITS, ' ', 'x', 'y', 'z');
    CHECK_TEXT(t, "xyz", 0, WHOLE);
    CHECK_TEXT(t, "xyzx", 0, 'x', 'y', 'z', 'x');
    tokenizer_destroy(t);
}

static void the_longest_control_token_wins_and_only_when_asked(void) {
    start_hello("gpt-2");
    struct tokenizer *t = made();
    CHECK_TEXT(t, "<|x|>", 0, '<', '|', 'x', '|', '>');
    CHECK_TEXT(t, "<|x|>", ENCODE_PARSE, X);
    CHECK_TEXT(t, "<|x|>y<|x|>z<|x", ENCODE_PARSE, XY, X, 'z', '<', '|', 'x');
    CHECK_TEXT(t, "a<tag>a", 0, 'a', USER_TAG, 'a');
    CHECK_TEXT(t, "<<tag>", ENCODE_PARSE, '<', USER_TAG);
    tokenizer_destroy(t);
}

static void beginnings_and_ends_are_added_as_the_file_says(void) {
    start_hello("gpt-2");
    v.ids[0].key = "tokenizer.ggml.bos_token_id", v.ids[0].value = X;
    v.ids[1].key = "tokenizer.ggml.eos_token_id", v.ids[1].value = XY;
    struct tokenizer *t = made();
    CHECK(!tokenizer_adds_bos(t));
    CHECK_EQ(tokenizer_bos(t), X);
    CHECK_TEXT(t, "a", ENCODE_SPECIAL, 'a');
    tokenizer_destroy(t);
    v.pre = "llama-bpe";
    t = made();
    CHECK(tokenizer_adds_bos(t));
    CHECK_TEXT(t, "a", ENCODE_SPECIAL, X, 'a');
    CHECK_TEXT(t, "a", 0, 'a');
    tokenizer_destroy(t);
    v.flags[0].key = "tokenizer.ggml.add_bos_token";
    v.flags[1].key = "tokenizer.ggml.add_eos_token", v.flags[1].value = true;
    t = made();
    CHECK_TEXT(t, "a", ENCODE_SPECIAL, 'a', XY);
    size_t n;
    const int32_t *ends = tokenizer_eogs(t, &n);
    CHECK_EQ(n, 2);
    CHECK_EQ(ends[0], XY);
    CHECK_EQ(ends[1], END_TURN);
    tokenizer_destroy(t);
    v.ids[1].value = END_TURN; /* by its id and by its name */
    t = made();
    tokenizer_eogs(t, &n);
    CHECK_EQ(n, 1);
    tokenizer_destroy(t);
}

static void names_of_control_tokens_count_more_than_their_types(void) {
    start_hello("gpt-2");
    add_token(&v, "</s>", NORMAL, 0);
    add_token(&v, "<|fim_prefix|>", NORMAL, 0);
    struct tokenizer *t = made();
    size_t n;
    const int32_t *ends = tokenizer_eogs(t, &n);
    CHECK_EQ(n, 2);
    CHECK(ends[0] == END_TURN && ends[1] == WHOLE + 1);
    CHECK(tokenizer_is_control(t, WHOLE + 1) && tokenizer_is_control(t, WHOLE + 2));
    CHECK_TEXT(t, "</s><|fim_prefix|>", ENCODE_PARSE, WHOLE + 1, WHOLE + 2);
    CHECK_TEXT(t, "</s>", 0, '<', '/', 's', '>');
    tokenizer_destroy(t);
    add_token(&v, "<|end|>", CONTROL, 0);
    add_token(&v, "<|return|>", CONTROL, 0);
    add_token(&v, "<|call|>", CONTROL, 0);
    t = made();
    ends = tokenizer_eogs(t, &n);
    CHECK_EQ(n, 4);
    CHECK(ends[2] == WHOLE + 4 && ends[3] == WHOLE + 5);
    tokenizer_destroy(t);
}

static void phi3_control_tokens_take_the_space_behind_them(void) {
    start_hello("gpt-2");
    v.name = "My Phi-3 mini";
    struct tokenizer *t = made();
    CHECK_TEXT(t, "<|x|> \n a", ENCODE_PARSE, X, 'a');
    CHECK_TEXT(t, "<|x|> a", 0, '<', '|', 'x', '|', '>', ' ', 'a');
    tokenizer_destroy(t);
    v.name = "Another";
    t = made();
    CHECK_TEXT(t, "<|x|> a", ENCODE_PARSE, X, ' ', 'a');
    tokenizer_destroy(t);
}

static void pieces_and_decoding_hide_control_tokens(void) {
    start_hello("gpt-2");
    struct tokenizer *t = made();
    const char *bytes;
    char *text;
    size_t n;
    struct err err;
    CHECK_EQ(tokenizer_piece(t, SPACE_W, false, &bytes, &n), 0);
    CHECK(n == 2 && !memcmp(bytes, " w", 2));
    CHECK_EQ(tokenizer_piece(t, X, false, &bytes, &n), 0);
    CHECK_EQ(n, 0);
    CHECK_EQ(tokenizer_piece(t, X, true, &bytes, &n), 0);
    CHECK(n == 5 && !memcmp(bytes, "<|x|>", 5));
    CHECK(tokenizer_is_control(t, X) && !tokenizer_is_control(t, USER_TAG));
    CHECK_EQ(tokenizer_piece(t, -1, true, &bytes, &n), -EINVAL);
    CHECK_EQ(tokenizer_piece(t, WHOLE + 1, true, &bytes, &n), -EINVAL);
    const int32_t ids[] = {HELLO, X, SPACE_W, 0xff};
    CHECK_EQ(tokenizer_decode(t, ids, 4, false, &text, &n, &err), 0);
    CHECK(n == 8 && !memcmp(text, "hello w\xff", 8));
    free(text);
    CHECK_EQ(tokenizer_decode(t, (const int32_t[]){1, 999}, 2, false, &text, &n, &err), -EINVAL);
    CHECK(strstr(err.text, "999"));
    tokenizer_destroy(t);
}

enum { SPM_BYTES = 3, SPM_SPACE = 259, SPM_A, SPM_B, SPM_C, SPM_AB, SPM_BC, SPM_SPACE_AB };

static void start_abc(float ab, float bc) {
    start_spm(&v);
    add_token(&v, "\xe2\x96\x81", NORMAL, -10);
    add_token(&v, "a", NORMAL, -10);
    add_token(&v, "b", NORMAL, -10);
    add_token(&v, "c", NORMAL, -10);
    add_token(&v, "ab", NORMAL, ab);
    add_token(&v, "bc", NORMAL, bc);
    add_token(&v,
              "\xe2\x96\x81"
              "ab",
              NORMAL, -3);
}

static void spm_joins_by_score_and_falls_back_to_bytes(void) {
    start_abc(-1, -2);
    struct tokenizer *t = made();
    CHECK(tokenizer_adds_bos(t));
    CHECK_EQ(tokenizer_bos(t), 1);
    CHECK_TEXT(t, "abc", ENCODE_SPECIAL, 1, SPM_SPACE_AB, SPM_C);
    CHECK_TEXT(t, "c ab", 0, SPM_SPACE, SPM_C, SPM_SPACE_AB);
    CHECK_TEXT(t, "a\xc3\xa9\n", 0, SPM_SPACE, SPM_A, SPM_BYTES + 0xc3, SPM_BYTES + 0xa9,
               SPM_BYTES + '\n');
    CHECK_TEXT(t, "a\xff", 0, SPM_SPACE, SPM_A, SPM_BYTES + 0xff);
    CHECK_TEXT(t, "<s>ab", ENCODE_PARSE, 1, SPM_SPACE_AB);
    char *text;
    size_t n;
    const int32_t ids[] = {1, SPM_SPACE_AB, SPM_SPACE, SPM_C, SPM_BYTES + '\n'};
    CHECK_EQ(tokenizer_decode(t, ids, 5, false, &text, &n, NULL), 0);
    CHECK(n == 5 && !memcmp(text, "ab c\n", 5));
    free(text);
    tokenizer_destroy(t);
    start_abc(-2, -1);
    v.flags[0].key = "tokenizer.ggml.add_space_prefix";
    t = made();
    CHECK_TEXT(t, "abc", 0, SPM_A, SPM_BC);
    tokenizer_destroy(t);
}

static void wrong_files_are_refused_with_the_place(void) {
    start_hello("gpt-2"), v.model = "t5";
    check_refused(-ENOTSUP, "known are gpt2, llama, bert");
    start_hello("gpt-17");
    check_refused(-ENOTSUP, "'gpt-17' is not known; known are default gpt-2");
    start_hello("gpt-2 phi-2"); /* two names are not one */
    check_refused(-ENOTSUP, "not known");
    start_hello("gpt-2"), add_token(&v, "he", NORMAL, 0);
    check_refused(-EINVAL, "tokens 256 and 268 are both 'he'");
    start_hello("gpt-2"), v.n_scores--;
    check_refused(-EINVAL, "268 tokens, but 267 scores and 268 types");
    start_hello("gpt-2"), v.n_types--;
    check_refused(-EINVAL, "268 tokens, but 268 scores and 267 types");
    start_hello("gpt-2"), v.tokens[5].type = 7;
    check_refused(-EINVAL, "token 5 has type 7");
    start_hello("gpt-2"), v.tokens[5].score = __builtin_nanf("");
    check_refused(-EINVAL, "score of token 5");
    start_hello("gpt-2"), v.merges[1] = "ll";
    check_refused(-EINVAL, "merge 1 ('ll')");
    start_hello("gpt-2"), v.merges[2] = "he lo";
    check_refused(-EINVAL, "merge 2 ('he lo')");
    start_hello("gpt-2"), v.merges[3] = "he\xc4\xa0 o";
    check_refused(-EINVAL, "merge 3 (");
    start_hello("gpt-2"), v.merges[0] = NULL;
    check_refused(-EINVAL, "tokenizer.ggml.merges");
    start_hello("gpt-2"), v.ids[0].key = "tokenizer.ggml.eos_token_id", v.ids[0].value = 268;
    check_refused(-EINVAL, "eos_token_id is 268, the vocabulary has 268");
    start_hello("gpt-2"), v.ids[0].key = "tokenizer.ggml.add_bos_token";
    check_refused(-EINVAL, "add_bos_token");
}

static void commands_to_a_terminal_do_not_get_into_errors(void) {
    start_hello("gpt-2"), v.model = "\x1b]0;x\x07y\xff";
    check_refused(-ENOTSUP, "model '?]0;x?y?'");
    start_hello("\x1b[2Jgpt-2");
    check_refused(-ENOTSUP, "'?[2Jgpt-2'");
    start_hello("gpt-2"), add_token(&v, "\x1b[2J", USER, 0), add_token(&v, "\x1b[2J", USER, 0);
    check_refused(-EINVAL, "both '?[2J'");
    start_hello("gpt-2"), v.merges[1] = "\x1b[31m\xff \x07";
    check_refused(-EINVAL, "('?[31m? ?')");
}

static void a_byte_that_no_token_spells_is_named(void) {
    start_hello("gpt-2");
    strcpy(v.tokens['a'].text, "hole");
    check_refused(-EINVAL, "no token spells the byte 0x61");
    start_hello("gpt-2");
    strcpy(v.tokens['a'].text, "hole"), add_token(&v, "a", USER, 0);
    tokenizer_destroy(made());
    strcpy(v.tokens[0x80].text, "hole2");
    check_refused(-EINVAL, "no token spells the byte 0x80");
    start_hello("gpt-2"); /* these may lack, and leave a trace */
    strcpy(v.tokens[0xff].text, "hole"), strcpy(v.tokens[4].text, "hole2");
    struct tokenizer *t = made();
    CHECK_TEXT(t,
               "a\xff"
               "a\x04\xfe",
               0, 'a', 0xef, 0xbf, 0xbd, 'a', 0xef, 0xbf, 0xbd, 0xfe);
    tokenizer_destroy(t);
}

static void a_merge_that_stands_twice_keeps_its_first_rank(void) {
    start_hello("gpt-2");
    add_token(&v, "el", NORMAL, 0);
    v.merges[v.n_merges++] = "e l";
    v.merges[v.n_merges++] = "h e";
    struct tokenizer *t = made();
    CHECK_TEXT(t, "hel", 0, HE, 'l');
    tokenizer_destroy(t);
}

/* Counted in rules that are kept, not in seconds: a search from the beginning for each of them
 * would run into the time limit of the test. */
static void repeated_merges_load_in_no_long_time(void) {
    enum { REPEATS = 400000 };
    static struct gguf_bytes big;
    struct gguf *gguf;
    struct tokenizer *t;
    put_header(&big, 0, 4);
    put_key_string(&big, "tokenizer.ggml.model", "gpt2");
    put_key_string(&big, "tokenizer.ggml.pre", "gpt-2");
    start_hello("gpt-2");
    put_key(&big, "tokenizer.ggml.tokens", GGUF_ARRAY), put_u32(&big, GGUF_STRING);
    put_u64(&big, 256);
    for (int i = 0; i < 256; i++)
        put_string(&big, v.tokens[i].text);
    put_key(&big, "tokenizer.ggml.merges", GGUF_ARRAY), put_u32(&big, GGUF_STRING);
    put_u64(&big, REPEATS);
    int fd = bytes_file(big.data, big.n);
    static char merges[REPEATS][11];
    for (int i = 0; i < REPEATS; i++)
        memcpy(merges[i], "\3\0\0\0\0\0\0\0h e", 11);
    CHECK_EQ(pwrite(fd, merges, sizeof merges, (off_t)big.n), (ssize_t)sizeof merges);
    CHECK_EQ(gguf_open(&gguf, fd, "test.gguf", NULL), 0);
    CHECK_EQ(tokenizer_create(&t, gguf, NULL), 0);
    CHECK_TEXT(t, "he", 0, 'h', 'e'); /* what they make is no token */
    tokenizer_destroy(t);
    gguf_close(gguf);
    close(fd);
}

/* U+180E was a space until Unicode 6.3; the tokenizers in use know it as a format character. */
static void the_mongolian_vowel_separator_is_no_space(void) {
    static const char *const names[] = {"gpt-2", "llama-bpe", "qwen2", "gpt-4o"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        start_hello(names[i]);
        add_merge(&v, "! \xc3\xa1", "!\xc3\xa1");
        struct tokenizer *t = made(); /* "!" and the first byte of U+180E in one word */
        CHECK_TEXT(t, "!\xe1\xa0\x8e", 0, WHOLE + 1, 0xa0, 0x8e);
        tokenizer_destroy(t);
    }
}

static void a_text_over_the_limit_is_refused(void) {
    start_hello("gpt-2");
    struct tokenizer *t = made();
    struct err err;
    int32_t *ids;
    size_t n;
    CHECK_EQ(tokenizer_encode(t, "", TOKENIZER_TEXT_MAX + 1, 0, &ids, &n, &err), -E2BIG);
    CHECK(strstr(err.text, "16777217"));
    tokenizer_destroy(t);
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static void check_back(const struct tokenizer *t, const char *text, size_t n) {
    int32_t *ids;
    char *back;
    size_t n_ids, n_back;
    CHECK_EQ(tokenizer_encode(t, text, n, ENCODE_PARSE, &ids, &n_ids, NULL), 0);
    CHECK_EQ(tokenizer_decode(t, ids, n_ids, true, &back, &n_back, NULL), 0);
    CHECK_EQ(n_back, n);
    CHECK(!memcmp(back, text, n));
    free(ids);
    free(back);
}

static const char *const pres[] = {
    "default",      "gpt-2",          "smollm", "falcon", "llama-bpe", "qwen2",      "gpt-4o",
    "deepseek-llm", "deepseek-coder", "tekken", "glm4",   "dbrx",      "deepseek-v3"};
static const char *const parts[] = {"hello", " ",    "\n",   "\r",   "<|x|>", "12",           "'s",
                                    "aa",    "\xff", "\xc3", "\xa9", "\t",    "\xe4\xb8\x80", "!?"};

static void decoding_what_was_encoded_gives_the_text_back(void) {
    for (size_t p = 0; p < sizeof pres / sizeof *pres; p++) {
        start_hello(pres[p]);
        struct tokenizer *t = made();
        for (int round = 0; round < 300; round++) {
            char text[256] = "";
            for (uint32_t i = random_below(20); i; i--)
                strcat(text, parts[random_below(sizeof parts / sizeof *parts)]);
            check_back(t, text, strlen(text));
        }
        tokenizer_destroy(t);
    }
}

/* What could be tried again from each of its places, and many small parts. */
static void hostile_texts_take_no_long_time(void) {
    static const char *const hard[] = {"a",    " ",   "\n",    "A",    "7",
                                       "\xff", " \n", "<|x|>", "<|x|", "\xc3\xa9"};
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    const size_t n = 1 << 14; /* times mean nothing here */
#else
    const size_t n = 1 << 16;
#endif
    char *text = malloc(n + 8);
    for (size_t p = 0; p < sizeof pres / sizeof *pres; p++) {
        start_hello(pres[p]);
        struct tokenizer *t = made();
        for (size_t h = 0; h < sizeof hard / sizeof *hard; h++) {
            const size_t length = strlen(hard[h]), whole = n / length * length;
            struct timespec from, to;
            for (size_t i = 0; i < whole; i++)
                text[i] = hard[h][i % length];
            text[whole] = '7';
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
            check_back(t, text, whole + 1);
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
            const double took =
                (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
            if (took > 1)
                printf("# %s, '%s': %.3f s\n", pres[p], hard[h], took);
            CHECK(took < 1);
        }
        tokenizer_destroy(t);
    }
    free(text);
}

static void *encode_often(void *user) {
    const struct tokenizer *t = user;
    for (int i = 0; i < 200; i++)
        check_back(t, "hello w<|x|>12 aa\xff", 18);
    return NULL;
}

static void threads_share_a_tokenizer(void) {
    pthread_t threads[4];
    start_hello("llama-bpe");
    struct tokenizer *t = made();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    tokenizer_destroy(t);
}

static void words_are_cut_where_no_code_may_be_written(void) {
    if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0))
        SKIP("the kernel knows no memory-deny-write-execute");
    start_hello("gpt-2");
    struct tokenizer *t = made();
    CHECK_TEXT(t, "hello w", 0, HELLO, SPACE_W);
    tokenizer_destroy(t);
    hostile_texts_take_no_long_time(); /* the matcher without machine code tries more */
}

CHECK_MAIN(
    T(merges_join_the_best_pair_first_and_the_leftmost_of_equals),
    T(bytes_that_are_no_text_stand_for_themselves), T(the_pre_tokenizer_decides_where_words_end),
    T(the_longest_control_token_wins_and_only_when_asked),
    T(beginnings_and_ends_are_added_as_the_file_says), T(pieces_and_decoding_hide_control_tokens),
    T(names_of_control_tokens_count_more_than_their_types),
    T(phi3_control_tokens_take_the_space_behind_them),
    T(spm_joins_by_score_and_falls_back_to_bytes), T(wrong_files_are_refused_with_the_place),
    T(commands_to_a_terminal_do_not_get_into_errors), T(a_byte_that_no_token_spells_is_named),
    T(a_merge_that_stands_twice_keeps_its_first_rank), T(repeated_merges_load_in_no_long_time),
    T(the_mongolian_vowel_separator_is_no_space), T(a_text_over_the_limit_is_refused),
    T(decoding_what_was_encoded_gives_the_text_back), T(hostile_texts_take_no_long_time),
    T(threads_share_a_tokenizer), T(words_are_cut_where_no_code_may_be_written))
