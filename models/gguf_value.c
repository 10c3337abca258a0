/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_value.c - looks keys up in a header that gguf.c has checked, and converts their values. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf_file.h"
#include "octarc/error.h"

const uint8_t gguf_type_bytes[GGUF_TYPES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static const char *const type_names[GGUF_TYPES] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64",
};

struct gguf_label gguf_label(const char *kind, const uint8_t *name, uint64_t n) {
    struct gguf_label label;
    const int shown = n < GGUF_NAME_SHOWN ? (int)n : GGUF_NAME_SHOWN - 3;
    snprintf(label.text, sizeof label.text, "%s '%.*s%s'", kind, shown, (const char *)name,
             n < GGUF_NAME_SHOWN ? "" : "...");
    return label;
}

struct gguf_label gguf_key_label(const struct gguf *gguf, const struct gguf_key *key) {
    return gguf_label("key", gguf_key_name(gguf, key), key->n);
}

const uint8_t *gguf_key_name(const struct gguf *gguf, const struct gguf_key *key) {
    return gguf->image + key->at + sizeof(uint64_t); /* after its length */
}

int gguf_compare_names(const uint8_t *a, uint64_t n_a, const uint8_t *b, uint64_t n_b) {
    const int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : (n_a > n_b) - (n_a < n_b);
}

