/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/json.h"

#include <cjson/cJSON.h>
#include <errno.h>

#include "octarc/error.h"
#include "tests/check.h"

static int check(const char *text) {
    return json_check(text, strlen(text), NULL);
}

static void valid_texts_are_accepted(void) {
    static const char *const good[] = {"0",
                                       "-0",
                                       "1.5e-3",
                                       "\"\"",
                                       "[]",
                                       "{}",
                                       " [ 1 , 2 ] ",
                                       "{\"a\":{\"a\":1},\"b\":[null,true,false]}",
                                       "\"\\u00e9\\ud83d\\ude00\\n\\/\"",
                                       "9007199254740992",
                                       "-9007199254740992",
                                       "1e308",
                                       "\"\xf0\x9f\x98\x80\"",
                                       "{\"\":1}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (check(good[i]))
            printf("# refused: %s\n", good[i]);
        CHECK_EQ(check(good[i]), 0);
    }
}

static void invalid_texts_are_refused(void) {
    static const char *const bad[] = {"",
                                      " ",
                                      "01",
                                      "1.",
                                      ".5",
                                      "+1",
                                      "-",
                                      "1e",
                                      "1e999",
                                      "nul",
                                      "tru",
                                      "[1,]",
                                      "[,1]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "[1 2]",
                                      "1 2",
                                      "\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\u0000\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\x01\"",
                                      "\"\xff\"",
                                      "\"\xc0\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\xef\xbb\xbf{}",
                                      "9007199254740993",
                                      "-9007199254740993",
                                      "99999999999999999999",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":1,\"\\u0061\":2}",
                                      "NaN",
                                      "Infinity",
                                      "'a'",
                                      "[",
                                      "{",
                                      "]",
                                      "\"\xe2\x82\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!check(bad[i]))
            printf("# accepted: %s\n", bad[i]);
        CHECK_EQ(check(bad[i]), -EINVAL);
    }
}

static void an_error_names_the_byte(void) {
    struct err err;
    CHECK_EQ(json_check("{\"a\": tru}", 10, &err), -EINVAL);
    CHECK(strstr(err.text, "byte 6"));
}

static void depth_is_limited(void) {
    char text[2 * 70 + 1];
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    CHECK_EQ(json_check(text, 128, NULL), 0);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    CHECK_EQ(json_check(text, 130, NULL), -E2BIG);
}

static char *repeat(const char *open, const char *item, size_t n, const char *close) {
    const size_t step = strlen(item);
    char *text = malloc(strlen(open) + n * (step + 1) + strlen(close) + 1), *p = text;
    p = stpcpy(p, open);
    for (size_t i = 0; i < n; i++) {
        if (i)
            *p++ = ',';
        p = stpcpy(p, item);
    }
    strcpy(p, close);
    return text;
}

static void values_are_limited(void) {
    char *text = repeat("[", "\"\"", 99999, "]");
    CHECK_EQ(check(text), 0);
    free(text);
    text = repeat("[", "\"\"", 100000, "]");
    struct err err;
    CHECK_EQ(json_check(text, strlen(text), &err), -E2BIG);
    CHECK(strstr(err.text, "100000"));
    free(text);
    text = repeat("[", "[1]", 60000, "]");
    CHECK_EQ(check(text), -E2BIG);
    free(text);
}

static void keys_are_limited_and_told_apart(void) {
    char text[20000], *p = text;
    *p++ = '{';
    for (int i = 0; i < 1024; i++)
        p += sprintf(p, "%s\"k%d\":1", i ? "," : "", i);
    strcpy(p, "}");
    CHECK_EQ(check(text), 0);
    strcpy(p, ",\"more\":1}");
    CHECK_EQ(check(text), -E2BIG);
    strcpy(p, ",\"k7\":1}");
    CHECK_EQ(check(text), -EINVAL);
}

static void long_lists_of_numbers_become_arrays(void) {
    char *text = repeat("{\"x\":[[1,2],[]],\"ids\":[[", "12345", 2000, "],[7]],\"y\":[3]}");
    struct json json;
    CHECK_EQ(json_read(&json, text, strlen(text), NULL), 0);
    CHECK_EQ(json.n_runs, 1);
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(json.root, "ids");
    size_t n = 0;
    const double *v = json_numbers(&json, ids->child, &n);
    CHECK(v != NULL);
    CHECK_EQ(n, 2000);
    CHECK(v[0] == 12345 && v[1999] == 12345);
    CHECK(!json_numbers(&json, ids, &n));
    CHECK(!json_numbers(&json, ids->child->next, &n));
    CHECK_EQ(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(json.root, "y")), 1);
    json_finish(&json);
    free(text);
}

static void a_long_prompt_of_ids_passes_and_two_million_are_the_limit(void) {
    char *text = repeat("[", "-1.5e0", 131072, "]");
    struct json json;
    CHECK_EQ(json_read(&json, text, strlen(text), NULL), 0);
    size_t n = 0;
    CHECK(json_numbers(&json, json.root, &n)[131071] == -1.5);
    json_finish(&json);
    free(text);
    text = repeat("[", "0", 2000001, "]");
    CHECK_EQ(json_read(&json, text, strlen(text), NULL), -E2BIG);
    free(text);
}

static void a_failure_leaves_the_output_alone(void) {
    struct json json = {.n_runs = 42};
    char *text = repeat("[[", "1", 100, "],x]");
    CHECK_EQ(json_read(&json, text, strlen(text), NULL), -EINVAL);
    CHECK_EQ(json.n_runs, 42);
    free(text);
}

static void what_is_carried_on_may_have_any_digits(void) {
    static const char *const good[] = {"12345678901234567891", "[-9007199254740993]", "1e3", "0.5"};
    static const char *const bad[] = {"01", "1.", "-", "1e999", "{\"a\": 1, \"a\": 2}"};
    struct err err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_EQ(json_check_carried(good[i], strlen(good[i]), &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(json_check_carried(bad[i], strlen(bad[i]), &err), -EINVAL);
    char digits[JSON_NUMBER_MAX + 2];
    memset(digits, '1', sizeof digits);
    CHECK_EQ(json_check_carried(digits, JSON_NUMBER_MAX, &err), 0);
    CHECK_EQ(json_check_carried(digits, JSON_NUMBER_MAX + 1, &err), -E2BIG);
}

CHECK_MAIN(T(what_is_carried_on_may_have_any_digits), T(valid_texts_are_accepted),
           T(invalid_texts_are_refused), T(an_error_names_the_byte), T(depth_is_limited),
           T(values_are_limited), T(keys_are_limited_and_told_apart),
           T(long_lists_of_numbers_become_arrays),
           T(a_long_prompt_of_ids_passes_and_two_million_are_the_limit),
           T(a_failure_leaves_the_output_alone))
