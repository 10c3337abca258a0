/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c - the header of one GGUF file: read once, check everything, keep the bytes.
 *
 * The header's bytes are read in order into one buffer, the image, as far as the records reach;
 * keys and values are then views into it.  So memory is bounded by the file's own size, a value
 * costs no allocation, and what was checked cannot change under the reader afterwards. */
#include "models/gguf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/gguf_file.h"
#include "octarc/error.h"
#include "octarc/model.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

#define READ_CHUNK    (1u << 20)
#define ALIGNMENT     32u /* where the file names none */
#define ALIGNMENT_MAX (1u << 20)
#define KEY_BYTES_MIN (8 + 4 + 1) /* length, type, the smallest value */
#define TENSOR_BYTES_MIN                                                                           \
    (8 + 1 + 4 + 8 + 4 + 8) /* length, name, n_dims, a dimension, type, offset */

/* --- Reading bytes ------------------------------------------------------------------------- */

struct reader {
    struct gguf *gguf;
    int fd;
    uint64_t at;       /* next byte */
    uint64_t n;        /* bytes in the image */
    uint64_t capacity; /* of the image */
    struct err *err;
};

/* Read the file until the image holds `end` bytes.  The caller has checked end against the file. */
static int image_fill(struct reader *r, uint64_t end) {
    struct gguf *g = r->gguf;
    if (end > r->capacity) {
        uint64_t capacity = r->capacity * 2 > end ? r->capacity * 2 : end;
        capacity = capacity > READ_CHUNK ? capacity : READ_CHUNK;
        capacity = capacity < g->file_bytes ? capacity : g->file_bytes;
        uint8_t *image = realloc(g->image, capacity);
        if (!image)
            return err_set(r->err, -ENOMEM, "%s: no memory for a header of %" PRIu64 " bytes",
                           g->name, capacity);
        g->image = image;
        r->capacity = capacity;
    }
    while (r->n < end) {
        const uint64_t room = r->capacity - r->n;
        const ssize_t got =
            pread(r->fd, g->image + r->n, room < READ_CHUNK ? room : READ_CHUNK, (off_t)r->n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(r->err, -errno, "%s: cannot read at byte %" PRIu64 ": %s", g->name, r->n,
                           strerror(errno));
        if (got == 0)
            return err_set(r->err, -EINVAL,
                           "%s: the file was cut short at byte %" PRIu64 " while it was read",
                           g->name, r->n);
        r->n += (uint64_t)got;
    }
    return 0;
}

/* Make the next n bytes readable and step over them; `what` names them in the error. */
static int take(struct reader *r, uint64_t n, const char *what) {
    uint64_t end;
    if (__builtin_add_overflow(r->at, n, &end) || end > r->gguf->file_bytes)
        return err_set(r->err, -EINVAL,
                       "%s: the file ends at byte %" PRIu64 ", inside %s at byte %" PRIu64
                       " (%" PRIu64 " bytes)",
                       r->gguf->name, r->gguf->file_bytes, what, r->at, n);
    if (end > GGUF_HEADER_MAX)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 " ends at byte %" PRIu64
                       ", a header has at most %u bytes",
                       r->gguf->name, what, r->at, end, GGUF_HEADER_MAX);
    if (end > r->n) {
        const int rc = image_fill(r, end);
        if (rc)
            return rc;
    }
    r->at = end;
    return 0;
}

static int take_u32(struct reader *r, uint32_t *value, const char *what) {
    const int rc = take(r, sizeof *value, what);
    if (!rc)
        memcpy(value, r->gguf->image + r->at - sizeof *value, sizeof *value);
    return rc;
}

static int take_u64(struct reader *r, uint64_t *value, const char *what) {
    const int rc = take(r, sizeof *value, what);
    if (!rc)
        memcpy(value, r->gguf->image + r->at - sizeof *value, sizeof *value);
    return rc;
}