const struct gguf_key *gguf_find_key(const struct gguf *gguf, const uint8_t *name, uint64_t n) {
    size_t low = 0, high = gguf->n_keys;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct gguf_key *k = &gguf->keys[gguf->keys_sorted[middle]];
        const int order = gguf_compare_names(gguf_key_name(gguf, k), k->n, name, n);
        if (order == 0)
            return k;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static const struct gguf_key *find(const struct gguf *gguf, const char *name) {
    return gguf_find_key(gguf, (const uint8_t *)name, strlen(name));
}

static int absent(const struct gguf *gguf, const char *name, struct err *err) {
    return err_set(err, -ENOENT, "%s: key '%s' is missing", gguf->name, name);
}

static int mistyped(const struct gguf *gguf, const struct gguf_key *k, const char *wanted,
                    struct err *err) {
    return err_set(err, -EINVAL, "%s: %s at byte %" PRIu64 " is of type %s%s%s, %s was expected",
                   gguf->name, gguf_key_label(gguf, k).text, k->at, type_names[k->type],
                   k->type == GGUF_ARRAY ? " of " : "",
                   k->type == GGUF_ARRAY ? type_names[k->element] : "", wanted);
}

bool gguf_has(const struct gguf *gguf, const char *key) {
    return find(gguf, key) != NULL;
}

/* An integer as magnitude and sign, so that u64 and i64 both fit.  False: not an integer type. */
static bool load_integer(const uint8_t *at, uint32_t type, uint64_t *magnitude, bool *negative) {
    static const bool is_signed[GGUF_TYPES] = {
        [GGUF_I8] = true, [GGUF_I16] = true, [GGUF_I32] = true, [GGUF_I64] = true};
    const uint32_t n = gguf_type_bytes[type];
    if (n == 0 || type == GGUF_F32 || type == GGUF_F64 || type == GGUF_BOOL)
        return false;
    uint64_t bits = 0;
    memcpy(&bits, at, n);
    *negative = is_signed[type] && bits >> (8 * n - 1);
    if (*negative)
        bits = 0 - (n == 8 ? bits : bits | UINT64_MAX << (8 * n));
    *magnitude = bits;
    return true;
}

int gguf_u32(const struct gguf *gguf, const char *key, uint32_t *value, struct err *err) {
    const struct gguf_key *k = find(gguf, key);
    uint64_t magnitude;
    bool negative;
    if (!k)
        return absent(gguf, key, err);
    if (!load_integer(gguf->image + k->value, k->type, &magnitude, &negative))
        return mistyped(gguf, k, "an integer", err);
    if (negative || magnitude > UINT32_MAX)
        return err_set(err, -EINVAL,
                       "%s: key '%s' at byte %" PRIu64 " is %s%" PRIu64 ", not 0 to %" PRIu32,
                       gguf->name, key, k->at, negative ? "-" : "", magnitude, UINT32_MAX);
    *value = (uint32_t)magnitude;
    return 0;
}

int gguf_f32(const struct gguf *gguf, const char *key, float *value, struct err *err) {
    const struct gguf_key *k = find(gguf, key);
    if (!k)
        return absent(gguf, key, err);
    if (k->type == GGUF_F64) {
        double wide;
        memcpy(&wide, gguf->image + k->value, sizeof wide);
        *value = (float)wide;
        return 0;
    }
    if (k->type != GGUF_F32)
        return mistyped(gguf, k, "f32", err);
    memcpy(value, gguf->image + k->value, sizeof *value);
    return 0;
}

int gguf_bool(const struct gguf *gguf, const char *key, bool *value, struct err *err) {
    const struct gguf_key *k = find(gguf, key);
    if (!k)
        return absent(gguf, key, err);
    if (k->type != GGUF_BOOL)
        return mistyped(gguf, k, "bool", err);
    *value = gguf->image[k->value] != 0;
    return 0;
}

static struct gguf_string string_at(const struct gguf *gguf, uint64_t at) {
    uint64_t n;
    memcpy(&n, gguf->image + at, sizeof n);
    return (struct gguf_string){(const char *)gguf->image + at + sizeof n, (size_t)n};
}

int gguf_string(const struct gguf *gguf, const char *key, struct gguf_string *value,
                struct err *err) {
    const struct gguf_key *k = find(gguf, key);
    if (!k)
        return absent(gguf, key, err);
    if (k->type != GGUF_STRING)
        return mistyped(gguf, k, "string", err);
    *value = string_at(gguf, k->value);
    return 0;
}

/* Find an array whose elements `wanted` describes; room for them, `bytes` each, in *values. */
static int open_array(const struct gguf *gguf, const char *key, bool (*suits)(uint32_t),
                      const char *wanted, size_t bytes, const struct gguf_key **found,
                      void **values, struct err *err) {
    const struct gguf_key *k = find(gguf, key);
    if (!k)
        return absent(gguf, key, err);
    if (k->type != GGUF_ARRAY || !suits(k->element))
        return mistyped(gguf, k, wanted, err);
    void *made = calloc(k->count + 1, bytes); /* + 1: an empty array is not NULL */
    if (!made)
        return err_set(err, -ENOMEM, "%s: key '%s': no memory for %" PRIu64 " elements", gguf->name,
                       key, k->count);
    *found = k;
    *values = made;
    return 0;
}

static bool suits_string(uint32_t element) {
    return element == GGUF_STRING;
}

static bool suits_f32(uint32_t element) {
    return element == GGUF_F32;
}

static bool suits_i32(uint32_t element) {
    return element <= GGUF_I32;
}

int gguf_strings(const struct gguf *gguf, const char *key, struct gguf_string **values, size_t *n,
                 struct err *err) {
    const struct gguf_key *k;
    void *room;
    const int rc = open_array(gguf, key, suits_string, "array of string",
                              sizeof(struct gguf_string), &k, &room, err);
    if (rc)
        return rc;
    struct gguf_string *strings = room;
    uint64_t at = k->value;
    for (uint64_t i = 0; i < k->count; i++) {
        strings[i] = string_at(gguf, at);
        at += sizeof(uint64_t) + strings[i].n;
    }
    *values = strings;
    *n = k->count;
    return 0;
}

int gguf_i32s(const struct gguf *gguf, const char *key, int32_t **values, size_t *n,
              struct err *err) {
    const struct gguf_key *k;
    void *room;
    const int rc = open_array(gguf, key, suits_i32, "array of integers of at most 32 bits",
                              sizeof(int32_t), &k, &room, err);
    if (rc)
        return rc;
    int32_t *numbers = room;
    for (uint64_t i = 0; i < k->count; i++) {
        uint64_t magnitude;
        bool negative;
        load_integer(gguf->image + k->value + i * gguf_type_bytes[k->element], k->element,
                     &magnitude, &negative);
        if (!negative && magnitude > INT32_MAX) {
            free(numbers);
            return err_set(err, -EINVAL,
                           "%s: key '%s': element %" PRIu64 " is %" PRIu64 ", more than %" PRId32,
                           gguf->name, key, i, magnitude, INT32_MAX);
        }
        numbers[i] = (int32_t)(negative ? -(int64_t)magnitude : (int64_t)magnitude);
    }
    *values = numbers;
    *n = k->count;
    return 0;
}

int gguf_f32s(const struct gguf *gguf, const char *key, float **values, size_t *n,
              struct err *err) {
    const struct gguf_key *k;
    void *room;
    const int rc = open_array(gguf, key, suits_f32, "array of f32", sizeof(float), &k, &room, err);
    if (rc)
        return rc;
    memcpy(room, gguf->image + k->value, k->count * sizeof(float));
    *values = room;
    *n = k->count;
    return 0;
}

bool gguf_array_length(const struct gguf *gguf, const char *key, uint64_t *n) {
    const struct gguf_key *k = find(gguf, key);
    if (!k || k->type != GGUF_ARRAY)
        return false;
    *n = k->count;
    return true;
}

/* --- Key by key ---------------------------------------------------------------------------- */

size_t gguf_n_fields(const struct gguf *gguf) {
    return gguf->n_keys;
}

void gguf_field(const struct gguf *gguf, size_t i, struct gguf_field *field) {
    const struct gguf_key *k = &gguf->keys[i];
    const bool is_array = k->type == GGUF_ARRAY;
    *field = (struct gguf_field){.name = {(const char *)gguf_key_name(gguf, k), k->n},
                                 .type = (enum gguf_type)(is_array ? k->element : k->type),
                                 .is_array = is_array,
                                 .count = is_array ? k->count : 1};
}

void gguf_field_value(const struct gguf *gguf, size_t i, uint64_t at, struct gguf_value *value) {
    const struct gguf_key *k = &gguf->keys[i];
    const uint32_t type = k->type == GGUF_ARRAY ? k->element : k->type;
    const uint8_t *bytes = gguf->image + k->value + at * gguf_type_bytes[type];
    bool negative;
    uint64_t n;
    *value = (struct gguf_value){.type = (enum gguf_type)type};
    if (type == GGUF_STRING) {
        for (memcpy(&n, bytes, sizeof n); at > 0; at--, memcpy(&n, bytes, sizeof n))
            bytes += sizeof n + n;
        value->string = (struct gguf_string){(const char *)bytes + sizeof n, n};
    } else if (type == GGUF_F32) {
        float f;
        memcpy(&f, bytes, sizeof f);
        value->f = f;
    } else if (type == GGUF_F64) {
        memcpy(&value->f, bytes, sizeof value->f);
    } else if (type == GGUF_BOOL) {
        value->yes = *bytes != 0;
    } else if (load_integer(bytes, type, &n, &negative)) {
        value->u = negative ? 0 - n : n; /* of the signed ones the same bits */
    }
}
