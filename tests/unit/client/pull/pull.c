/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a pull that need no network: digests, links of an index, parts' names, archives. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/pull/index.h"
#include "client/pull/manifest.h"
#include "client/pull/wheel.h"
#include "octarc/error.h"
#include "tests/check.h"

static void check_sha256(const char *text, size_t n, size_t step, const char *want) {
    struct sha256 sha;
    char got[SHA256_TEXT];
    sha256_init(&sha);
    for (size_t at = 0; at < n; at += step)
        sha256_add(&sha, text + at, n - at < step ? n - at : step);
    CHECK_EQ(sha256_text(&sha, got), 0);
    CHECK(!strcmp(got, want));
}

/* The examples of FIPS 180-4, and lengths around a block, cut in every way. */
static void digests_are_those_of_the_standard(void) {
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    check_sha256("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_sha256("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (size_t step = 1; step < 60; step++)
        check_sha256(two, 56, step,
                     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *a = malloc(1000000);
    memset(a, 'a', 1000000);
    for (size_t step = 63; step < 130; step += 13)
        check_sha256(a, 1000000, step,
                     "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(a);
}

static bool find(const char *page, struct index_link *link) {
    return index_find(page, strlen(page), "My.Model", "1.0", link);
}

static void the_index_has_the_wheel_of_that_version_alone(void) {
    struct index_link link;
    CHECK(
        find("<a href=\"my_model-1.0.tar.gz\"><a href='../x/my__model-1.0-py3-none-any.whl?a=1&amp;"
             "b#md5=0'>",
             &link) == false); /* the name ends in another way */
    CHECK(find("<a\nHREF='../x/MY-model-1.0-py3-none-any.whl'>", &link) == false); /* a dash more */
    CHECK(find("<a HREF='../x&amp;y/MY_model-1.0-py3-none-any.whl'>", &link));
    CHECK(!strcmp(link.href, "../x&y/MY_model-1.0-py3-none-any.whl") && !*link.sha256);
    CHECK(!find("<a href=\"my_model-1.0.1-py3-none-any.whl\">", &link));
    CHECK(!find("<a href=\"my_models-1.0-py3-none-any.whl\">", &link));
    CHECK(!find("<a href=\"my_model-1.0-py3-none-any.whl", &link));
    CHECK(!find("<a href=\"my_model-1.0-py3-none-any.whl#sha256=12\">", &link));
    CHECK(!find("href=", &link));
    CHECK(find("<a href=\"my_model-1.0-py3-none-any.whl#sha256="
               "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\">",
               &link));
    CHECK(!strncmp(link.sha256, "e3b0c44298fc", 12) && strlen(link.sha256) == 64);
    CHECK(!strcmp(link.href, "my_model-1.0-py3-none-any.whl"));
}

static void parts_have_numbers(void) {
    char out[32];
    manifest_part("a-{part}-b", 7, 2, out, sizeof out);
    CHECK(!strcmp(out, "a-07-b"));
    manifest_part("{part}", 12, 1, out, sizeof out);
    CHECK(!strcmp(out, "12"));
    manifest_part("part-{part-1}.bin", 12, 2, out, sizeof out);
    CHECK(!strcmp(out, "part-11.bin"));
    manifest_part("plain", 3, 2, out, sizeof out);
    CHECK(!strcmp(out, "plain"));
}

/* --- archives --- */

/* One stored file "d/a" of five bytes, as its format says, byte by byte. */
static size_t make_archive(uint8_t *p, uint32_t crc) {
    static const uint8_t local[] = "PK\3\4\24\0\0\0\0\0\0\0\0\0",
                         listed[] = "PK\1\2\24\0\24\0\0\0\0\0\0\0\0\0";
    size_t n = 0;
    const uint8_t sizes[12] = {
        crc & 255, crc >> 8 & 255, crc >> 16 & 255, crc >> 24 & 255, 5, 0, 0, 0, 5, 0, 0, 0};
    memcpy(p, local, 14), n = 14;
    memcpy(p + n, sizes, 12), n += 12;
    memcpy(p + n, "\3\0\0\0d/ahello", 12), n += 12;
    const uint8_t at = (uint8_t)n;
    memcpy(p + n, listed, 16), n += 16;
    memcpy(p + n, sizes, 12), n += 12;
    memcpy(p + n, "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0d/a", 21), n += 21;
    const uint8_t end[22] = {'P', 'K', 5, 6, 0, 0, 0, 0, 1, 0, 1, 0, (uint8_t)(n - at),
                             0,   0,   0, at};
    memcpy(p + n, end, sizeof end);
    return n + sizeof end;
}

static int keep(void *user, const void *bytes, size_t n) {
    char *text = user;
    memcpy(text + strlen(text), bytes, n);
    return 0;
}

static int read_archive(const uint8_t *bytes, size_t n, const char *name, char *text) {
    struct wheel wheel;
    struct err err;
    const int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK_EQ(write(fd, bytes, n), (ssize_t)n);
    int rc = wheel_open(&wheel, fd, "test.whl", name, &err);
    if (!rc) {
        rc = wheel_read(&wheel, keep, text, &err);
        wheel_close(&wheel);
    }
    CHECK(!rc || strstr(err.text, "test.whl"));
    close(fd);
    return rc;
}

static void an_archive_cut_or_changed_anywhere_gives_no_wrong_text(void) {
    uint8_t bytes[256], other[256];
    char text[16] = "";
    const size_t n = make_archive(bytes, 0x3610a686); /* CRC-32 of "hello" */
    CHECK_EQ(read_archive(bytes, n, "a", text), 0);
    CHECK(!strcmp(text, "hello"));
    CHECK_EQ(read_archive(bytes, n, "b", text), -ENOENT);
    CHECK_EQ(read_archive(bytes, n, "/a", text), -ENOENT);
    for (size_t cut = 0; cut < n; cut++)
        CHECK(read_archive(bytes, cut, "a", text) < 0);
    for (size_t at = 0; at < n * 8; at++) {
        char got[16] = "";
        memcpy(other, bytes, n);
        other[at / 8] ^= (uint8_t)(1 << at % 8);
        if (read_archive(other, n, "a", got) == 0)
            CHECK(!strcmp(got, "hello"));
    }
    make_archive(bytes, 0x3610a687);
    text[0] = 0;
    CHECK_EQ(read_archive(bytes, n, "a", text), -EINVAL);
}

CHECK_MAIN(T(digests_are_those_of_the_standard), T(the_index_has_the_wheel_of_that_version_alone),
           T(parts_have_numbers), T(an_archive_cut_or_changed_anywhere_gives_no_wrong_text))
