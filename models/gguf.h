/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.h - reads the header of a GGUF file (versions 2 and 3, little-endian), or of a model that is
 * split over several, NAME-00001-of-00003.gguf and so on.
 *
 * The file is read by pread, never mapped: a file that is cut short while it is read gives an
 * error and not SIGBUS.  Every count, length, offset, product and sum is checked against the
 * limits below and against the file's size before it is used; a bad file is an error value whose
 * text names the key or tensor and the byte offset.
 *
 * Threads: an opened file is read-only and may be used from any thread.
 * Source of the format: the GGUF specification of the ggml project (docs/gguf.md). */
#ifndef OCTARC_MODELS_GGUF_H
#define OCTARC_MODELS_GGUF_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_KEYS_MAX        65536u
#define GGUF_TENSORS_MAX     65536u
#define GGUF_NAME_MAX        65535u       /* bytes of a key */
#define GGUF_STRING_MAX      (16u << 20)  /* bytes of a string value */
#define GGUF_ARRAY_MAX       (16u << 20)  /* elements */
#define GGUF_HEADER_MAX      (256u << 20) /* bytes before the tensor data */
#define GGUF_TENSOR_NAME_MAX 63u
#define GGUF_DIMS_MAX        4u
#define GGUF_PARTS_MAX       64u /* files of a model */

struct err;
struct gguf;

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
};

struct gguf_string {
    const char *bytes; /* not terminated; owned by the struct gguf */
    size_t n;
};

struct gguf_tensor {
    const char *name; /* terminated; owned by the struct gguf */
    uint32_t type;
    uint32_t n_dims;
    uint64_t ne[GGUF_DIMS_MAX]; /* elements; unused dimensions are 1 */
    uint64_t offset;            /* of the data, from the start of its part */
    uint64_t bytes;
    uint32_t part; /* which file of the model; 0 in a whole one */
};

/* Read the header from fd, which stays the caller's and may be closed afterwards.  `name` is used
 * in messages only.  On failure *gguf is untouched:
 *   -EINVAL   not a GGUF file, or one whose header is wrong (err says what and where); or a part of
 *             a model that has others
 *   -ENOTSUP  a version or tensor type this build does not know
 *   -ENOMEM, or what pread returned. */
int gguf_open(struct gguf **gguf, int fd, const char *name, struct err *err);
/* The same with all parts, the first one first; `name` is the first one's path, and those of the
 * others follow from it.  Also -EINVAL: a part is missing, is another one, or of another model. */
int gguf_open_parts(struct gguf **gguf, const int *fds, uint32_t n, const char *name,
                    struct err *err);
void gguf_close(struct gguf *gguf); /* NULL is fine */

struct gguf_files {
    int fds[GGUF_PARTS_MAX]; /* owned; the first part first */
    uint32_t n;
};

/* Open a file and, where it is the first part of a model, the others beside it.  On failure *files
 * is untouched: as gguf_open(), and what open() says. */
int gguf_files_open(struct gguf_files *files, const char *path, struct err *err);
void gguf_files_close(struct gguf_files *files);
/* Both at once, for who only wants the header. */
int gguf_open_path(struct gguf **gguf, const char *path, struct err *err);
/* The path of a part (from 0) beside any other one's, for messages: where the path does not tell,
 * the part's number behind it. */
void gguf_part_name(const char *path, uint32_t part, char out[PATH_MAX]);

const char *gguf_name(const struct gguf *gguf);    /* of the first part */
uint64_t gguf_file_bytes(const struct gguf *gguf); /* of all parts */
uint32_t gguf_n_parts(const struct gguf *gguf);

bool gguf_has(const struct gguf *gguf, const char *key);
/* Scalars.  Any integer type that holds the value is accepted; -ENOENT when the key is absent,
 * -EINVAL when it is of another type or out of range; *value untouched then. */
int gguf_u32(const struct gguf *gguf, const char *key, uint32_t *value, struct err *err);
int gguf_f32(const struct gguf *gguf, const char *key, float *value, struct err *err);
int gguf_bool(const struct gguf *gguf, const char *key, bool *value, struct err *err);
int gguf_string(const struct gguf *gguf, const char *key, struct gguf_string *value,
                struct err *err);
/* Arrays.  The element type must be the one asked for (integers: any integer type of 32 bits or
 * less).  The numbers are copied into *values, owned by the caller (free()); strings point into the
 * struct gguf, their array is the caller's. */
int gguf_strings(const struct gguf *gguf, const char *key, struct gguf_string **values, size_t *n,
                 struct err *err);
int gguf_i32s(const struct gguf *gguf, const char *key, int32_t **values, size_t *n,
              struct err *err);
int gguf_f32s(const struct gguf *gguf, const char *key, float **values, size_t *n, struct err *err);
/* Elements of an array of any type; false where the key is absent or no array. */
bool gguf_array_length(const struct gguf *gguf, const char *key, uint64_t *n);

/* What the file says, key by key in its own order, for those who show it. */
struct gguf_field {
    struct gguf_string name; /* printable ASCII */
    enum gguf_type type;     /* of the value; of an array's elements where is_array */
    bool is_array;
    uint64_t count; /* elements; 1 where it is no array */
};

struct gguf_value {
    enum gguf_type type;
    union {
        uint64_t u;                /* GGUF_U8 … GGUF_U64 */
        int64_t i;                 /* GGUF_I8 … GGUF_I64 */
        double f;                  /* GGUF_F32, GGUF_F64 */
        bool yes;                  /* GGUF_BOOL */
        struct gguf_string string; /* GGUF_STRING */
    };
};

size_t gguf_n_fields(const struct gguf *gguf);
void gguf_field(const struct gguf *gguf, size_t i, struct gguf_field *field);
/* Element `at`, below the field's count; of strings it takes as long as those before it. */
void gguf_field_value(const struct gguf *gguf, size_t i, uint64_t at, struct gguf_value *value);

size_t gguf_n_tensors(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);

#endif
