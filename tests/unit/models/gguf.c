/* SPDX-License-Identifier: Apache-2.0 */
#include "models/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "octarc/error.h"
#include "octarc/model.h"
#include "tests/check.h"
#include "tests/gguf_bytes.h"

static struct gguf_bytes b;

static int open_bytes(struct gguf **gguf, struct err *err) {
    const int fd = bytes_file(b.data, b.n);
    const int rc = gguf_open(gguf, fd, "test.gguf", err);
    close(fd);
    return rc;
}

/* The file is refused with `code`, and the text has both parts. */
static void check_refused(int code, const char *part, const char *other) {
    struct gguf *gguf = (void *)&b;
    struct err err = {""};
    const int rc = open_bytes(&gguf, &err);
    if (rc != code || !strstr(err.text, part) || !strstr(err.text, other))
        printf("# %d: %s\n", rc, err.text);
    CHECK_EQ(rc, code);
    CHECK(strstr(err.text, "test.gguf"));
    CHECK(strstr(err.text, part));
    CHECK(strstr(err.text, other));
    CHECK(gguf == (void *)&b);
}

/* A good file with a key of every type, and two tensors. */
static void write_good(void) {
    put_header(&b, 2, 16);
    put_key_string(&b, "general.architecture", "none");
    put_key_u32(&b, "u32", UINT32_MAX);
    put_key(&b, "u8", GGUF_U8), put(&b, "\xff", 1);
    put_key(&b, "i8", GGUF_I8), put(&b, "\xff", 1);
    put_key(&b, "u16", GGUF_U16), put(&b, "\x34\x12", 2);
    put_key(&b, "i16", GGUF_I16), put(&b, "\x34\x12", 2);
    put_key(&b, "i32", GGUF_I32), put_u32(&b, 7);
    put_key(&b, "u64", GGUF_U64), put_u64(&b, UINT64_C(1) << 32);
    put_key(&b, "i64", GGUF_I64), put_u64(&b, 1 << 20);
    put_key_f32(&b, "f32", 0.25f);
    put_key(&b, "f64", GGUF_F64), put(&b, &(double){0.5}, 8);
    put_key(&b, "bool", GGUF_BOOL), put(&b, "\1", 1);
    put_key(&b, "strings", GGUF_ARRAY), put_u32(&b, GGUF_STRING), put_u64(&b, 3);
    put_string(&b, "one"), put_string(&b, ""), put_string(&b, "three");
    put_key(&b, "i8s", GGUF_ARRAY), put_u32(&b, GGUF_I8), put_u64(&b, 2), put(&b, "\x80\x7f", 2);
    put_key(&b, "u32s", GGUF_ARRAY), put_u32(&b, GGUF_U32), put_u64(&b, 1), put_u32(&b, 1u << 31);
    put_key(&b, "f32s", GGUF_ARRAY), put_u32(&b, GGUF_F32), put_u64(&b, 0);
    put_tensor(&b, "b", TENSOR_Q8_0, 64, 3, 32);
    put_tensor(&b, "a", TENSOR_F32, 2, 0, 0);
    put_data(&b, 32, 32 + 3 * 2 * 34);
}

static struct gguf *open_good(void) {
    struct gguf *gguf;
    struct err err = {""};
    write_good();
    const int rc = open_bytes(&gguf, &err);
    if (rc)
        printf("# %s\n", err.text);
    CHECK_EQ(rc, 0);
    return gguf;
}

static void scalars_of_every_integer_type_are_read(void) {
    struct gguf *g = open_good();
    static const struct {
        const char *key;
        uint32_t want;
    } good[] = {{"u32", UINT32_MAX}, {"u8", 255}, {"u16", 0x1234},
                {"i16", 0x1234},     {"i32", 7},  {"i64", 1 << 20}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint32_t value;
        CHECK_EQ(gguf_u32(g, good[i].key, &value, NULL), 0);
        CHECK_EQ(value, good[i].want);
    }
    float f;
    bool yes = false;
    CHECK(!gguf_f32(g, "f32", &f, NULL) && f == 0.25f);
    CHECK(!gguf_f32(g, "f64", &f, NULL) && f == 0.5f);
    CHECK(!gguf_bool(g, "bool", &yes, NULL) && yes);
    struct gguf_string s;
    CHECK(!gguf_string(g, "general.architecture", &s, NULL) && s.n == 4);
    CHECK(!memcmp(s.bytes, "none", 4));
    gguf_close(g);
}

