/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/scheduler/text.h"

#include <errno.h>

#include "models/tokenizer/tokenizer.h"
#include "tests/check.h"

/* A vocabulary of its own instead of the library's: each byte of `letters` is a token, and these.
 */
static const char letters[] = "abcdestop!\n";
static const char *const pieces[] = {"",         "st",   "op",  "stop", "\xE2",
                                     "\x82\xAC", "abca", "end", "\xFF", "the end"};
enum { NOTHING = 256, ST, OP, STOP, EURO_1, EURO_2, ABCA, END, BAD, THE_END, N_TOKENS };

int tokenizer_piece(const struct tokenizer *t, int32_t token, bool special, const char **bytes,
                    size_t *n) {
    static char byte[256];
    (void)t;
    (void)special;
    if (token < 0 || token >= N_TOKENS)
        return -EINVAL;
    if (token < 256)
        byte[token] = (char)token;
    *bytes = token < 256 ? &byte[token] : pieces[token - 256];
    *n = token < 256 ? 1 : strlen(*bytes);
    return 0;
}

/* A choice, and what came out of it so far. */
struct choice {
    struct text text;
    struct text_stops stops;
    char *strings[4];
    size_t lengths[4];
    char out[512];
    size_t n;
    uint32_t tokens;
    int32_t ids[64];
    uint32_t offsets[64];
};

static void begin(struct choice *c, const char *const *stops) {
    *c = (struct choice){0};
    c->stops.strings = c->strings;
    c->stops.lengths = c->lengths;
    for (; *stops; stops++) {
        c->strings[c->stops.n] = (char *)*stops;
        c->lengths[c->stops.n] = strlen(*stops);
        if (c->lengths[c->stops.n] > c->stops.longest)
            c->stops.longest = c->lengths[c->stops.n];
        c->stops.n++;
    }
    text_init(&c->text, NULL, &c->stops, false);
}
#define BEGIN(c, ...) begin(c, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void take(struct choice *c) {
    memcpy(c->out + c->n, c->text.bytes.bytes, c->text.n_final);
    c->n += c->text.n_final;
    c->out[c->n] = 0;
    for (uint32_t i = 0; i < c->text.tokens_final; i++) {
        c->ids[c->tokens] = c->text.tokens[i].token;
        c->offsets[c->tokens++] = c->text.tokens[i].text_offset;
    }
    text_take(&c->text);
}

static void push(struct choice *c, int32_t token) {
    const struct msg_token msg = {.token = token};
    CHECK_EQ(text_push(&c->text, &msg), 0);
    take(c);
}

static void end(struct choice *c) {
    CHECK_EQ(text_end(&c->text), 0);
    take(c);
    text_finish(&c->text);
}

#define OUT(c, want)    CHECK(!strcmp((c)->out, want))
#define TOKENS(c, want) CHECK_EQ((c)->tokens, want)

static void text_without_stop_strings_goes_out_at_once(void) {
    struct choice c;
    BEGIN(&c);
    push(&c, 'a');
    OUT(&c, "a");
    push(&c, THE_END);
    OUT(&c, "athe end");
    TOKENS(&c, 2);
    CHECK_EQ(c.offsets[1], 1);
    end(&c);
}

static void what_may_begin_a_stop_string_is_held_back(void) {
    struct choice c;
    BEGIN(&c, "stop!");
    push(&c, 'a');
    push(&c, ST);
    OUT(&c, "a");
    TOKENS(&c, 1); /* its text is not out */
    push(&c, OP);
    OUT(&c, "a");
    push(&c, 's'); /* "stops": it was not, but an s may be */
    OUT(&c, "astop");
    TOKENS(&c, 3);
    end(&c);
    OUT(&c, "astops");
    TOKENS(&c, 4);
    BEGIN(&c, "end!");
    push(&c, THE_END);
    OUT(&c, "the ");
    push(&c, '!');
    CHECK(c.text.stopped);
    end(&c);
    OUT(&c, "the ");
}

static void a_stop_string_may_span_tokens_and_nothing_of_it_goes_out(void) {
    struct choice c;
    BEGIN(&c, "stop!");
    push(&c, 'a');
    push(&c, ST);
    push(&c, OP);
    push(&c, '!');
    CHECK(c.text.stopped);
    end(&c);
    OUT(&c, "a");
    TOKENS(&c, 1);
}

static void a_token_whose_text_begins_before_the_stop_string_goes_out(void) {
    struct choice c;
    BEGIN(&c, "end");
    push(&c, 'a');
    push(&c, THE_END);
    CHECK(c.text.stopped);
    end(&c);
    OUT(&c, "athe ");
    TOKENS(&c, 2);
    CHECK_EQ(c.ids[1], THE_END);
}

