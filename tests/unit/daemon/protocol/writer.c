/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text: numbers that read back as they were, strings that are UTF-8 whatever the bytes. */
#include "daemon/protocol/writer.h"

#include <math.h>

#include "daemon/util/json.h"
#include "tests/check.h"

static void is(struct buffer *out, const char *want) {
    buffer_append(out, "", 1);
    if (strcmp(out->bytes, want) != 0)
        printf("# is   %s\n# want %s\n", out->bytes, want);
    CHECK(!strcmp(out->bytes, want));
    out->n = 0;
}

static void integers_of_every_size(void) {
    static const int64_t values[] = {
        0, 1, -1, 9, 10, -10, 255, 1000, 2147483648, INT64_MAX, INT64_MIN, -9007199254740992};
    struct buffer out = {0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct writer w = {.out = &out};
        char want[32];
        snprintf(want, sizeof want, "%lld", (long long)values[i]);
        write_int(&w, values[i]);
        is(&out, want);
    }
    struct writer w = {.out = &out};
    write_bytes(&w, "\0\x09\x7f\x80\xff", 5);
    is(&out, "[0, 9, 127, 128, 255]");
    buffer_finish(&out);
}

/* The text of a number, as printf makes it: the shorter of 7 and 9 digits that gives it back. */
static void printed(char text[40], double value) {
    float back;
    snprintf(text, 40, "%.7g", value);
    if (sscanf(text, "%f", &back) != 1 || (double)back != value)
        snprintf(text, 40, "%.9g", value);
}

static void check_number(struct buffer *out, double value) {
    struct writer w = {.out = out};
    char want[40];
    printed(want, value);
    write_number(&w, value);
    is(out, want);
}

static void numbers_are_as_short_as_they_may_be(void) {
    static const double values[] = {
        0,         1,          -1,         0.5,       -0.0,       0.1f,
        0.1,       1e-4f,      9.9e-5f,    123456.25, 999999.94f, 1e6f,
        1e7f,      3.4e38f,    1e-45f,     1e300,     12.345678,  0.00012345678f,
        99999.99f, 0.99999999, 9.9999995f, -11.75,    16777216,   0.000999999f};
    struct buffer out = {0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        check_number(&out, values[i]);
    for (int digit = 1; digit < 100000; digit++) /* ties of the seventh digit among them */
        check_number(&out, digit / 64.0);
    uint64_t x = 88172645463325252;
    for (int i = 0; i < 300000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint32_t bits = (uint32_t)x;
        if (i % 2) /* between 2^-15 and 2^21 */
            bits = (bits & 0x807fffff) | (112 + (uint32_t)(x >> 40) % 36) << 23;
        float value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value))
            check_number(&out, value);
    }
    struct writer w = {.out = &out};
    write_number(&w, NAN);
    write_number(&w, -INFINITY);
    is(&out, "null, null");
    buffer_finish(&out);
}

static void text_is_escaped_and_whole(void) {
    struct buffer out = {0};
    struct writer w = {.out = &out};
    write_open(&w, '{');
    write_key(&w, "a");
    write_text(&w, "x\"\\\n\x01\x7f\xC3\xA9\xC3\xE2\x82\xAC\xFF", 13);
    write_key_string(&w, "b", NULL);
    write_key_bool(&w, "c", true);
    write_close(&w, '}');
    CHECK_EQ(w.rc, 0);
    CHECK_EQ(json_check(out.bytes, out.n, NULL), 0);
    is(&out, "{\"a\": \"x\\\"\\\\\\n\\u0001\x7f\xC3\xA9\xEF\xBF\xBD\xE2\x82\xAC\xEF\xBF\xBD\", "
             "\"b\": null, \"c\": true}");
    buffer_finish(&out);
}

CHECK_MAIN(T(integers_of_every_size), T(numbers_are_as_short_as_they_may_be),
           T(text_is_escaped_and_whole))