static void fields_are_listed_with_every_element(void) {
    struct gguf *g = open_good();
    struct gguf_field f;
    struct gguf_value value;
    CHECK_EQ(gguf_n_fields(g), 16);
    gguf_field(g, 3, &f);
    CHECK(f.name.n == 2 && !memcmp(f.name.bytes, "i8", 2) && !f.is_array && f.count == 1);
    gguf_field_value(g, 3, 0, &value);
    CHECK(value.type == GGUF_I8 && value.i == -1);
    gguf_field_value(g, 7, 0, &value);
    CHECK(value.type == GGUF_U64 && value.u == UINT64_C(1) << 32);
    gguf_field_value(g, 10, 0, &value);
    CHECK(value.type == GGUF_F64 && value.f == 0.5);
    gguf_field_value(g, 11, 0, &value);
    CHECK(value.type == GGUF_BOOL && value.yes);
    gguf_field(g, 12, &f);
    CHECK(f.is_array && f.type == GGUF_STRING && f.count == 3);
    gguf_field_value(g, 12, 1, &value);
    CHECK_EQ(value.string.n, 0);
    gguf_field_value(g, 12, 2, &value);
    CHECK(value.string.n == 5 && !memcmp(value.string.bytes, "three", 5));
    gguf_field_value(g, 13, 0, &value);
    CHECK(value.type == GGUF_I8 && value.i == -128);
    gguf_field_value(g, 13, 1, &value);
    CHECK_EQ(value.i, 127);
    gguf_field(g, 15, &f);
    CHECK(f.is_array && f.count == 0);
    gguf_close(g);
}

static void wrong_types_and_ranges_leave_the_value_alone(void) {
    struct gguf *g = open_good();
    struct err err;
    uint32_t u = 9;
    float f = 9;
    CHECK_EQ(gguf_u32(g, "u64", &u, &err), -EINVAL);
    CHECK(strstr(err.text, "'u64'") && strstr(err.text, "4294967296"));
    CHECK_EQ(gguf_u32(g, "i8", &u, &err), -EINVAL);
    CHECK(strstr(err.text, "-1"));
    CHECK_EQ(gguf_u32(g, "f32", &u, &err), -EINVAL);
    CHECK(strstr(err.text, "is of type f32"));
    CHECK_EQ(gguf_u32(g, "absent", &u, &err), -ENOENT);
    CHECK(strstr(err.text, "'absent' is missing"));
    CHECK_EQ(gguf_u32(g, "bool", &u, NULL), -EINVAL);
    CHECK_EQ(gguf_f32(g, "u32", &f, NULL), -EINVAL);
    CHECK_EQ(gguf_f32(g, "i8s", &f, NULL), -EINVAL);
    CHECK(u == 9 && f == 9);
    gguf_close(g);
}

static void arrays_are_copied_and_typed(void) {
    struct gguf *g = open_good();
    struct gguf_string *strings;
    int32_t *numbers;
    float *floats;
    size_t n;
    uint64_t length;
    CHECK_EQ(gguf_strings(g, "strings", &strings, &n, NULL), 0);
    CHECK_EQ(n, 3);
    CHECK(strings[0].n == 3 && strings[1].n == 0 && !memcmp(strings[2].bytes, "three", 5));
    free(strings);
    CHECK_EQ(gguf_i32s(g, "i8s", &numbers, &n, NULL), 0);
    CHECK(n == 2 && numbers[0] == -128 && numbers[1] == 127);
    free(numbers);
    CHECK_EQ(gguf_f32s(g, "f32s", &floats, &n, NULL), 0);
    CHECK_EQ(n, 0);
    free(floats);
    CHECK_EQ(gguf_i32s(g, "u32s", &numbers, &n, NULL), -EINVAL);
    CHECK_EQ(gguf_i32s(g, "strings", &numbers, &n, NULL), -EINVAL);
    CHECK_EQ(gguf_strings(g, "i8s", &strings, &n, NULL), -EINVAL);
    CHECK_EQ(gguf_f32s(g, "u32", &floats, &n, NULL), -EINVAL);
    CHECK_EQ(gguf_f32s(g, "absent", &floats, &n, NULL), -ENOENT);
    CHECK(gguf_array_length(g, "strings", &length) && length == 3);
    CHECK(!gguf_array_length(g, "u32", &length) && !gguf_array_length(g, "absent", &length));
    gguf_close(g);
}

