/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/device/device.h"

#define SUMS_MAGIC UINT64_C(0x326d75735f746f63)

/* At the beginning of the checksums' memory; written last. */
struct sums_header {
    uint64_t magic, n, digest;
    struct file_identity file;
};

int sums_pread(int fd, char *bytes, uint64_t n, uint64_t offset) {
    while (n) {
        const ssize_t got = pread(fd, bytes, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ESTALE; /* it was as long as it had to be */
        bytes += got;
        offset += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return 0;
}

bool sums_match(struct sums *sums, uint32_t tensor, const char *bytes, uint64_t row, uint64_t end,
                uint64_t row_bytes) {
    for (; row < end; row += SUM_ROWS) {
        const uint64_t n = end - row < SUM_ROWS ? end - row : SUM_ROWS;
        const uint64_t digest = device_digest(bytes, n * row_bytes);
        const uint64_t sum = digest ? digest : 1;
        uint64_t known = 0;
        bytes += n * row_bytes;
        if (!atomic_compare_exchange_strong(&sums->of[sums->first[tensor] + row / SUM_ROWS], &known,
                                            sum) &&
            known != sum)
            return false;
    }
    return true;
}

int sums_read(struct sums *sums, const struct model *model, const struct file_identity *file,
              int fd) {
    struct sums_header h;
    *sums = (struct sums){.first = calloc(model->n_tensors + 1, sizeof *sums->first)};
    if (!sums->first)
        return -ENOMEM;
    for (size_t i = 0; i < model->n_tensors; i++) {
        sums->first[i] = sums->n;
        sums->n += (model->tensors[i].rows + SUM_ROWS - 1) / SUM_ROWS;
    }
    const size_t bytes = sums->n * sizeof *sums->of;
    sums->of = calloc(sums->n + 1, sizeof *sums->of);
    if (!sums->of)
        return -ENOMEM;
    if (fd < 0 || pread(fd, &h, sizeof h, 0) != sizeof h || h.magic != SUMS_MAGIC ||
        h.n != sums->n || !identity_equal(&h.file, file))
        return 0;
    sums->known = sums_pread(fd, (char *)sums->of, bytes, sizeof h) == 0 &&
                  device_digest((const void *)sums->of, bytes) == h.digest;
    if (!sums->known)
        memset((void *)sums->of, 0, bytes);
    return 0;
}

int sums_write(const struct sums *sums, const struct file_identity *file, int fd) {
    const size_t bytes = sums->n * sizeof *sums->of;
    const struct sums_header h = {SUMS_MAGIC, sums->n, device_digest((const void *)sums->of, bytes),
                                  *file};
    if (fd < 0)
        return 0;
    if (pwrite(fd, (const void *)sums->of, bytes, sizeof h) != (ssize_t)bytes ||
        pwrite(fd, &h, sizeof h, 0) != sizeof h)
        return -EIO;
    return 0;
}

void sums_finish(struct sums *sums) {
    free((void *)sums->of);
    free(sums->first);
    *sums = (struct sums){.of = NULL};
}