/* A length and as many bytes, at most max. */
static int take_string(struct reader *r, uint64_t max, uint64_t *begin, uint64_t *n,
                       const char *what) {
    const uint64_t at = r->at;
    uint64_t length;
    int rc = take_u64(r, &length, what);
    if (rc)
        return rc;
    if (length > max)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 " has %" PRIu64 " bytes, at most %" PRIu64
                       " are allowed",
                       r->gguf->name, what, at, length, max);
    rc = take(r, length, what);
    if (rc)
        return rc;
    *begin = at + sizeof length;
    *n = length;
    return 0;
}

/* Names go into messages and look-ups: printable ASCII, not empty. */
static int check_name(struct reader *r, uint64_t begin, uint64_t n, const char *what) {
    if (n == 0)
        return err_set(r->err, -EINVAL, "%s: %s at byte %" PRIu64 " is empty", r->gguf->name, what,
                       begin);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t c = r->gguf->image[begin + i];
        if (c < 0x20 || c > 0x7e)
            return err_set(r->err, -EINVAL,
                           "%s: %s at byte %" PRIu64 " holds byte 0x%02x, not printable ASCII",
                           r->gguf->name, what, begin, c);
    }
    return 0;
}

/* --- Keys ---------------------------------------------------------------------------------- */

static int read_array(struct reader *r, struct gguf_key *k, const char *what) {
    const uint64_t at = r->at;
    int rc = take_u32(r, &k->element, what);
    if (!rc)
        rc = take_u64(r, &k->count, what);
    if (rc)
        return rc;
    if (k->element >= GGUF_TYPES || k->element == GGUF_ARRAY)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 " is an array of type %u, not of a scalar or "
                       "string type",
                       r->gguf->name, what, at, k->element);
    if (k->count > GGUF_ARRAY_MAX)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 " has %" PRIu64
                       " elements, at most %u are allowed",
                       r->gguf->name, what, at, k->count, GGUF_ARRAY_MAX);
    k->value = r->at;
    if (k->element != GGUF_STRING)
        return take(r, k->count * gguf_type_bytes[k->element],
                    what); /* at most 2^27: no overflow */
    for (uint64_t i = 0; i < k->count; i++) {
        uint64_t begin, n;
        rc = take_string(r, GGUF_STRING_MAX, &begin, &n, what);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_value(struct reader *r, struct gguf_key *k) {
    const struct gguf_label label = gguf_key_label(r->gguf, k);
    const char *what = label.text;
    const uint64_t at = r->at;
    int rc = take_u32(r, &k->type, what);
    if (rc)
        return rc;
    if (k->type >= GGUF_TYPES)
        return err_set(r->err, -EINVAL, "%s: %s at byte %" PRIu64 " has the unknown type %u",
                       r->gguf->name, what, at, k->type);

    k->value = r->at;
    if (k->type == GGUF_ARRAY) {
        rc = read_array(r, k, what);
    } else if (k->type == GGUF_STRING) {
        uint64_t begin, n;
        rc = take_string(r, GGUF_STRING_MAX, &begin, &n, what);
    } else {
        rc = take(r, gguf_type_bytes[k->type], what);
    }
    if (rc)
        return rc;
    if (k->type == GGUF_BOOL && r->gguf->image[k->value] > 1)
        return err_set(r->err, -EINVAL, "%s: %s at byte %" PRIu64 " is a bool of value %u",
                       r->gguf->name, what, k->value, r->gguf->image[k->value]);
    return 0;
}

static int read_key(struct reader *r, struct gguf_key *k) {
    uint64_t begin;
    k->at = r->at;
    int rc = take_string(r, GGUF_NAME_MAX, &begin, &k->n, "the name of a key");
    if (!rc)
        rc = check_name(r, begin, k->n, "the name of a key");
    return rc ? rc : read_value(r, k);
}

static int compare_keys(const void *a, const void *b, void *context) {
    const struct gguf *g = context;
    const struct gguf_key *x = &g->keys[*(const uint32_t *)a], *y = &g->keys[*(const uint32_t *)b];
    return gguf_compare_names(gguf_key_name(g, x), x->n, gguf_key_name(g, y), y->n);
}

/* Fill sorted[] with 0 .. n - 1 in the order of `compare`. */
static void index_sort(uint32_t *sorted, size_t n,
                       int (*compare)(const void *, const void *, void *), struct gguf *g) {
    for (size_t i = 0; i < n; i++)
        sorted[i] = (uint32_t)i;
    if (n)
        qsort_r(sorted, n, sizeof *sorted, compare, g);
}

static int read_keys(struct reader *r, uint64_t n) {
    struct gguf *g = r->gguf;
    g->keys = calloc(n + 1, sizeof *g->keys);
    g->keys_sorted = calloc(n + 1, sizeof *g->keys_sorted);
    if (!g->keys || !g->keys_sorted)
        return err_set(r->err, -ENOMEM, "%s: no memory for %" PRIu64 " keys", g->name, n);
    for (; g->n_keys < n; g->n_keys++) {
        const int rc = read_key(r, &g->keys[g->n_keys]);
        if (rc)
            return rc;
    }
    index_sort(g->keys_sorted, n, compare_keys, g);
    for (size_t i = 1; i < n; i++) {
        const uint32_t *pair = &g->keys_sorted[i - 1];
        if (compare_keys(&pair[0], &pair[1], g) == 0)
            return err_set(r->err, -EINVAL,
                           "%s: %s occurs twice, at bytes %" PRIu64 " and %" PRIu64, g->name,
                           gguf_key_label(g, &g->keys[pair[0]]).text, g->keys[pair[0]].at,
                           g->keys[pair[1]].at);
    }
    return 0;
}

/* --- Tensors ------------------------------------------------------------------------------- */

static int read_tensor_shape(struct reader *r, struct gguf_tensor *t, const char *what) {
    const uint64_t at = r->at;
    int rc = take_u32(r, &t->n_dims, what);
    if (rc)
        return rc;
    if (t->n_dims == 0 || t->n_dims > GGUF_DIMS_MAX)
        return err_set(r->err, -EINVAL, "%s: %s at byte %" PRIu64 " has %u dimensions, not 1 to %u",
                       r->gguf->name, what, at, t->n_dims, GGUF_DIMS_MAX);
    uint64_t elements = 1;
    for (uint32_t d = 0; d < GGUF_DIMS_MAX; d++) {
        t->ne[d] = 1;
        if (d >= t->n_dims)
            continue;
        rc = take_u64(r, &t->ne[d], what);
        if (rc)
            return rc;
        /* Half the range, so that signed arithmetic on a shape is safe too. */
        if (t->ne[d] == 0 || __builtin_mul_overflow(elements, t->ne[d], &elements) ||
            elements > INT64_MAX)
            return err_set(r->err, -EINVAL,
                           "%s: %s at byte %" PRIu64 ": dimension %u is %" PRIu64
                           ", which makes %s",
                           r->gguf->name, what, at, d, t->ne[d],
                           t->ne[d] ? "more than 2^63 elements" : "an empty tensor");
    }
    return 0;
}

/* Sets bytes from type and shape. */
static int read_tensor_type(struct reader *r, struct gguf_tensor *t, const char *what) {
    const uint64_t at = r->at;
    const int rc = take_u32(r, &t->type, what);
    if (rc)
        return rc;
    const struct tensor_type_info *info = tensor_type_info(t->type);
    if (!info)
        return err_set(r->err, -ENOTSUP,
                       "%s: %s at byte %" PRIu64 " has the tensor type %u, which this build does "
                       "not know",
                       r->gguf->name, what, at, t->type);
    if (t->ne[0] % info->block_values)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 ": %" PRIu64 " columns are no multiple of %u, the "
                       "block of %s",
                       r->gguf->name, what, at, t->ne[0], info->block_values, info->name);
    uint64_t blocks = t->ne[0] / info->block_values;
    for (uint32_t d = 1; d < GGUF_DIMS_MAX; d++)
        blocks *= t->ne[d]; /* not more than the elements */
    if (__builtin_mul_overflow(blocks, info->block_bytes, &t->bytes))
        return err_set(r->err, -EINVAL, "%s: %s at byte %" PRIu64 ": its bytes exceed 64 bits",
                       r->gguf->name, what, at);
    return 0;
}

