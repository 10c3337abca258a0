/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/utf8.h"

#include "tests/check.h"

static const char *const samples[][2] = {
    {"plain", "plain"},
    {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
    {"a\xff"
     "b",
     "a\xef\xbf\xbd"
     "b"},
    {"\xc3(", "\xef\xbf\xbd("},
    {"\xe2\x82(", "\xef\xbf\xbd("},                           /* one mark for a cut sequence */
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate is no code point */
    {"\xf0\x80\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"end \xe2\x82", "end \xef\xbf\xbd"},
};

static void any_cut_of_the_bytes_gives_the_same_text(void) {
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const char *in = samples[i][0];
        const size_t n = strlen(in);
        for (uint32_t cuts = 0; cuts < 1u << (n < 10 ? n : 10); cuts++) {
            struct utf8_stream s = {{0}, 0};
            char out[256];
            size_t at = 0, begin = 0;
            for (size_t j = 1; j <= n; j++)
                if (j == n || cuts >> (j - 1) & 1) {
                    at += utf8_stream_push(&s, in + begin, j - begin, out + at);
                    CHECK(utf8_valid(out, at));
                    begin = j;
                }
            at += utf8_stream_finish(&s, out + at);
            CHECK_EQ(at, strlen(samples[i][1]));
            CHECK(!memcmp(out, samples[i][1], at));
        }
    }
}

static void valid_is_what_unicode_says(void) {
    CHECK(utf8_valid("\xf4\x8f\xbf\xbf", 4));
    CHECK(!utf8_valid("\xf4\x90\x80\x80", 4));
    CHECK(!utf8_valid("\xc0\x80", 2));
    CHECK(!utf8_valid("\xe0\x9f\xbf", 3));
    CHECK(!utf8_valid("a\xe2\x82", 3));
    CHECK_EQ(utf8_length("\xe2\x82", 2), 0);
    CHECK_EQ(utf8_length("\xe2\x82\xac\x80", 4), 3);
    CHECK_EQ(utf8_length("\x80", 1), 0);
}

/* Random bytes that often are nearly valid: one push and many give the same, and it is valid. */
static void random_bytes_give_valid_text_however_cut(void) {
    static const unsigned char some[] = {'a',  0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0x9f, 0xed, 0xef,
                                         0xbd, 0xf0, 0x90, 0x8f, 0xf4, 0xff, 0xc0, 0xe2, 0x82};
    srand(1);
    for (int round = 0; round < 20000; round++) {
        char in[16], whole[128], cut[128];
        const size_t n = (size_t)rand() % sizeof in;
        for (size_t i = 0; i < n; i++)
            in[i] = (char)some[(size_t)rand() % sizeof some];
        struct utf8_stream a = {0}, b = {0};
        size_t n_whole = utf8_stream_push(&a, in, n, whole), n_cut = 0;
        n_whole += utf8_stream_finish(&a, whole + n_whole);
        for (size_t i = 0, part; i < n; i += part) {
            part = 1 + (size_t)rand() % (n - i);
            const size_t put = utf8_stream_push(&b, in + i, part, cut + n_cut);
            CHECK(put <= utf8_stream_room(part));
            n_cut += put;
            CHECK(utf8_valid(cut, n_cut));
        }
        n_cut += utf8_stream_finish(&b, cut + n_cut);
        CHECK_EQ(n_cut, n_whole);
        CHECK(!memcmp(cut, whole, n_cut));
        CHECK(!utf8_valid(in, n) || (n == n_cut && !memcmp(in, cut, n)));
    }
}

CHECK_MAIN(T(any_cut_of_the_bytes_gives_the_same_text), T(random_bytes_give_valid_text_however_cut),
           T(valid_is_what_unicode_says))
