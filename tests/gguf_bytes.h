/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_bytes.h - writes small GGUF files for tests, right ones and deliberately wrong ones. */
#ifndef OCTARC_TESTS_GGUF_BYTES_H
#define OCTARC_TESTS_GGUF_BYTES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/gguf.h"

struct gguf_bytes {
    uint8_t data[1 << 20];
    size_t n;
};

static inline void put(struct gguf_bytes *b, const void *bytes, size_t n) {
    if (b->n + n > sizeof b->data)
        abort();
    memcpy(b->data + b->n, bytes, n);
    b->n += n;
}

static inline void put_u32(struct gguf_bytes *b, uint32_t value) {
    put(b, &value, sizeof value);
}

static inline void put_u64(struct gguf_bytes *b, uint64_t value) {
    put(b, &value, sizeof value);
}

static inline void put_string(struct gguf_bytes *b, const char *text) {
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_header(struct gguf_bytes *b, uint64_t n_tensors, uint64_t n_keys) {
    b->n = 0;
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, n_tensors);
    put_u64(b, n_keys);
}

static inline void put_key(struct gguf_bytes *b, const char *key, uint32_t type) {
    put_string(b, key);
    put_u32(b, type);
}

static inline void put_key_u32(struct gguf_bytes *b, const char *key, uint32_t value) {
    put_key(b, key, GGUF_U32);
    put_u32(b, value);
}

static inline void put_key_f32(struct gguf_bytes *b, const char *key, float value) {
    put_key(b, key, GGUF_F32);
    put(b, &value, sizeof value);
}

static inline void put_key_string(struct gguf_bytes *b, const char *key, const char *value) {
    put_key(b, key, GGUF_STRING);
    put_string(b, value);
}

/* rows 0: a tensor of one dimension. */
static inline void put_tensor(struct gguf_bytes *b, const char *name, uint32_t type, uint64_t cols,
                              uint64_t rows, uint64_t offset) {
    put_string(b, name);
    put_u32(b, rows ? 2 : 1);
    put_u64(b, cols);
    if (rows)
        put_u64(b, rows);
    put_u32(b, type);
    put_u64(b, offset);
}

/* `depth` matrices, one after another. */
static inline void put_stack(struct gguf_bytes *b, const char *name, uint32_t type, uint64_t cols,
                             uint64_t rows, uint64_t depth, uint64_t offset) {
    put_string(b, name);
    put_u32(b, 3);
    put_u64(b, cols);
    put_u64(b, rows);
    put_u64(b, depth);
    put_u32(b, type);
    put_u64(b, offset);
}

/* Pad to the alignment, then n zero bytes of tensor data. */
static inline void put_data(struct gguf_bytes *b, size_t alignment, size_t n) {
    static const uint8_t zero[4096];
    put(b, zero, (alignment - b->n % alignment) % alignment);
    for (; n > sizeof zero; n -= sizeof zero)
        put(b, zero, sizeof zero);
    put(b, zero, n);
}

/* The first n bytes as an anonymous file. */
static inline int bytes_file(const uint8_t *data, size_t n) {
    const int fd = memfd_create("test", MFD_CLOEXEC);
    if (fd < 0)
        abort();
    for (size_t at = 0; at < n;) {
        const ssize_t put_now = write(fd, data + at, n - at);
        if (put_now <= 0)
            abort();
        at += (size_t)put_now;
    }
    return fd;
}

#endif