static int read_tensor(struct reader *r, size_t i) {
    struct gguf *g = r->gguf;
    struct gguf_tensor *t = &g->tensors[i];
    uint64_t begin, n;
    int rc = take_string(r, GGUF_TENSOR_NAME_MAX, &begin, &n, "the name of a tensor");
    if (!rc)
        rc = check_name(r, begin, n, "the name of a tensor");
    if (rc)
        return rc;
    memcpy(g->tensor_names[i], g->image + begin, n); /* the array is zeroed */
    t->name = g->tensor_names[i];

    const struct gguf_label label = gguf_label("tensor", g->image + begin, n);
    rc = read_tensor_shape(r, t, label.text);
    if (!rc)
        rc = read_tensor_type(r, t, label.text);
    return rc ? rc : take_u64(r, &t->offset, label.text);
}

static int compare_offsets(const void *a, const void *b, void *context) {
    const struct gguf *g = context;
    const uint64_t x = g->tensors[*(const uint32_t *)a].offset;
    const uint64_t y = g->tensors[*(const uint32_t *)b].offset;
    return (x > y) - (x < y);
}

/* Offsets become absolute; every tensor lies inside the file and on no other. */
static int check_ranges(struct reader *r, uint32_t alignment) {
    struct gguf *g = r->gguf;
    /* r->at is at most GGUF_HEADER_MAX. */
    const uint64_t data = (r->at + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        uint64_t begin, end;
        if (t->offset % alignment)
            return err_set(r->err, -EINVAL,
                           "%s: tensor '%s': its offset %" PRIu64 " is no multiple of the "
                           "alignment, %u",
                           g->name, t->name, t->offset, alignment);
        if (__builtin_add_overflow(data, t->offset, &begin) ||
            __builtin_add_overflow(begin, t->bytes, &end) || end > g->file_bytes)
            return err_set(r->err, -EINVAL,
                           "%s: tensor '%s': %" PRIu64 " bytes at %" PRIu64 " + %" PRIu64
                           " do not fit the file's %" PRIu64 " bytes (cut short?)",
                           g->name, t->name, t->bytes, data, t->offset, g->file_bytes);
        t->offset = begin;
    }
    index_sort(g->tensors_sorted, g->n_tensors, compare_offsets, g);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = &g->tensors[g->tensors_sorted[i - 1]];
        const struct gguf_tensor *b = &g->tensors[g->tensors_sorted[i]];
        if (a->offset + a->bytes > b->offset)
            return err_set(r->err, -EINVAL,
                           "%s: tensor '%s' at bytes %" PRIu64 " to %" PRIu64
                           " overlaps tensor '%s' at byte %" PRIu64,
                           g->name, a->name, a->offset, a->offset + a->bytes, b->name, b->offset);
    }
    return 0;
}

