/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums that another service left: any bytes are taken whole or not at all, and never for
 * another file; what is taken is written and read again as the same. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/device/device.h"
#include "daemon/engine/sums.h"

#define SUMS 7u /* of this model */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct model_tensor tensors[] = {{.rows = 33}, {.rows = 1}, {.rows = 48}};
static const struct model model = {.tensors = tensors, .n_tensors = 3};
static const struct file_identity file = {9, 8, 7, 6};

static int memory_of(const void *bytes, size_t n) {
    const int fd = memfd_create("sums", MFD_CLOEXEC);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    return fd;
}

static void read_sums(struct sums *sums, const struct file_identity *of, int fd) {
    if (sums_read(sums, &model, of, fd) || sums->n != SUMS)
        abort();
}

/* No input is likely to have its own digest: the first byte says whether it is given one. */
static void give_digest(uint8_t *bytes, size_t n) {
    uint64_t digest;
    if (n < 56 + SUMS * 8)
        return;
    digest = device_digest(bytes + 56, SUMS * 8);
    memcpy(bytes + 16, &digest, sizeof digest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    uint8_t bytes[256];
    struct sums sums, again;
    struct file_identity other = file;
    if (n == 0 || n - 1 > sizeof bytes)
        return 0;
    memcpy(bytes, data + 1, n - 1);
    if (data[0] & 1)
        give_digest(bytes, n - 1);
    const int fd = memory_of(bytes, n - 1);
    read_sums(&sums, &file, fd);
    for (size_t i = 0; i < SUMS && !sums.known; i++)
        if (sums.of[i] != 0)
            abort();
    if (sums.known) {
        if (n - 1 < 56 + SUMS * 8 || memcmp((const void *)sums.of, bytes + 56, SUMS * 8) != 0)
            abort();
        const int second = memory_of("", 0);
        if (sums_write(&sums, &file, second))
            abort();
        read_sums(&again, &file, second);
        if (!again.known || memcmp((const void *)again.of, (const void *)sums.of, SUMS * 8) != 0)
            abort();
        sums_finish(&again);
        other.mtime_ns++;
        read_sums(&again, &other, second);
        if (again.known)
            abort();
        sums_finish(&again);
        close(second);
    }
    sums_finish(&sums);
    close(fd);
    return 0;
}