static void the_stop_string_that_is_complete_first_wins(void) {
    struct choice c;
    BEGIN(&c, "bcd", "abc", "c");
    push(&c, 'a');
    push(&c, 'b');
    push(&c, 'c');
    CHECK(c.text.stopped);
    CHECK_EQ(c.text.stop, 1); /* of "abc" and "c" the one that begins first */
    end(&c);
    OUT(&c, "");
    BEGIN(&c, "bcd", "abce", "c\n");
    push(&c, 'a');
    push(&c, 'b');
    push(&c, 'c');
    push(&c, 'd');
    CHECK(c.text.stopped);
    CHECK_EQ(c.text.stop, 0);
    end(&c);
    OUT(&c, "a");
}

static void a_front_of_a_stop_string_inside_another_is_not_lost(void) {
    struct choice c;
    BEGIN(&c, "abcabd");
    push(&c, ABCA); /* abca */
    push(&c, 'b');
    push(&c, 'c'); /* abcabc: the match begins anew at the second a */
    push(&c, 'a');
    push(&c, 'b');
    push(&c, 'd');
    CHECK(c.text.stopped);
    end(&c);
    OUT(&c, "abc");
}

static void a_character_of_two_tokens_goes_out_whole_with_both(void) {
    struct choice c;
    BEGIN(&c);
    push(&c, EURO_1);
    OUT(&c, "");
    TOKENS(&c, 0);
    push(&c, EURO_2);
    OUT(&c, "\xE2\x82\xAC");
    TOKENS(&c, 2);
    push(&c, BAD);
    push(&c, EURO_1);
    end(&c); /* a part that stays alone is U+FFFD, as bytes that are no UTF-8 are */
    OUT(&c, "\xE2\x82\xAC\xEF\xBF\xBD\xEF\xBF\xBD");
    TOKENS(&c, 4);
}

static void a_token_without_text_goes_out_in_its_place(void) {
    struct choice c;
    BEGIN(&c, "stop");
    push(&c, NOTHING);
    TOKENS(&c, 1);
    push(&c, ST);
    push(&c, NOTHING);
    TOKENS(&c, 1); /* what is before it may be cut */
    push(&c, 'a');
    TOKENS(&c, 4);
    CHECK_EQ(c.ids[2], NOTHING);
    push(&c, STOP);
    CHECK(c.text.stopped);
    end(&c);
    OUT(&c, "sta");
    TOKENS(&c, 4);
}

static void a_token_that_is_none_changes_nothing(void) {
    struct choice c;
    const struct msg_token msg = {.token = N_TOKENS};
    BEGIN(&c, "stop");
    push(&c, ST);
    CHECK_EQ(text_push(&c.text, &msg), -EINVAL);
    push(&c, 'a');
    end(&c);
    OUT(&c, "sta");
    TOKENS(&c, 2);
}

/* However the same bytes are cut into tokens, the same comes out. */
static void the_text_does_not_depend_on_the_tokens(void) {
    uint32_t state = 1;
    for (int round = 0; round < 20000; round++) {
        struct choice whole, cut;
        BEGIN(&whole, "stop", "ede", "pa\n", "dd");
        BEGIN(&cut, "stop", "ede", "pa\n", "dd");
        for (int i = 0; i < 24 && !whole.text.stopped; i++) {
            state = state * 1664525 + 1013904223;
            const uint32_t draw = state >> 16;
            const int32_t token = draw % 4 ? letters[draw / 4 % (sizeof letters - 1)]
                                           : (int32_t[]){ST, OP, STOP, ABCA, END}[draw / 4 % 5];
            push(&whole, token);
            const char *piece = "";
            size_t n = 0;
            tokenizer_piece(NULL, token, false, &piece, &n);
            for (size_t k = 0; k < n && !cut.text.stopped; k++)
                push(&cut, piece[k]);
        }
        CHECK_EQ(whole.text.stopped, cut.text.stopped);
        end(&whole);
        end(&cut);
        CHECK(!strcmp(whole.out, cut.out));
        CHECK(!strstr(whole.out, "stop") && !strstr(whole.out, "ede") && !strstr(whole.out, "dd"));
        CHECK_EQ(cut.tokens, cut.n); /* one byte each */
    }
}

CHECK_MAIN(T(text_without_stop_strings_goes_out_at_once),
           T(what_may_begin_a_stop_string_is_held_back),
           T(a_stop_string_may_span_tokens_and_nothing_of_it_goes_out),
           T(a_token_whose_text_begins_before_the_stop_string_goes_out),
           T(the_stop_string_that_is_complete_first_wins),
           T(a_front_of_a_stop_string_inside_another_is_not_lost),
           T(a_character_of_two_tokens_goes_out_whole_with_both),
           T(a_token_without_text_goes_out_in_its_place), T(a_token_that_is_none_changes_nothing),
           T(the_text_does_not_depend_on_the_tokens))