static int read_tensors(struct reader *r, uint64_t n, uint32_t alignment) {
    struct gguf *g = r->gguf;
    g->tensors = calloc(n + 1, sizeof *g->tensors);
    g->tensor_names = calloc(n + 1, sizeof *g->tensor_names);
    g->tensors_sorted = calloc(n + 1, sizeof *g->tensors_sorted);
    if (!g->tensors || !g->tensor_names || !g->tensors_sorted)
        return err_set(r->err, -ENOMEM, "%s: no memory for %" PRIu64 " tensors", g->name, n);
    int rc;
    for (; g->n_tensors < n; g->n_tensors++) {
        rc = read_tensor(r, g->n_tensors);
        if (rc)
            return rc;
    }
    rc = check_ranges(r, alignment);
    if (rc)
        return rc;
    return gguf_index_tensors(g, r->err);
}

/* --- The file ------------------------------------------------------------------------------ */

/* A count of records, each of at least `least` bytes: no allocation grows past the file. */
static int take_count(struct reader *r, uint64_t *n, uint64_t max, uint64_t least,
                      const char *what) {
    const uint64_t at = r->at;
    const int rc = take_u64(r, n, what);
    if (rc)
        return rc;
    if (*n > max)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 " is %" PRIu64 ", at most %" PRIu64 " is allowed",
                       r->gguf->name, what, at, *n, max);
    if (*n > (r->gguf->file_bytes - r->at) / least)
        return err_set(r->err, -EINVAL,
                       "%s: %s at byte %" PRIu64 " is %" PRIu64 ", too many for a file of %" PRIu64
                       " bytes",
                       r->gguf->name, what, at, *n, r->gguf->file_bytes);
    return 0;
}

