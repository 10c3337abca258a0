/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_model.h - keys and tensors of a model that a test may change before it is written and read.
 */
#ifndef OCTARC_TESTS_GGUF_MODEL_H
#define OCTARC_TESTS_GGUF_MODEL_H

#include <errno.h>

#include "models/gguf.h"
#include "octarc/error.h"
#include "octarc/model.h"
#include "tests/check.h"
#include "tests/gguf_bytes.h"

struct key {
    const char *name;
    uint32_t type; /* GGUF_U32, _F32, _BOOL, _STRING; anything else: left out */
    double number;
    const char *text;
};
struct tensor {
    char name[64];
    uint32_t type;
    uint64_t cols, rows; /* rows 0: one dimension; cols 0: left out */
    uint64_t depth;      /* 0: two dimensions */
};

static struct key keys[24];
static size_t n_keys;
static struct tensor tensors[600];
static size_t n_tensors;

static inline struct key *key(const char *name) {
    for (size_t i = 0; i < n_keys; i++)
        if (!strcmp(keys[i].name, name))
            return &keys[i];
    keys[n_keys] = (struct key){.name = name};
    return &keys[n_keys++];
}

static inline void set_u32(const char *name, uint32_t value) {
    *key(name) = (struct key){name, GGUF_U32, value, NULL};
}

static inline void set_f32(const char *name, double value) {
    *key(name) = (struct key){name, GGUF_F32, value, NULL};
}

static inline void set_bool(const char *name, bool value) {
    *key(name) = (struct key){name, GGUF_BOOL, value, NULL};
}

static inline void set_string(const char *name, const char *value) {
    *key(name) = (struct key){name, GGUF_STRING, 0, value};
}

static inline void drop_key(const char *name) {
    key(name)->type = UINT32_MAX;
}

static inline struct tensor *tensor(const char *name) {
    for (size_t i = 0; i < n_tensors; i++)
        if (!strcmp(tensors[i].name, name))
            return &tensors[i];
    snprintf(tensors[n_tensors].name, sizeof tensors->name, "%s", name);
    return &tensors[n_tensors++];
}

static inline void set_tensor(const char *name, uint32_t type, uint64_t cols, uint64_t rows) {
    struct tensor *t = tensor(name);
    t->type = type;
    t->cols = cols;
    t->rows = rows;
    t->depth = 0;
}

static inline void layer_tensor(int layer, const char *name, uint64_t cols, uint64_t rows) {
    char full[64];
    snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    set_tensor(full, TENSOR_F32, cols, rows);
}

static inline void layer_stack(int layer, const char *name, uint64_t cols, uint64_t rows,
                               uint64_t depth) {
    char full[64];
    snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    set_tensor(full, TENSOR_F32, cols, rows);
    tensor(full)->depth = depth;
}

static inline int read_model(struct model *model, struct err *err) {
    static struct gguf_bytes b;
    size_t present_keys = 0, present_tensors = 0;
    for (size_t i = 0; i < n_keys; i++)
        present_keys += keys[i].type <= GGUF_F64;
    for (size_t i = 0; i < n_tensors; i++)
        present_tensors += tensors[i].cols != 0;
    put_header(&b, present_tensors, present_keys);
    for (size_t i = 0; i < n_keys; i++) {
        if (keys[i].type == GGUF_U32)
            put_key_u32(&b, keys[i].name, (uint32_t)keys[i].number);
        if (keys[i].type == GGUF_F32)
            put_key_f32(&b, keys[i].name, (float)keys[i].number);
        if (keys[i].type == GGUF_BOOL)
            put_key(&b, keys[i].name, GGUF_BOOL), put(&b, &(char){keys[i].number != 0}, 1);
        if (keys[i].type == GGUF_STRING)
            put_key_string(&b, keys[i].name, keys[i].text);
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < n_tensors; i++) {
        const struct tensor *t = &tensors[i];
        if (!t->cols)
            continue;
        if (t->depth)
            put_stack(&b, t->name, t->type, t->cols, t->rows, t->depth, offset);
        else
            put_tensor(&b, t->name, t->type, t->cols, t->rows, offset);
        const struct tensor_type_info *info = tensor_type_info(t->type);
        offset += t->cols / info->block_values * info->block_bytes * (t->rows ? t->rows : 1) *
                  (t->depth ? t->depth : 1);
        offset = (offset + 31) / 32 * 32;
    }
    put_data(&b, 32, offset);

    const int fd = bytes_file(b.data, b.n);
    struct gguf *gguf;
    int rc = gguf_open(&gguf, fd, "dir/test.gguf", err);
    close(fd);
    CHECK_EQ(rc, 0);
    rc = model_read(model, gguf, err);
    gguf_close(gguf);
    return rc;
}

static inline struct model read_good(void) {
    struct model model;
    struct err err = {""};
    const int rc = read_model(&model, &err);
    if (rc)
        printf("# %s\n", err.text);
    CHECK_EQ(rc, 0);
    return model;
}

static inline void check_refused(int code, const char *part, const char *other) {
    struct model model = {.n_ops = 77};
    struct err err = {""};
    const int rc = read_model(&model, &err);
    if (rc != code || !strstr(err.text, part) || !strstr(err.text, other))
        printf("# %d: %s\n", rc, err.text);
    CHECK_EQ(rc, code);
    CHECK(strstr(err.text, part) && strstr(err.text, other));
    CHECK_EQ(model.n_ops, 77);
}

#endif
