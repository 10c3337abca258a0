/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_file.h - what gguf.c reads, gguf_parts.c joins and gguf_value.c looks up; private to them.
 *
 * The image is the first file's first bytes, up to the end of the header; keys are views into it.
 * It is checked in whole before anybody looks a value up. */
#ifndef OCTARC_MODELS_GGUF_FILE_H
#define OCTARC_MODELS_GGUF_FILE_H

#include "models/gguf.h"

struct gguf_key {
    uint64_t at;    /* of the record, in the image; offsets, because the image moves */
    uint64_t value; /* of the value, or of an array's first element */
    uint64_t n;     /* bytes of the name */
    uint64_t count; /* elements of an array */
    uint32_t type;
    uint32_t element; /* of an array */
};

struct gguf {
    char *name;
    uint64_t file_bytes; /* of all parts */
    uint32_t n_parts;
    uint8_t *image;
    struct gguf_key *keys;
    uint32_t *keys_sorted;
    size_t n_keys;
    struct gguf_tensor *tensors;
    char (*tensor_names)[GGUF_TENSOR_NAME_MAX + 1];
    uint32_t *tensors_sorted;
    size_t n_tensors;
};

/* One file, as if there were no others; on failure *gguf is untouched, as gguf_open(). */
int gguf_read_file(struct gguf **gguf, int fd, const char *name, struct err *err);
/* Sort the tensors by name.  -EINVAL: a name occurs twice. */
int gguf_index_tensors(struct gguf *gguf, struct err *err);
const struct gguf_key *gguf_find_key(const struct gguf *gguf, const uint8_t *name, uint64_t n);

#define GGUF_TYPES 13

/* Bytes of a value; 0: string or array. */
extern const uint8_t gguf_type_bytes[GGUF_TYPES];

/* "key 'general.name'", for messages; a long name is cut. */
#define GGUF_NAME_SHOWN 64
struct gguf_label {
    char text[GGUF_NAME_SHOWN + 16];
};
struct gguf_label gguf_label(const char *kind, const uint8_t *name, uint64_t n);
struct gguf_label gguf_key_label(const struct gguf *gguf, const struct gguf_key *key);

const uint8_t *gguf_key_name(const struct gguf *gguf, const struct gguf_key *key);
/* The order of keys_sorted. */
int gguf_compare_names(const uint8_t *a, uint64_t n_a, const uint8_t *b, uint64_t n_b);

#endif
