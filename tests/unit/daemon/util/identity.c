/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/identity.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/check.h"

#define FILES 3u

static int fds[FILES];

static void make_files(void) {
    for (uint32_t i = 0; i < FILES; i++) {
        fds[i] = memfd_create("file", MFD_CLOEXEC);
        CHECK(fds[i] >= 0);
        CHECK_EQ(ftruncate(fds[i], 100 + (off_t)i), 0);
    }
}

static struct file_identity all(uint32_t n) {
    struct file_identity identity;
    CHECK_EQ(identity_of_all(fds, n, &identity), 0);
    return identity;
}

static void of_one_file_it_is_its_own(void) {
    struct file_identity own;
    make_files();
    const struct file_identity one = all(1);
    CHECK_EQ(identity_of(fds[0], &own), 0);
    CHECK(identity_equal(&own, &one));
}

static void every_file_and_their_order_counts(void) {
    make_files();
    const struct file_identity before = all(FILES), same = all(FILES), fewer = all(2);
    CHECK(identity_equal(&before, &same));
    CHECK(!identity_equal(&before, &fewer));
    CHECK_EQ(before.bytes, 303);
    const int swapped = fds[1];
    fds[1] = fds[2];
    fds[2] = swapped;
    const struct file_identity other = all(FILES);
    CHECK(!identity_equal(&before, &other));
}

/* Also where the sum of their bytes is the same, or two of them change by as much. */
static void a_change_of_any_file_is_seen(void) {
    make_files();
    for (uint32_t i = 0; i < FILES; i++) {
        const struct file_identity before = all(FILES);
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000 + i, .tv_nsec = 7}};
        CHECK_EQ(futimens(fds[i], times), 0);
        const struct file_identity after = all(FILES);
        CHECK_EQ(before.bytes, after.bytes);
        CHECK(!identity_equal(&before, &after));
    }
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 5}};
    struct file_identity seen[2];
    for (uint32_t i = 0; i < 2; i++) { /* one byte from one file to another */
        for (uint32_t k = 0; k < FILES; k++) {
            CHECK_EQ(ftruncate(fds[k], 100 + (off_t)(k == i)), 0);
            CHECK_EQ(futimens(fds[k], times), 0);
        }
        seen[i] = all(FILES);
    }
    CHECK_EQ(seen[0].bytes, seen[1].bytes);
    CHECK(!identity_equal(&seen[0], &seen[1]));
}

static void a_descriptor_that_is_none_changes_nothing(void) {
    make_files();
    struct file_identity identity = {.bytes = 77};
    CHECK_EQ(close(fds[2]), 0);
    CHECK_EQ(identity_of_all(fds, FILES, &identity), -EBADF);
    CHECK_EQ(identity.bytes, 77);
}

CHECK_MAIN(T(of_one_file_it_is_its_own), T(every_file_and_their_order_counts),
           T(a_change_of_any_file_is_seen), T(a_descriptor_that_is_none_changes_nothing))
