/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the files of a split model: each begins where "GGUF" stands, up to four of them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/gguf.h"
#include "octarc/error.h"
#include "octarc/model.h"

#define FILES 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(bool holds) {
    if (!holds)
        abort();
}

/* What all who read tensors rely on. */
static void check_tensors(const struct gguf *gguf, const uint64_t sizes[FILES], uint32_t n_parts) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n_parts; i++)
        bytes += sizes[i];
    check(gguf_n_parts(gguf) == n_parts && gguf_file_bytes(gguf) == bytes);
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor(gguf, i);
        check(t->part < n_parts);
        check(t->offset <= sizes[t->part] && t->bytes <= sizes[t->part] - t->offset);
        check(gguf_find_tensor(gguf, t->name) == t);
    }
}

static uint64_t write_file(int fd, const uint8_t *data, size_t n) {
    /* Half of them get tensor data of zeros behind their bytes, as sparse as it can be. */
    const size_t size = n && data[n - 1] % 2 == 0 ? 1 << 20 : n;
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, n, 0) != (ssize_t)n ||
        ftruncate(fd, (off_t)(size > n ? size : n)) < 0)
        abort();
    return size > n ? size : n;
}

static const uint8_t *next_file(const uint8_t *at, const uint8_t *end) {
    const uint8_t *found = at < end ? memmem(at + 1, (size_t)(end - at - 1), "GGUF", 4) : NULL;
    return found ? found : end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fds[FILES] = {-1};
    uint64_t sizes[FILES];
    uint32_t n_files = 0;
    struct gguf *gguf;
    struct model model;
    struct err err;
    for (uint32_t i = 0; i < FILES && fds[FILES - 1] <= 0; i++)
        fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
    const uint8_t *at = data, *end = data + n;
    for (; at < end && n_files < FILES; n_files++) {
        const uint8_t *next = n_files + 1 < FILES ? next_file(at, end) : end;
        sizes[n_files] = write_file(fds[n_files], at, (size_t)(next - at));
        at = next;
    }
    if (n_files == 0 || gguf_open_parts(&gguf, fds, n_files, "f-00001-of-00002.gguf", &err))
        return 0;
    check_tensors(gguf, sizes, n_files);
    if (!model_read(&model, gguf, &err))
        model_finish(&model);
    gguf_close(gguf);
    return 0;
}
