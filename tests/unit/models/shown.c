/* SPDX-License-Identifier: Apache-2.0 */
#include "models/shown.h"

#include "tests/check.h"

static void check_shown(const char *from, size_t n, const char *want) {
    const struct shown got = shown(from, n);
    if (strcmp(got.text, want))
        printf("# got '%s', want '%s'\n", got.text, want);
    CHECK(!strcmp(got.text, want));
}

#define CHECK_SHOWN(from, want) check_shown(from, sizeof(from) - 1, want)

static void text_stays_and_commands_do_not(void) {
    CHECK_SHOWN("", "");
    CHECK_SHOWN("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "plain \xc3\xa9 \xe2\x82\xac "
                                                                "\xf0\x9f\x98\x80");
    CHECK_SHOWN("\x1b[31m\n\0\x7f", "?[31m???");
    CHECK_SHOWN("\xc2\x9b"
                "2J\xc2\xa0",
                "?2J\xc2\xa0");
    CHECK_SHOWN("\xff(\xed\xa0\x80\xc0\xaf", "?(?????");
}

static void only_whole_characters_fit(void) {
    char to[6];
    shown_text(to, sizeof to, "abcd\xc3\xa9", 6);
    CHECK(!strcmp(to, "abcd"));
    shown_text(to, sizeof to, "abc\xc3\xa9z", 6);
    CHECK(!strcmp(to, "abc\xc3\xa9"));
    shown_text(to, sizeof to, "ab\xe2\x82", 4);
    CHECK(!strcmp(to, "ab??"));
}

CHECK_MAIN(T(text_stays_and_commands_do_not), T(only_whole_characters_fit))