static void tensors_are_found_by_name_with_absolute_offsets(void) {
    struct gguf *g = open_good();
    CHECK_EQ(gguf_n_tensors(g), 2);
    const struct gguf_tensor *t = gguf_find_tensor(g, "b");
    CHECK(t == gguf_tensor(g, 0));
    CHECK(t->ne[0] == 64 && t->ne[1] == 3 && t->ne[2] == 1 && t->bytes == 3 * 2 * 34);
    CHECK_EQ(t->offset + t->bytes, b.n);
    CHECK_EQ(gguf_find_tensor(g, "a")->offset + 32, t->offset);
    CHECK(!gguf_find_tensor(g, "c"));
    CHECK_EQ(gguf_file_bytes(g), b.n);
    gguf_close(g);
}

static void a_file_cut_short_anywhere_is_refused(void) {
    write_good();
    for (size_t n = b.n; n-- > 0;) {
        struct gguf *gguf = NULL;
        struct err err = {""};
        const int fd = bytes_file(b.data, n);
        CHECK_EQ(gguf_open(&gguf, fd, "cut", &err), -EINVAL);
        CHECK(err.text[0] && !gguf);
        close(fd);
    }
}

static void other_files_are_refused(void) {
    b.n = 0;
    check_refused(-EINVAL, "byte 0", "magic");
    put(&b, "GGML\3\0\0\0", 8);
    check_refused(-EINVAL, "not a GGUF file", "");
    write_good();
    b.data[4] = 1;
    check_refused(-ENOTSUP, "version 1", "2 and 3");
    memcpy(b.data + 4, "\0\0\0\0", 4);
    check_refused(-ENOTSUP, "version 0 at byte 4;", "");
    memcpy(b.data + 4, "\0\0\0\3", 4);
    check_refused(-ENOTSUP, "big-endian", "");
    struct gguf *g;
    const int dir = open("/", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(gguf_open(&g, dir, "/", NULL), -EINVAL);
    CHECK_EQ(gguf_open(&g, -1, "none", NULL), -EBADF);
}

static void version_two_is_read(void) {
    write_good();
    b.data[4] = 2;
    struct gguf *g;
    CHECK_EQ(open_bytes(&g, NULL), 0);
    gguf_close(g);
}

static void absurd_counts_are_refused_without_allocating(void) {
    put_header(&b, UINT64_MAX, 0);
    check_refused(-EINVAL, "number of tensors", "byte 8");
    put_header(&b, 0, UINT64_MAX / 13 + 1);
    check_refused(-EINVAL, "number of keys", "byte 16");
    put_header(&b, 60000, 0);
    check_refused(-EINVAL, "number of tensors", "too many for a file");
    put_header(&b, 0, 60000);
    check_refused(-EINVAL, "number of keys", "too many for a file");
}

static void put_one_key(const char *key, uint32_t type) {
    put_header(&b, 0, 1);
    put_key(&b, key, type);
}

static void lengths_beyond_file_or_limit_are_refused(void) {
    put_header(&b, 0, 1);
    put_u64(&b, UINT64_MAX), put_data(&b, 1, 64);
    check_refused(-EINVAL, "name of a key", "byte 24");
    put_one_key("s", GGUF_STRING), put_u64(&b, UINT64_MAX - 20);
    check_refused(-EINVAL, "key 's'", "bytes");
    put_one_key("s", GGUF_STRING), put_u64(&b, 1000);
    check_refused(-EINVAL, "key 's'", "file ends at byte");
    put_one_key("s", GGUF_ARRAY), put_u32(&b, GGUF_STRING), put_u64(&b, 1), put_u64(&b, 1u << 30);
    check_refused(-EINVAL, "key 's'", "1073741824 bytes");
    put_one_key("s", GGUF_ARRAY), put_u32(&b, GGUF_U64), put_u64(&b, UINT64_C(1) << 61);
    check_refused(-EINVAL, "key 's'", "elements");
    put_one_key("s", GGUF_ARRAY), put_u32(&b, GGUF_U64), put_u64(&b, 1 << 20);
    check_refused(-EINVAL, "key 's'", "8388608 bytes");
}

static void bad_keys_are_refused(void) {
    put_one_key("k", 13), put_u64(&b, 0);
    check_refused(-EINVAL, "key 'k'", "type 13");
    put_one_key("k", GGUF_BOOL), put(&b, "\2", 1);
    check_refused(-EINVAL, "key 'k'", "bool of value 2");
    put_one_key("k", GGUF_ARRAY), put_u32(&b, GGUF_ARRAY), put_u64(&b, 1);
    check_refused(-EINVAL, "key 'k'", "array of type 9");
    put_one_key("k", GGUF_ARRAY), put_u32(&b, 200), put_u64(&b, 1);
    check_refused(-EINVAL, "key 'k'", "array of type 200");
    put_one_key("", GGUF_U32), put_u64(&b, 0);
    check_refused(-EINVAL, "name of a key", "empty");
    put_one_key("a\nb", GGUF_U32), put_u64(&b, 0);
    check_refused(-EINVAL, "name of a key", "0x0a");
    put_header(&b, 0, 3);
    put_key_u32(&b, "twice", 1), put_key_u32(&b, "other", 1), put_key_u32(&b, "twice", 1);
    check_refused(-EINVAL, "key 'twice' occurs twice", "bytes");
}

static void a_wrong_alignment_is_refused(void) {
    static const uint32_t wrong[] = {0, 3, 48, 1u << 21, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_header(&b, 0, 1);
        put_key_u32(&b, "general.alignment", wrong[i]);
        check_refused(-EINVAL, "general.alignment", "power of two");
    }
    put_header(&b, 0, 1);
    put_key_string(&b, "general.alignment", "32");
    check_refused(-EINVAL, "general.alignment", "is of type string");
    put_header(&b, 1, 1);
    put_key_u32(&b, "general.alignment", 128);
    put_tensor(&b, "t", TENSOR_F32, 1, 0, 64), put_data(&b, 128, 1024);
    check_refused(-EINVAL, "tensor 't'", "alignment, 128");
}

static void a_part_is_no_model_by_itself(void) {
    put_header(&b, 0, 3);
    put_key(&b, "split.count", GGUF_U16), put(&b, "\3\0", 2);
    put_key(&b, "split.no", GGUF_U16), put(&b, "\0\0", 2);
    put_key_u32(&b, "split.tensors.count", 0);
    check_refused(-EINVAL, "split.count", "should end in -00001-of-00003.gguf");
}

static void put_one_tensor(const char *name, uint32_t type, uint64_t cols, uint64_t rows,
                           uint64_t offset) {
    put_header(&b, 1, 0);
    put_tensor(&b, name, type, cols, rows, offset);
    put_data(&b, 32, 4096);
}

static void bad_shapes_are_refused(void) {
    put_one_tensor("t", TENSOR_F32, 0, 1, 0);
    check_refused(-EINVAL, "tensor 't'", "empty tensor");
    put_one_tensor("t", TENSOR_F32, UINT64_C(1) << 32, UINT64_C(1) << 32, 0);
    check_refused(-EINVAL, "tensor 't'", "2^63");
    put_one_tensor("t", TENSOR_F32, UINT64_C(1) << 62, 2, 0);
    check_refused(-EINVAL, "tensor 't'", "2^63");
    put_one_tensor("t", TENSOR_F32, UINT64_C(1) << 62, 1, 0);
    check_refused(-EINVAL, "tensor 't'", "64 bits");
    put_one_tensor("t", TENSOR_Q4_0, 48, 1, 0);
    check_refused(-EINVAL, "tensor 't'", "block of Q4_0");
    put_one_tensor("t", 4, 32, 1, 0);
    check_refused(-ENOTSUP, "tensor 't'", "type 4");
    put_one_tensor("t", 1000000, 32, 1, 0);
    check_refused(-ENOTSUP, "tensor 't'", "type 1000000");
    put_header(&b, 1, 0);
    put_string(&b, "t"), put_u32(&b, 5), put_data(&b, 32, 4096);
    check_refused(-EINVAL, "tensor 't'", "5 dimensions");
    put_header(&b, 1, 0);
    put_string(&b, "t"), put_u32(&b, 0), put_data(&b, 32, 4096);
    check_refused(-EINVAL, "tensor 't'", "0 dimensions");
    put_one_tensor("a name that is longer than the sixty-three bytes which a name may have",
                   TENSOR_F32, 1, 1, 0);
    check_refused(-EINVAL, "name of a tensor", "at most 63");
}

static void tensors_outside_the_file_are_refused(void) {
    put_one_tensor("t", TENSOR_F32, 1025, 1, 0);
    check_refused(-EINVAL, "tensor 't'", "cut short");
    put_one_tensor("t", TENSOR_F32, 1, 1, 4096);
    check_refused(-EINVAL, "tensor 't'", "cut short");
    put_one_tensor("t", TENSOR_F32, 1, 1, UINT64_MAX - 31); /* the sum with the start wraps */
    check_refused(-EINVAL, "tensor 't'", "do not fit");
    put_one_tensor("t", TENSOR_F32, 1, 1, 4);
    check_refused(-EINVAL, "tensor 't'", "no multiple of the alignment");
    put_one_tensor("t", TENSOR_F32, 1024, 1, 0);
    struct gguf *g;
    CHECK_EQ(open_bytes(&g, NULL), 0);
    gguf_close(g);
}

/* Sums that wrap one after the other, as files have tried: each tensor alone is checked. */
static void many_huge_tensors_are_refused(void) {
    put_header(&b, 3, 0);
    put_tensor(&b, "a", TENSOR_F32, UINT64_C(1) << 61, 0, 0);
    put_tensor(&b, "b", TENSOR_F32, UINT64_C(1) << 61, 0, 0);
    put_tensor(&b, "c", TENSOR_F32, 16, 0, 0);
    put_data(&b, 32, 4096);
    check_refused(-EINVAL, "tensor 'a'", "do not fit");
}

static void overlapping_or_doubled_tensors_are_refused(void) {
    put_header(&b, 2, 0);
    put_tensor(&b, "first", TENSOR_F32, 9, 0, 32);
    put_tensor(&b, "second", TENSOR_F32, 9, 0, 0);
    put_data(&b, 32, 4096);
    check_refused(-EINVAL, "tensor 'second'", "overlaps tensor 'first'");
    put_header(&b, 2, 0);
    put_tensor(&b, "same", TENSOR_F32, 8, 0, 0);
    put_tensor(&b, "same", TENSOR_F32, 8, 0, 32);
    put_data(&b, 32, 4096);
    check_refused(-EINVAL, "tensor 'same' occurs twice", "");
}

/* Nearly as many keys as are allowed: look-ups must not be quadratic. */
static void fifty_thousand_keys_open_in_a_second(void) {
    const uint32_t n = 50000;
    put_header(&b, 0, n);
    for (uint32_t i = 0; i < n; i++) {
        char key[8];
        snprintf(key, sizeof key, "%05x", (i * 40503u) & 0xffff);
        put_key(&b, key, GGUF_U8), put(&b, "", 1);
    }
    struct timespec from, to;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    struct gguf *g;
    CHECK_EQ(open_bytes(&g, NULL), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    CHECK(to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) * 1e-9 < 1.0);
    uint32_t value = 1;
    CHECK(!gguf_u32(g, "00000", &value, NULL) && value == 0);
    gguf_close(g);
}

CHECK_MAIN(T(scalars_of_every_integer_type_are_read), T(fields_are_listed_with_every_element),
           T(wrong_types_and_ranges_leave_the_value_alone), T(arrays_are_copied_and_typed),
           T(tensors_are_found_by_name_with_absolute_offsets),
           T(a_file_cut_short_anywhere_is_refused), T(other_files_are_refused),
           T(version_two_is_read), T(absurd_counts_are_refused_without_allocating),
           T(lengths_beyond_file_or_limit_are_refused), T(bad_keys_are_refused),
           T(a_wrong_alignment_is_refused), T(a_part_is_no_model_by_itself),
           T(bad_shapes_are_refused), T(tensors_outside_the_file_are_refused),
           T(many_huge_tensors_are_refused), T(overlapping_or_doubled_tensors_are_refused),
           T(fifty_thousand_keys_open_in_a_second))