static int read_preamble(struct reader *r, uint64_t *n_tensors, uint64_t *n_keys) {
    const char *name = r->gguf->name;
    uint32_t version;
    int rc = take(r, 4, "the magic");
    if (rc)
        return rc;
    if (memcmp(r->gguf->image, "GGUF", 4))
        return err_set(r->err, -EINVAL, "%s: not a GGUF file (it does not begin with \"GGUF\")",
                       name);
    rc = take_u32(r, &version, "the version");
    if (rc)
        return rc;
    if (version != 2 && version != 3)
        return err_set(r->err, -ENOTSUP,
                       "%s: GGUF version %u at byte 4%s; little-endian versions 2 and 3 are read",
                       name, version,
                       version > 0xffff && __builtin_bswap32(version) <= 3 ? " (big-endian)" : "");
    rc = take_count(r, n_tensors, GGUF_TENSORS_MAX, TENSOR_BYTES_MIN, "the number of tensors");
    if (rc)
        return rc;
    return take_count(r, n_keys, GGUF_KEYS_MAX, KEY_BYTES_MIN, "the number of keys");
}

/* The keys that the container itself defines. */
static int read_layout(struct reader *r, uint32_t *alignment) {
    const struct gguf *g = r->gguf;
    *alignment = ALIGNMENT;
    const int rc =
        gguf_has(g, "general.alignment") ? gguf_u32(g, "general.alignment", alignment, r->err) : 0;
    if (rc)
        return rc;
    if (*alignment == 0 || *alignment > ALIGNMENT_MAX || *alignment & (*alignment - 1))
        return err_set(r->err, -EINVAL,
                       "%s: key 'general.alignment' is %u, not a power of two up to %u", g->name,
                       *alignment, ALIGNMENT_MAX);
    return 0;
}

static int read_header(struct reader *r) {
    uint64_t n_tensors, n_keys;
    uint32_t alignment;
    int rc = read_preamble(r, &n_tensors, &n_keys);
    if (!rc)
        rc = read_keys(r, n_keys);
    if (!rc)
        rc = read_layout(r, &alignment);
    return rc ? rc : read_tensors(r, n_tensors, alignment);
}

int gguf_read_file(struct gguf **gguf, int fd, const char *name, struct err *err) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(err, -errno, "%s: cannot be examined: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "%s: not a regular file", name);

    struct gguf *g = calloc(1, sizeof *g);
    if (g)
        g->name = strdup(name);
    if (!g || !g->name) {
        gguf_close(g);
        return err_set(err, -ENOMEM, "%s: no memory", name);
    }
    g->file_bytes = (uint64_t)st.st_size;
    g->n_parts = 1;
    struct reader r = {.gguf = g, .fd = fd, .err = err};
    const int rc = read_header(&r);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    /* Give back what the last chunk read past the header.  The views are offsets, so a move is
     * fine, and a failure to shrink is none. */
    uint8_t *image = realloc(g->image, r.at);
    if (image)
        g->image = image;
    *gguf = g;
    return 0;
}

void gguf_close(struct gguf *gguf) {
    if (!gguf)
        return;
    free(gguf->name);
    free(gguf->image);
    free(gguf->keys);
    free(gguf->keys_sorted);
    free(gguf->tensors);
    free(gguf->tensor_names);
    free(gguf->tensors_sorted);
    free(gguf);
}

const char *gguf_name(const struct gguf *gguf) {
    return gguf->name;
}

uint64_t gguf_file_bytes(const struct gguf *gguf) {
    return gguf->file_bytes;
}

uint32_t gguf_n_parts(const struct gguf *gguf) {
    return gguf->n_parts;
}

size_t gguf_n_tensors(const struct gguf *gguf) {
    return gguf->n_tensors;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, size_t i) {
    return &gguf->tensors[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name) {
    size_t low = 0, high = gguf->n_tensors;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct gguf_tensor *t = &gguf->tensors[gguf->tensors_sorted[middle]];
        const int order = strcmp(t->name, name);
        if (order == 0)
            return t;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
