/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lib/scan.h"

#include "tests/check.h"

static struct span scan(const char *text) {
    return scan_object(text, strlen(text));
}

static void members_are_found_as_they_were_written(void) {
    const struct span object =
        scan(" {\"a\": [1, {\"b\": 2}], \"b\" : 1.50e+3 , \"c\":\"x\\\"}\", \"d\": {}}\r\n");
    const struct span a = scan_member(object, "a"), b = scan_member(object, "b");
    CHECK(a.n == 13 && !memcmp(a.at, "[1, {\"b\": 2}]", a.n));
    CHECK(b.n == 7 && !memcmp(b.at, "1.50e+3", b.n));
    CHECK(scan_is_object(scan_member(object, "d")));
    CHECK(!scan_member(object, "e").at);
    CHECK(!scan_member(object, "").at);
    CHECK(!scan_member(a, "b").at);
    CHECK_EQ(scan_long(b), 0); /* not an integer */
    CHECK_EQ(scan_long(scan_member(scan("{\"n\":-32021}"), "n")), -32021);
}

static void elements_are_found_in_order(void) {
    const struct span object = scan("{\"a\":[ 1 ,{\"b\":[]}, \"x\\u0000y\"],\"e\":[]}");
    const struct span list = scan_member(object, "a");
    char out[8];
    CHECK_EQ(scan_long(scan_item(list, 0)), 1);
    CHECK(scan_is_object(scan_item(list, 1)));
    CHECK_EQ(scan_string(scan_item(list, 2), out, sizeof out), 3);
    CHECK(!memcmp(out, "x\0y", 4));
    CHECK(!scan_item(list, 3).at);
    CHECK(!scan_item(scan_member(object, "e"), 0).at);
    CHECK(!scan_item(object, 0).at);
}

static void what_is_not_one_object_is_refused(void) {
    static const char *const bad[] = {"",
                                      "{",
                                      "{}}",
                                      "[]",
                                      "1",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{,}",
                                      "{a:1}",
                                      "{\"a\":01}",
                                      "{\"a\":1.}",
                                      "{\"a\":-}",
                                      "{\"a\":1e}",
                                      "{\"a\":tru}",
                                      "{\"a\":[1,]}",
                                      "{\"a\":[}",
                                      "{\"a\":\"\\x\"}",
                                      "{\"a\":\"\\u12g4\"}",
                                      "{\"a\":\"\n\"}",
                                      "{\"a\":1} {}",
                                      "{\"a\":[1}}",
                                      "{\"a\" 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        printf("# %s\n", bad[i]);
        CHECK(!scan(bad[i]).at);
    }
}

static void nesting_is_limited(void) {
    char text[8 * SCAN_DEPTH_MAX];
    for (size_t depth = SCAN_DEPTH_MAX; depth <= SCAN_DEPTH_MAX + 1; depth++) {
        size_t n = (size_t)sprintf(text, "{\"a\":");
        for (size_t i = 1; i < depth; i++)
            text[n++] = '[';
        text[n++] = '1';
        for (size_t i = 1; i < depth; i++)
            text[n++] = ']';
        text[n++] = '}';
        CHECK((scan_object(text, n).at != NULL) == (depth <= SCAN_DEPTH_MAX));
    }
}

static void strings_are_decoded_and_cut_at_a_whole_character(void) {
    const struct span object =
        scan("{\"a\":\"\\u00e4\\ud83d\\ude00\\n\\/\\\"\",\"b\":\"xäy\",\"c\":\"\\ud83d\"}");
    char out[16];
    scan_string(scan_member(object, "a"), out, sizeof out);
    CHECK(!strcmp(out, "ä\xF0\x9F\x98\x80\n/\""));
    scan_string(scan_member(object, "b"), out, 3); /* room for x and one byte more */
    CHECK(!strcmp(out, "x"));
    scan_string(scan_member(object, "b"), out, 4);
    CHECK(!strcmp(out, "xä"));
    scan_string(scan_member(object, "c"), out, sizeof out);
    CHECK(!strcmp(out, "\xEF\xBF\xBD"));
    scan_string(scan_member(object, "none"), out, sizeof out);
    CHECK(!strcmp(out, ""));
}

CHECK_MAIN(T(members_are_found_as_they_were_written), T(elements_are_found_in_order),
           T(what_is_not_one_object_is_refused), T(nesting_is_limited),
           T(strings_are_decoded_and_cut_at_a_whole_character))
