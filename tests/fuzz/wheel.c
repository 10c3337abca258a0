/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a ZIP archive: what is found in it can be read, or is refused. */
#include "client/pull/wheel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "octarc/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t sum; /* so that every byte is read */

static int count(void *user, const void *bytes, size_t n) {
    uint64_t *total = user;
    for (size_t i = 0; i < n; i++)
        sum += ((const uint8_t *)bytes)[i];
    *total += n;
    return 0;
}

static void check(bool holds) {
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, n, 0) != (ssize_t)n)
        return 0;
    struct wheel wheel;
    struct err err;
    uint64_t total = 0;
    if (wheel_open(&wheel, fd, "fuzz.whl", "a", &err))
        return 0;
    if (!wheel_read(&wheel, count, &total, &err))
        check(total == wheel.bytes);
    wheel_close(&wheel);
    return 0;
}
